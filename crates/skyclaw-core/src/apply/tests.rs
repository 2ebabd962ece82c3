//! What must hold whatever is asked of the state machine.
//!
//! [`kit`] is a state with its records beside it, [`generate`] makes random command sequences;
//! the `always_*` modules hold the invariants, the others tables of single cases.

mod always_exact;
mod always_fair;
mod always_in_time;
mod always_sound;
mod always_tied;
mod foreign;
mod frozen;
mod generate;
mod idempotency;
mod jobs;
mod kit;
mod lost;
mod merge;
mod notices;
mod restores;
mod retained;
mod schedules;
mod services;
mod tied;
mod times;
mod whose;
