//! `POST /v1/cluster/members/:id/remove`: takes a member out of the cluster. Only the leader can.
//! Removing one that is gone is a 404, so that no idempotency record is needed.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::json;
use skyclaw_proto::response::MemberBody;
use skyclaw_proto::{ErrorCode, NodeId};
use skyclaw_replication::ChangeError;

use crate::app::{App, Shared};
use crate::error::ApiError;
use crate::extract::{ClientKey, Id};

pub(crate) async fn handle(
    State(app): State<Shared>,
    Id(id): Id<NodeId>,
    _key: ClientKey,
) -> Result<Json<MemberBody>, ApiError> {
    let removed = app.node.remove_member(id.as_str()).await;
    removed.map(|member| Json(MemberBody { member })).map_err(|error| refusal(&app, &error))
}

/// What is said of a change that was not made.
pub(super) fn refusal(app: &App, error: &ChangeError) -> ApiError {
    let sentence = error.to_string();
    match error {
        ChangeError::NotLeader => ApiError::unavailable(ErrorCode::NotLeader, sentence)
            .with_details(json!({ "leaderUrl": app.node.leader_url() })),
        ChangeError::Unknown(_) => ApiError::not_found(sentence),
        ChangeError::LastVoter(_) => {
            ApiError::new(StatusCode::CONFLICT, ErrorCode::MembersUnchanged, sentence)
        }
        _ => ApiError::unavailable(ErrorCode::MembersUnchanged, sentence),
    }
}
