//! What a run asks to be bounded to.

use serde::{Deserialize, Serialize};

use crate::cgroup::Controller;

/// What a run, or all runs of an agent together, may use. What is not given is not bounded, except by what the
/// host bounds all runs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Thousandths of a processor.
    pub cpu_millis: Option<u64>,
    /// Memory, in bytes, swap included.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// The size of its temporary directory, in bytes. Of a run only, not of an agent.
    pub tmpfs_bytes: Option<u64>,
}

impl From<skyclaw_proto::Resources> for Resources {
    fn from(asked: skyclaw_proto::Resources) -> Self {
        Self {
            cpu_millis: asked.cpu_millis.map(u64::from),
            memory_bytes: asked.memory_bytes,
            pids: asked.pids.map(u64::from),
            tmpfs_bytes: asked.tmpfs_bytes,
        }
    }
}

impl Resources {
    pub(crate) fn asks_for(&self, controller: Controller) -> bool {
        match controller {
            Controller::Memory => self.memory_bytes.is_some(),
            Controller::Cpu => self.cpu_millis.is_some(),
            Controller::Pids => self.pids.is_some(),
        }
    }

    /// Whether control groups are asked for anything.
    pub(crate) fn asks_for_groups(&self) -> bool {
        Controller::ALL.into_iter().any(|controller| self.asks_for(controller))
    }

    /// What of this is more than the most there may be: the field, and the most.
    pub(crate) fn beyond(&self, most: Self) -> Option<(&'static str, u64)> {
        let each = [
            ("resources.cpuMillis", self.cpu_millis, most.cpu_millis),
            ("resources.memoryBytes", self.memory_bytes, most.memory_bytes),
            ("resources.pids", self.pids, most.pids),
            ("resources.tmpfsBytes", self.tmpfs_bytes, most.tmpfs_bytes),
        ];
        each.into_iter()
            .find_map(|(field, asked, most)| Some((field, most.filter(|most| asked > Some(*most))?)))
    }

    /// The tighter of two in each, where either is given.
    #[must_use]
    pub fn within(self, other: Self) -> Self {
        let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        Self {
            cpu_millis: least(self.cpu_millis, other.cpu_millis),
            memory_bytes: least(self.memory_bytes, other.memory_bytes),
            pids: least(self.pids, other.pids),
            tmpfs_bytes: least(self.tmpfs_bytes, other.tmpfs_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tighter_bound_counts() {
        let a = Resources { pids: Some(5), cpu_millis: Some(100), ..Resources::default() };
        let b = Resources { pids: Some(7), memory_bytes: Some(1), ..Resources::default() };
        let want =
            Resources { pids: Some(5), cpu_millis: Some(100), memory_bytes: Some(1), tmpfs_bytes: None };
        assert_eq!((a.within(b), b.within(a)), (want, want));
    }

    #[test]
    fn what_is_asked_for_beyond_the_most_there_may_be_is_named_with_that() {
        let most = Resources { tmpfs_bytes: Some(64), pids: Some(7), ..Resources::default() };
        let asked = |tmpfs_bytes| Resources { tmpfs_bytes, memory_bytes: Some(9), ..Resources::default() };
        assert_eq!(asked(Some(65)).beyond(most), Some(("resources.tmpfsBytes", 64)));
        for fine in [Some(64), None] {
            assert_eq!(asked(fine).beyond(most), None);
        }
    }
}
