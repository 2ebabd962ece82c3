//! The index of the log that an answer reflects, so that a client that wrote at one coordinator and
//! reads at another sees its write.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use skyclaw_proto::route::{INDEX_HEADER, MIN_INDEX_HEADER};
use skyclaw_proto::{ErrorCode, Invalid};
use skyclaw_replication::WriteError;

use crate::app::App;
use crate::error::ApiError;

/// How long a request waits for the index it asks for.
const WAIT: Duration = Duration::from_secs(5);

const INDEX: HeaderName = HeaderName::from_static(INDEX_HEADER);
const MIN_INDEX: HeaderName = HeaderName::from_static(MIN_INDEX_HEADER);

/// Says that an answer that says nothing of that yet reflects the log up to an index.
pub(crate) fn tell(headers: &mut HeaderMap, index: u64) {
    headers.insert(INDEX, HeaderValue::from(index));
}

/// Says that an answer reflects the log up to an index, if it does not say more already.
pub(crate) fn raise(headers: &mut HeaderMap, index: u64) {
    let told = headers.get(INDEX).and_then(|told| told.to_str().ok()?.parse().ok());
    if told.is_none_or(|told: u64| told < index) {
        tell(headers, index);
    }
}

/// Holds a request back until the index it asks for is applied. Says which is then.
///
/// # Errors
/// 400 when it is no number, 503 when it is not applied in time, or never will be.
pub(crate) async fn wait(app: &App, headers: &HeaderMap, uri: &Uri) -> Result<u64, ApiError> {
    reached(app, headers).await?;
    if asks_for_all(uri) {
        // On the heap, as hardly any request has use for the room it takes.
        let caught_up = app.unless_ending(Box::pin(app.node.catch_up(WAIT))).await;
        caught_up.unwrap_or(Err(WriteError::ShuttingDown))?;
    }
    Ok(app.node.applied())
}

/// Waits until the index that the headers ask for, if they do, is applied.
///
/// # Errors
/// 400 when it is no number, 503 when it is not applied in time, or never will be.
pub(crate) async fn reached(app: &App, headers: &HeaderMap) -> Result<(), ApiError> {
    if let Some(why) = app.node.taken_out() {
        return Err(ApiError::unavailable(ErrorCode::NotReady, why));
    }
    let Some(wanted) = wanted(headers)? else { return Ok(()) };
    // On the heap, as hardly any request has use for the room it takes.
    let reached = || Box::pin(app.unless_ending(app.node.wait_applied(wanted, WAIT)));
    if wanted <= app.node.applied() || reached().await == Some(true) {
        return Ok(());
    }
    let applied = app.node.applied();
    let sentence = format!("index {wanted} is not applied here yet: this coordinator is at {applied}");
    Err(ApiError::unavailable(ErrorCode::Behind, sentence))
}

/// Whether the query says `consistent=true`: the answer must reflect all that was acknowledged before,
/// wherever.
fn asks_for_all(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|part| part == "consistent=true"))
}

fn wanted(headers: &HeaderMap) -> Result<Option<u64>, Invalid> {
    let Some(raw) = headers.get(MIN_INDEX) else { return Ok(None) };
    let read = raw.to_str().ok().and_then(|text| text.trim().parse().ok());
    read.map(Some).ok_or_else(|| Invalid::new(MIN_INDEX_HEADER, "must be a whole number, 0 or more"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::Kit;
    use serde_json::json;

    #[tokio::test]
    async fn who_asks_for_an_index_sees_it_or_is_told_that_it_is_not_there() {
        let kit = Kit::start().await;
        let written = kit.post("/v1/hosts/register", &json!({"name": "h"})).await;
        let index = written.header(INDEX_HEADER).expect("an index").to_owned();
        let seen = kit.get("/v1/hosts", &[(MIN_INDEX_HEADER, &index)]).await;
        assert_eq!((seen.status, seen.json["hosts"].as_array().map(Vec::len)), (200, Some(1)));
        // An end that has begun spares the wait.
        kit.app.soft.cancel();
        let behind = kit.get("/v1/hosts", &[(MIN_INDEX_HEADER, "999999")]).await;
        assert_eq!((behind.status, &behind.json["code"]), (503, &json!("behind")));
        kit.end().await;
    }

    #[tokio::test]
    async fn a_stranger_does_not_get_to_wait() {
        let kit = Kit::with(|app| app.token = Some(crate::token::Token::new(b"t"))).await;
        let refused = kit.get("/v1/hosts", &[(MIN_INDEX_HEADER, "999999")]).await;
        assert_eq!((refused.status, &refused.json["error"]), (401, &json!("unauthorized")));
        kit.end().await;
    }

    #[test]
    fn an_index_that_is_no_number_is_refused_by_name() {
        let with =
            |value: &str| wanted(&HeaderMap::from_iter([(MIN_INDEX, value.parse().expect("a value"))]));
        assert_eq!(with(" 7 "), Ok(Some(7)));
        assert_eq!(wanted(&HeaderMap::new()), Ok(None));
        for bad in ["", "x", "-1", "1.5", "99999999999999999999"] {
            assert_eq!(with(bad).expect_err(bad).field, MIN_INDEX_HEADER);
        }
    }
}
