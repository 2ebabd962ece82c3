//! What the checks of several resources share.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::Invalid;
use crate::limits;
use crate::payload::Env;
use crate::{Capabilities, HostId};

/// Reads an optional id that may be blank, which counts as absent.
pub(super) fn optional_id<T>(
    field: &str,
    raw: Option<&str>,
    parse: impl Fn(&str) -> Result<T, crate::InvalidId>,
) -> Result<Option<T>, Invalid> {
    match raw.map(str::trim).filter(|s| !s.is_empty()) {
        None => Ok(None),
        Some(text) => parse(text).map(Some).map_err(|e| Invalid::new(field, e.to_string())),
    }
}

pub(super) fn required_host(raw: Option<&str>) -> Result<HostId, Invalid> {
    optional_id("hostId", raw, HostId::parse)?.ok_or_else(|| Invalid::required("hostId"))
}

/// A text that must be there, trimmed. As it comes it must be no longer than `max` bytes, as the schema has it.
pub(super) fn required_text(field: &str, raw: Option<&str>, max: usize) -> Result<String, Invalid> {
    let text = raw.filter(|s| !s.trim().is_empty()).ok_or_else(|| Invalid::required(field))?;
    bounded_text(field, text, max)?;
    Ok(text.trim().to_owned())
}

/// A word that must be there, trimmed. What stands around it does not count.
pub(super) fn required_word(field: &str, raw: Option<&str>, max: usize) -> Result<String, Invalid> {
    required_text(field, raw.map(str::trim), max)
}

/// The name of the field is put together only when there is a fault to name it for.
pub(super) fn bounded_text(field: impl Display, text: &str, max: usize) -> Result<(), Invalid> {
    if text.len() > max {
        return Err(Invalid::new(field.to_string(), format!("must be at most {max} bytes long")));
    }
    no_nul(field, text)
}

/// What ends up in `execve` cannot hold a NUL.
pub(super) fn no_nul(field: impl Display, text: &str) -> Result<(), Invalid> {
    if !text.contains('\0') {
        return Ok(());
    }
    Err(Invalid::new(field.to_string(), "must not contain a NUL character"))
}

/// An optional text; blank counts as absent.
pub(super) fn optional_text(field: &str, raw: Option<String>, max: usize) -> Result<Option<String>, Invalid> {
    let Some(text) = raw.filter(|s| !s.trim().is_empty()) else { return Ok(None) };
    bounded_text(field, &text, max)?;
    Ok(Some(text))
}

pub(super) fn capabilities(field: &str, raw: Option<Vec<String>>) -> Result<Capabilities, Invalid> {
    let raw = raw.unwrap_or_default();
    for cap in &raw {
        bounded_text(field, cap, limits::MAX_CAPABILITY_LEN)?;
    }
    let caps = Capabilities::new(raw);
    if caps.len() > limits::MAX_CAPABILITIES {
        return Err(Invalid::new(field, format!("must have at most {} entries", limits::MAX_CAPABILITIES)));
    }
    Ok(caps)
}

/// The reference raises a count of 0 to 1, so it is no fault here either.
pub(super) fn count(field: &str, raw: Option<u32>, max: u32) -> Result<u32, Invalid> {
    match raw.unwrap_or(1).max(1) {
        n if n > max => Err(Invalid::new(field, format!("must be at most {max}"))),
        n => Ok(n),
    }
}

pub(super) fn arguments(field: &str, args: Option<&[String]>) -> Result<(), Invalid> {
    let mut all = args.unwrap_or_default().iter().enumerate();
    all.try_for_each(|(i, arg)| no_nul(format_args!("{field}[{i}]"), arg))
}

pub(super) fn environment(field: &str, env: Option<&Env>) -> Result<(), Invalid> {
    for (name, value) in env.into_iter().flatten() {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(Invalid::new(field, "must have names that are not empty and contain no = or NUL"));
        }
        no_nul(format_args!("{field}.{name}"), value)?;
    }
    Ok(())
}

pub(super) fn timeout(field: &str, raw: Option<u64>) -> Result<(), Invalid> {
    match raw {
        Some(0) => Err(Invalid::new(field, "must be at least 1")),
        Some(ms) if ms > limits::MAX_TIMEOUT_MS => {
            Err(Invalid::new(field, format!("must be at most {}", limits::MAX_TIMEOUT_MS)))
        }
        _ => Ok(()),
    }
}

pub(super) fn labels(labels: &BTreeMap<String, String>) -> Result<(), Invalid> {
    if labels.len() > limits::MAX_LABELS {
        return Err(Invalid::new("labels", format!("must have at most {} entries", limits::MAX_LABELS)));
    }
    for (key, value) in labels {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/');
        if key.is_empty() || key.len() > limits::MAX_LABEL_KEY_LEN || !key.bytes().all(allowed) {
            let max = limits::MAX_LABEL_KEY_LEN;
            return Err(Invalid::new(
                "labels",
                format!("must have keys of 1 to {max} of A-Z a-z 0-9 . _ - /"),
            ));
        }
        bounded_text(format_args!("labels.{key}"), value, limits::MAX_LABEL_VALUE_LEN)?;
    }
    Ok(())
}

/// A word of a few; the fault lists them. Blank counts as absent.
pub(super) fn status<T: Copy>(
    field: &str,
    raw: Option<&str>,
    all: &[T],
    text: impl Fn(T) -> &'static str,
) -> Result<Option<T>, Invalid> {
    let Some(given) = raw.map(str::trim).filter(|s| !s.is_empty()) else { return Ok(None) };
    if let Some(found) = all.iter().copied().find(|status| text(*status) == given) {
        return Ok(Some(found));
    }
    let words: Vec<String> = all.iter().map(|status| format!("\"{}\"", text(*status))).collect();
    let fault = match words.split_last() {
        Some((last, before)) if !before.is_empty() => format!("must be {} or {last}", before.join(", ")),
        _ => format!("must be {}", words.concat()),
    };
    Err(Invalid::new(field, fault))
}

/// A number that may be absent, between two bounds.
pub(super) fn between<T: Copy + PartialOrd + Display>(
    field: &str,
    raw: Option<T>,
    least: T,
    most: T,
) -> Result<Option<T>, Invalid> {
    match raw {
        Some(n) if n < least || n > most => {
            Err(Invalid::new(field, format!("must be between {least} and {most}")))
        }
        n => Ok(n),
    }
}

pub(super) fn wait_ms(raw: Option<u64>) -> Result<u64, Invalid> {
    match raw.unwrap_or(0) {
        ms if ms > limits::MAX_WAIT_MS => {
            Err(Invalid::new("waitMs", format!("must be at most {}", limits::MAX_WAIT_MS)))
        }
        ms => Ok(ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_as_long_as_it_comes_and_not_as_it_is_trimmed() {
        assert_eq!(required_text("name", Some(" ab "), 4).expect("it is short enough"), "ab");
        assert!(required_text("name", Some("  ab "), 4).is_err());
        assert!(required_text("name", Some("  \t"), 4).is_err(), "blank is absent");
        assert_eq!(required_word("kind", Some("  ab  \t"), 2).expect("it is short enough"), "ab");
        assert!(required_word("kind", Some("abc"), 2).is_err());
        let longest = " ".repeat(limits::MAX_CAPABILITY_LEN - 1) + "a";
        assert_eq!(capabilities("c", Some(vec![longest.clone()])).expect("they are short enough").len(), 1);
        assert!(capabilities("c", Some(vec![longest + " "])).is_err());
    }
}
