//! Who asks for something, as far as they say.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use skyclaw_proto::limits::MAX_ACTOR_LEN;
use skyclaw_proto::route::{ACTOR_HEADER, REQUEST_ID_HEADER};
use skyclaw_proto::{Actor, ActorKind, Invalid};

use crate::app::{App, Shared};
use crate::error::ApiError;
use crate::middleware::trace;

const ACTOR: HeaderName = HeaderName::from_static(ACTOR_HEADER);

/// Who asks, where they say who they are. What is done all the time is told of nobody else: it would cost each write.
#[derive(Debug)]
pub(crate) struct Asker(pub(crate) Option<Arc<Actor>>);

/// Who does something that is done by hand and rarely: at least by which request it was done is always told.
#[derive(Debug)]
pub(crate) struct Deed(Actor);

impl Deed {
    /// Who it is, with the name in the body, which counts for more than the one in the header; and that name.
    pub(crate) fn named(mut self, name: Option<String>) -> (Option<Arc<Actor>>, Option<String>) {
        if name.is_some() {
            self.0.stated = name;
        }
        let name = self.0.stated.clone();
        (Some(Arc::new(self.0)), name)
    }

    /// Who it is, where the body has no name.
    pub(crate) fn by(self) -> Option<Arc<Actor>> {
        self.named(None).0
    }
}

/// Whether a client says who it is.
pub(crate) fn is_stated(headers: &HeaderMap) -> bool {
    headers.contains_key(ACTOR)
}

/// What a request is called, where that is to be told.
#[derive(Debug)]
pub(crate) struct RequestName(Option<String>);

impl RequestName {
    fn of(headers: &HeaderMap) -> Self {
        let name = headers.get(REQUEST_ID_HEADER).and_then(|name| name.to_str().ok());
        // It was named so on its way here, if the client had no name for it that could be taken.
        Self(name.filter(|name| trace::is_sane(name.as_bytes())).map(str::to_owned))
    }

    /// Who asks with a key of the public API that has this label.
    pub(crate) fn of_public(self, app: &App, label: String) -> Arc<Actor> {
        Arc::new(Actor { label: Some(label), ..self.asked(app, ActorKind::Public) })
    }

    fn asked(self, app: &App, kind: ActorKind) -> Actor {
        Actor { node_id: Some(app.node.node_id().clone()), request_id: self.0, ..Actor::new(kind) }
    }
}

impl FromRequestParts<Shared> for RequestName {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        Ok(Self::of(&parts.headers))
    }
}

impl FromRequestParts<Shared> for Asker {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, ApiError> {
        let Some(stated) = stated(&parts.headers)? else { return Ok(Self(None)) };
        let actor =
            Actor { stated: Some(stated), ..RequestName::of(&parts.headers).asked(app, ActorKind::Client) };
        Ok(Self(Some(Arc::new(actor))))
    }
}

impl FromRequestParts<Shared> for Deed {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, ApiError> {
        let stated = stated(&parts.headers)?;
        Ok(Self(Actor { stated, ..RequestName::of(&parts.headers).asked(app, ActorKind::Client) }))
    }
}

/// What the client calls itself, if that is not blank.
fn stated(headers: &HeaderMap) -> Result<Option<String>, Invalid> {
    let mut all = headers.get_all(ACTOR).iter();
    let Some(raw) = all.next() else { return Ok(None) };
    let invalid = |fault: String| Invalid::new(ACTOR_HEADER, fault);
    if all.next().is_some() {
        return Err(invalid("must be given once".to_owned()));
    }
    let raw = raw.as_bytes().trim_ascii();
    if raw.len() > MAX_ACTOR_LEN {
        return Err(invalid(format!("must be at most {MAX_ACTOR_LEN} bytes long")));
    }
    if !raw.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(invalid("must be of printable ASCII characters".to_owned()));
    }
    Ok(Some(String::from_utf8_lossy(raw).into_owned()).filter(|name| !name.is_empty()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kit::Kit;

    fn read(values: &[&str]) -> Result<Option<String>, Invalid> {
        stated(&values.iter().map(|value| (ACTOR, value.parse().expect("a value"))).collect())
    }

    #[test]
    fn a_name_is_trimmed_and_a_blank_one_is_none_and_others_are_refused_by_name() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["  "]), Ok(None));
        assert_eq!(read(&[" ann@laptop "]), Ok(Some("ann@laptop".to_owned())));
        for bad in [&["ann", "bob"][..], &["\u{fc}"], &[&"x".repeat(MAX_ACTOR_LEN + 1)]] {
            assert_eq!(read(bad).expect_err("refused").field, ACTOR_HEADER);
        }
    }

    async fn events(kit: &Kit, job: &str) -> Vec<Value> {
        let told = kit.get(&format!("/v1/jobs/{job}/events"), &[]).await;
        told.json["events"].as_array().cloned().expect("events")
    }

    #[tokio::test]
    async fn a_job_tells_who_submitted_it_and_who_called_it_off_and_by_which_request() {
        let kit = Kit::start().await;
        let node = kit.app.node.node_id().to_string();
        let job = json!({"payload": {"kind": "shell", "command": "true"}}).to_string();
        let said = [(ACTOR_HEADER, "ann@laptop"), (REQUEST_ID_HEADER, "r-1")];
        let submitted = kit.call("POST", "/v1/jobs", &said, &job).await;
        let id = submitted.json["job"]["id"].as_str().expect("an id").to_owned();
        let cancelled = kit.call("POST", &format!("/v1/jobs/{id}/cancel"), &[], "").await;
        let made = cancelled.header(REQUEST_ID_HEADER).expect("a name").to_owned();
        let by: Vec<_> =
            events(&kit, &id).await.iter().map(|it| (it["kind"].clone(), it["by"].clone())).collect();
        assert_eq!(
            by,
            [
                (
                    json!("submitted"),
                    json!({"kind": "client", "stated": "ann@laptop", "nodeId": node, "requestId": "r-1"})
                ),
                (json!("cancelled"), json!({"kind": "client", "nodeId": node, "requestId": made})),
            ]
        );
        kit.end().await;
    }

    #[tokio::test]
    async fn of_a_job_of_nobody_in_particular_nothing_is_kept_but_its_record_tells_of_its_submission() {
        let kit = Kit::start().await;
        let job = json!({"payload": {"kind": "shell", "command": "true"}, "submittedBy": "bob"});
        let said = [(REQUEST_ID_HEADER, "r-1")];
        let submitted = kit.call("POST", "/v1/jobs", &said, &job.to_string()).await;
        let id = submitted.json["job"]["id"].as_str().expect("an id").to_owned();
        let told = events(&kit, &id).await;
        let by = json!({"kind": "client", "stated": "bob"});
        assert_eq!(told, [json!({"at": submitted.json["job"]["createdAt"], "kind": "submitted", "by": by})]);
        let job = kit.app.node.job(&id.parse().expect("an id")).await.expect("read").expect("a job");
        assert!(job.history.is_none(), "{:?}", job.history);
        kit.end().await;
    }
}
