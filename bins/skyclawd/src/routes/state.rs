//! `GET /v1/state`: everything there is, as of one moment, however much it is.
//!
//! A task reads the database part by part and hands what it wrote to the connection through a short
//! queue. A client that does not read for [`STALL`] is given up, so that nobody can hold a snapshot of
//! the database for ever.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use skyclaw_proto::{HostId, NodeId, Timestamp, record};
use skyclaw_replication::{Export, Section};
use tokio::sync::mpsc;

use crate::admission::Permit;
use crate::app::Shared;
use crate::error::ApiError;

/// How long a client may let the answer wait.
const STALL: Duration = Duration::from_secs(30);
/// Parts that wait for the client.
const QUEUE: usize = 2;
/// About how large a part is.
const PART_BYTES: usize = 64 * 1024;

type Parts = mpsc::Sender<io::Result<Bytes>>;

pub(crate) async fn handle(State(app): State<Shared>, permit: Permit) -> Result<Response, ApiError> {
    let place = app.bulk.clone().try_acquire_owned();
    let place = place.map_err(|_| ApiError::overloaded("too many whole states at once; try again later"))?;
    // When a host was last heard of is known in memory alone.
    let heard = app.node.hosts().await?.into_iter().map(|host| (host.id, host.last_seen_at)).collect();
    let export = app.node.export().await?;
    let text = Text::begin(app.node.node_id());
    let (parts, received) = mpsc::channel(QUEUE);
    app.tracker.spawn(async move {
        let _held = (place, permit);
        match send(export, heard, text, &parts).await {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                tracing::debug!("a client left before it had the whole state");
            }
            Err(error) => {
                tracing::warn!(%error, "the whole state could not be sent to its end");
                // The connection breaks off, so that nobody takes a part for the whole.
                let _ = parts.try_send(Err(error));
            }
        }
    });
    let stream = futures_util::stream::unfold(received, |mut received| async move {
        received.recv().await.map(|part| (part, received))
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(stream)).into_response())
}

async fn send(
    mut export: Export,
    heard: HashMap<HostId, Timestamp>,
    mut text: Text,
    parts: &Parts,
) -> io::Result<()> {
    while let Some(section) = export.next().await.map_err(io::Error::other)? {
        match section {
            Section::Hosts(hosts) => {
                for host in hosts {
                    let mut host = record::Host::from(&*host);
                    host.last_seen_at = heard.get(&host.id).copied().unwrap_or(host.last_seen_at);
                    text.push(List::Hosts, &host)?;
                    text.flush(PART_BYTES, parts).await?;
                }
            }
            Section::Jobs(jobs) => {
                for job in jobs {
                    text.push(List::Jobs, &job.lent())?;
                    text.flush(PART_BYTES, parts).await?;
                }
            }
            Section::Services(services) => {
                for service in services {
                    text.push(List::Services, &record::Service::from(&*service))?;
                    text.flush(PART_BYTES, parts).await?;
                }
            }
        }
    }
    // The snapshot is let go before the client has read the rest.
    drop(export);
    text.end();
    text.flush(0, parts).await
}

/// The three lists, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum List {
    Hosts,
    Jobs,
    Services,
}

/// The state as JSON, as far as it was not sent yet.
#[derive(Debug)]
struct Text {
    unsent: Vec<u8>,
    list: List,
    is_first: bool,
}

impl Text {
    fn begin(node: &NodeId) -> Self {
        // An id holds no character that JSON escapes.
        let head = format!("{{\"nodeId\":\"{node}\",\"hosts\":[");
        Self { unsent: head.into_bytes(), list: List::Hosts, is_first: true }
    }

    fn push(&mut self, list: List, record: &impl Serialize) -> io::Result<()> {
        self.advance(list);
        if !std::mem::take(&mut self.is_first) {
            self.unsent.push(b',');
        }
        serde_json::to_writer(&mut self.unsent, record).map_err(io::Error::from)
    }

    fn advance(&mut self, to: List) {
        while self.list < to {
            let (next, name) = match self.list {
                List::Hosts => (List::Jobs, "jobs"),
                List::Jobs | List::Services => (List::Services, "services"),
            };
            self.unsent.extend_from_slice(format!("],\"{name}\":[").as_bytes());
            self.list = next;
            self.is_first = true;
        }
    }

    fn end(&mut self) {
        self.advance(List::Services);
        self.unsent.extend_from_slice(b"]}");
    }

    /// Sends what there is if it is at least `enough`.
    async fn flush(&mut self, enough: usize, parts: &Parts) -> io::Result<()> {
        if self.unsent.len() < enough {
            return Ok(());
        }
        let part = std::mem::take(&mut self.unsent).into();
        match tokio::time::timeout(STALL, parts.send(Ok(part))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_without_records_are_empty_lists() {
        let node = NodeId::parse("n").expect("an id");
        let mut text = Text::begin(&node);
        text.end();
        assert_eq!(text.unsent, br#"{"nodeId":"n","hosts":[],"jobs":[],"services":[]}"#);
        let mut text = Text::begin(&node);
        text.push(List::Services, &1).expect("a record");
        text.push(List::Services, &2).expect("a record");
        text.end();
        assert_eq!(text.unsent, br#"{"nodeId":"n","hosts":[],"jobs":[],"services":[1,2]}"#);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_given_up() {
        let mut text = Text::begin(&NodeId::parse("n").expect("an id"));
        let (parts, _received) = mpsc::channel(1);
        text.flush(0, &parts).await.expect("room");
        let error = text.flush(0, &parts).await.expect_err("no room");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
