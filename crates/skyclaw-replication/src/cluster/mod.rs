//! Forming a cluster, joining one, and keeping its members in order.

mod autopilot;
mod forming;
mod handover;
mod members;

pub(crate) use self::autopilot::Autopilot;
pub(crate) use self::forming::Forming;
pub use self::members::ChangeError;
pub use skyclaw_proto::response::Role;
