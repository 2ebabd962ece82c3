//! `GET /v1/events`: all changes, as server-sent events, from a place on and for as long as the client stays.
//!
//! Parameters, all optional: those of [`filter`]; `after`, the place (an id of an event, or an index of the log
//! as in `x-skyclaw-index`) after which it begins, which a `Last-Event-ID` overrules; `follow=false`, to end
//! with an event `end` where it would begin to wait. Without a place it begins with what happens from now on.
//!
//! Every event has its place as its `id`, and so has each sign of life in between, so that a client may break off
//! anywhere and go on at any coordinator. What of that is not kept any more is told by an event `gap`. A
//! task writes the events and hands them to the connection through a short queue; a client that does not read for
//! [`STALL`] is given up.

mod filter;

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use skyclaw_proto::notice::{END_EVENT, GAP_EVENT};
use skyclaw_proto::record::{Gap, Notice};
use skyclaw_proto::{ErrorCode, EventId, Invalid};
use skyclaw_replication::{Follow, ReadError, Told};
use tokio::sync::mpsc;

use self::filter::Filter;
use crate::admission::{Permit, Stream};
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::Query;

/// How long a client may leave what it is sent unread.
const STALL: Duration = Duration::from_secs(60);
/// How often a sign of life is sent: also how much a client that comes back may be told of that it passed by.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// When a client whose connection broke should come back.
const RETRY: Duration = Duration::from_secs(1);
/// How long a client waits that has seen more elsewhere than is known here.
const BEHIND: Duration = Duration::from_secs(5);
/// How long to wait where too much is read already.
const BUSY: Duration = Duration::from_secs(1);
/// Parts that wait for the client.
const QUEUE: usize = 4;
/// About how large a part is.
const PART_BYTES: usize = 64 * 1024;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const NO_BUFFERING: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

pub(crate) async fn handle(
    State(app): State<Shared>,
    permit: Permit,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let wanted = wanted(&query, &headers)?;
    let stream = app.admission.stream()?;
    drop(permit);
    let cluster = Tag::of(&app);
    let (after, foreign) = match wanted.after {
        Some(Place { after, cluster: Some(of) }) if of != cluster => (Some(EventId::START), Some(after)),
        Some(Place { after, .. }) => (Some(after), None),
        None => (None, None),
    };
    if let Some(after) = after {
        reached(&app, after).await?;
    }
    let follow = app.node.follow(after).await?;
    let (parts, received) = mpsc::channel(QUEUE);
    let told = Telling { app: app.clone(), filter: wanted.filter, stays: wanted.stays, cluster, parts };
    app.tracker.spawn(told.run(follow, foreign, stream));
    let body = futures_util::stream::unfold(received, |mut received| async move {
        received.recv().await.map(|part: Bytes| (Ok::<_, Infallible>(part), received))
    });
    let head = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
        NO_BUFFERING,
    ];
    Ok((head, Body::from_stream(body)).into_response())
}

/// Waits until this node has applied what the client has seen elsewhere.
async fn reached(app: &Shared, after: EventId) -> Result<(), ApiError> {
    let reached = || Box::pin(app.unless_ending(app.node.wait_applied(after.index(), BEHIND)));
    if after.index() <= app.node.applied() || reached().await == Some(true) {
        return Ok(());
    }
    let sentence =
        format!("event {after} is not applied here yet: this coordinator is at {}", app.node.applied());
    Err(ApiError::unavailable(ErrorCode::Behind, sentence))
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    filter: Filter,
    after: Option<Place>,
    /// Whether it goes on with what happens later.
    stays: bool,
}

fn wanted(query: &Query, headers: &HeaderMap) -> Result<Wanted, Invalid> {
    let follow = query.read("follow", "must be true or false")?;
    let mut after = query.one("after")?.map(|text| Place::parse("after", text)).transpose()?;
    if let Some(last) = headers.get(LAST_EVENT_ID) {
        let text = last.to_str().map_err(|_| Place::fault(LAST_EVENT_ID.as_str()))?.trim();
        // A client that was never given one sends none, or this.
        if !text.is_empty() {
            after = Some(Place::parse(LAST_EVENT_ID.as_str(), text)?);
        }
    }
    Ok(Wanted { filter: Filter::of(query)?, after, stays: follow.unwrap_or(true) })
}

/// Tells the ids of one cluster's events from those of another: the last digits of the cluster's own id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tag(u32);

impl Tag {
    fn of(app: &Shared) -> Self {
        // Nothing has happened yet in a cluster that is not there yet.
        Self::of_cluster(app.node.cluster_id().unwrap_or_default())
    }

    fn of_cluster(cluster: uuid::Uuid) -> Self {
        let [.., a, b, c, d] = cluster.into_bytes();
        Self(u32::from_be_bytes([a, b, c, d]))
    }
}

impl std::fmt::Display for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A place as a client names it: that of an event, and of which cluster, if it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    after: EventId,
    cluster: Option<Tag>,
}

impl Place {
    fn parse(name: &str, text: &str) -> Result<Self, Invalid> {
        let (after, cluster) = match text.split_once('.') {
            Some((after, cluster)) => (after, Some(cluster)),
            None => (text, None),
        };
        let tag = |text: &str| {
            let is_plain = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let read = is_plain.then(|| u32::from_str_radix(text, 16).ok()).flatten();
            read.map(Tag).ok_or_else(|| Self::fault(name))
        };
        let after = EventId::parse(after).map_err(|_| Self::fault(name))?;
        Ok(Self { after, cluster: cluster.map(tag).transpose()? })
    }

    fn fault(name: &str) -> Invalid {
        Invalid::new(name, "must be the id of an event, or an index of the log")
    }
}

/// The task that writes to one client.
struct Telling {
    app: Shared,
    filter: Filter,
    stays: bool,
    cluster: Tag,
    parts: mpsc::Sender<Bytes>,
}

/// The client has gone, or does not read.
struct Left;

impl Telling {
    async fn run(self, mut follow: Follow, foreign: Option<EventId>, _place: Stream) {
        match self.tell(&mut follow, foreign).await {
            Ok(why) => {
                // For who looks at it; clients pass comments by.
                let _ = self.parts.try_send(format!(": {why}\n\n").into());
            }
            Err(Left) => tracing::debug!(place = %follow.place(), "a client left the stream of events"),
        }
    }

    /// Tells until there is a reason to end.
    async fn tell(&self, follow: &mut Follow, foreign: Option<EventId>) -> Result<&'static str, Left> {
        let begin = format!("retry: {}\n{}", RETRY.as_millis(), self.sign_of_life(follow.place()));
        self.send(begin.into_bytes()).await?;
        let mut gap = foreign.map(|after| (after, EventId::START, "the id is of another cluster"));
        let mut beat = tokio::time::interval(HEARTBEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        beat.reset();
        loop {
            // All branches are cancel-safe.
            let told = tokio::select! {
                told = follow.next() => told,
                _ = beat.tick() => {
                    self.send(self.sign_of_life(follow.place()).into_bytes()).await?;
                    continue;
                }
                () = self.app.soft.cancelled() => return Ok("the coordinator is going down"),
                () = self.app.node.until_taken_out() => return Ok("this coordinator was taken out of its cluster"),
                () = self.parts.closed() => return Err(Left),
            };
            match told {
                Ok(Told::Changes(changes)) => {
                    let oldest = changes.first().map(|first| first.id);
                    self.tell_gap(&mut gap, oldest).await?;
                    self.tell_changes(&changes).await?;
                }
                Ok(Told::Gap { after, kept_after }) => {
                    let known = gap.as_ref().map(|(after, _, why)| (*after, *why));
                    let (after, why) = known.unwrap_or((after, "what came in between is not kept any more"));
                    gap = Some((after, kept_after, why));
                }
                Ok(Told::CaughtUp) => {
                    self.tell_gap(&mut gap, None).await?;
                    if !self.stays {
                        let mut text = Vec::new();
                        self.write(&mut text, END_EVENT, follow.place(), &serde_json::json!({}));
                        self.send(text).await?;
                        return Ok("that is all so far");
                    }
                }
                Err(ReadError::Store(skyclaw_store::ReadError::Busy)) => tokio::time::sleep(BUSY).await,
                Err(ReadError::ShuttingDown) => return Ok("the coordinator is going down"),
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "events cannot be read");
                    return Ok("the events cannot be read here");
                }
            }
        }
    }

    /// Tells of a gap, if there is one, once it is known what comes after it.
    async fn tell_gap(
        &self,
        gap: &mut Option<(EventId, EventId, &str)>,
        oldest: Option<EventId>,
    ) -> Result<(), Left> {
        let Some((after, kept_after, why)) = gap.take() else { return Ok(()) };
        let told = Gap { after, kept_after, oldest, reason: why.to_owned() };
        let mut text = Vec::new();
        self.write(&mut text, GAP_EVENT, kept_after, &told);
        self.send(text).await
    }

    async fn tell_changes(&self, changes: &[Notice]) -> Result<(), Left> {
        let mut text = Vec::new();
        for notice in changes.iter().filter(|notice| self.filter.wants(notice)) {
            self.write(&mut text, notice.kind.as_str(), notice.id, notice);
            if text.len() >= PART_BYTES {
                self.send(std::mem::take(&mut text)).await?;
            }
        }
        if text.is_empty() { Ok(()) } else { self.send(text).await }
    }

    fn write(&self, text: &mut Vec<u8>, event: &str, id: EventId, data: &impl serde::Serialize) {
        let begin = text.len();
        text.extend_from_slice(format!("id: {id}.{}\nevent: {event}\ndata: ", self.cluster).as_bytes());
        // JSON on one line, as the form of events asks for.
        if let Err(error) = serde_json::to_writer(&mut *text, data) {
            tracing::error!(%error, %id, "an event cannot be put into JSON");
            text.truncate(begin);
            return;
        }
        text.extend_from_slice(b"\n\n");
    }

    /// What tells a client no event, but how far it has got.
    fn sign_of_life(&self, place: EventId) -> String {
        format!("id: {place}.{}\n\n", self.cluster)
    }

    async fn send(&self, text: Vec<u8>) -> Result<(), Left> {
        match tokio::time::timeout(STALL, self.parts.send(text.into())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::Kit;
    use serde_json::json;

    #[test]
    fn a_place_is_an_index_or_an_id_with_or_without_its_cluster() {
        let place = |after, cluster: Option<u32>| Ok(Place { after, cluster: cluster.map(Tag) });
        assert_eq!(Place::parse("after", "0"), place(EventId::START, None));
        assert_eq!(Place::parse("after", "7"), place(EventId::after(7), None));
        assert_eq!(Place::parse("after", "7-2"), place(EventId::new(7, 2), None));
        assert_eq!(Place::parse("after", "7-2.00ff00ff"), place(EventId::new(7, 2), Some(0x00ff_00ff)));
        let bad =
            ["", ".", "7.", ".00ff00ff", "7-2.0ff", "7-2.00ff00f+", "7-2.00ff00ff.", "-1", "7-", "x", "é"];
        for text in bad {
            assert_eq!(Place::parse("after", text).expect_err(text).field, "after");
        }
    }

    #[test]
    fn the_header_overrules_the_parameter_and_whatever_it_is_it_is_named() {
        let with = |value: &[u8]| {
            let value = HeaderValue::from_bytes(value).expect("a value");
            wanted(&Query::parse("after=3"), &HeaderMap::from_iter([(LAST_EVENT_ID, value)]))
        };
        assert_eq!(with(b"9-1").expect("read").after.map(|place| place.after), Some(EventId::new(9, 1)));
        assert_eq!(with(b" ").expect("read").after.map(|place| place.after), Some(EventId::after(3)));
        for bad in [&b"x"[..], b"9-", b"\xff", b"9-1, 9-2", &[b'9'; 9000]] {
            assert_eq!(with(bad).expect_err("refused").field, "last-event-id");
        }
    }

    #[tokio::test]
    async fn streams_are_bounded_and_end_with_the_daemon() {
        let kit =
            Kit::with(|app| app.admission = crate::admission::Admission::new(10, 10).with_streams(1)).await;
        let mut first = std::pin::pin!(kit.get("/v1/events", &[]));
        let meanwhile = async {
            let second = kit.get("/v1/events?follow=false", &[]).await;
            assert_eq!((second.status, &second.json["code"]), (503, &json!("overloaded")));
            assert_eq!(second.header("retry-after"), Some("1"));
            kit.app.soft.cancel();
        };
        tokio::select! {
            biased;
            early = &mut first => panic!("it did not stay: {early:?}"),
            () = meanwhile => {}
        }
        let ended = first.await;
        assert_eq!(ended.status, 200);
        assert_eq!(ended.header("content-type"), Some("text/event-stream"));
        assert_eq!(ended.header("x-accel-buffering"), Some("no"));
        kit.end().await;
    }

    #[tokio::test]
    async fn a_place_that_is_not_reached_is_refused_with_where_this_coordinator_is() {
        let kit = Kit::start().await;
        kit.app.soft.cancel();
        let ahead = kit.get("/v1/events?after=999999-3", &[]).await;
        assert_eq!((ahead.status, &ahead.json["code"]), (503, &json!("behind")));
        for bad in ["after=x", "after=1&after=2", "follow=maybe", "kind=none", "label=a"] {
            let refused = kit.get(&format!("/v1/events?{bad}"), &[]).await;
            assert_eq!((refused.status, &refused.json["code"]), (400, &json!("invalid_request")), "{bad}");
        }
        kit.end().await;
    }
}
