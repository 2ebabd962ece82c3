//! What the state machine keeps of hosts, jobs and services.
//!
//! These are the domain's own types: a job's phase owns what exists only in that phase, so that a
//! queued job with a lease, or a leased one without a host, cannot be written down.

mod host;
mod job;
mod service;

use skyclaw_proto::{Capabilities, Terms};

pub use self::host::{Condition, Drain, Host, HostEvent, HostFreeze};
pub use self::job::{EndStatus, Ended, Job, Lease, Lost, Phase, Run};
pub use self::service::{Assignment, Service};

/// What a job asks of a host.
pub(crate) fn needs(required: &Capabilities, terms: Option<&Terms>) -> Capabilities {
    match terms {
        Some(terms) => with_words(required, terms.needs()),
        None => required.clone(),
    }
}

/// Capabilities and, beside them, words about what is enforced. A word begins with a character that no
/// capability has, so no client can ask for or have one by another name.
fn with_words(set: &Capabilities, words: impl Iterator<Item = String>) -> Capabilities {
    let mut words = words.map(|word| format!("\0{word}")).peekable();
    if words.peek().is_none() {
        return set.clone();
    }
    Capabilities::new(set.iter().map(ToString::to_string).chain(words))
}
