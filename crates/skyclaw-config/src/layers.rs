//! From layers to settings: defaults < file < systemd credential < environment < flags.
//!
//! Each value goes in as a figment provider of its own whose name is the origin of the value, so that
//! an error, and `--print-config`, can say where it came from.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use crate::environment::Environment;
use crate::error::Error;
use crate::field::{Field, Raw};
use crate::secret;
use crate::settings::{Setting, Settings};

const CONFIG: &str = "config";
const PRINT_CONFIG: &str = "print-config";

/// A command line with `--config`, `--print-config` and a flag for every setting that is no secret.
///
/// A bin may add arguments and subcommands of its own.
#[must_use]
pub fn command<S: Settings>(bin: &'static str, version: &'static str, about: &'static str) -> clap::Command {
    let file = format!("TOML file with settings [default: {}, if it exists]", default_file(bin).display());
    let flags = S::TABLE.iter().filter(|setting| !setting.secret).map(flag);
    clap::Command::new(bin)
        .version(version)
        .about(about)
        .after_help(secrets_help(S::TABLE))
        .arg(Arg::new(CONFIG).long(CONFIG).value_name("FILE").help(file))
        .arg(
            Arg::new(PRINT_CONFIG)
                .long(PRINT_CONFIG)
                .action(ArgAction::SetTrue)
                .help("Print the settings in effect and where each came from, then exit"),
        )
        .args(flags)
}

fn flag(setting: &Setting) -> Arg {
    let default = setting.default.map(|text| format!(" [default: {text}]")).unwrap_or_default();
    Arg::new(setting.key)
        .long(setting.key.replace('_', "-"))
        .value_name("VALUE")
        .hide_possible_values(true)
        .allow_hyphen_values(true)
        .help(format!("{}{default} [env: {}]", setting.help.trim(), setting.env))
}

/// Secrets have no flags; the help says how to give them.
fn secrets_help(table: &[Setting]) -> String {
    let mut text = String::new();
    for setting in table.iter().filter(|setting| setting.secret) {
        let Setting { env, help, .. } = setting;
        let credential = env.to_lowercase();
        let _ = writeln!(
            text,
            "{env}, or the file named by {env}_FILE, or the systemd credential {credential}:\n  {}",
            help.trim()
        );
    }
    text
}

fn default_file(bin: &str) -> PathBuf {
    Path::new("/etc/skyclaw").join(format!("{bin}.toml"))
}

/// The settings in effect.
#[derive(Debug)]
pub struct Loaded<S> {
    /// The settings.
    pub settings: S,
    /// What an operator should hear of once logging is up.
    pub warnings: Vec<String>,
    /// What `--print-config` prints, when it was asked for.
    pub print: Option<String>,
}

/// Reads the settings of `bin` from all layers. `matches` is what [`command`] made of the arguments.
///
/// # Errors
/// When a file cannot be read or a value is missing, unknown or not allowed; the text names it.
pub fn load<S: Settings>(
    bin: &'static str,
    matches: &ArgMatches,
    env: &Environment,
) -> Result<Loaded<S>, Error> {
    let file = matches.get_one::<String>(CONFIG).map(Path::new);
    let mut layers = Layers::below_flags(S::TABLE, bin, file, env)?;
    layers.flags(matches);
    let settings = S::read(&mut layers)?;
    let print = matches.get_flag(PRINT_CONFIG).then(|| layers.report.concat());
    Ok(Loaded { settings, warnings: layers.warnings, print })
}

/// A flag of a bin whose command line is not made by [`command`].
#[derive(Debug, Clone, Copy)]
pub struct Flag<'a> {
    /// How it is written, dashes included.
    pub name: &'static str,
    /// The key of the setting it gives.
    pub key: &'static str,
    /// What it says.
    pub given: Given<'a>,
}

/// What a [`Flag`] says of its setting.
#[derive(Debug, Clone, Copy)]
pub enum Given<'a> {
    /// Its value.
    Value(&'a str),
    /// The file that holds its value, a secret.
    SecretIn(&'a Path),
}

/// As [`load`], for a bin whose command line is not made by [`command`]. `print` is always there.
///
/// # Errors
/// See [`load`].
pub fn load_with_flags<S: Settings>(
    bin: &'static str,
    file: Option<&Path>,
    env: &Environment,
    flags: &[Flag<'_>],
) -> Result<Loaded<S>, Error> {
    let mut layers = Layers::below_flags(S::TABLE, bin, file, env)?;
    for flag in flags {
        match flag.given {
            Given::Value(text) => layers.add(flag.name, flag.key, text),
            Given::SecretIn(path) => layers.secret_file(flag.key, flag.name, path)?,
        }
    }
    let settings = S::read(&mut layers)?;
    Ok(Loaded { settings, warnings: layers.warnings, print: Some(layers.report.concat()) })
}

/// The layers while they are read. Only [`settings!`](crate::settings!) deals with it.
#[derive(Debug)]
pub struct Layers<'a> {
    table: &'a [Setting],
    figment: Figment,
    report: Vec<String>,
    warnings: Vec<String>,
}

/// One origin and what it says.
struct Layer {
    origin: String,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }
    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

impl<'a> Layers<'a> {
    /// All layers but the flags.
    fn below_flags(
        table: &'a [Setting],
        bin: &str,
        file: Option<&Path>,
        env: &Environment,
    ) -> Result<Self, Error> {
        let mut layers = Self { table, figment: Figment::new(), report: vec![], warnings: vec![] };
        layers.defaults();
        let default_file = default_file(bin);
        match file {
            Some(path) if !path.exists() => return Err(Error::NoFile { path: path.to_owned() }),
            Some(path) => layers.file(path)?,
            None if default_file.exists() => layers.file(&default_file)?,
            None => {}
        }
        layers.credentials(env)?;
        layers.environment(env)?;
        Ok(layers)
    }

    /// Reads one setting of the table.
    ///
    /// # Errors
    /// When it is missing or not allowed.
    pub fn read<T: Field>(&mut self, key: &'static str) -> Result<T, Error> {
        let env = self.table.iter().find(|s| s.key == key).map_or("", |s| s.env);
        let Ok(value) = self.figment.find_value(key) else {
            let absent = T::absent().ok_or(Error::Missing { key, env })?;
            self.report.push(format!("# {key} is not set ({env})\n"));
            return Ok(absent);
        };
        let origin = self.figment.get_metadata(value.tag()).map_or_else(String::new, |m| m.name.to_string());
        let raw = Raw(&value);
        let Some(read) = T::read(raw) else {
            let value = if T::SECRET { "the value (redacted)".to_owned() } else { raw.shown() };
            return Err(Error::BadValue { origin, key, value, allowed: T::ALLOWED });
        };
        let shown = if T::SECRET { Some("<redacted>".into()) } else { read.write() };
        if let Some(value) = shown {
            self.report.push(format!("{key} = {value}  # {origin}\n"));
        }
        Ok(read)
    }

    fn add(&mut self, origin: &str, key: &str, value: impl Into<Value>) {
        let values = Dict::from([(key.to_owned(), value.into())]);
        self.add_all(origin, values);
    }

    fn add_all(&mut self, origin: &str, values: Dict) {
        let figment = std::mem::take(&mut self.figment);
        self.figment = figment.merge(Layer { origin: origin.to_owned(), values });
    }

    fn defaults(&mut self) {
        for setting in self.table {
            if let Some(default) = setting.default {
                self.add("default", setting.key, default);
            }
        }
    }

    fn file(&mut self, path: &Path) -> Result<(), Error> {
        let mut values = parse(path)?;
        let origin = path.display().to_string();
        for setting in self.table.iter().filter(|s| s.secret) {
            let file_key = format!("{}_file", setting.key);
            let Some(named) = values.remove(&file_key) else { continue };
            let first = format!("`{}` in {origin}", setting.key);
            let second = format!("`{file_key}` in {origin}");
            if values.contains_key(setting.key) {
                return Err(Error::Twice { first, second });
            }
            self.secret_file(setting.key, &second, Path::new(named.as_str().unwrap_or_default()))?;
        }
        if let Some(key) = values.keys().find(|key| !self.table.iter().any(|s| s.key == **key)) {
            let nearest = nearest(key, self.table);
            return Err(Error::UnknownKey { path: path.to_owned(), key: key.clone(), nearest });
        }
        self.add_all(&origin, values);
        Ok(())
    }

    fn credentials(&mut self, env: &Environment) -> Result<(), Error> {
        let Some(directory) = env.get("CREDENTIALS_DIRECTORY") else { return Ok(()) };
        for setting in self.table.iter().filter(|s| s.secret) {
            let name = setting.env.to_lowercase();
            let path = Path::new(directory).join(&name);
            if path.exists() {
                self.secret_file(setting.key, &format!("credential {name}"), &path)?;
            }
        }
        Ok(())
    }

    fn environment(&mut self, env: &Environment) -> Result<(), Error> {
        for setting in self.table {
            let value = env.get(setting.env);
            if let Some(text) = value {
                self.add(setting.env, setting.key, text);
            }
            let file_variable = format!("{}_FILE", setting.env);
            let Some(path) = env.get(&file_variable).filter(|_| setting.secret) else { continue };
            if value.is_some() {
                return Err(Error::Twice { first: setting.env.to_owned(), second: file_variable });
            }
            self.secret_file(setting.key, &file_variable, Path::new(path))?;
        }
        Ok(())
    }

    fn flags(&mut self, matches: &ArgMatches) {
        for setting in self.table.iter().filter(|s| !s.secret) {
            if let Some(text) = matches.get_one::<String>(setting.key) {
                self.add(&format!("--{}", setting.key.replace('_', "-")), setting.key, text.as_str());
            }
        }
    }

    fn secret_file(&mut self, key: &str, origin: &str, path: &Path) -> Result<(), Error> {
        let (text, exposed) = secret::read_file(path).map_err(|source| Error::SecretFile {
            origin: origin.to_owned(),
            path: path.to_owned(),
            source,
        })?;
        if text.is_empty() {
            return Err(Error::EmptySecret { origin: origin.to_owned(), path: path.to_owned() });
        }
        if exposed {
            self.warnings.push(format!(
                "every user of this machine can read the secret in {}: chmod it to 0600",
                path.display()
            ));
        }
        self.add(origin, key, text);
        Ok(())
    }
}

/// The keys and values of a TOML file.
fn parse(path: &Path) -> Result<Dict, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let until = error.span().map_or(0, |span| span.start);
        let line = text.bytes().take(until).filter(|b| *b == b'\n').count() + 1;
        Error::Syntax { path: path.to_owned(), line, fault: error.message().to_owned() }
    })?;
    // A table of TOML always serializes as a dictionary.
    Ok(Value::serialize(table).ok().and_then(Value::into_dict).unwrap_or_default())
}

/// The known key that looks most like `key`, if any does.
fn nearest(key: &str, table: &[Setting]) -> Option<&'static str> {
    /// Below this, two words have nothing to do with each other.
    const ALIKE: f64 = 0.7;
    table
        .iter()
        .map(|setting| (strsim::jaro_winkler(key, setting.key), setting.key))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, key)| key)
}

#[cfg(test)]
mod tests;
