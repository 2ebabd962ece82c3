//! What coordinators tell of themselves. Fields that were ever released keep their names and meaning, as
//! versions run side by side while a cluster is upgraded.

use serde::{Deserialize, Serialize};
use skyclaw_proto::NodeId;
use uuid::Uuid;

use crate::cluster::Role;

/// What a coordinator tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Announcement {
    /// Its name.
    pub node_id: NodeId,
    /// Its number in the log.
    pub raft_id: u64,
    /// Its base URL, without a slash at the end.
    pub url: String,
    /// The cluster it belongs to, if any.
    pub cluster: Option<Uuid>,
    /// What it does in its cluster, if anything.
    pub role: Option<Role>,
    /// How many commands wait at it.
    pub load: u32,
    /// The version of its program.
    pub version: String,
}

/// Another coordinator, as it was last heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What it told of itself.
    pub announcement: Announcement,
    /// Whether it has been heard of lately and has not said that it leaves.
    pub alive: bool,
}

impl Announcement {
    pub(super) fn to_text(&self) -> String {
        // Plain fields and text keys always have a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(super) fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Whether both are members, of clusters that differ.
    pub(super) fn is_foreign(&self, other: Option<Uuid>) -> bool {
        matches!((self.cluster, other), (Some(ours), Some(theirs)) if ours != theirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text every version so far has sent.
    const FIRST: &str = r#"{"nodeId":"a","raftId":18446744073709551615,"url":"http://h:1","cluster":"00000000-0000-0000-0000-000000000007","role":"leader","load":3,"version":"0.1.0"}"#;

    fn first() -> Announcement {
        Announcement {
            node_id: NodeId::parse("a").expect("is an id"),
            raft_id: u64::MAX,
            url: "http://h:1".into(),
            cluster: Some(Uuid::from_u128(7)),
            role: Some(Role::Leader),
            load: 3,
            version: "0.1.0".into(),
        }
    }

    #[test]
    fn the_text_of_an_announcement_stays_what_it_was() {
        assert_eq!(first().to_text(), FIRST);
        assert_eq!(Announcement::from_text(FIRST), Some(first()));
    }

    #[test]
    fn what_a_later_version_adds_is_ignored_and_what_may_be_absent_is_none() {
        let text = r#"{"nodeId":"a","raftId":1,"url":"","load":0,"version":"9","more":[1]}"#;
        let read = Announcement::from_text(text).expect("is read");
        assert_eq!((read.cluster, read.role), (None, None));
        assert_eq!(Announcement::from_text("{}"), None);
    }

    #[test]
    fn only_members_of_two_clusters_are_foreign_to_each_other() {
        let blank = Announcement { cluster: None, ..first() };
        let (ours, theirs) = (Some(Uuid::from_u128(7)), Some(Uuid::from_u128(8)));
        assert!(first().is_foreign(theirs));
        assert!(!first().is_foreign(ours) && !first().is_foreign(None));
        assert!(!blank.is_foreign(theirs) && !blank.is_foreign(None));
    }
}
