//! A panic in a route ends that request and nothing else.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;

use crate::error::ApiError;

/// Answers a request; when that panics, logs the panic and answers 500.
pub(crate) async fn caught<T: Default>(answer: impl Future<Output = (Response, T)>) -> (Response, T) {
    // What a panic leaves half done is dropped with the request; what requests share minds panics itself.
    let answered = AssertUnwindSafe(answer).catch_unwind().await;
    answered.unwrap_or_else(|panic| (refusal(&*panic), T::default()))
}

fn refusal(panic: &(dyn Any + Send)) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
    tracing::error!(panic = text, "a request ended in a panic");
    ApiError::internal().into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;

    #[tokio::test]
    async fn a_panic_is_answered_500_without_its_text() {
        async fn fall() -> (Response, ()) {
            panic!("a secret path");
        }
        let (answer, ()) = caught(fall()).await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = axum::body::to_bytes(answer.into_body(), 1000).await.expect("a body");
        assert_eq!(body, r#"{"error":"internal error","code":"internal"}"#);
    }
}
