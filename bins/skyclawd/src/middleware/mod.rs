//! What requests go through on their way to a route and back; [`around`] has the order.

pub(crate) mod around;
pub(crate) mod auth;
pub(crate) mod cors;
pub(crate) mod entry;
pub(crate) mod index;
pub(crate) mod panics;
pub(crate) mod trace;
pub(crate) mod unread;
