//! How the values of flags are read.

use std::time::Duration;

/// A span of time such as `30s`, `5m`, `1h 30m` or `1500ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration < Duration::from_millis(1) => Err("must be at least 1ms".into()),
        Ok(duration) => Ok(duration),
        Err(_) => Err("must be a time such as 30s, 5m or 1500ms".into()),
    }
}

/// `KEY=VALUE`; the value may be empty and hold further `=`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be KEY=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit() {
        let ms = |text: &str| duration(text).map(|d| d.as_millis()).ok();
        assert_eq!(ms("30s"), Some(30_000));
        assert_eq!(ms("5m"), Some(300_000));
        assert_eq!(ms("1500ms"), Some(1500));
        assert_eq!(ms("1h 30m"), Some(5_400_000));
        for bad in ["", "30", "-5s", "0s", "5 parsecs", "1us"] {
            assert_eq!(ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_pair_is_split_at_its_first_equals_sign() {
        assert_eq!(pair("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(pair("A="), Ok(("A".into(), String::new())));
        assert!(pair("=b").is_err() && pair("A").is_err());
    }
}
