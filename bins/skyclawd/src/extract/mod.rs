//! What routes take out of requests. Each extractor refuses what is malformed with a 400 that names it.

mod asker;
mod body;
mod client_key;
mod fault;
mod path_id;
mod query;

pub(crate) use asker::{Asker, Deed, RequestName, is_stated};
pub(crate) use body::Body;
pub(crate) use client_key::{CORE, ClientKey};
pub(crate) use path_id::Id;
pub(crate) use query::Query;
