//! `POST /v1/restores/:id/parts/:part`: a part of a snapshot is laid by on every node. The body is the bytes as
//! they are; sending a part again is harmless.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use skyclaw_core::StagedPart;
use skyclaw_proto::response::RestoreBody;
use skyclaw_proto::{ErrorCode, Invalid, RestoreId, limits};

use crate::app::Shared;
use crate::error::ApiError;
use crate::table::Params;

pub(crate) async fn handle(
    State(app): State<Shared>,
    Part { restore, part }: Part,
    request: Request,
) -> Result<Json<RestoreBody>, ApiError> {
    let bytes = read(request, &app).await?;
    let staged = app.node.stage(StagedPart { restore, part, bytes }).await?;
    Ok(Json(RestoreBody { restore: staged.as_deref().map(Into::into) }))
}

async fn read(request: Request, app: &Shared) -> Result<Vec<u8>, ApiError> {
    let limit = limits::MAX_RESTORE_PART_BYTES;
    let whole = Limited::new(request.into_body(), limit).collect();
    match tokio::time::timeout(app.body_timeout, whole).await {
        Ok(Ok(body)) => match body.to_bytes() {
            bytes if bytes.is_empty() => Err(Invalid::new("body", "must hold the bytes of the part").into()),
            bytes => Ok(bytes.into()),
        },
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::PayloadTooLarge,
            format!("the body is larger than {limit} bytes"),
        )),
        Ok(Err(_)) => Err(ApiError::bad_request("the body was cut short")),
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            ErrorCode::RequestTimeout,
            format!("the body did not arrive within {} ms", app.body_timeout.as_millis()),
        )),
    }
}

/// Which part of which restore, as the path says.
pub(crate) struct Part {
    restore: RestoreId,
    part: u32,
}

impl axum::extract::FromRequestParts<Shared> for Part {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        let params = parts.extensions.get::<Params>().map(|params| params.0.as_slice());
        let Some([Some(id), Some(part)]) = params else {
            return Err(Invalid::new("id", "must be an id").into());
        };
        let restore = RestoreId::parse(id).map_err(|fault| Invalid::new("id", fault.to_string()))?;
        let within = part.parse().ok().filter(|part| *part < limits::MAX_RESTORE_PARTS);
        let fault = || Invalid::new("part", format!("must be a number below {}", limits::MAX_RESTORE_PARTS));
        Ok(Self { restore, part: within.ok_or_else(fault)? })
    }
}
