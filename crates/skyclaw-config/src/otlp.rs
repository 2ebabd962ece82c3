//! Spans to an OpenTelemetry collector, by OTLP over HTTP. Nothing of it runs unless an endpoint is set.
//!
//! What is sent is what our own crates span at level `info`, whatever is logged: requests, jobs, services. It is sent
//! in batches, from a thread of its own with a queue that is bounded: when the collector is slow or away, spans are
//! dropped, and nothing waits for it.

mod export;
mod place;

use std::fmt;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tokio::runtime::Runtime;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{Filtered, LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;

use self::export::Headers;
pub use self::export::{Export, OWN_HEADERS, Own, STANDARD_HEADERS};
pub use self::place::{follow, here, place};
use crate::field::{Field, Raw};

/// How long the collector may take to take a batch.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last spans may take at the end.
const LAST_SPANS: Duration = Duration::from_secs(3);
/// How much of the collector's answer is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// What the names of our crates begin with.
const OURS: &str = "skyclaw";

/// A part of a whole (`SKYCLAW_OTLP_SAMPLE`), from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio(f64);

impl Field for Ratio {
    const ALLOWED: &'static str = "a number from 0 to 1, such as 0.05";
    fn read(raw: Raw<'_>) -> Option<Self> {
        let ratio: f64 = raw.text()?.parse().ok()?;
        (0.0..=1.0).contains(&ratio).then_some(Self(ratio))
    }
    fn write(&self) -> Option<toml::Value> {
        Some(toml::Value::Float(self.0))
    }
}

/// Why spans cannot be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A variable that should name a collector.
    #[error("{0} must be an http or https URL without user or fragment")]
    Endpoint(&'static str),
    /// A variable that should be a list of headers.
    #[error("{0} must be headers like name=value,name=value, with what is special in values as %20")]
    Headers(&'static str),
    /// The client that sends them cannot be made.
    #[error("cannot set up the client that sends spans to the collector")]
    Client(#[source] reqwest::Error),
    /// Its thread cannot be set up.
    #[error("cannot set up the thread that sends spans")]
    Runtime(#[source] std::io::Error),
    /// The exporter refuses its settings.
    #[error("cannot export spans")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
}

/// The export that runs, if one does.
#[derive(Debug, Default)]
#[must_use = "the last spans are sent when it is finished"]
pub struct Exporting(Option<SdkTracerProvider>);

impl Exporting {
    /// Whether spans are exported at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Sends what is left, for a few seconds at most. Not to be called by a task, as it waits.
    pub fn finish(self) {
        let Some(provider) = self.0 else { return };
        if let Err(error) = provider.shutdown_with_timeout(LAST_SPANS) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// A layer that exports spans, and what ends it.
pub(crate) fn begin<S>(export: &Export) -> Result<(impl Layer<S> + use<S>, Exporting), Error>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Sender::new(export)?)
        .with_endpoint(export.url.as_str())
        .with_timeout(TIMEOUT)
        .build()
        .map_err(Error::Exporter)?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        // Whoever began the trace has decided; of those that begin here, the same part everywhere.
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(export.sample.0))))
        .with_resource(export.resource())
        .build();
    let layer: Filtered<_, _, S> = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(export.program))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(Targets::new().with_target(OURS, LevelFilter::INFO));
    Ok((layer, Exporting(Some(provider))))
}

/// Sends batches, one at a time, for the thread of the exporter.
struct Sender {
    http: reqwest::Client,
    headers: Headers,
    runtime: Runtime,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl Sender {
    fn new(export: &Export) -> Result<Self, Error> {
        // An error says that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        if !export.url.starts_with("https:") {
            // Loading the roots of the machine takes time, and fails where there are none.
            http = http.tls_certs_only([]);
        }
        let http = http.build().map_err(|error| Error::Client(error.without_url()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let headers = export.headers.clone();
        Ok(Self { http, headers, runtime: runtime.map_err(Error::Runtime)? })
    }

    async fn send(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.headers.put(request.headers_mut());
        let mut answer = self.http.execute(request.try_into()?).await.map_err(reqwest::Error::without_url)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            let room = MAX_ANSWER_BYTES - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() >= room {
                break;
            }
        }
        let mut response = Response::new(body.into());
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}

#[async_trait::async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // The exporter asks from a thread that does nothing else and belongs to no runtime.
        self.runtime.block_on(self.send(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_from_nothing_to_all() {
        let read = |text: &str| Ratio::read(Raw(&figment::value::Value::from(text))).map(|ratio| ratio.0);
        assert_eq!([read("0"), read("0.05"), read(" 1 ")], [Some(0.0), Some(0.05), Some(1.0)]);
        for bad in ["", "-0.1", "1.01", "NaN", "5%"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
