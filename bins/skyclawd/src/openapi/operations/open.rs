//! How this coordinator does.

use skyclaw_proto::response::Health;

use crate::middleware::entry::Entry::{Open, Scrape};
use crate::openapi::operation::{Ok, Operation};

const TAG: &str = "health";

pub(super) fn all() -> Vec<Operation> {
    vec![
        Operation::get("/health", Open, TAG, "getHealth", "Which coordinator this is").gives::<Health>(),
        Operation::get("/livez", Open, TAG, "isAlive", "Whether the process answers").gives::<Ok>(),
        Operation::get("/readyz", Open, TAG, "isReady", "Whether writes are taken")
            .gives::<Ok>()
            .fault(503, "Not ready; the sentence says why."),
        Operation::get("/metrics", Scrape, TAG, "getMetrics", "What is measured, for Prometheus")
            .gives_text("application/openmetrics-text"),
        Operation::get(crate::openapi::PATH, Open, TAG, "getOpenApi", "This document").gives_json(),
    ]
}
