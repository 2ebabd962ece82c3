//! The wire contract, line by line, as a program written for the reference mesh would meet it.

mod conventions;
mod draining;
mod events;
mod freezes;
mod hosts;
mod idempotency;
mod jobs;
mod leases;
mod life;
mod lists;
mod lost;
mod merging;
mod network;
mod polling;
mod public;
mod services;
mod targets;
mod terms;
mod tied;
