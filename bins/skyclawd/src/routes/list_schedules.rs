//! `GET /v1/schedules`: pages of schedules, oldest first.
//!
//! Parameters, both optional: `limit` (1 to 1000, 100 when absent) and `cursor` (the `nextCursor` of the page
//! before).

use axum::extract::State;
use axum::response::Response;
use skyclaw_proto::response::SchedulesBody;
use skyclaw_proto::{Invalid, ScheduleId, limits};

use super::{reply, schedules};
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::Query;

pub(crate) async fn handle(State(app): State<Shared>, query: Query) -> Result<Response, ApiError> {
    let limit = limit(&query)?;
    let after = query.one("cursor")?.map(ScheduleId::parse).transpose();
    let after = after.map_err(|_| Invalid::new("cursor", "must be the nextCursor of another page"))?;
    // One more than asked for shows whether there is a next page.
    let mut page = app.node.schedules(after, limit + 1).await?;
    let is_last = page.len() <= limit;
    page.truncate(limit);
    let next_cursor = page.last().filter(|_| !is_last).map(|schedule| schedule.id.to_string());
    // What each submits is read as well.
    reply::large(|| {
        let schedules = page.iter().map(|schedule| schedules::record(schedule)).collect::<Result<_, _>>()?;
        Ok(SchedulesBody { schedules, next_cursor })
    })
}

fn limit(query: &Query) -> Result<usize, Invalid> {
    let fault = format!("must be a whole number from 1 to {}", limits::MAX_PAGE);
    match query.read("limit", &fault)?.unwrap_or(limits::DEFAULT_PAGE) {
        n if n == 0 || n > limits::MAX_PAGE => Err(Invalid::new("limit", fault)),
        n => Ok(n as usize),
    }
}
