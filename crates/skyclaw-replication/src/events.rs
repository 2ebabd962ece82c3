//! Following all changes, from a place on: first those that the database has, then each as it is applied.
//!
//! ```text
//!   Reading ──all of the database is told──► Live ──fell behind, or the state was replaced──► Reading
//! ```
//!
//! What always holds: each change is told once, in the order of the ids, and only what is applied here, which is
//! committed. Where something is not kept any more, that is told in its place. However slowly it is read, no more
//! is held for a reader than one part.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use skyclaw_proto::{EventId, record};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::error::ReadError;
use crate::machine::Machine;
use crate::machine::live::Part;
use crate::node::Node;

/// How long to wait for a database that cannot be written at the moment.
const RETRY: Duration = Duration::from_millis(500);

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Changes, oldest first.
    Changes(Arc<Vec<record::Notice>>),
    /// What came after the place so far is not all kept: the next change is the first that came after this
    /// place.
    Gap {
        /// The place so far.
        after: EventId,
        /// All that came after this is kept.
        kept_after: EventId,
    },
    /// All that was applied when the reading began is told; from now on it is told as it is applied.
    CaughtUp,
}

/// A reader of all changes.
#[derive(Debug)]
pub struct Follow {
    machine: Machine,
    live: broadcast::Receiver<Part>,
    /// The place of the last change that was told, or passed by.
    place: EventId,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The database must first hold everything up to this index.
    Settling(u64),
    /// The database is read.
    Reading,
    /// All of it was read, and it is to be said so.
    Read,
    /// Changes are told as they are applied.
    Live,
}

impl Node {
    /// Follows all changes after a place; without one, those that are applied from now on.
    ///
    /// # Errors
    /// When the node goes down.
    pub async fn follow(&self, after: Option<EventId>) -> Result<Follow, ReadError> {
        Follow::begin(self.0.machine.clone(), after).await
    }
}

impl Follow {
    async fn begin(machine: Machine, after: Option<EventId>) -> Result<Self, ReadError> {
        // Between two applications: whatever this does not hear of is applied before.
        let live = machine.look(|memory| memory.live.follow()).await?;
        let applied = machine.applied();
        let place = after.unwrap_or(EventId::after(applied));
        Ok(Self { machine, live, place, phase: Phase::Settling(applied) })
    }

    /// The place of the last change that was told, or that is known to be followed by none that is not.
    #[must_use]
    pub fn place(&self) -> EventId {
        self.place
    }

    /// What comes next, however long that takes. Cancel safe.
    ///
    /// # Errors
    /// When the database cannot be read or the node goes down.
    pub async fn next(&mut self) -> Result<Told, ReadError> {
        loop {
            match self.phase {
                Phase::Settling(index) => {
                    if self.machine.settle().await?.index() < index {
                        tokio::time::sleep(RETRY).await;
                        continue;
                    }
                    self.phase = Phase::Reading;
                }
                Phase::Reading => {
                    if let Some(told) = self.read().await? {
                        return Ok(told);
                    }
                }
                Phase::Read => {
                    self.phase = Phase::Live;
                    return Ok(Told::CaughtUp);
                }
                Phase::Live => {
                    if let Some(told) = self.hear().await? {
                        return Ok(told);
                    }
                }
            }
        }
    }

    async fn read(&mut self) -> Result<Option<Told>, ReadError> {
        let page = self.machine.store().notices(self.place).await?;
        if page.kept_after > self.place {
            let after = std::mem::replace(&mut self.place, page.kept_after);
            return Ok(Some(Told::Gap { after, kept_after: page.kept_after }));
        }
        if page.is_last {
            self.phase = Phase::Read;
        }
        let Some(last) = page.notices.last() else { return Ok(None) };
        self.place = last.id;
        Ok(Some(Told::Changes(page.notices.into())))
    }

    async fn hear(&mut self) -> Result<Option<Told>, ReadError> {
        let part = match self.live.recv().await {
            Ok(part) if !part.is_empty() => part,
            // What was missed is applied by now.
            Ok(_) | Err(RecvError::Lagged(_)) => {
                self.phase = Phase::Settling(self.machine.applied());
                return Ok(None);
            }
            Err(RecvError::Closed) => return Err(ReadError::ShuttingDown),
        };
        let Some(last) = part.last().map(|last| last.id).filter(|last| *last > self.place) else {
            return Ok(None);
        };
        let place = std::mem::replace(&mut self.place, last);
        // The database may have given the first of them already.
        let is_news = |notice: &&record::Notice| notice.id > place;
        let news = match part.first().is_some_and(|first| is_news(&first)) {
            true => part,
            false => part.iter().filter(is_news).cloned().collect::<Vec<_>>().into(),
        };
        Ok(Some(Told::Changes(news)))
    }
}
