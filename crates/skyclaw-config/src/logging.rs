//! Where log lines go: to stderr, as text or JSON.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::environment::Environment;
use crate::field::{Field, Raw};
use crate::otlp::{self, Export, Exporting};

/// The shape of a log line (`SKYCLAW_LOG_FORMAT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

impl Field for Format {
    const ALLOWED: &'static str = "text or json";
    fn read(raw: Raw<'_>) -> Option<Self> {
        match raw.text()?.to_ascii_lowercase().as_str() {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
    fn write(&self) -> Option<toml::Value> {
        let word = match self {
            Self::Text => "text",
            Self::Json => "json",
        };
        Some(toml::Value::String(word.to_owned()))
    }
}

/// What is logged (`SKYCLAW_LOG`): a level such as `info`, or directives such as `info,skyclawd=debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(String);

impl Filter {
    /// Only what is at least this severe, such as `warn`. `None` when the text is no filter.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        EnvFilter::builder().parse(text).ok().map(|_| Self(text.to_owned()))
    }
}

impl Filter {
    fn directives(&self) -> EnvFilter {
        EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).parse_lossy(&self.0)
    }
}

impl Field for Filter {
    const ALLOWED: &'static str =
        "a level (error, warn, info, debug, trace) or directives like info,skyclawd=debug";
    fn read(raw: Raw<'_>) -> Option<Self> {
        Self::new(&raw.text()?)
    }
    fn write(&self) -> Option<toml::Value> {
        Some(toml::Value::String(self.0.clone()))
    }
}

/// Sends log lines to stderr from now on. Text has colours on a terminal only, and no time under
/// systemd, whose journal adds one. A second call changes nothing.
pub fn init(filter: &Filter, format: Format, env: &Environment) {
    let filter = filter.directives();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    // An error means that logging is up already, which is what was asked for.
    let _ = match format {
        Format::Json => lines.json().flatten_event(true).try_init(),
        Format::Text => {
            let lines = lines.with_ansi(stderr().is_terminal() && env.get("NO_COLOR").is_none());
            if env.get("JOURNAL_STREAM").is_some() && !stderr().is_terminal() {
                lines.without_time().try_init()
            } else {
                lines.try_init()
            }
        }
    };
}

/// The same, and sends spans to a collector if one is named.
///
/// # Errors
/// When the export cannot be set up. That the collector does not answer is no error.
pub fn init_exporting(
    filter: &Filter,
    format: Format,
    env: &Environment,
    export: Option<&Export>,
) -> Result<Exporting, otlp::Error> {
    let Some(export) = export else {
        init(filter, format, env);
        return Ok(Exporting::default());
    };
    let lines = tracing_subscriber::fmt::layer::<Registry>().with_writer(stderr);
    let journal = env.get("JOURNAL_STREAM").is_some() && !stderr().is_terminal();
    let lines = match format {
        Format::Json => lines.json().flatten_event(true).boxed(),
        Format::Text => {
            let lines = lines.with_ansi(stderr().is_terminal() && env.get("NO_COLOR").is_none());
            if journal { lines.without_time().boxed() } else { lines.boxed() }
        }
    };
    let (spans, exporting) = otlp::begin(export)?;
    // An error means that logging is up already, which is what was asked for.
    let _ =
        tracing_subscriber::registry().with(lines.with_filter(filter.directives())).with(spans).try_init();
    Ok(exporting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_and_directives_are_filters_and_nonsense_is_none() {
        assert!(Filter::new("info").is_some());
        assert!(Filter::new("info,skyclawd=debug").is_some());
        assert!(Filter::new("skyclawd=loud").is_none());
    }
}
