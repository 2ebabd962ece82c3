//! The store against real files.
#![expect(
    clippy::expect_used,
    reason = "a test fails by a panic; clippy does not see that its helpers are tests"
)]

mod batches;
mod copies;
mod crash;
mod damage;
mod events;
mod freezes;
mod full_disk;
mod pages;
mod retention;
mod roll_back;
mod round_trip;
mod schedules;
mod snapshots;
mod support;
