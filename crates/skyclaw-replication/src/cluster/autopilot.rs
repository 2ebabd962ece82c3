//! Makes voters of learners that have caught up and stayed healthy, up to a number, and tells how the
//! members do.

use std::collections::{BTreeSet, HashMap};
use std::sync::Weak;
use std::time::{Duration, Instant};

use openraft::ChangeMembers;
use skyclaw_proto::response::{Autopilot as Report, AutopilotMember, ClusterMember, Role};
use skyclaw_proto::{NodeId, Timestamp};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::members::ChangeError;
use crate::leader::{Leader, leader};
use crate::node::{Inner, Node};

/// How often the members are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a learner must have been healthy.
const HEALTHY_FOR: Duration = Duration::from_millis(1500);
/// How many entries behind still counts as caught up.
const CAUGHT_UP: u64 = 64;
/// A member that has not answered for so long is not healthy.
const ANSWERS_WITHIN: Duration = Duration::from_millis(1000);

/// Looks after the members while this node leads.
#[derive(Debug)]
pub(crate) struct Autopilot {
    pub(crate) max_voters: usize,
    pub(crate) found: watch::Sender<Option<Report>>,
    pub(crate) stop: CancellationToken,
}

/// A member as it is seen now.
#[derive(Debug, Clone)]
struct Sight {
    id: u64,
    member: ClusterMember,
    /// How long ago it last answered; nothing for this node itself.
    silent: Option<Duration>,
    is_me: bool,
}

/// Since when a member has been healthy, or not.
#[derive(Debug, Clone, Copy)]
struct Lasting {
    healthy: bool,
    since: Instant,
    at: Timestamp,
}

/// What is known of the members from look to look.
#[derive(Debug, Default)]
struct Memory(HashMap<u64, Lasting>);

/// What one look has shown.
#[derive(Debug)]
struct Look {
    report: Report,
    /// The learners that are to vote.
    ready: BTreeSet<u64>,
}

impl Autopilot {
    pub(crate) async fn run(self, node: Weak<Inner>) {
        let mut memory = Memory::default();
        let mut trouble = None;
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = look.tick() => {}
            }
            let Some(node) = node.upgrade().map(Node) else { return };
            if leader(&node.0.raft) == Leader::Me {
                self.look(&node, &mut memory, &mut trouble).await;
            } else {
                memory.0.clear();
                self.found.send_if_modified(|found| found.take().is_some());
            }
        }
    }

    async fn look(&self, node: &Node, memory: &mut Memory, trouble: &mut Option<String>) {
        let sights = sights(node);
        let mut look =
            memory.look(node.node_id(), sights, self.max_voters, Instant::now(), node.0.stamper.now());
        if let Some(trouble) = trouble {
            for member in look.report.members.iter_mut().filter(|member| look.ready.contains(&number(member)))
            {
                member.why = Some(trouble.clone());
            }
        }
        self.found.send_replace(Some(look.report));
        if look.ready.is_empty() {
            *trouble = None;
            return;
        }
        match node.0.change(ChangeMembers::AddVoterIds(look.ready.clone())).await {
            Ok(()) => {
                *trouble = None;
                tracing::info!(nodes = ?look.ready, "learners have become voters");
            }
            Err(error @ (ChangeError::Busy | ChangeError::NotLeader)) => *trouble = Some(error.to_string()),
            Err(error) => {
                if trouble.as_ref() != Some(&error.to_string()) {
                    tracing::warn!(%error, "learners could not be made voters");
                }
                *trouble = Some(error.to_string());
            }
        }
    }
}

fn number(member: &AutopilotMember) -> u64 {
    // What this node has written as text itself.
    member.raft_id.parse().unwrap_or_default()
}

fn sights(node: &Node) -> Vec<Sight> {
    let sight = |member: ClusterMember| {
        let id = member.raft_id.parse().ok()?;
        let is_me = id == node.0.identity.raft_id;
        Some(Sight { id, member, silent: node.0.peers.silent_for(id), is_me })
    };
    node.members().into_iter().filter_map(sight).collect()
}

impl Sight {
    /// What is wrong with it, if anything.
    fn fault(&self) -> Option<String> {
        if self.is_me {
            return None;
        }
        match (self.silent, self.member.lag) {
            (None, _) => Some("it has not answered yet".to_owned()),
            (Some(silent), _) if silent >= ANSWERS_WITHIN => {
                Some(format!("it has not answered for {:.1} s", silent.as_secs_f64()))
            }
            (_, None) => Some("it is not known how far behind it is".to_owned()),
            (_, Some(lag)) if lag > CAUGHT_UP => {
                Some(format!("it is {lag} entries behind; at most {CAUGHT_UP} may be missing"))
            }
            _ => None,
        }
    }
}

impl Memory {
    fn look(
        &mut self,
        me: &NodeId,
        sights: Vec<Sight>,
        max_voters: usize,
        now: Instant,
        at: Timestamp,
    ) -> Look {
        self.0.retain(|id, _| sights.iter().any(|sight| sight.id == *id));
        let voters = sights.iter().filter(|sight| sight.member.role != Role::Learner).count();
        let mut room = max_voters.saturating_sub(voters);
        let (mut members, mut ready, mut healthy_voters) = (Vec::new(), BTreeSet::new(), 0);
        for sight in sights {
            let fault = sight.fault();
            let healthy = fault.is_none();
            let lasting = self.0.entry(sight.id).or_insert(Lasting { healthy, since: now, at });
            if lasting.healthy != healthy {
                *lasting = Lasting { healthy, since: now, at };
            }
            let is_learner = sight.member.role == Role::Learner;
            healthy_voters += usize::from(healthy && !is_learner);
            let waits = is_learner && healthy;
            let why = match fault {
                None if waits && now - lasting.since < HEALTHY_FOR => {
                    Some(format!("it must be healthy for {:.1} s before it votes", HEALTHY_FOR.as_secs_f64()))
                }
                None if waits && room == 0 => {
                    Some(format!("there are {voters} voters, and at most {max_voters} vote"))
                }
                None if waits => {
                    room -= 1;
                    ready.insert(sight.id);
                    Some("it is about to vote".to_owned())
                }
                fault => fault,
            };
            members.push(AutopilotMember {
                raft_id: sight.member.raft_id,
                node_id: sight.member.node_id,
                url: sight.member.url,
                role: sight.member.role,
                healthy,
                since: lasting.at,
                lag: sight.member.lag.filter(|_| !sight.is_me),
                silent_ms: sight.silent.filter(|_| !sight.is_me).map(millis),
                why,
            });
        }
        let quorum = voters / 2 + 1;
        let report = Report {
            node_id: me.clone(),
            healthy: healthy_voters == voters,
            failure_tolerance: healthy_voters.saturating_sub(quorum),
            voters,
            max_voters,
            caught_up_within: CAUGHT_UP,
            answers_within_ms: millis(ANSWERS_WITHIN),
            healthy_for_ms: millis(HEALTHY_FOR),
            members,
        };
        Look { report, ready }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(id: u64, role: Role, lag: Option<u64>, silent_ms: Option<u64>) -> Sight {
        let member =
            ClusterMember { raft_id: id.to_string(), node_id: None, url: None, role, lag, silent_ms };
        Sight { id, member, silent: silent_ms.map(Duration::from_millis), is_me: role == Role::Leader }
    }

    fn look(memory: &mut Memory, sights: &[Sight], max_voters: usize, now: Instant) -> Look {
        let me = NodeId::parse("node-a").expect("an id");
        memory.look(&me, sights.to_vec(), max_voters, now, Timestamp::from_millis(7))
    }

    fn whys(look: &Look) -> Vec<&str> {
        look.report.members.iter().map(|member| member.why.as_deref().unwrap_or("-")).collect()
    }

    #[test]
    fn a_learner_votes_once_it_has_stayed_healthy_and_not_before() {
        let (mut memory, start) = (Memory::default(), Instant::now());
        let leads = sight(1, Role::Leader, None, None);
        let good = [leads.clone(), sight(2, Role::Learner, Some(CAUGHT_UP), Some(10))];
        let behind = [leads, sight(2, Role::Learner, Some(CAUGHT_UP + 1), Some(10))];
        assert!(look(&mut memory, &good, 5, start).ready.is_empty());
        assert!(look(&mut memory, &behind, 5, start + HEALTHY_FOR / 2).ready.is_empty());
        let again = start + HEALTHY_FOR;
        assert!(look(&mut memory, &good, 5, again).ready.is_empty(), "it fell behind in between");
        assert!(look(&mut memory, &good, 5, again + HEALTHY_FOR / 2).ready.is_empty());
        assert_eq!(look(&mut memory, &good, 5, again + HEALTHY_FOR).ready, BTreeSet::from([2]));
    }

    #[test]
    fn why_a_member_does_not_vote_or_is_not_healthy_is_told() {
        let (mut memory, start) = (Memory::default(), Instant::now());
        let sights = [
            sight(1, Role::Leader, None, None),
            sight(2, Role::Follower, Some(0), Some(2500)),
            sight(3, Role::Learner, Some(900), Some(5)),
            sight(4, Role::Learner, Some(0), None),
            sight(5, Role::Learner, Some(0), Some(5)),
        ];
        let first = look(&mut memory, &sights, 2, start);
        assert_eq!(
            whys(&first),
            [
                "-",
                "it has not answered for 2.5 s",
                "it is 900 entries behind; at most 64 may be missing",
                "it has not answered yet",
                "it must be healthy for 1.5 s before it votes",
            ]
        );
        let later = look(&mut memory, &sights, 2, start + HEALTHY_FOR);
        assert_eq!(whys(&later)[4], "there are 2 voters, and at most 2 vote");
        assert!(later.ready.is_empty());
        assert!(!later.report.healthy);
    }

    #[test]
    fn no_more_learners_are_promoted_than_may_vote() {
        let (mut memory, start) = (Memory::default(), Instant::now());
        let learner = |id| sight(id, Role::Learner, Some(0), Some(5));
        let sights = [sight(1, Role::Leader, None, None), learner(2), learner(3), learner(4)];
        look(&mut memory, &sights, 3, start);
        assert_eq!(look(&mut memory, &sights, 3, start + HEALTHY_FOR).ready, BTreeSet::from([2, 3]));
    }

    #[test]
    fn how_many_voters_may_still_fail_counts_the_healthy_ones() {
        let follower = |id, silent| sight(id, Role::Follower, Some(0), Some(silent));
        let leads = sight(1, Role::Leader, None, None);
        let tolerance = |sights: &[Sight]| {
            let look = look(&mut Memory::default(), sights, 5, Instant::now());
            (look.report.failure_tolerance, look.report.healthy)
        };
        assert_eq!(tolerance(std::slice::from_ref(&leads)), (0, true));
        assert_eq!(tolerance(&[leads.clone(), follower(2, 5), follower(3, 5)]), (1, true));
        assert_eq!(tolerance(&[leads.clone(), follower(2, 5), follower(3, 5000)]), (0, false));
        assert_eq!(tolerance(&[leads, follower(2, 5000), follower(3, 5000)]), (0, false));
    }
}
