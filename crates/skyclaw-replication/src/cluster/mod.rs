//! Forming a cluster, joining one, and keeping its members in order.

mod autopilot;
pub(crate) mod elections;
mod forming;
mod handover;
mod members;
mod no_room;
mod standing;

pub(crate) use self::autopilot::Autopilot;
pub(crate) use self::elections::Elections;
pub(crate) use self::forming::{Forming, is_sole};
pub use self::members::ChangeError;
pub(crate) use self::no_room::NoRoom;
pub(crate) use self::standing::{LeaderSigns, Standing, behind};
pub use skyclaw_proto::response::Role;
