//! The environment a program was started in, as a value.

use std::collections::BTreeMap;

/// Environment variables. Tests make their own; a bin takes [`Environment::of_process`] once.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process. What is no UTF-8 in them is replaced, so that it is shown and
    /// refused where it matters.
    #[must_use]
    pub fn of_process() -> Self {
        let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
        Self(std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect())
    }

    /// The trimmed value of a variable; one that is blank counts as unset.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// Names only: the values may be secret.
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_variable_counts_as_unset_and_a_debug_print_shows_no_value() {
        let env = Environment::from_iter([("A", "  "), ("B", " b ")]);
        assert_eq!((env.get("A"), env.get("B"), env.get("C")), (None, Some("b"), None));
        assert_eq!(format!("{env:?}"), r#"{"A", "B"}"#);
    }
}
