//! The index of the log that an answer reflects, so that a client that wrote at one coordinator and
//! reads at another sees its write.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use skyclaw_proto::route::{INDEX_HEADER, MIN_INDEX_HEADER};
use skyclaw_proto::{ErrorCode, Invalid};

use crate::app::Shared;
use crate::error::ApiError;

/// How long a request waits for the index it asks for.
const WAIT: Duration = Duration::from_secs(5);

/// Puts the applied index on the answer.
pub(crate) async fn tell(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let applied = HeaderValue::from(app.node.applied());
    response.headers_mut().insert(HeaderName::from_static(INDEX_HEADER), applied);
    response
}

/// Holds a request back until the index it asks for is applied.
pub(crate) async fn wait(
    State(app): State<Shared>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if let Some(wanted) = wanted(request.headers())?
        && wanted > app.node.applied()
        && app.unless_ending(app.node.wait_applied(wanted, WAIT)).await != Some(true)
    {
        let applied = app.node.applied();
        let sentence = format!("index {wanted} is not applied here yet: this coordinator is at {applied}");
        return Err(ApiError::unavailable(ErrorCode::Behind, sentence));
    }
    Ok(next.run(request).await)
}

fn wanted(headers: &HeaderMap) -> Result<Option<u64>, Invalid> {
    let Some(raw) = headers.get(MIN_INDEX_HEADER) else { return Ok(None) };
    let read = raw.to_str().ok().and_then(|text| text.trim().parse().ok());
    read.map(Some).ok_or_else(|| Invalid::new(MIN_INDEX_HEADER, "must be a whole number, 0 or more"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_is_no_number_is_refused_by_name() {
        let with = |value: &str| {
            let name = HeaderName::from_static(MIN_INDEX_HEADER);
            wanted(&HeaderMap::from_iter([(name, value.parse().expect("a value"))]))
        };
        assert_eq!(with(" 7 "), Ok(Some(7)));
        assert_eq!(wanted(&HeaderMap::new()), Ok(None));
        for bad in ["", "x", "-1", "1.5", "99999999999999999999"] {
            assert_eq!(with(bad).expect_err(bad).field, MIN_INDEX_HEADER);
        }
    }
}
