//! What all commands share: how to reach the coordinators and where to print.

use skyclaw_client::{Client, Config};
use skyclaw_config::logging::{self, Filter};
use skyclaw_config::{Environment, Flag, Given, HttpUrl, Loaded, Millis, Secret};

use crate::cli::Global;
use crate::error::Error;
use crate::output::{self, Output};
use crate::snapshot::requested_by;

skyclaw_config::settings! {
    /// What skyctl is told by a file or the environment.
    pub(crate) struct Settings {
        /// One coordinator.
        coordinator_url: HttpUrl = "http://127.0.0.1:8787", env "SKYCLAW_COORDINATOR_URL";
        /// Several coordinators; beats the one.
        coordinator_urls: Vec<HttpUrl>, env "SKYCLAW_COORDINATOR_URLS";
        /// The shared token.
        token: Option<Secret>, env "SKYCLAW_TOKEN";
        /// How long a command tries before it says that no coordinator answers.
        deadline_ms: Millis = "10000", env "SKYCLAW_DEADLINE_MS";
        /// What is logged to stderr.
        log: Filter = "warn", env "SKYCLAW_LOG";
    }
}

/// What all commands share.
pub(crate) struct Context<'a> {
    pub(crate) out: Output,
    pub(crate) env: &'a Environment,
    global: Global,
}

impl<'a> Context<'a> {
    pub(crate) fn new(global: Global, env: &'a Environment) -> Self {
        Self { out: Output::new(global.format, env), env, global }
    }

    /// A client of the coordinators that flags, environment or file name.
    pub(crate) fn client(&self) -> Result<Client, Error> {
        Ok(Client::new(self.client_config()?)?)
    }

    /// What such a client is made of.
    pub(crate) fn client_config(&self) -> Result<Config, Error> {
        let loaded = self.settings()?;
        for warning in &loaded.warnings {
            output::say(&format!("warning: {warning}"));
        }
        let settings = loaded.settings;
        logging::init(&settings.log, logging::Format::Text, self.env);
        let urls: Vec<&str> = match settings.coordinator_urls.as_slice() {
            [] => vec![settings.coordinator_url.as_str()],
            several => several.iter().map(HttpUrl::as_str).collect(),
        };
        let mut config = Config::new(urls, settings.token.map(Secret::into_inner));
        config.deadline = settings.deadline_ms.0;
        config.actor = requested_by();
        Ok(config)
    }

    /// Prints the settings in effect and where each came from.
    pub(crate) fn print_config(&self) -> Result<(), Error> {
        output::print(self.settings()?.print.unwrap_or_default().as_bytes())
    }

    fn settings(&self) -> Result<Loaded<Settings>, Error> {
        let urls = self.global.coordinator.join(",");
        let urls = Flag { name: "--coordinator", key: "coordinator_urls", given: Given::Value(&urls) };
        let token = self.global.token_file.as_deref().map(Given::SecretIn);
        let token = token.map(|given| Flag { name: "--token-file", key: "token", given });
        let flags: Vec<_> =
            Some(urls).filter(|_| !self.global.coordinator.is_empty()).into_iter().chain(token).collect();
        let config = self.global.config.as_deref();
        Ok(skyclaw_config::load_with_flags("skyctl", config, self.env, &flags)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    fn coordinators(args: &[&str], env: &[(&str, &str)]) -> Vec<String> {
        let cli = Cli::try_parse_from([&["skyctl"], args, &["job", "list"]].concat()).expect("parses");
        let env = Environment::from_iter(env.iter().copied());
        let client = Context::new(cli.global, &env).client().expect("client");
        client.coordinators().into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn flags_beat_the_list_which_beats_the_one_which_beats_the_default() {
        let one = ("SKYCLAW_COORDINATOR_URL", "http://one");
        let list = ("SKYCLAW_COORDINATOR_URLS", "http://a,http://b");
        assert_eq!(coordinators(&[], &[]), ["http://127.0.0.1:8787"]);
        assert_eq!(coordinators(&[], &[one]), ["http://one"]);
        assert_eq!(coordinators(&[], &[one, list]), ["http://a", "http://b"]);
        assert_eq!(
            coordinators(&["--coordinator", "http://x,http://y"], &[one, list]),
            ["http://x", "http://y"]
        );
    }
}
