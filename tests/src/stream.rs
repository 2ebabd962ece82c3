//! A reader of server-sent events: what a browser or any other client of the kind does, without coming back by
//! itself.

use std::io::{BufRead as _, BufReader};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::time::Duration;

use serde_json::Value;

use crate::TOKEN;

/// Events that are read and not asked for yet; past it, no more is read.
const QUEUE: usize = 1024;

/// One event with data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Its id: where the next reader goes on.
    pub id: String,
    /// What kind of event it is.
    pub event: String,
    /// What it says.
    pub data: Value,
}

/// A stream that is read on a thread of its own.
#[derive(Debug)]
pub struct Stream {
    events: Receiver<Line>,
    /// The last id that was sent, with an event or as a sign of life.
    pub last_id: String,
}

#[derive(Debug)]
enum Line {
    Id(String),
    Sent(Sent),
}

impl Stream {
    /// Asks for a stream, with what is needed to go on where another ended.
    ///
    /// # Errors
    /// When it is refused: the status and the body. When nobody answers: 0 and why.
    pub fn open(base: &str, path: &str, last_id: Option<&str>) -> Result<Self, (u16, String)> {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().new_agent();
        let mut request = agent.get(format!("{base}{path}")).header("x-skyclaw-token", TOKEN);
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let response = request.call().map_err(|error| (0, error.to_string()))?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        if status != 200 {
            return Err((status, body.read_to_string().unwrap_or_default()));
        }
        let (send, events) = sync_channel(QUEUE);
        std::thread::spawn(move || {
            let (mut id, mut event, mut data) = (String::new(), String::new(), String::new());
            for line in BufReader::new(body.into_reader()).lines() {
                let Ok(line) = line else { return };
                let sent = match line.split_once(": ") {
                    Some(("id", value)) => {
                        value.clone_into(&mut id);
                        Line::Id(value.to_owned())
                    }
                    Some(("event", value)) => {
                        value.clone_into(&mut event);
                        continue;
                    }
                    Some(("data", value)) => {
                        value.clone_into(&mut data);
                        continue;
                    }
                    _ if line.is_empty() && !data.is_empty() => {
                        let data = serde_json::from_str(&std::mem::take(&mut data)).expect("JSON");
                        Line::Sent(Sent { id: id.clone(), event: std::mem::take(&mut event), data })
                    }
                    _ => continue,
                };
                if send.send(sent).is_err() {
                    return;
                }
            }
        });
        Ok(Self { events, last_id: last_id.unwrap_or_default().to_owned() })
    }

    /// The next event with data if it is there, or that the stream has ended.
    ///
    /// # Errors
    /// When it has ended.
    pub fn look(&mut self) -> Result<Option<Sent>, TryRecvError> {
        loop {
            match self.events.try_recv() {
                Ok(Line::Id(id)) => self.last_id = id,
                Ok(Line::Sent(sent)) => return Ok(Some(sent)),
                Err(TryRecvError::Empty) => return Ok(None),
                Err(ended) => return Err(ended),
            }
        }
    }

    /// Waits until an id was sent, with or without an event: the stream stands.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn stands(&mut self) {
        match self.events.recv_timeout(Duration::from_secs(60)) {
            Ok(Line::Id(id)) => self.last_id = id,
            other => panic!("no id first but {other:?}"),
        }
    }

    /// All events up to the end of the stream.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn rest(self) -> Vec<Sent> {
        self.collect()
    }
}

/// Waits for each event with data, up to the end of the stream. Panics when neither comes.
impl Iterator for Stream {
    type Item = Sent;

    #[track_caller]
    fn next(&mut self) -> Option<Sent> {
        loop {
            match self.events.recv_timeout(Duration::from_secs(60)) {
                Ok(Line::Id(id)) => self.last_id = id,
                Ok(Line::Sent(sent)) => return Some(sent),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => panic!("no event, and no end of the stream"),
            }
        }
    }
}

/// Everything that is kept after a place, as a coordinator tells it; without the event that says so.
///
/// # Panics
/// When it does not.
#[must_use]
#[track_caller]
pub fn kept(base: &str, query: &str) -> Vec<Sent> {
    let stream = Stream::open(base, &format!("/v1/events?follow=false&{query}"), None);
    let mut all = stream.expect("a stream").rest();
    assert_eq!(all.pop().map(|last| last.event).as_deref(), Some("end"), "told to the end");
    all
}
