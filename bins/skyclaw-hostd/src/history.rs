//! What happened to a run, as a coordinator keeps it in the job's history.

use std::time::Duration;

use skyclaw_config::clock;
use skyclaw_exec::{BootTime, Event, ExitStatus, What};
use skyclaw_proto::request::{EventBody, JobEventsBody};
use skyclaw_proto::{Timestamp, limits};

use crate::coordinator::Coordinator;
use crate::ticket::JobTicket;

/// From when on it is worth a write of its own to have a run's beginning in the history before its end.
const LONG: Duration = Duration::from_secs(1);

/// Tells how a run began, when it goes on for a while: whatever becomes of this host, it can be seen what it did. If
/// nobody hears it, the end tells it as well; what is told twice is kept once.
pub(crate) async fn tell_beginning(coordinator: &Coordinator, job: &JobTicket, events: Vec<Event>) {
    tokio::time::sleep(LONG).await;
    // Without a fence it is the job of a coordinator that keeps no history.
    let Some(fence) = job.fence.filter(|_| !events.is_empty()) else { return };
    let body = JobEventsBody {
        host_id: Some(coordinator.host.to_string()),
        fence: Some(fence),
        events: Some(told(&events, clock::now(), BootTime::now())),
    };
    if let Err(error) = coordinator.client.tell_events(&job.job, &body, None).await {
        tracing::debug!(%error, "how it began is told with its end");
    }
}

/// The events of a run, oldest first; `now` is the time of the wall clock at `boot`.
pub(crate) fn told(events: &[Event], now: Timestamp, boot: BootTime) -> Vec<EventBody> {
    let newest = events.len().saturating_sub(limits::MAX_EVENTS_AT_ONCE);
    events[newest..].iter().filter_map(|event| body(event, now, boot)).collect()
}

fn body(event: &Event, now: Timestamp, boot: BootTime) -> Option<EventBody> {
    let (kind, mut detail) = match &event.what {
        What::Image { name, id, ahead } => {
            let made = if *ahead { "made ahead" } else { "made for this run" };
            ("image", Some(format!("{name} ({id}), in a container that was {made}")))
        }
        What::Prepared => ("prepared", None),
        What::InForce(all) => ("limits", Some(all.join("; "))),
        What::Started { pid } => ("started", Some(format!("process {pid}"))),
        What::StopAsked { by, why } => ("stopping", Some(format!("by {by}: {why}"))),
        What::Killed { by } => ("killed", Some(format!("by {by}, as it did not end in time"))),
        What::OutOfMemory => ("oom", None),
        What::Exited(ExitStatus::Code(code)) => ("exited", Some(format!("with code {code}"))),
        What::Exited(ExitStatus::Signal(number)) => ("exited", Some(format!("by signal {number}"))),
        What::Used(usage) => {
            let (cpu, peak) = (usage.cpu.as_millis(), usage.peak_memory_bytes);
            ("usage", Some(format!("{cpu} ms of processor time, at most {peak} bytes of memory")))
        }
        // Of a later version; there is no word for it here.
        _ => return None,
    };
    if let Some(detail) = &mut detail {
        detail.truncate(detail.floor_char_boundary(limits::MAX_EVENT_DETAIL_LEN));
    }
    let at = now.minus(boot.since(event.at));
    Some(EventBody { at: Some(at), kind: Some(kind.to_owned()), detail })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_happened_is_told_with_the_time_it_happened() {
        let now = BootTime::now();
        let at = |ago| now.before(Duration::from_millis(ago));
        let events = [
            Event { at: at(30), what: What::InForce(vec!["a".repeat(2000)]) },
            Event { at: at(20), what: What::StopAsked { by: "shim".into(), why: "it is frozen".into() } },
            Event { at: at(10), what: What::Exited(ExitStatus::Signal(9)) },
        ];
        let told = told(&events, Timestamp::from_millis(1000), now);
        let times: Vec<_> = told.iter().map(|event| event.at.expect("a time").as_millis()).collect();
        assert_eq!(times, [970, 980, 990]);
        assert_eq!(told[0].detail.as_ref().map(String::len), Some(limits::MAX_EVENT_DETAIL_LEN));
        assert_eq!(told[1].detail.as_deref(), Some("by shim: it is frozen"));
        assert_eq!(told[2].kind.as_deref(), Some("exited"));
    }

    #[test]
    fn of_many_events_the_newest_are_told() {
        let now = BootTime::now();
        let many: Vec<_> = (0..100).map(|pid| Event { at: now, what: What::Started { pid } }).collect();
        let told = told(&many, Timestamp::from_millis(0), now);
        assert_eq!(told.len(), limits::MAX_EVENTS_AT_ONCE);
        assert_eq!(told.last().and_then(|event| event.detail.as_deref()), Some("process 99"));
    }
}
