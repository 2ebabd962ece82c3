//! The endpoints, one a file. A route takes apart what arrived, asks the [`Node`] and puts the answer
//! together; faults of its own are its own `Error`, turned into an answer here or in [`crate::error`].
//!
//! [`Node`]: skyclaw_replication::Node

pub(crate) mod autopilot;
pub(crate) mod cancel_job;
pub(crate) mod cancel_restore;
pub(crate) mod claim_jobs;
pub(crate) mod claim_service;
pub(crate) mod cluster_status;
pub(crate) mod commit_restore;
pub(crate) mod complete_job;
pub(crate) mod deploy_service;
pub(crate) mod drain_host;
pub(crate) mod enqueue_job;
pub(crate) mod freeze;
pub(crate) mod get_host;
pub(crate) mod get_job;
pub(crate) mod get_public_job;
pub(crate) mod get_service;
pub(crate) mod health;
pub(crate) mod heartbeat;
pub(crate) mod job_logs;
pub(crate) mod join;
pub(crate) mod list_events;
pub(crate) mod list_freezes;
pub(crate) mod list_hosts;
pub(crate) mod list_jobs;
pub(crate) mod list_peers;
pub(crate) mod list_restores;
pub(crate) mod list_services;
pub(crate) mod livez;
pub(crate) mod metrics;
pub(crate) mod peer;
pub(crate) mod public_caller;
pub(crate) mod push_logs;
pub(crate) mod readyz;
pub(crate) mod register_host;
pub(crate) mod remove_host;
pub(crate) mod remove_member;
pub(crate) mod replicate_snapshot;
mod reply;
pub(crate) mod report_service;
pub(crate) mod resolve_job;
pub(crate) mod save_snapshot;
pub(crate) mod stage_restore;
pub(crate) mod state;
pub(crate) mod submit_public_job;
pub(crate) mod tell_events;
pub(crate) mod thaw;
pub(crate) mod transfer_leadership;
pub(crate) mod undrain_host;
