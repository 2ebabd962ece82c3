//! A submission in a file: the body of the request, as TOML, YAML or JSON.
//!
//! What flags say beside it takes precedence. A field that no submission has is an error here, though a
//! coordinator would not read it: whoever writes a file by hand wants to know.

use std::io::Read as _;
use std::path::Path;

use serde_json::{Map, Value};
use skyclaw_proto::request::EnqueueJobBody;

use crate::error::Error;

/// The submission of a file with what flags say put over it.
pub(super) fn read(path: &Path, flags: &EnqueueJobBody) -> Result<EnqueueJobBody, Error> {
    let text = if path == Path::new("-") { stdin() } else { std::fs::read_to_string(path) };
    let text = text.map_err(|source| Error::Read { path: path.to_owned(), source })?;
    parsed(path, &text, flags).map_err(|fault| Error::Submission { path: path.to_owned(), fault })
}

fn stdin() -> std::io::Result<String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

fn parsed(path: &Path, text: &str, flags: &EnqueueJobBody) -> Result<EnqueueJobBody, String> {
    let mut given = object(path, text)?;
    check(&given)?;
    if let Value::Object(flags) = serde_json::to_value(flags).map_err(|error| error.to_string())? {
        put_over(&mut given, flags);
    }
    serde_json::from_value(Value::Object(given)).map_err(|error| error.to_string())
}

fn object(path: &Path, text: &str) -> Result<Map<String, Value>, String> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let value = match extension {
        Some("toml") => plain(toml::from_str(text).map_err(|error| error.to_string())?),
        Some("json") => serde_json::from_str(text).map_err(|error| error.to_string())?,
        // Whatever is JSON is YAML too.
        Some("yaml" | "yml") | None => serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?,
        Some(other) => return Err(format!("its name must end in .toml, .yaml or .json, not in .{other}")),
    };
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err("it must hold the fields of a submission".to_owned()),
    }
}

/// The same as JSON has it; TOML knows times, which are texts on the wire.
fn plain(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(yes) => yes.into(),
        toml::Value::Datetime(time) => Value::String(time.to_string()),
        toml::Value::Array(items) => items.into_iter().map(plain).collect(),
        toml::Value::Table(fields) => fields.into_iter().map(|(name, value)| (name, plain(value))).collect(),
    }
}

/// Refuses what is no field of a submission: what is not there any more once it was read.
fn check(given: &Map<String, Value>) -> Result<(), String> {
    let body: EnqueueJobBody =
        serde_json::from_value(Value::Object(given.clone())).map_err(|error| error.to_string())?;
    let known = serde_json::to_value(&body).map_err(|error| error.to_string())?;
    match unknown(given, &known) {
        Some(field) => Err(format!("{field} is no field of a submission")),
        None => Ok(()),
    }
}

fn unknown(given: &Map<String, Value>, known: &Value) -> Option<String> {
    given.iter().filter(|(_, value)| !value.is_null()).find_map(|(name, value)| {
        match (value, known.get(name)) {
            (_, None) if is_empty(value) => None,
            (_, None) => Some(name.clone()),
            (Value::Object(inner), Some(known)) => Some(format!("{name}.{}", unknown(inner, known)?)),
            (Value::Array(items), Some(Value::Array(known))) => items
                .iter()
                .zip(known)
                .find_map(|(item, known)| unknown(item.as_object()?, known))
                .map(|field| format!("{name}[].{field}")),
            _ => None,
        }
    })
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn put_over(given: &mut Map<String, Value>, flags: Map<String, Value>) {
    for (name, value) in flags {
        match (given.get_mut(&name), value) {
            (Some(Value::Object(inner)), Value::Object(flags)) => put_over(inner, flags),
            (_, value) => drop(given.insert(name, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skyclaw_proto::request::{PayloadBody, RetryBody};

    fn read_as(name: &str, text: &str) -> Result<Value, String> {
        let body = parsed(Path::new(name), text, &EnqueueJobBody::default())?;
        serde_json::to_value(&body).map_err(|error| error.to_string())
    }

    const TOML: &str = "priority = 7\nnotBefore = 2026-01-31T08:00:00Z\n[payload]\nkind = \"shell\"\n\
                        command = \"ls\"\nargs = [\"-l\"]\n[retry]\nmaxAttempts = 3\n[labels]\nteam = \"a\"\n";

    #[test]
    fn a_submission_is_the_same_in_each_format() {
        let json = r#"{"payload": {"kind": "shell", "command": "ls", "args": ["-l"]}, "priority": 7,
            "notBefore": "2026-01-31T08:00:00Z", "retry": {"maxAttempts": 3}, "labels": {"team": "a"}}"#;
        let yaml = "payload:\n  kind: shell\n  command: ls\n  args: [-l]\npriority: 7\n\
                    notBefore: 2026-01-31T08:00:00Z\nretry: {maxAttempts: 3}\nlabels: {team: a}\n";
        let want = read_as("job.json", json).expect("JSON");
        assert_eq!(want["retry"]["maxAttempts"], 3);
        for (name, text) in
            [("job.yaml", yaml), ("job.yml", yaml), ("-", yaml), ("-", json), ("job.toml", TOML)]
        {
            assert_eq!(read_as(name, text).as_ref(), Ok(&want), "{name}");
        }
    }

    #[test]
    fn a_field_that_is_misspelt_is_named() {
        for (text, field) in [
            ("prio: 7", "prio "),
            ("retry: {maxAttemps: 3}", "retry.maxAttemps "),
            ("payload: {kind: shell, comand: ls}", "payload.comand "),
            ("mounts: [{source: /a}, {sauce: /b}]", "mounts[].sauce "),
        ] {
            let fault = read_as("job.yaml", text).expect_err(text);
            assert!(fault.starts_with(field), "{text}: {fault}");
        }
        assert!(read_as("job.yaml", "labels: {}\nmounts: []\nenv: null").is_ok());
        assert!(read_as("job.yaml", "[1]").is_err() && read_as("job.ini", "a=1").is_err());
    }

    #[test]
    fn flags_take_precedence_over_the_file() {
        let flags = EnqueueJobBody {
            payload: Some(PayloadBody { timeout_ms: Some(5), ..PayloadBody::default() }),
            priority: Some(9),
            retry: Some(RetryBody { max_attempts: Some(2), ..RetryBody::default() }),
            ..EnqueueJobBody::default()
        };
        let body = parsed(Path::new("job.toml"), TOML, &flags).expect("valid");
        let payload = body.payload.expect("a payload");
        assert_eq!((payload.command.as_deref(), payload.timeout_ms), (Some("ls"), Some(5)));
        assert_eq!((body.priority, body.retry.and_then(|retry| retry.max_attempts)), (Some(9), Some(2)));
    }
}
