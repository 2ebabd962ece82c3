//! Identifiers: `host_<uuid>`, `job_<uuid>`, `svc_<uuid>`, or whatever a client chose within the rules.

use std::fmt;
use std::sync::Arc;

use serde::de::{self, Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::MAX_ID_LEN;

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {MAX_ID_LEN} of the characters A-Z a-z 0-9 . _ : -")]
pub struct InvalidId;

fn checked(raw: &str) -> Result<Arc<str>, InvalidId> {
    let text = raw.trim();
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
    if text.is_empty() || text.len() > MAX_ID_LEN || !text.bytes().all(allowed) {
        return Err(InvalidId);
    }
    Ok(text.into())
}

/// Takes an id where it lies, without a copy of its text in between.
struct Text;

impl Visitor<'_> for Text {
    type Value = Result<Arc<str>, InvalidId>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, raw: &str) -> Result<Self::Value, E> {
        Ok(checked(raw))
    }
}

macro_rules! id_type {
    ($(#[doc = $doc:literal])* $name:ident, $prefix:literal) => {
        $(#[doc = $doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// What an id made by the mesh itself begins with.
            pub const PREFIX: &'static str = $prefix;

            /// Takes an id as a client wrote it, without the white space around it.
            ///
            /// # Errors
            /// When it is empty, too long, or holds a character ids do not have.
            pub fn parse(raw: &str) -> Result<Self, InvalidId> {
                checked(raw).map(Self)
            }

            /// An id of the mesh's own making.
            #[must_use]
            pub fn from_uuid(uuid: uuid::Uuid) -> Self {
                const BEGINNING: usize = $prefix.len();
                let mut text = [0; BEGINNING + uuid::fmt::Hyphenated::LENGTH];
                text[..BEGINNING].copy_from_slice($prefix.as_bytes());
                uuid.hyphenated().encode_lower(&mut text[BEGINNING..]);
                // Nothing is lost: it is ASCII.
                Self(String::from_utf8_lossy(&text).into())
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The same for who keeps it: no copy.
            #[must_use]
            pub fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(raw: &str) -> Result<Self, InvalidId> {
                Self::parse(raw)
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                crate::openapi::id(concat!($($doc),*).trim())
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $name {
            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text).and_then(|id| id.map(Self).map_err(D::Error::custom))
            }
        }
    };
}

id_type!(
    /// A machine that runs work.
    HostId, "host_"
);
id_type!(
    /// One piece of work with an end.
    JobId, "job_"
);
id_type!(
    /// A long-lived process with replicas.
    ServiceId, "svc_"
);
id_type!(
    /// A coordinator.
    NodeId, "node_"
);
id_type!(
    /// A snapshot on its way back into a cluster.
    RestoreId, "restore_"
);
id_type!(
    /// One use of the switch that stops everything.
    FreezeId, "freeze_"
);
id_type!(
    /// What submits jobs at the times it names.
    ScheduleId, "sched_"
);
id_type!(
    /// On whose behalf a job runs: all runs of one agent share one bound on a host.
    AgentId, "agent_"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_trimmed_and_taken_as_it_is() {
        assert_eq!(HostId::parse("  my.host:1_a-b ").map(|id| id.to_string()), Ok("my.host:1_a-b".into()));
    }

    #[test]
    fn an_id_of_our_own_making_is_the_prefix_and_the_uuid() {
        let uuid = uuid::Uuid::from_u128(0x0190_C3F0_0000_7000_8000_0000_0000_00AB);
        assert_eq!(JobId::from_uuid(uuid).as_str(), format!("job_{uuid}"));
        assert_eq!(ServiceId::from_uuid(uuid).as_str(), "svc_0190c3f0-0000-7000-8000-0000000000ab");
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for raw in ["", "   ", "a b", "a/b", "ü", "a\0", &"x".repeat(MAX_ID_LEN + 1)] {
            assert_eq!(JobId::parse(raw), Err(InvalidId), "{raw:?}");
        }
        assert!(JobId::parse(&"x".repeat(MAX_ID_LEN)).is_ok());
    }

    #[test]
    fn an_invalid_id_in_json_is_an_error() {
        assert!(serde_json::from_str::<HostId>("\"a b\"").is_err());
        assert!(serde_json::from_str::<HostId>("\"a\\u002db\"").is_ok(), "escapes are unescaped first");
    }
}
