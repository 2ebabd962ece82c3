//! Following all changes, over failures and from one coordinator to another.
//!
//! Every event has its place as its id, and the coordinators' signs of life carry it too. When a connection ends,
//! the next one, at whichever coordinator answers, begins after the last place that was handed out, so each event
//! is handed out once. What the coordinators do not keep any more is handed out as a [`Gap`].

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;
use skyclaw_proto::notice::{END_EVENT, GAP_EVENT};
use skyclaw_proto::record::{Gap, Notice};
use skyclaw_proto::{AgentId, HostId, JobId, NoticeKind, ServiceId, route};
use tokio::time::{Instant, timeout};

use crate::Client;
use crate::call::Call;
use crate::error::Error;
use crate::tries::Tries;

/// A coordinator that shows no sign of life for so long is left: it sends one every ten seconds.
const SILENCE: Duration = Duration::from_secs(30);
/// A stream that ends sooner than this is not asked for again at once.
const AT_ONCE: Duration = Duration::from_secs(1);
/// How long to wait then.
const PAUSE: Duration = Duration::from_millis(500);
/// Largest event that is read, in bytes.
const MAX_EVENT_BYTES: usize = 1024 * 1024;

/// Which events are asked for: those that fulfil all of it. What is `None` or empty does not narrow them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// About one of these.
    pub kinds: Vec<NoticeKind>,
    /// With one of these words for what happened.
    pub types: Vec<String>,
    /// Of records that are in one of these states since.
    pub statuses: Vec<String>,
    /// About this job.
    pub job: Option<JobId>,
    /// About this host, or what is with it.
    pub host: Option<HostId>,
    /// About this service.
    pub service: Option<ServiceId>,
    /// On behalf of this agent.
    pub agent: Option<AgentId>,
    /// With all of these labels.
    pub labels: Vec<(String, String)>,
    /// Submitted by this.
    pub submitted_by: Option<String>,
}

/// What a stream hands out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// Something changed.
    Change(Box<Notice>),
    /// What came in between is not kept any more.
    Gap(Gap),
}

/// A stream of all changes.
#[derive(Debug)]
pub struct EventStream {
    client: Client,
    filter: EventFilter,
    stays: bool,
    place: Option<String>,
    open: Option<Open>,
}

/// A connection to one coordinator.
#[derive(Debug)]
struct Open {
    response: Response,
    began: Instant,
    url: String,
    /// Which of the configured coordinators it is.
    coordinator: usize,
    parser: Parser,
    blocks: VecDeque<Block>,
}

impl Client {
    /// `GET /v1/events`: all changes after a place (an id of an event, or an index of the log), or those that
    /// happen from now on. If it does not stay, it ends with what has happened by now.
    #[must_use]
    pub fn events(&self, filter: EventFilter, after: Option<String>, stays: bool) -> EventStream {
        EventStream { client: self.clone(), filter, stays, place: after, open: None }
    }
}

impl EventStream {
    /// The place after which it goes on: that of the newest event that was handed out or passed by.
    #[must_use]
    pub fn place(&self) -> Option<&str> {
        self.place.as_deref()
    }

    /// What happened next, however long that takes; `None` at the end of a stream that does not stay.
    ///
    /// Cancel safe. After an error it may be called again, and goes on where it was.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn next(&mut self) -> Result<Option<Happened>, Error> {
        loop {
            let open = match &mut self.open {
                Some(open) => open,
                none => {
                    none.insert(connect(&self.client, &self.filter, self.place.as_deref(), self.stays).await?)
                }
            };
            while let Some(block) = open.blocks.pop_front() {
                self.place = block.id.or(self.place.take());
                match happened(&block.event, &block.data) {
                    Ok(Some(happened)) => return Ok(Some(happened)),
                    Ok(None) if block.event == END_EVENT => return Ok(None),
                    Ok(None) => {}
                    Err(fault) => return Err(invalid(&open.url, fault.to_string())),
                }
            }
            let chunk = timeout(SILENCE, open.response.chunk()).await;
            if let Ok(Ok(Some(chunk))) = chunk {
                let url = open.url.clone();
                if let Err(fault) = open.take(&chunk) {
                    self.open = None;
                    return Err(invalid(&url, fault.to_owned()));
                }
                continue;
            }
            // It went away, or shows no sign of life: another may do better.
            let (began, coordinator) = (open.began, open.coordinator);
            self.open = None;
            let shared = &self.client.shared;
            shared.good.store((coordinator + 1) % shared.coordinators.len(), Ordering::Relaxed);
            if began.elapsed() < AT_ONCE {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connect(
    client: &Client,
    filter: &EventFilter,
    after: Option<&str>,
    stays: bool,
) -> Result<Open, Error> {
    let mut call = Call::get(route::EVENTS);
    call.query = filter.query();
    call.query.extend(after.map(|after| ("after", after.to_owned())));
    if !stays {
        call.query.push(("follow", "false".to_owned()));
    }
    let mut tries = Tries::new(client, &call);
    loop {
        let turn = tries.next().await?;
        match client.open(&call, tries.coordinator(turn), turn.limit).await {
            Ok(response) => {
                tries.succeeded(turn);
                return Ok(Open {
                    response,
                    began: Instant::now(),
                    url: tries.coordinator(turn).0.clone(),
                    coordinator: turn.coordinator,
                    parser: Parser::default(),
                    blocks: VecDeque::new(),
                });
            }
            Err(miss) => tries.missed(turn, miss)?,
        }
    }
}

impl Open {
    fn take(&mut self, chunk: &Bytes) -> Result<(), &'static str> {
        self.parser.feed(chunk, &mut self.blocks)
    }
}

/// What an event says; `None` for one that is not known here.
fn happened(event: &str, data: &str) -> Result<Option<Happened>, serde_json::Error> {
    if event == GAP_EVENT {
        return serde_json::from_str(data).map(|gap| Some(Happened::Gap(gap)));
    }
    match NoticeKind::parse(event) {
        Some(_) => serde_json::from_str(data).map(|notice| Some(Happened::Change(Box::new(notice)))),
        None => Ok(None),
    }
}

fn invalid(url: &str, fault: String) -> Error {
    Error::InvalidAnswer { url: url.to_owned(), request: format!("GET {}", route::EVENTS), fault }
}

impl EventFilter {
    fn query(&self) -> Vec<(&'static str, String)> {
        let kinds = self.kinds.iter().map(|kind| ("kind", kind.to_string()));
        let types = self.types.iter().map(|word| ("type", word.clone()));
        let statuses = self.statuses.iter().map(|word| ("status", word.clone()));
        let labels = self.labels.iter().map(|(key, value)| ("label", format!("{key}={value}")));
        let one = [
            ("job", self.job.as_ref().map(ToString::to_string)),
            ("host", self.host.as_ref().map(ToString::to_string)),
            ("service", self.service.as_ref().map(ToString::to_string)),
            ("agent", self.agent.as_ref().map(ToString::to_string)),
            ("submittedBy", self.submitted_by.clone()),
        ];
        let one = one.into_iter().filter_map(|(name, value)| Some((name, value?)));
        kinds.chain(types).chain(statuses).chain(labels).chain(one).collect()
    }
}

/// One event as it is sent. (WHATWG HTML, 9.2.6 "Interpreting an event stream".)
#[derive(Debug, Default, PartialEq, Eq)]
struct Block {
    id: Option<String>,
    event: String,
    data: String,
}

/// Takes a stream apart, wherever it is cut into chunks.
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    /// The last line ended with a carriage return, which a line feed may follow.
    returned: bool,
    block: Block,
    bytes: usize,
}

impl Parser {
    fn feed(&mut self, chunk: &[u8], out: &mut VecDeque<Block>) -> Result<(), &'static str> {
        for byte in chunk {
            let returned = std::mem::replace(&mut self.returned, *byte == b'\r');
            match byte {
                b'\n' if returned => {}
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    self.end_line(&String::from_utf8_lossy(&line), out);
                }
                _ if self.bytes >= MAX_EVENT_BYTES => return Err("an event of it is too large"),
                byte => {
                    self.bytes += 1;
                    self.line.push(*byte);
                }
            }
        }
        Ok(())
    }

    fn end_line(&mut self, line: &str, out: &mut VecDeque<Block>) {
        if line.is_empty() {
            self.bytes = 0;
            let block = std::mem::take(&mut self.block);
            if block != Block::default() {
                out.push_back(block);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" if !value.contains('\0') => self.block.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.block.event),
            "data" => {
                if !self.block.data.is_empty() {
                    self.block.data.push('\n');
                }
                self.block.data.push_str(value);
            }
            // A comment, or what is not known here.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "retry: 1000\nid: 3\n\n: alive\n\nid: 4-0.00ff00ff\nevent: job\ndata: {\"a\":\ndata: 1}\n\n\
                          id: 5\r\nevent:gap\r\ndata:x\r\n\r\nunknown\n\nid: 6\ndata: unfinished";

    fn blocks(stream: &[u8], cut: usize) -> Vec<Block> {
        let (mut parser, mut out) = (Parser::default(), VecDeque::new());
        for chunk in stream.chunks(cut) {
            parser.feed(chunk, &mut out).expect("small events");
        }
        out.into()
    }

    #[test]
    fn a_stream_is_taken_apart_the_same_way_wherever_it_is_cut() {
        let block = |id: &str, event: &str, data: &str| Block {
            id: Some(id.into()),
            event: event.into(),
            data: data.into(),
        };
        let wanted =
            [block("3", "", ""), block("4-0.00ff00ff", "job", "{\"a\":\n1}"), block("5", "gap", "x")];
        for cut in 1..=STREAM.len() {
            assert_eq!(blocks(STREAM.as_bytes(), cut), wanted, "cut every {cut} bytes");
        }
    }

    #[test]
    fn an_event_without_end_is_not_read_without_end() {
        let (mut parser, mut out) = (Parser::default(), VecDeque::new());
        let endless = vec![b'x'; MAX_EVENT_BYTES / 2];
        assert!(parser.feed(&endless, &mut out).is_ok());
        assert!(parser.feed(&endless, &mut out).is_ok());
        assert!(parser.feed(b"x", &mut out).is_err());
    }

    #[test]
    fn an_event_of_a_kind_that_is_not_known_here_is_passed_by() {
        assert_eq!(happened("tomorrow", "{}").expect("passed by"), None);
        assert!(happened("job", "{}").is_err());
        let gap = happened("gap", r#"{"after":"1-0","keptAfter":"9-2","oldest":"10-0","reason":"old"}"#);
        assert!(matches!(gap, Ok(Some(Happened::Gap(gap))) if gap.oldest.is_some()));
    }
}
