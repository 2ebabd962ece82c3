//! The layers of the stack; [`crate::router`] puts them in order.

pub(crate) mod admit;
pub(crate) mod around;
pub(crate) mod auth;
pub(crate) mod cors;
pub(crate) mod gate;
pub(crate) mod index;
pub(crate) mod panics;
pub(crate) mod trace;
pub(crate) mod unread;
