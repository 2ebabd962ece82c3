//! The coordinator's HTTP face: what arrives on a socket becomes an operation of the replicated state
//! machine, and what comes of it an answer.
//!
//! ```text
//!  socket ─► server ─► router: the way in ─► routes/<one endpoint> ─► Node
//!                                 │               │
//!                        trace, panics, auth,   extract (ids, keys, bodies),
//!                        index, admission       error (the one map to a status)
//! ```
//!
//! What always holds:
//! - who may not do a thing learns so before the body is read;
//! - a client's mistake is a 4xx that names what is wrong, never a 500;
//! - every queue, body and wait has a bound, and past it the answer is 503 with `retry-after`;
//! - what goes on inside (paths, SQL, panics) is logged and never sent.
//!
//! Nothing here knows of the log, of SQLite or of the rules for jobs.

pub mod admission;
mod again;
pub mod app;
mod aside;
pub mod error;
mod extract;
mod head_timer;
#[cfg(test)]
mod kit;
mod leash;
mod log_meters;
pub mod metrics;
mod middleware;
mod openapi;
pub mod public_keys;
pub mod router;
mod routes;
pub mod server;
pub mod settings;
mod table;
mod token;
