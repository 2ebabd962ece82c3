//! What is wrong with a body, in words of JSON and with the path of the field.
//!
//! serde tells only in prose what it expected, in words of Rust; those it uses for the types of our
//! requests are translated here, and a test holds each translation to the library's words.

use serde::de::DeserializeOwned;
use serde_json::error::Category;
use skyclaw_proto::Invalid;

use crate::error::ApiError;

/// A body that is no JSON.
pub(super) fn syntax(error: &serde_json::Error) -> ApiError {
    ApiError::bad_request(format!("body is not valid JSON: {error}"))
}

/// Reads a body again that could not be read, to tell where the fault is.
pub(super) fn explained<T: DeserializeOwned>(text: &str) -> Result<T, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize(&mut deserializer) {
        Err(error) if error.inner().classify() == Category::Data => {
            Err(data(&error.path().to_string(), &error.inner().to_string()).into())
        }
        Err(error) => Err(syntax(error.inner())),
        Ok(value) => match deserializer.end() {
            Ok(()) => Ok(value),
            Err(error) => Err(syntax(&error)),
        },
    }
}

fn data(path: &str, message: &str) -> Invalid {
    let message = message.rsplit_once(" at line ").map_or(message, |(text, _)| text);
    if let Some(name) = quoted(message, "missing field ") {
        return Invalid::required(joined(path, name));
    }
    if let Some(name) = quoted(message, "duplicate field ") {
        return Invalid::new(joined(path, name), "is given twice");
    }
    let field = if path == "." { "body" } else { path };
    Invalid::new(field, allowed(message))
}

/// What a field must be, as the rest of a sentence.
fn allowed(message: &str) -> String {
    let Some((_, expected)) = message.split_once(", expected ") else {
        // A text of our own, such as that of a malformed id.
        return if message.starts_with("must ") { message.to_owned() } else { "is not allowed".to_owned() };
    };
    if message.starts_with("unknown variant ") {
        return format!("must be {expected}");
    }
    let what = match expected {
        "a string" | "a borrowed string" | "string" => "a string",
        "a boolean" => "true or false",
        "u8" => "a whole number from 0 to 255",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" => "a whole number, 0 or more",
        "i32" => "a whole number from -2147483648 to 2147483647",
        "a sequence" => "an array",
        "a map" => "an object",
        other if other.starts_with("struct ") => "an object",
        _ => "of another type",
    };
    format!("must be {what}")
}

fn quoted<'a>(message: &'a str, before: &str) -> Option<&'a str> {
    message.strip_prefix(before)?.strip_prefix('`')?.strip_suffix('`')
}

fn joined(path: &str, name: &str) -> String {
    let parent = path.strip_suffix(name).map_or(path, |parent| parent.trim_end_matches('.'));
    if matches!(parent, "." | "") { name.to_owned() } else { format!("{parent}.{name}") }
}
