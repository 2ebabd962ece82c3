//! The document of the API: what `GET /openapi.json` answers, in OpenAPI 3.1.
//!
//! It is put together once, when it is first asked for. The schemas are derived (utoipa) on the types of
//! `skyclaw-proto` that the routes read and write; what the checks of requests ask for beyond types stands beside
//! those checks (`skyclaw_proto::openapi::rules`); the operations are written down here, by what they are about.
//!
//! **Who adds a field** to a type on the wire does nothing here: it is in the document by the derive. A field whose
//! check has bounds gets its rules in `skyclaw_proto::openapi::rules`, and a test there tries each rule on the check.
//! A new type gets the line `#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]` as its neighbours have.
//! **Who adds a route** adds an [`Operation`] to the list in `operations/` it belongs to; a test compares the document
//! with the table of routes, methods and ways in included. A header that every answer has is added in [`operation`].
//!
//! What always holds:
//! - a schema of a request refuses nothing that the route takes (so who sends what it refuses gets a 400);
//! - a schema of an answer allows `null` nowhere but where the contract has it;
//! - a status that can come is there. A 500 is a fault of ours, and is not.

mod operation;
mod operations;
mod schemas;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use self::operation::Operation;
use self::schemas::Schemas;

/// The path of the document.
pub(crate) const PATH: &str = "/openapi.json";

/// What each tag is about, in the order of the document.
const TAGS: &[(&str, &str)] = &[
    ("jobs", "Work with an end: submitted, claimed by a host, run, done."),
    ("hosts", "Machines that run work."),
    ("schedules", "What submits jobs at the times that it names."),
    ("services", "Long-lived processes with replicas."),
    ("freezes", "The switch that stops everything, or a part of it."),
    ("events", "What happens, as it happens."),
    ("public", "For callers from outside, each with a key of its own."),
    ("cluster", "The coordinators."),
    ("snapshots", "Backups, and the way back to one."),
    ("mesh", "What coordinators of the reference mesh say to each other."),
    ("health", "How this coordinator does."),
];

/// The document as it is sent.
pub(crate) fn text() -> Bytes {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());
    TEXT.clone()
}

/// The document.
fn document() -> Value {
    let operations = operations::all();
    let mut schemas = Schemas::default();
    let paths = paths(&operations, &mut schemas);
    let (parameters, headers) = operation::parts();
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Skyclaw coordinator",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT", "identifier": "MIT" },
            "description": ABOUT,
        },
        "tags": TAGS.iter().map(|(name, about)| json!({"name": name, "description": about})).collect::<Value>(),
        "paths": paths,
        "components": {
            "schemas": schemas.finish(),
            "parameters": parameters,
            "headers": headers,
            "securitySchemes": {
                "token": {
                    "type": "apiKey", "in": "header", "name": skyclaw_proto::route::TOKEN_HEADER,
                    "description": "The shared token of the mesh. A coordinator without one asks for none.",
                },
                "scrapeToken": {
                    "type": "http", "scheme": "bearer",
                    "description": "The same token, where Prometheus puts one.",
                },
                "publicKey": {
                    "type": "apiKey", "in": "header", "name": "x-api-key",
                    "description": "A key of `SKYCLAW_PUBLIC_API_KEYS`.",
                },
                "publicBearer": { "type": "http", "scheme": "bearer", "description": "The same key." },
            },
        },
    });
    schemas::separate(&mut document);
    document
}

const ABOUT: &str = "Coordinators keep jobs and services in a replicated log; hosts claim and run them; operators submit, \
watch and cancel. Any coordinator of a cluster takes any request.\n\n\
Fields that are not known are ignored, and a field that is absent is left out, never `null`, unless it says so. Times are \
RFC 3339 in UTC, durations whole milliseconds. Every error is `{\"error\": \"<sentence>\", \"code\": \"<word>\"}`, and a 503 \
says with `retry-after` when to come back. A request that changes something may carry `x-idempotency-key`: sent again \
with the same key, it is answered as before and done once. `x-skyclaw-index` of an answer is the place in the log that \
it reflects; a request with `x-skyclaw-min-index` waits until that place is reached. `traceparent` and `tracestate` (W3C Trace \
Context) are followed where they can be read.\n\n\
Lengths of texts are checked in bytes of UTF-8, which the schemas cannot say: a text that is not ASCII may be refused \
although it has few enough characters.";

fn paths(operations: &[Operation], schemas: &mut Schemas) -> Map<String, Value> {
    let mut paths = Map::new();
    for operation in operations {
        let item = paths.entry(operation.path).or_insert_with(|| json!({}));
        item[operation.method.as_str().to_ascii_lowercase()] = operation.value(operations, schemas);
    }
    paths
}
