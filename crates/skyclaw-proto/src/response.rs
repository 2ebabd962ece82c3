//! Answers to successful requests.

use serde::{Deserialize, Serialize};

use crate::logs::LogWant;
use crate::record::{Event, Freeze, Host, Job, Schedule, Service};
use crate::{JobId, NodeId, Payload, RestoreId, ServiceId, Timestamp};

/// `{"ok": true, "nodeId": …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Always true.
    pub ok: bool,
    /// The coordinator that answers.
    pub node_id: NodeId,
}

/// `{"host": …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HostBody {
    /// The host.
    pub host: Host,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = HeartbeatAnswer))]
#[serde(rename_all = "camelCase")]
pub struct Heartbeat {
    /// The host.
    pub host: Host,
    /// Runs the host must stop: called off, or no longer its own. (Ours.)
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<Stop>,
    /// Services the host must stop. (Ours.)
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop_services: Vec<StopService>,
    /// Output of its runs that somebody follows. (Ours.)
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogWant>,
}

/// One service a host must stop; it reports its replica as failed once that is done.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct StopService {
    /// The service.
    pub service_id: ServiceId,
    /// Why.
    pub reason: StopReason,
}

/// One run a host must stop.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Stop {
    /// The job.
    pub job_id: JobId,
    /// Why.
    pub reason: StopReason,
}

/// Why a run must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The job was called off.
    Cancelled,
    /// The host holds no lease of it (any more); whatever it reports will be refused.
    NotLeased,
    /// It is frozen: an operator has stopped everything, or what it belongs to.
    Frozen,
    /// The host is drained, and the time for that is over.
    Draining,
    /// A word of a newer version.
    #[serde(other)]
    Unknown,
}

/// `{"hosts": […]}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HostsBody {
    /// All hosts, by id.
    pub hosts: Vec<Host>,
}

/// `{"job": …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobBody<P = Payload> {
    /// The job.
    pub job: Job<P>,
}

/// The answer to a submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SubmittedBody<P = Payload> {
    /// The job.
    pub job: Job<P>,
    /// Whether it was there before: a job with the same unique key that has not ended. (Ours.)
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub existing: bool,
}

/// The answer to a claim: `job` is the first of `jobs`, or `null`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClaimedJobs {
    /// The first one, for hosts that take one at a time.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub job: Option<Job>,
    /// All of them, only for a claim that named `max`. (Ours.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<Vec<Job>>,
}

/// A page of jobs, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// Names the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// `{"service": …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServiceBody {
    /// The service.
    pub service: Service,
}

/// `{"service": …}` or `{"service": null}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClaimedService {
    /// What the host should run.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub service: Option<Service>,
}

/// `{"services": […]}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServicesBody {
    /// All services, oldest first.
    pub services: Vec<Service>,
}

/// The answer to a merged snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Merged {
    /// Always true.
    pub ok: bool,
    /// Whether any record was adopted.
    pub changed: bool,
    /// The coordinator that answers.
    pub node_id: NodeId,
}

/// Who this coordinator knows. `ok` is there in the answer to a join only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Peers {
    /// True in the answer to a join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ok: Option<bool>,
    /// The coordinator that answers.
    pub node_id: NodeId,
    /// Its own base URL.
    #[serde(default, rename = "self", skip_serializing_if = "Option::is_none")]
    pub self_url: Option<String>,
    /// Base URLs without a trailing slash.
    pub peers: Vec<String>,
}

/// What a member does in the cluster's log. (Ours.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Leads.
    Leader,
    /// Votes and follows.
    Follower,
    /// Follows and does not vote.
    Learner,
}

/// A member of the cluster and how it does, as one coordinator sees it. (Ours.)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ClusterMember {
    /// Its number in the log, as text: it does not fit a JSON number everywhere.
    pub raft_id: String,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<NodeId>,
    /// Where it is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What it does.
    pub role: Role,
    /// How many entries of the log it is behind; known to the leader alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// How long ago the coordinator that says so last heard of it, in whatever way, in milliseconds; absent
    /// when it never has, and for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_ms: Option<u64>,
}

/// The cluster as one coordinator sees it. (Ours.)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// The coordinator that says so.
    pub node_id: NodeId,
    /// The cluster's id; absent while the coordinator belongs to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// The term of the log.
    pub term: u64,
    /// The index of the last entry applied here.
    pub applied: u64,
    /// The members, voters first.
    pub members: Vec<ClusterMember>,
}

/// The answer of `GET /v1/cluster/autopilot`: how the members do, and why who does not vote. (Ours.)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Autopilot {
    /// The coordinator that leads, and says so.
    pub node_id: NodeId,
    /// Whether every voter is healthy.
    pub healthy: bool,
    /// How many more voters can fail while the cluster goes on.
    pub failure_tolerance: usize,
    /// How many members vote.
    pub voters: usize,
    /// How many may.
    pub max_voters: usize,
    /// A member that is at most so many entries behind has caught up.
    pub caught_up_within: u64,
    /// A member that has answered within so many milliseconds is there.
    pub answers_within_ms: u64,
    /// How long a learner must have been healthy before it votes, in milliseconds.
    pub healthy_for_ms: u64,
    /// The members, voters first.
    pub members: Vec<AutopilotMember>,
}

/// A member in [`Autopilot`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AutopilotMember {
    /// Its number in the log, as text.
    pub raft_id: String,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<NodeId>,
    /// Where it is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What it does.
    pub role: Role,
    /// Whether it answers and has caught up.
    pub healthy: bool,
    /// Since when that is so, as far as this leader has seen.
    pub since: Timestamp,
    /// How many entries of the log it is behind; absent for the leader itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// How long ago it last answered the leader, in milliseconds; absent for the leader itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_ms: Option<u64>,
    /// What is wrong with it, or why it does not vote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The answer to a change of the members. (Ours.)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MemberBody {
    /// The member that was changed.
    pub member: ClusterMember,
}

/// A restore of a snapshot, as far as it has got. (Ours.)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Restore {
    /// Its id.
    pub id: RestoreId,
    /// Its place among all there were: 1, 2, 3 and so on.
    pub number: u64,
    /// When it was asked for.
    pub at: Timestamp,
    /// The coordinator that took it in.
    pub node_id: NodeId,
    /// Who asked for it, as they say themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
    /// The cluster the snapshot was taken of.
    pub snapshot_cluster_id: String,
    /// When the snapshot was taken.
    pub snapshot_created_at: Timestamp,
    /// How far in that cluster's log it goes.
    pub snapshot_index: u64,
    /// Whether the snapshot was taken of another cluster.
    pub foreign: bool,
    /// Whether no job is claimed yet.
    pub claims_held: bool,
}

/// The answer to a step of a restore: the restore once it has been carried out. (Ours.)
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RestoreBody {
    /// Absent as long as it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
}

/// What the cluster went back to, oldest first. (Ours.)
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RestoresBody {
    /// The newest of them.
    pub restores: Vec<Restore>,
}

/// `{"events": […]}`: what happened to a job, oldest first. (Ours.)
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventsBody {
    /// The first and the newest of them; one of the kind `dropped` stands for those that are left out.
    pub events: Vec<Event>,
}

/// `{"freeze": …}`. (Ours.)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FreezeBody {
    /// The freeze.
    pub freeze: Freeze,
}

/// `{"freezes": […]}`: what is frozen, oldest first. (Ours.)
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FreezesBody {
    /// The freezes.
    pub freezes: Vec<Freeze>,
}

/// `{"schedule": …}`. (Ours.)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ScheduleBody {
    /// The schedule.
    pub schedule: Schedule,
}

/// A page of schedules, oldest first. (Ours.)
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SchedulesBody {
    /// The schedules.
    pub schedules: Vec<Schedule>,
    /// Names the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// The answer to a trigger. (Ours.)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TriggeredBody {
    /// The schedule.
    pub schedule: Schedule,
    /// The job that was submitted; absent when that is done as soon as the last one has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Job>,
}
