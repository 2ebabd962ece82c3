//! The wire contract, line by line, as a program written for the reference mesh would meet it.

mod conventions;
mod hosts;
mod idempotency;
mod jobs;
mod leases;
mod lists;
mod merging;
mod network;
mod polling;
mod public;
mod services;
mod targets;
