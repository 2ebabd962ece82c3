use std::sync::Arc;

use proptest::prelude::*;
use skyclaw_core::Counters;
use skyclaw_proto::{Capabilities, NodeId, Payload, ShellPayload, Timestamp};

use super::channel::{LINGER, WINDOW_BYTES};
use super::*;
use skyclaw_proto::limits::MAX_LOG_PIECE_BYTES;

const FENCE: u64 = 7;

fn job_id() -> JobId {
    JobId::parse("j").expect("an id")
}

fn host() -> HostId {
    HostId::parse("h").expect("an id")
}

/// A memory in which host `h` runs job `j`.
fn memory() -> Memory {
    let phase =
        Phase::Leased(Lease { host: host(), expires_at: Timestamp::EPOCH, cancel_requested_at: None });
    let job = Job {
        bonds: None,
        life: None,
        origin: None,
        id: job_id(),
        seq: 1,
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
        updated_by: NodeId::parse("n").expect("an id"),
        version: 1,
        attempts: 2,
        priority: 50,
        required: Capabilities::default(),
        payload: Arc::new(Payload::Shell(ShellPayload::default())),
        labels: std::collections::BTreeMap::new(),
        submitted_by: None,
        fence: FENCE,
        terms: None,
        history: None,
        phase,
    };
    let state = State::load([], [Arc::new(job)], [], Counters::default());
    Memory::new(state, Duration::from_secs(60))
}

fn read(from: u64, follow: bool) -> ReadLogs {
    let from = LogCursor { stdout: Some(from), stderr: None, fence: None };
    ReadLogs { job: job_id(), from, follow, wait: Duration::from_secs(1) }
}

fn push(offset: u64, data: &str, more: bool) -> PushLogs {
    let (job, host, stream, data) = (job_id(), host(), LogStream::Stdout, data.to_owned());
    PushLogs { job, host, fence: FENCE, stream, offset, data, more }
}

fn waits(look: LogsLook) -> oneshot::Receiver<Bit> {
    match look {
        LogsLook::Wait { mut bits, .. } => bits.pop().expect("it waits for a stream"),
        other => panic!("it does not wait: {other:?}"),
    }
}

fn piece(look: LogsLook) -> LogPiece {
    match look {
        LogsLook::Piece(piece) => piece,
        other => panic!("no piece: {other:?}"),
    }
}

fn text(bit: &mut oneshot::Receiver<Bit>) -> Option<String> {
    let about = read(0, true).nothing(memory().state.job(&job_id()).expect("the job"), JobStatus::Leased);
    Some(bit.try_recv().ok()?.piece(about).data)
}

/// What the host is told, by offset.
fn wanted(memory: &mut Memory, now: Instant) -> Vec<u64> {
    memory.logs.wanted_of(&host(), now).iter().map(|want| want.offset).collect()
}

#[test]
fn what_is_asked_for_is_wanted_of_its_host_and_reaches_all_that_wait_and_who_comes_late() {
    let (mut memory, now) = (memory(), Instant::now());
    assert_eq!(wanted(&mut memory, now), [0; 0]);
    let mut first = waits(memory.look_at_logs(&read(0, true), now, true));
    let mut other = waits(memory.look_at_logs(&read(3, true), now, true));
    assert_eq!(wanted(&mut memory, now), [0]);
    let next = memory.take_logs(&push(0, "abcdef", false), now).expect("its host").expect("wanted");
    assert_eq!(next.iter().map(|want| want.offset).collect::<Vec<_>>(), [6], "what comes next");
    assert_eq!(text(&mut first).as_deref(), Some("abcdef"));
    assert_eq!(text(&mut other).as_deref(), Some("def"));
    let late = piece(memory.look_at_logs(&read(1, true), now, true));
    assert_eq!((late.offset, late.data.as_str(), late.next_offset), (1, "bcdef", 6));
    assert_eq!((late.attempt, late.fence, late.live, late.ended), (2, FENCE, true, false));
    let now_all = piece(memory.look_at_logs(&read(6, false), now, true));
    assert!(now_all.data.is_empty() && now_all.live, "the host has said that there is no more");
}

#[test]
fn what_was_the_end_some_time_ago_is_asked_for_anew() {
    let (mut memory, now) = (memory(), Instant::now());
    let mut waiting = waits(memory.look_at_logs(&read(0, false), now, true));
    wanted(&mut memory, now);
    memory.take_logs(&push(0, "", false), now).expect("its host").expect("wanted");
    assert_eq!(text(&mut waiting).as_deref(), Some(""));
    // As long as somebody reads, its host brings what is written as it is, so this is the end.
    let soon = now + LINGER / 2;
    assert!(piece(memory.look_at_logs(&read(0, false), soon, true)).data.is_empty());
    // When nobody has for some time, its host brings nothing any more.
    let later = soon + LINGER;
    let mut waiting = waits(memory.look_at_logs(&read(0, false), later, true));
    assert_eq!(wanted(&mut memory, later), [0], "it is asked again");
    memory.take_logs(&push(0, "abc", false), later).expect("its host").expect("wanted");
    assert_eq!(text(&mut waiting).as_deref(), Some("abc"));
}

#[test]
fn a_push_is_refused_that_nobody_asked_for_or_that_is_not_the_hosts() {
    let (mut memory, now) = (memory(), Instant::now());
    let unwanted = |memory: &mut Memory, now| {
        matches!(memory.take_logs(&push(0, "x", false), now), Ok(Err(LogsFault::NotWanted { .. })))
    };
    assert!(unwanted(&mut memory, now), "nobody has asked");
    let waiting = waits(memory.look_at_logs(&read(0, true), now, true));
    for (fence, by) in [(FENCE - 1, "h"), (FENCE + 1, "h"), (FENCE, "other")] {
        let foreign = PushLogs { fence, host: HostId::parse(by).expect("an id"), ..push(0, "x", false) };
        assert!(memory.take_logs(&foreign, now).is_err(), "{fence} {by}");
    }
    assert!(!unwanted(&mut memory, now));
    drop(waiting);
    assert!(!unwanted(&mut memory, now), "it may be asked for again at once");
    assert!(unwanted(&mut memory, now + LINGER), "nobody has for some time");
    memory.logs.sweep(&memory.state, now + KEEP);
    assert_eq!((memory.logs.channels, memory.logs.held), (0, 0));
}

#[test]
fn who_does_not_read_holds_its_host_back_and_who_asks_again_has_it_told() {
    let (mut memory, now) = (memory(), Instant::now());
    let mut reader = waits(memory.look_at_logs(&read(0, true), now, true));
    let chunk = "x".repeat(MAX_LOG_PIECE_BYTES);
    let mut offset = 0;
    while let Some(at) = wanted(&mut memory, now).first() {
        assert_eq!(*at, offset);
        memory.take_logs(&push(offset, &chunk, true), now).expect("its host").expect("wanted");
        offset += chunk.len() as u64;
        assert!(memory.logs.held <= WINDOW_BYTES);
    }
    assert_eq!(offset, (WINDOW_BYTES + MAX_LOG_PIECE_BYTES) as u64, "so far ahead and no further");
    assert!(text(&mut reader).is_some());
    let mut beat = memory.beats.watch(host());
    let behind = piece(memory.look_at_logs(&read(MAX_LOG_PIECE_BYTES as u64, true), now, true));
    assert_eq!(behind.data.len(), MAX_LOG_PIECE_BYTES, "it is kept for it");
    // What has fallen out of the window is asked for again, and its host told.
    let _again = waits(memory.look_at_logs(&read(0, true), now, true));
    assert!(beat.try_recv().is_ok() && wanted(&mut memory, now) == [0]);
}

#[test]
fn a_heartbeat_is_answered_at_once_only_when_its_host_does_not_know_what_is_wanted() {
    let want = |offset| LogWant { job_id: job_id(), fence: FENCE, stream: LogStream::Stdout, offset };
    assert!(is_news(&[want(5)], &[]));
    assert!(is_news(&[want(5)], &[want(6)]), "it is past that");
    assert!(!is_news(&[want(5)], &[want(5)]));
    assert!(!is_news(&[want(5)], &[want(2)]), "it comes to that");
    assert!(is_news(&[want(5)], &[LogWant { fence: FENCE - 1, ..want(5) }]));
    assert!(is_news(&[want(5)], &[LogWant { stream: LogStream::Stderr, ..want(5) }]));
    assert!(!is_news(&[], &[want(5)]));
}

#[test]
fn a_host_that_says_nothing_is_told_of_and_a_new_attempt_too() {
    let (mut memory, now) = (memory(), Instant::now());
    let _waiting = waits(memory.look_at_logs(&read(0, false), now, true));
    let silent = memory.look_at_logs(&read(0, false), now, false);
    assert!(matches!(silent, LogsLook::Fault(LogsFault::HostSilent { .. })), "{silent:?}");
    let follows = piece(memory.look_at_logs(&read(0, true), now, false));
    assert!(follows.data.is_empty() && !follows.live && !follows.ended);
    let mut earlier = read(90, true);
    earlier.from.fence = Some(FENCE - 1);
    let anew = piece(memory.look_at_logs(&earlier, now, true));
    assert_eq!((anew.fence, anew.offset, anew.next_offset), (FENCE, 0, 0));
}

proptest! {
    #[test]
    fn every_reader_gets_all_from_its_offset_once_however_they_and_their_host_take_turns(
        text in "[a-zä€😀\\x00]{1,600}",
        starts in prop::collection::vec(0_usize..700, 1..5),
        turns in prop::collection::vec((0_usize..6, 1_usize..90), 0..200),
    ) {
        let (mut memory, now) = (memory(), Instant::now());
        let starts: Vec<usize> = starts.iter().map(|at| text.floor_char_boundary(*at)).collect();
        let mut at = starts.clone();
        let mut got: Vec<String> = vec![String::new(); starts.len()];
        let mut waiting: Vec<Option<oneshot::Receiver<Bit>>> = starts.iter().map(|_| None).collect();
        // Chosen turns first, and then each in its turn until all is read.
        let fair = (0..20_000).map(|turn| (turn % 7, 40));
        for (who, size) in turns.into_iter().chain(fair) {
            if who < starts.len() {
                if let Some(bit) = &mut waiting[who] {
                    match bit.try_recv() {
                        Ok(bit) => {
                            let about = read(0, true).nothing(memory.state.job(&job_id()).expect("it"), JobStatus::Leased);
                            let piece = bit.piece(about);
                            prop_assert_eq!(piece.offset, at[who] as u64);
                            got[who].push_str(&piece.data);
                            at[who] += piece.data.len();
                            waiting[who] = None;
                        }
                        Err(oneshot::error::TryRecvError::Empty) => {}
                        Err(fault) => panic!("{fault}"),
                    }
                } else if at[who] < text.len() {
                    match memory.look_at_logs(&read(at[who] as u64, true), now, true) {
                        LogsLook::Piece(piece) => {
                            prop_assert_eq!(piece.offset, at[who] as u64);
                            got[who].push_str(&piece.data);
                            at[who] += piece.data.len();
                        }
                        other => waiting[who] = Some(waits(other)),
                    }
                }
            } else if let Some(offset) = wanted(&mut memory, now).first() {
                let begins = usize::try_from(*offset).expect("small").min(text.len());
                let ends = text.ceil_char_boundary((begins + size).min(text.len()));
                let more = ends < text.len();
                memory.take_logs(&push(*offset, &text[begins..ends], more), now).expect("its host").expect("wanted");
            }
        }
        for (reader, from) in starts.iter().enumerate() {
            prop_assert!(got[reader] == text[*from..], "reader {} from {}", reader, from);
        }
    }
}
