//! Which events a client wants: those that fulfil all that it gives.
//!
//! `kind`, `type` and `status` take several words, repeated or separated by commas, of which one must fit; `label`
//! may be repeated, and all must fit; `job`, `host`, `service`, `agent` and `submittedBy` take one each. `host`
//! also means the jobs and services that are with it.

use std::collections::BTreeSet;

use skyclaw_proto::record::Notice;
use skyclaw_proto::{
    AgentId, HostId, HostState, Invalid, InvalidId, JobId, JobStatus, NoticeKind, ServiceId, ServiceStatus,
};

use crate::extract::Query;

/// Which events a client wants.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    kinds: BTreeSet<NoticeKind>,
    types: BTreeSet<String>,
    statuses: BTreeSet<String>,
    /// The kind and id of the record.
    records: Vec<(NoticeKind, String)>,
    host: Option<HostId>,
    labels: Vec<(String, String)>,
    agent: Option<AgentId>,
    submitted_by: Option<String>,
}

impl Filter {
    /// Reads what a client asks for.
    ///
    /// # Errors
    /// When a parameter is not as it must be.
    pub(super) fn of(query: &Query) -> Result<Self, Invalid> {
        let job = id(query, "job", JobId::parse)?.map(|id| (NoticeKind::Job, id.to_string()));
        let service = id(query, "service", ServiceId::parse)?.map(|id| (NoticeKind::Service, id.to_string()));
        let labels = query.all("label").map(|label| {
            let parts = label.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
            parts.ok_or_else(|| Invalid::new("label", "must be of the form key=value"))
        });
        Ok(Self {
            kinds: words(query, "kind").map(kind).collect::<Result<_, _>>()?,
            types: words(query, "type").map(str::to_owned).collect(),
            statuses: words(query, "status").map(status).collect::<Result<_, _>>()?,
            records: job.into_iter().chain(service).collect(),
            host: id(query, "host", HostId::parse)?,
            labels: labels.collect::<Result<_, _>>()?,
            agent: id(query, "agent", AgentId::parse)?,
            submitted_by: query.one("submittedBy")?.map(str::to_owned),
        })
    }

    /// Whether an event fulfils all of it.
    pub(super) fn wants(&self, notice: &Notice) -> bool {
        let is_one_of = |wanted: &BTreeSet<String>, word: Option<&str>| {
            wanted.is_empty() || word.is_some_and(|word| wanted.contains(word))
        };
        (self.kinds.is_empty() || self.kinds.contains(&notice.kind))
            && is_one_of(&self.types, Some(&notice.what))
            && is_one_of(&self.statuses, notice.status.as_deref())
            && self.records.iter().all(|(kind, id)| (*kind, id) == (notice.kind, &notice.record_id))
            && self.host.as_ref().is_none_or(|host| notice.host_id.as_ref() == Some(host))
            && self.labels.iter().all(|(key, value)| notice.labels.get(key) == Some(value))
            && self.agent.as_ref().is_none_or(|agent| notice.agent_id.as_ref() == Some(agent))
            && self.submitted_by.as_ref().is_none_or(|by| notice.submitted_by.as_ref() == Some(by))
    }
}

fn words<'a>(query: &'a Query, name: &'a str) -> impl Iterator<Item = &'a str> {
    query.all(name).flat_map(|list| list.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

fn kind(word: &str) -> Result<NoticeKind, Invalid> {
    let known = || NoticeKind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
    NoticeKind::parse(word).ok_or_else(|| Invalid::new("kind", format!("must be one of {}", known())))
}

/// A word that nothing ever is would wait for ever.
fn status(word: &str) -> Result<String, Invalid> {
    let known: BTreeSet<&str> = JobStatus::ALL
        .iter()
        .map(|status| status.as_str())
        .chain(HostState::ALL.iter().map(|state| state.as_str()))
        .chain(ServiceStatus::ALL.iter().map(|status| status.as_str()))
        .collect();
    if known.contains(word) {
        return Ok(word.to_owned());
    }
    let known = known.into_iter().collect::<Vec<_>>().join(", ");
    Err(Invalid::new("status", format!("must be one of {known}")))
}

fn id<T>(
    query: &Query,
    name: &str,
    parse: impl Fn(&str) -> Result<T, InvalidId>,
) -> Result<Option<T>, Invalid> {
    query.one(name)?.map(|text| parse(text).map_err(|e| Invalid::new(name, e.to_string()))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Some events, each by its id.
    fn events() -> Vec<Notice> {
        let events = json!([
            {"id": "1-0", "kind": "job", "type": "queued", "recordId": "j1", "status": "queued",
             "labels": {"team": "a=b", "env": "x"}, "submittedBy": "ann"},
            {"id": "2-0", "kind": "job", "type": "claimed", "recordId": "j1", "status": "leased", "hostId": "h1",
             "labels": {"team": "a=b", "env": "x"}, "submittedBy": "ann"},
            {"id": "3-0", "kind": "job", "type": "failed", "recordId": "j2", "status": "failed", "hostId": "h2",
             "agentId": "bot", "labels": {"team": "c"}},
            {"id": "4-0", "kind": "host", "type": "registered", "recordId": "h1", "status": "up", "hostId": "h1"},
            {"id": "5-0", "kind": "service", "type": "deployed", "recordId": "s1", "status": "pending",
             "labels": {"team": "c"}},
            {"id": "6-0", "kind": "freeze", "type": "frozen", "recordId": "f1", "agentId": "bot"},
        ]);
        let mut events: Vec<serde_json::Value> = serde_json::from_value(events).expect("events");
        for event in &mut events {
            event["at"] = json!("2026-01-01T00:00:00.000Z");
        }
        events.into_iter().map(|event| serde_json::from_value(event).expect("an event")).collect()
    }

    #[test]
    fn every_parameter_narrows_what_is_told_and_several_narrow_it_together() {
        let table = [
            ("", "1 2 3 4 5 6"),
            ("unknown=1&consistent=true", "1 2 3 4 5 6"),
            ("kind=job", "1 2 3"),
            ("kind=job,host", "1 2 3 4"),
            ("kind=host&kind=freeze", "4 6"),
            ("kind=restore", ""),
            ("type=queued,frozen", "1 6"),
            ("type=nothing", ""),
            ("status=failed&status=up", "3 4"),
            ("job=j1", "1 2"),
            ("job=h1", ""),
            ("service=s1", "5"),
            ("job=j1&service=s1", ""),
            ("host=h1", "2 4"),
            ("host=h1&kind=host", "4"),
            ("label=team%3Dc", "3 5"),
            ("label=team%3Da%3Db&label=env%3Dx", "1 2"),
            ("label=team%3Dc&label=env%3Dx", ""),
            ("agent=bot", "3 6"),
            ("submittedBy=ann", "1 2"),
            ("submittedBy=ann&status=leased", "2"),
        ];
        for (query, wanted) in table {
            let filter = Filter::of(&Query::parse(query)).expect(query);
            let events = events();
            let told = events.iter().filter(|event| filter.wants(event));
            let told: Vec<String> = told.map(|event| event.id.index().to_string()).collect();
            assert_eq!(told.join(" "), wanted, "{query}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let table = [
            ("kind=jobs", "kind"),
            ("kind=job,", ""),
            ("status=done", "status"),
            ("job=%2F", "job"),
            ("job=a&job=b", "job"),
            ("host=a%20b", "host"),
            ("service=%00", "service"),
            ("agent=%C3%A9", "agent"),
            ("label=team", "label"),
            ("submittedBy=a&submittedBy=b", "submittedBy"),
        ];
        for (query, field) in table {
            let fault = Filter::of(&Query::parse(query)).err().map(|fault| fault.field.clone());
            assert_eq!(fault.unwrap_or_default(), field, "{query}");
        }
    }
}
