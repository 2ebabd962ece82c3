//! `POST /v1/services/:id/report`: a host says how its replica does.

use axum::extract::State;
use skyclaw_core::Operation;
use skyclaw_proto::request::ReportServiceBody;
use skyclaw_proto::response::ServiceBody;
use skyclaw_proto::{ServiceId, route};

use super::reply::{self, At};
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Body, CORE, ClientKey, Id};

pub(crate) async fn handle(
    State(app): State<Shared>,
    Id(id): Id<ServiceId>,
    key: ClientKey,
    body: Body<ReportServiceBody>,
) -> Result<At<ServiceBody>, ApiError> {
    let key = key.bind(&app, CORE, route::report(&id), &body)?;
    let operation = Operation::ReportService { id, report: body.take().check()? };
    let written = app.node.write(key, operation).await?;
    reply::service(&written)
}
