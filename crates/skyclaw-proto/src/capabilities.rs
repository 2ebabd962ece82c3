//! What a host can do and what a job asks for.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

/// A set of capabilities: trimmed, without blanks or doubles, sorted.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize)]
pub struct Capabilities(Arc<[Arc<str>]>);

impl Capabilities {
    /// Normalises a list as a client sent it.
    pub fn new<I, T>(raw: I) -> Self
    where
        I: IntoIterator<Item = T>,
        T: AsRef<str>,
    {
        let mut all: Vec<Arc<str>> = raw
            .into_iter()
            .filter_map(|item| Some(item.as_ref().trim()).filter(|s| !s.is_empty()).map(Arc::from))
            .collect();
        all.sort_unstable();
        all.dedup();
        // Most jobs ask for nothing, and all of those share the empty set.
        if all.is_empty() { Self::default() } else { Self(all.into()) }
    }

    /// Whether everything `required` asks for is here.
    #[must_use]
    pub fn covers(&self, required: &Self) -> bool {
        required.0.len() <= self.0.len() && required.0.iter().all(|c| self.contains(c))
    }

    /// Whether one capability is here.
    #[must_use]
    pub fn contains(&self, capability: &str) -> bool {
        self.0.binary_search_by(|have| (**have).cmp(capability)).is_ok()
    }

    /// Those that are wanted.
    #[must_use]
    pub fn only(&self, wanted: impl Fn(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|c| wanted(c)).cloned().collect())
    }

    /// The capabilities in order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for Capabilities {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        crate::openapi::words("Capabilities: trimmed, without blanks or doubles, sorted.")
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for Capabilities {
    fn name() -> std::borrow::Cow<'static, str> {
        "Capabilities".into()
    }
}

impl<'de> Deserialize<'de> for Capabilities {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<String>::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_trimmed_deduplicated_and_sorted() {
        let caps = Capabilities::new([" shell", "", "gpu", "shell ", "  "]);
        assert_eq!(serde_json::to_string(&caps).expect("encode"), r#"["gpu","shell"]"#);
    }

    #[test]
    fn a_set_covers_its_subsets_only() {
        let host = Capabilities::new(["a", "b", "c"]);
        assert!(host.covers(&Capabilities::default()));
        assert!(host.covers(&Capabilities::new(["c", "a"])));
        assert!(!host.covers(&Capabilities::new(["a", "d"])));
        assert!(!Capabilities::default().covers(&host));
    }
}
