//! Which job ids are surely new, so that the database need not be asked for them.
//!
//! Ids that coordinators make are UUIDs of version 7, so they grow with time; those of different requests
//! overtake each other by little. The newest ones that any command named as a new job's are kept, together
//! with the greatest of all others, the floor: what is above the floor and not kept was never there. Of any
//! other id nothing is said, and the database is asked. This saves work and decides nothing: the answer is
//! the database's either way.

use std::collections::BTreeSet;

use skyclaw_proto::JobId;
use uuid::Uuid;

/// How many ids are kept: many more than there are requests under way.
const KEPT: usize = 64 * 1024;

/// The ids of jobs that are, or may be, there.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The greatest id that may be there and is not kept; `None` as long as nobody has asked the database.
    floor: Option<u128>,
    kept: BTreeSet<u128>,
}

impl Seen {
    /// Whether the database must be asked for the greatest id in it: see [`Self::begin`].
    pub(crate) fn is_blank(&self) -> bool {
        self.floor.is_none()
    }

    /// Begins from the greatest id of our making in the database. Nothing may be on its way there.
    pub(crate) fn begin(&mut self, greatest: Option<&JobId>) {
        self.floor = Some(greatest.and_then(number).unwrap_or(0));
    }

    /// Forgets everything: the content of the database is another from now on.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Takes note of the id of a job that is about to be. True when no job was ever called that.
    pub(crate) fn note(&mut self, id: &JobId) -> bool {
        let (Some(number), Some(floor)) = (number(id), self.floor) else { return false };
        if number <= floor {
            return false;
        }
        let is_new = self.kept.insert(number);
        if self.kept.len() > KEPT {
            self.floor = self.floor.max(self.kept.pop_first());
        }
        is_new
    }
}

/// The number an id of our making stands for; each number for one text only.
fn number(id: &JobId) -> Option<u128> {
    let text = id.as_str().strip_prefix(JobId::PREFIX)?;
    let is_plain = text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
    let uuid = Uuid::try_parse(text).ok().filter(|uuid| is_plain && uuid.get_version_num() == 7)?;
    Some(uuid.as_u128())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> JobId {
        // The bits of version and variant are set; the rest counts on.
        JobId::from_uuid(uuid::Builder::from_u128(number << 80 | 0x7000_8000_0000_0000_0000).into_uuid())
    }

    fn seen(floor: u128) -> Seen {
        let mut seen = Seen::default();
        seen.begin(Some(&id(floor)));
        seen
    }

    #[test]
    fn an_id_is_new_once_in_whatever_order_they_come() {
        let mut seen = seen(10);
        for number in [13, 11, 12] {
            assert!(seen.note(&id(number)), "{number}");
        }
        for number in [11, 12, 13] {
            assert!(!seen.note(&id(number)), "{number}");
        }
    }

    #[test]
    fn nothing_is_said_of_what_may_be_in_the_database() {
        let mut seen = seen(10);
        assert!(!seen.note(&id(10)) && !seen.note(&id(3)));
        for other in ["mine", "job_0190c3f0-0000-4000-8000-000000000000", "job_ffffffff"] {
            assert!(!seen.note(&JobId::parse(other).expect("an id")), "{other}");
        }
        let shouted = id(0xabc).as_str().replace("abc", "ABC");
        assert!(!seen.note(&JobId::parse(&shouted).expect("an id")), "another text for the same number");
    }

    #[test]
    fn nothing_is_said_before_the_database_was_asked_and_after_its_content_was_replaced() {
        let mut blank = Seen::default();
        assert!(blank.is_blank() && !blank.note(&id(5)));
        blank.begin(None);
        assert!(!blank.is_blank() && blank.note(&id(5)));
        blank.forget();
        assert!(blank.is_blank() && !blank.note(&id(6)));
    }

    #[test]
    fn an_id_that_is_kept_no_more_is_not_taken_for_new() {
        let mut seen = seen(0);
        let last = KEPT as u128 + 5;
        for number in 1..=last {
            assert!(seen.note(&id(number)), "{number}");
        }
        assert_eq!(seen.kept.len(), KEPT);
        for number in 1..=last {
            assert!(!seen.note(&id(number)), "{number}");
        }
    }
}
