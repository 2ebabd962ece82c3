//! How much may go on at once.
//!
//! A request holds a [`Permit`] while it is worked on. One that is parked (a claim that waits for a
//! job) gives it back for a place among the parked, of which there are many more: ten thousand hosts
//! that wait cost next to nothing. A stream of events has a place of a third kind for as long as it lasts. Past a
//! bound the answer is 503 at once; nothing queues here.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::app::Shared;
use crate::error::ApiError;
use crate::metrics::{Counted, Shed, Sheds};

/// The bounds.
#[derive(Debug)]
pub struct Admission {
    work: Arc<Semaphore>,
    parked: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    sheds: Sheds,
}

/// The right to be worked on.
#[derive(Debug)]
pub struct Permit {
    _work: OwnedSemaphorePermit,
    parked: Arc<Semaphore>,
    sheds: Sheds,
}

/// A place among the parked.
#[derive(Debug)]
pub struct Parked {
    _place: OwnedSemaphorePermit,
    _counted: Counted,
}

/// Streams of events at once, where nobody says otherwise.
const STREAMS: usize = 256;

/// A place among the streams of events.
#[derive(Debug)]
pub struct Stream {
    _place: OwnedSemaphorePermit,
}

impl Admission {
    /// Up to `work` requests at once, and `parked` that wait.
    #[must_use]
    pub fn new(work: usize, parked: usize) -> Self {
        Self::counting(work, parked, Sheds::default())
    }

    /// The same, with requests that are turned away counted.
    #[must_use]
    pub fn counting(work: usize, parked: usize, sheds: Sheds) -> Self {
        Self { work: semaphore(work), parked: semaphore(parked), streams: semaphore(STREAMS), sheds }
    }

    /// The same with room for so many streams of events.
    #[must_use]
    pub fn with_streams(self, streams: usize) -> Self {
        Self { streams: semaphore(streams), ..self }
    }

    /// Lets one more stream of events begin.
    ///
    /// # Errors
    /// 503 when there are as many as may be.
    pub fn stream(&self) -> Result<Stream, ApiError> {
        let place = Arc::clone(&self.streams).try_acquire_owned();
        let place = place.map_err(|_| {
            self.sheds.count(Shed::Streams);
            ApiError::overloaded("too many streams of events; try again later")
        })?;
        Ok(Stream { _place: place })
    }

    /// Lets one more request in.
    ///
    /// # Errors
    /// 503 when as many are in as may be.
    pub fn admit(&self) -> Result<Permit, ApiError> {
        let work = Arc::clone(&self.work).try_acquire_owned();
        let work = work.map_err(|_| {
            self.sheds.count(Shed::Work);
            ApiError::overloaded("too many requests at once; try again later")
        })?;
        Ok(Permit { _work: work, parked: Arc::clone(&self.parked), sheds: self.sheds.clone() })
    }
}

fn semaphore(bound: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(bound.min(Semaphore::MAX_PERMITS)))
}

impl Permit {
    /// Gives the permit back and waits from now on.
    ///
    /// # Errors
    /// 503 when as many wait as may.
    pub fn park(self) -> Result<Parked, ApiError> {
        let place = self.parked.try_acquire_owned();
        let place = place.map_err(|_| {
            self.sheds.count(Shed::Parked);
            ApiError::overloaded("too many requests wait; try again later")
        })?;
        Ok(Parked { _place: place, _counted: self.sheds.park() })
    }
}

/// For the routes that may park; all others are admitted by a layer.
impl FromRequestParts<Shared> for Permit {
    type Rejection = ApiError;

    async fn from_request_parts(_: &mut Parts, app: &Shared) -> Result<Self, ApiError> {
        app.admission.admit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::Kit;
    use serde_json::json;

    #[tokio::test]
    async fn a_claim_that_waits_holds_up_nobody_is_bounded_and_ends_with_the_daemon() {
        let kit = Kit::with(|app| app.admission = Admission::new(1, 1)).await;
        kit.post("/v1/hosts/register", &json!({"hostId": "h", "name": "h"})).await;
        let waiting = json!({"waitMs": 30_000});
        let mut claim = std::pin::pin!(kit.post("/v1/hosts/h/claim", &waiting));
        let meanwhile = async {
            assert_eq!(kit.get("/v1/hosts", &[]).await.status, 200, "the one permit is free");
            let second = kit.post("/v1/hosts/h/claim", &waiting).await;
            assert_eq!((second.status, &second.json["code"]), (503, &json!("overloaded")));
            assert_eq!(second.header("retry-after"), Some("1"));
            kit.app.soft.cancel();
        };
        tokio::select! {
            biased;
            early = &mut claim => panic!("it did not wait: {early:?}"),
            () = meanwhile => {}
        }
        let ended = claim.await;
        assert_eq!((ended.status, ended.json), (200, json!({"job": null})));
        kit.end().await;
    }

    #[tokio::test]
    async fn probes_are_answered_when_all_else_is_refused() {
        let kit = Kit::with(|app| app.admission = Admission::new(0, 0)).await;
        for path in ["/health", "/livez", "/readyz"] {
            assert_eq!(kit.get(path, &[]).await.status, 200, "{path}");
        }
        for path in ["/v1/hosts", "/v1/jobs/j", "/v1/state", "/v1/public/jobs/j"] {
            let refused = kit.get(path, &[]).await;
            assert_eq!((refused.status, &refused.json["code"]), (503, &json!("overloaded")), "{path}");
        }
        kit.end().await;
    }

    #[test]
    fn past_the_bound_nobody_is_let_in_until_someone_leaves() {
        let admission = Admission::new(1, 1);
        let first = admission.admit().expect("room");
        assert!(admission.admit().is_err());
        drop(first);
        assert!(admission.admit().is_ok());
    }

    #[test]
    fn who_is_parked_takes_no_room_from_those_at_work_and_is_bounded_too() {
        let admission = Admission::new(1, 1);
        let parked = admission.admit().expect("room").park().expect("a place");
        let second = admission.admit().expect("room again");
        assert!(second.park().is_err());
        drop(parked);
        assert!(admission.admit().expect("room").park().is_ok());
    }
}
