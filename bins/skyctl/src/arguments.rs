//! How the values of flags are read.

use std::time::Duration;

use skyclaw_proto::request::MountBody;

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

/// An amount of memory such as `512MiB`, `2GiB` or `1000000`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let shift = match unit {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => return Err("must be an amount such as 512MiB, 2GiB or 1000000".into()),
    };
    let number: u64 = digits.parse().map_err(|_| "must be an amount such as 512MiB or 2GiB".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "is too much".to_owned())
}

/// Processors such as `2` or `0.5`, in thousandths.
pub(crate) fn cpus(text: &str) -> Result<u32, String> {
    let fault = || "must be a number of processors such as 2 or 0.5, with at most three decimals".to_owned();
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(part) || part.len() > 3 {
        return Err(fault());
    }
    let whole: u32 = whole.parse().map_err(|_| fault())?;
    let part: u32 = format!("{part:0<3}").parse().map_err(|_| fault())?;
    let millis = whole.checked_mul(1000).and_then(|whole| whole.checked_add(part)).ok_or_else(fault)?;
    if millis == 0 { Err(fault()) } else { Ok(millis) }
}

/// `SOURCE[:TARGET][:ro|:rw]`.
pub(crate) fn mount(text: &str) -> Result<MountBody, String> {
    let (paths, read_only) = match text.rsplit_once(':') {
        Some((paths, "rw")) => (paths, false),
        Some((paths, "ro")) => (paths, true),
        _ => (text, true),
    };
    let (source, target) = match paths.split_once(':') {
        Some((source, target)) => (source, Some(target.to_owned())),
        None => (paths, None),
    };
    if !source.starts_with('/') || target.as_ref().is_some_and(|target| !target.starts_with('/')) {
        return Err("must be SOURCE[:TARGET][:ro|:rw] with absolute paths".into());
    }
    Ok(MountBody { source: Some(source.to_owned()), target, read_only: Some(read_only) })
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

    #[test]
    fn amounts_have_units() {
        assert_eq!(bytes("512MiB"), Ok(512 << 20));
        assert_eq!((bytes("2G"), bytes("7"), bytes("1KiB")), (Ok(2 << 30), Ok(7), Ok(1024)));
        for bad in ["", "MiB", "-1", "1.5G", "1 parsec", "99999999999T"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn processors_have_thousandths() {
        assert_eq!((cpus("2"), cpus("0.5"), cpus("1.125")), (Ok(2000), Ok(500), Ok(1125)));
        for bad in ["", "0", "0.0", ".5", "1.", "1.1234", "-1", "x", "9999999"] {
            assert!(cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mount_is_read_only_unless_it_says_so() {
        let shown = |text: &str| mount(text).map(|m| (m.source, m.target, m.read_only));
        assert_eq!(shown("/a"), Ok((Some("/a".into()), None, Some(true))));
        assert_eq!(shown("/a:/b"), Ok((Some("/a".into()), Some("/b".into()), Some(true))));
        assert_eq!(shown("/a:/b:rw"), Ok((Some("/a".into()), Some("/b".into()), Some(false))));
        assert_eq!(shown("/a:rw"), Ok((Some("/a".into()), None, Some(false))));
        assert!(shown("a").is_err() && shown("/a:b").is_err());
    }
}
