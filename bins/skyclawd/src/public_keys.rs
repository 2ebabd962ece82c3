//! The keys of the public API and what each allows.

use std::sync::Arc;

use skyclaw_proto::{Capabilities, limits};

use crate::token::Digest;

/// What a key's holder may ask for when the rule names nothing.
const DEFAULT_CAPABILITIES: [&str; 1] = ["openclaw"];
/// What an entry must be.
const FORM: &str = "must be of the form key:label:cap1|cap2[:shell]";
/// What jobs of the public API carry as their submitter, before the label.
const SUBMITTER_PREFIX: &str = "public:";

/// All keys; the public API is off while there is none.
#[derive(Debug, Clone, Default)]
pub struct PublicKeys(Vec<Arc<PublicKey>>);

/// One key and what it allows.
#[derive(Debug, Clone)]
pub struct PublicKey {
    digest: Digest,
    /// Whose idempotency keys these are.
    pub caller: String,
    /// Who submits the jobs: `public:<label>`.
    pub submitter: String,
    /// What a job may require of its host.
    pub capabilities: Capabilities,
    /// Whether shell jobs are allowed.
    pub shell: bool,
}

/// Why a list of keys cannot be used. Nothing of a key is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("SKYCLAW_PUBLIC_API_KEYS: entry {entry} {fault}")]
pub struct Error {
    /// Which entry, from 1.
    pub entry: usize,
    /// What is wrong with it.
    pub fault: &'static str,
}

impl PublicKey {
    /// The label of the key.
    #[must_use]
    pub fn label(&self) -> &str {
        self.submitter.split_once(':').map_or(&self.submitter, |(_, label)| label)
    }
}

impl PublicKeys {
    /// Reads a comma-separated list of `key:label:cap1|cap2[:shell]`.
    ///
    /// An entry with an empty key is passed over. A key with a blank label gets one made of its hash.
    ///
    /// # Errors
    /// The first entry that is not of that form, or has the key of another.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut keys: Vec<Arc<PublicKey>> = Vec::new();
        for (i, entry) in text.split(',').enumerate() {
            let fail = |fault| Error { entry: i + 1, fault };
            let Some(key) = PublicKey::parse(entry).map_err(fail)? else { continue };
            if keys.iter().any(|other| other.digest.same(&key.digest).into()) {
                return Err(fail("has the key of an earlier entry"));
            }
            keys.push(Arc::new(key));
        }
        Ok(Self(keys))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rule of a presented key. Looks at all of them, so that the time tells nothing.
    #[must_use]
    pub fn find(&self, presented: &[u8]) -> Option<&Arc<PublicKey>> {
        let presented = Digest::of(presented);
        let mut found = None;
        for key in &self.0 {
            if key.digest.same(&presented).into() {
                found = Some(key);
            }
        }
        found
    }
}

impl PublicKey {
    fn parse(entry: &str) -> Result<Option<Self>, &'static str> {
        let mut parts = entry.split(':').map(str::trim);
        let Some(key) = parts.next().filter(|key| !key.is_empty()) else { return Ok(None) };
        let digest = Digest::of(key.as_bytes());
        let label = match parts.next() {
            None => return Err(FORM),
            Some("") => format!("key-{}", digest.short(4)),
            Some(label) => label.to_owned(),
        };
        let longest = limits::MAX_NAME_LEN - SUBMITTER_PREFIX.len();
        if label.len() > longest || label.chars().any(char::is_control) {
            return Err("has a label that is too long or holds control characters");
        }
        let listed = Capabilities::new(parts.next().unwrap_or_default().split('|'));
        let shell = match parts.next() {
            None | Some("") => false,
            Some("shell") => true,
            Some(_) => return Err("must end in `:shell` or after its capabilities"),
        };
        if parts.next().is_some() {
            return Err(FORM);
        }
        Ok(Some(Self {
            digest,
            caller: format!("{SUBMITTER_PREFIX}{}", digest.short(8)),
            submitter: format!("{SUBMITTER_PREFIX}{label}"),
            capabilities: if listed.is_empty() { Capabilities::new(DEFAULT_CAPABILITIES) } else { listed },
            shell,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_a_key_a_label_capabilities_and_perhaps_shell() {
        let keys = PublicKeys::parse(" k1:ann:gpu|openclaw:shell , k2:bob ,,:nobody:x").expect("valid");
        let ann = keys.find(b"k1").expect("known");
        assert_eq!(ann.submitter, "public:ann");
        assert_eq!(ann.capabilities, Capabilities::new(["gpu", "openclaw"]));
        assert!(ann.shell);
        let bob = keys.find(b"k2").expect("known");
        assert_eq!(bob.capabilities, Capabilities::new(["openclaw"]));
        assert!(!bob.shell);
        assert!(keys.find(b"").is_none() && keys.find(b"k").is_none() && keys.find(b"k11").is_none());
        assert_ne!(ann.caller, bob.caller);
    }

    #[test]
    fn a_key_with_a_blank_label_gets_one_that_does_not_show_it() {
        let keys = PublicKeys::parse("very-secret:").expect("valid");
        let submitter = &keys.find(b"very-secret").expect("known").submitter;
        assert!(submitter.starts_with("public:key-") && !submitter.contains("secret"), "{submitter}");
    }

    #[test]
    fn a_malformed_entry_is_named_by_its_place_and_not_shown() {
        for list in [
            "ok:a,s3cret:b:caps:sh",
            "ok:a,s3cret:b:caps:shell:more",
            "ok:a,ok:b",
            "ok:a,s3cret",
            "ok:a,s3cret:\u{7}b",
        ] {
            let error = PublicKeys::parse(list).expect_err(list);
            assert_eq!(error.entry, 2);
            assert!(!error.to_string().contains("s3cret") && !error.to_string().contains("ok:"));
        }
    }

    #[test]
    fn an_empty_list_turns_the_public_api_off() {
        assert!(PublicKeys::parse(" , :label").expect("valid").is_empty());
    }

    #[test]
    fn a_debug_print_shows_no_key() {
        let keys = PublicKeys::parse("s3cret:label").expect("valid");
        assert!(!format!("{keys:?}").contains("s3cret"));
    }
}
