//! A connection on which a request's body was left unread cannot be used again: the rest of the body would
//! be taken for the next request, so the server closes it. The answer says so, or a client that keeps its
//! connections open would send its next request into the void.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::CONNECTION;
use axum::http::{HeaderMap, HeaderValue, Request, Version};
use hyper::body::{Frame, SizeHint};

/// Whether a request's body was read to its end; `None` where it does not matter.
pub(crate) struct Reading(Option<Arc<AtomicBool>>);

/// Watches whether the body of a request is read.
pub(crate) fn watch<B>(request: Request<B>) -> (Request<Body>, Reading)
where
    B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + Unpin + 'static,
{
    // In HTTP/2 a stream ends alone.
    if request.version() >= Version::HTTP_2 || request.body().is_end_stream() {
        return (request.map(Body::new), Reading(None));
    }
    let read = Arc::new(AtomicBool::new(false));
    let watched = |inner| Body::new(Watched { inner, read: Arc::clone(&read) });
    (request.map(watched), Reading(Some(read)))
}

impl Reading {
    /// Tells the client that its connection ends with this answer when its body was not read to the end.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        if self.0.as_ref().is_some_and(|read| !read.load(Ordering::Relaxed)) {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// A body that tells when it was read to its end.
struct Watched<B> {
    inner: B,
    read: Arc<AtomicBool>,
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Watched<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if matches!(polled, Poll::Ready(None)) || self.inner.is_end_stream() {
            self.read.store(true, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use crate::kit::Kit;

    #[tokio::test]
    async fn the_connection_ends_with_an_answer_that_left_the_body_unread_and_no_other() {
        let kit = Kit::with(|app| app.token = Some(crate::token::Token::new(b"t"))).await;
        let body = r#"{"name": "h"}"#;
        let refused = kit.call("POST", "/v1/hosts/register", &[], body).await;
        assert_eq!((refused.status, refused.header("connection")), (401, Some("close")));
        let bodiless = kit.get("/v1/hosts", &[]).await;
        assert_eq!((bodiless.status, bodiless.header("connection")), (401, None));
        let headers = [("x-skyclaw-token", "t"), ("content-type", "application/json")];
        let taken = kit.call("POST", "/v1/hosts/register", &headers, body).await;
        assert_eq!((taken.status, taken.header("connection")), (200, None));
        let wrong = kit.call("POST", "/v1/hosts/register", &headers, "{}").await;
        assert_eq!((wrong.status, wrong.header("connection")), (400, None), "read, though in vain");
        kit.end().await;
    }
}
