//! The operations, by what they are about.

mod cluster;
mod hosts;
mod jobs;
mod open;
mod operators;
mod public;
mod services;
mod snapshots;

use super::operation::Operation;

/// All of them, in the order of the document.
pub(super) fn all() -> Vec<Operation> {
    let lists = [
        jobs::all(),
        jobs::told(),
        hosts::all(),
        operators::schedules(),
        services::all(),
        operators::freezes(),
        public::all(),
        cluster::all(),
        snapshots::all(),
        cluster::mesh(),
        open::all(),
    ];
    lists.into_iter().flatten().collect()
}
