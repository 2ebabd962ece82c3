//! How a setting is read from the text of a variable or the value of a file, and written back.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use toml::Value;

/// A value as a layer gave it: text from the environment, a flag or a default; anything from a file.
#[derive(Debug, Clone, Copy)]
pub struct Raw<'a>(pub(crate) &'a figment::value::Value);

impl Raw<'_> {
    /// As text: a string trimmed, a number or boolean as it is written.
    #[must_use]
    pub fn text(self) -> Option<String> {
        use figment::value::Value as V;
        match self.0 {
            V::String(_, text) => Some(text.trim().to_owned()).filter(|t| !t.is_empty()),
            V::Num(_, num) => match (num.to_i128(), num.to_u128()) {
                (Some(n), _) => Some(n.to_string()),
                (None, Some(n)) => Some(n.to_string()),
                (None, None) => num.to_f64().map(|n| n.to_string()),
            },
            V::Bool(_, b) => Some(b.to_string()),
            V::Char(_, c) => Some(c.to_string()),
            V::Dict(..) | V::Array(..) | V::Empty(..) => None,
        }
    }

    /// As a list: an array, or text split at its commas, blanks dropped.
    fn items(self) -> Option<Vec<String>> {
        if let figment::value::Value::Array(_, items) = self.0 {
            return items.iter().map(|item| Raw(item).text()).collect();
        }
        let text = self.text()?;
        Some(text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect())
    }

    /// For an error text.
    pub(crate) fn shown(self) -> String {
        self.text().map_or_else(|| "this value".to_owned(), |text| format!("{text:?}"))
    }
}

/// A type a setting can have.
pub trait Field: Sized {
    /// What is allowed, to follow the words "must be".
    const ALLOWED: &'static str;
    /// Whether the value must not be shown, and may be given as a file.
    const SECRET: bool = false;

    /// Reads a value; `None` when it is not allowed.
    fn read(raw: Raw<'_>) -> Option<Self>;

    /// The value as it would stand in the file; `None` when it is not set. Not asked of a secret.
    fn write(&self) -> Option<Value>;

    /// What a setting is that was given nowhere; `None` when it must be given.
    fn absent() -> Option<Self> {
        None
    }
}

macro_rules! integer_field {
    ($($type:ty: $allowed:literal),+ $(,)?) => {$(
        impl Field for $type {
            const ALLOWED: &'static str = $allowed;
            fn read(raw: Raw<'_>) -> Option<Self> {
                raw.text()?.parse().ok()
            }
            fn write(&self) -> Option<Value> {
                i64::try_from(*self).ok().map(Value::Integer)
            }
        }
    )+};
}

integer_field!(
    u8: "a whole number from 0 to 255",
    u16: "a whole number from 0 to 65535",
    u32: "a whole number from 0 to 4294967295",
    u64: "a whole number, 0 or more",
    usize: "a whole number, 0 or more",
);

macro_rules! text_field {
    ($($type:ty: $allowed:literal),+ $(,)?) => {$(
        impl Field for $type {
            const ALLOWED: &'static str = $allowed;
            fn read(raw: Raw<'_>) -> Option<Self> {
                raw.text()?.parse().ok()
            }
            fn write(&self) -> Option<Value> {
                Some(Value::String(self.to_string()))
            }
        }
    )+};
}

text_field!(
    String: "a text that is not blank",
    IpAddr: "an IP address such as 127.0.0.1 or ::",
    SocketAddr: "an IP address and port such as 127.0.0.1:8787",
    crate::HttpUrl: "an http or https URL such as http://127.0.0.1:8787, without user, query or fragment",
    skyclaw_proto::NodeId: "1 to 128 of the characters A-Z a-z 0-9 . _ : -",
    skyclaw_proto::HostId: "1 to 128 of the characters A-Z a-z 0-9 . _ : -",
);

impl Field for PathBuf {
    const ALLOWED: &'static str = "a path that is not blank";
    fn read(raw: Raw<'_>) -> Option<Self> {
        raw.text().map(Self::from)
    }
    fn write(&self) -> Option<Value> {
        Some(Value::String(self.display().to_string()))
    }
}

impl Field for bool {
    const ALLOWED: &'static str = "one of 1, true, yes, on, 0, false, no, off";
    fn read(raw: Raw<'_>) -> Option<Self> {
        match raw.text()?.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Some(true),
            "0" | "false" | "no" | "off" => Some(false),
            _ => None,
        }
    }
    fn write(&self) -> Option<Value> {
        Some(Value::Boolean(*self))
    }
}

/// A span of time given in milliseconds, as the names ending in `_MS` say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub Duration);

impl Field for Millis {
    const ALLOWED: &'static str = "a whole number of milliseconds";
    fn read(raw: Raw<'_>) -> Option<Self> {
        raw.text()?.parse().ok().map(|ms| Self(Duration::from_millis(ms)))
    }
    fn write(&self) -> Option<Value> {
        i64::try_from(self.0.as_millis()).ok().map(Value::Integer)
    }
}

/// The word for a bound that there is not to be.
const NEVER: &str = "never";

/// How long something is kept, given in milliseconds; `None`, by the word `never`, for without end. It is never 0:
/// who writes that may mean either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepFor(pub Option<Duration>);

/// How many of something are kept at most; `None`, by the word `never`, for as many as there are. It is never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAtMost(pub Option<u64>);

/// A number from 1 on; `Some(None)` for the word `never`.
fn bound(raw: Raw<'_>) -> Option<Option<u64>> {
    match raw.text()?.as_str() {
        NEVER => Some(None),
        text => text.parse().ok().filter(|number| *number > 0).map(Some),
    }
}

fn bound_value(bound: Option<u64>) -> Option<Value> {
    match bound {
        None => Some(Value::String(NEVER.to_owned())),
        Some(number) => i64::try_from(number).ok().map(Value::Integer),
    }
}

impl Field for KeepFor {
    const ALLOWED: &'static str = "a whole number of milliseconds, 1 or more, or never";
    fn read(raw: Raw<'_>) -> Option<Self> {
        bound(raw).map(|ms| Self(ms.map(Duration::from_millis)))
    }
    fn write(&self) -> Option<Value> {
        bound_value(self.0.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl Field for KeepAtMost {
    const ALLOWED: &'static str = "a whole number, 1 or more, or never";
    fn read(raw: Raw<'_>) -> Option<Self> {
        bound(raw).map(Self)
    }
    fn write(&self) -> Option<Value> {
        bound_value(self.0)
    }
}

impl<T: Field> Field for Option<T> {
    const ALLOWED: &'static str = T::ALLOWED;
    const SECRET: bool = T::SECRET;
    fn read(raw: Raw<'_>) -> Option<Self> {
        T::read(raw).map(Some)
    }
    fn write(&self) -> Option<Value> {
        self.as_ref().and_then(T::write)
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// A list, in a variable separated by commas.
impl<T: Field> Field for Vec<T> {
    const ALLOWED: &'static str = T::ALLOWED;
    const SECRET: bool = T::SECRET;
    fn read(raw: Raw<'_>) -> Option<Self> {
        let items = raw.items()?;
        items.into_iter().map(|item| T::read(Raw(&figment::value::Value::from(item)))).collect()
    }
    fn write(&self) -> Option<Value> {
        Some(Value::Array(self.iter().filter_map(T::write).collect()))
    }
    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_a_number_or_never_and_not_nothing() {
        let read = |text: &str| KeepAtMost::read(Raw(&figment::value::Value::from(text))).map(|most| most.0);
        assert_eq!(read(" 5 "), Some(Some(5)));
        assert_eq!(read("never"), Some(None));
        for bad in ["0", "-1", "1.5", "Never", "none", ""] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let time = KeepFor::read(Raw(&figment::value::Value::from("1500")));
        assert_eq!(time, Some(KeepFor(Some(Duration::from_millis(1500)))));
        for (kept, value) in [(Some(7), Value::Integer(7)), (None, Value::String("never".into()))] {
            assert_eq!(KeepAtMost(kept).write(), Some(value));
        }
        assert_eq!(time.and_then(|time| time.write()), Some(Value::Integer(1500)));
    }
}
