//! Which route answers what, and what a request goes through before.

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state as with;
use axum::routing::{get, post};
use skyclaw_proto::{ErrorCode, route};
use tower::ServiceBuilder;

use crate::app::{App, Shared};
use crate::error::ApiError;
use crate::middleware::around::AroundLayer;
use crate::middleware::gate::GateLayer;
use crate::middleware::{admit, auth, cors};
use crate::routes;

/// Everything a coordinator answers.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .merge(probes())
        .merge(metrics(&app))
        .merge(core(&app))
        .merge(public(&app))
        .merge(peers())
        .fallback(not_found)
        .layer(AroundLayer(Arc::clone(&app)))
        .with_state(app)
}

/// For those who watch over the daemon: open to everybody, answered even when all else is refused.
fn probes() -> Router<Shared> {
    Router::new()
        .route("/health", get(routes::health::handle))
        .route("/livez", get(routes::livez::handle))
        .route("/readyz", get(routes::readyz::handle))
        .method_not_allowed_fallback(method_not_allowed)
}

/// For who measures: with the token, also where Prometheus puts one.
fn metrics(app: &Shared) -> Router<Shared> {
    Router::new()
        .route("/metrics", get(routes::metrics::handle))
        .method_not_allowed_fallback(method_not_allowed)
        .route_layer(with(app.clone(), auth::scrape))
}

/// For other coordinators, whose messages are sealed. Nothing turns them away, or a cluster would fall
/// apart under the load it is there to carry.
fn peers() -> Router<Shared> {
    Router::new()
        .route(skyclaw_replication::PEER_PATH, post(routes::peer::handle))
        .method_not_allowed_fallback(method_not_allowed)
}

fn core(app: &Shared) -> Router<Shared> {
    let working = core_working().route_layer(GateLayer::working(app));
    working.merge(core_parking().route_layer(GateLayer::parking(app)))
}

/// Routes that answer as soon as they can.
fn core_working() -> Router<Shared> {
    Router::new()
        .route(route::REGISTER_HOST, post(routes::register_host::handle))
        .route(route::HOSTS, get(routes::list_hosts::handle))
        .route("/v1/hosts/{id}", get(routes::get_host::handle))
        .route("/v1/hosts/{id}/drain", post(routes::drain_host::handle))
        .route("/v1/hosts/{id}/undrain", post(routes::undrain_host::handle))
        .route("/v1/hosts/{id}/remove", post(routes::remove_host::handle))
        .route("/v1/hosts/{id}/services/claim", post(routes::claim_service::handle))
        .route(route::JOBS, post(routes::enqueue_job::handle).get(routes::list_jobs::handle))
        .route("/v1/jobs/{id}/complete", post(routes::complete_job::handle))
        .route("/v1/jobs/{id}/cancel", post(routes::cancel_job::handle))
        .route("/v1/jobs/{id}/resolve", post(routes::resolve_job::handle))
        .route("/v1/jobs/{id}/events", post(routes::tell_events::handle).get(routes::list_events::handle))
        .route(route::FREEZES, post(routes::freeze::handle).get(routes::list_freezes::handle))
        .route("/v1/freezes/{id}/thaw", post(routes::thaw::handle))
        .route(route::SERVICES, post(routes::deploy_service::handle).get(routes::list_services::handle))
        .route("/v1/services/{id}", get(routes::get_service::handle))
        .route("/v1/services/{id}/report", post(routes::report_service::handle))
        .route(route::REPLICATE_SNAPSHOT, post(routes::replicate_snapshot::handle))
        .route(route::SNAPSHOT, get(routes::save_snapshot::handle))
        .route(route::RESTORES, get(routes::list_restores::handle))
        .route("/v1/restores/{id}/parts/{part}", post(routes::stage_restore::handle))
        .route("/v1/restores/{id}/commit", post(routes::commit_restore::handle))
        .route("/v1/restores/{id}/cancel", post(routes::cancel_restore::handle))
        .route(route::NETWORK_PEERS, get(routes::list_peers::handle))
        .route(route::NETWORK_JOIN, post(routes::join::handle))
        .route(route::CLUSTER, get(routes::cluster_status::handle))
        .route(route::CLUSTER_AUTOPILOT, get(routes::autopilot::handle))
        .route("/v1/cluster/members/{id}/remove", post(routes::remove_member::handle))
        .route(route::CLUSTER_TRANSFER, post(routes::transfer_leadership::handle))
        .method_not_allowed_fallback(method_not_allowed)
}

/// Routes that hold their permits themselves, because they give them back while they wait.
fn core_parking() -> Router<Shared> {
    Router::new()
        .route("/v1/hosts/{id}/heartbeat", post(routes::heartbeat::handle))
        .route("/v1/hosts/{id}/claim", post(routes::claim_jobs::handle))
        .route("/v1/jobs/{id}", get(routes::get_job::handle))
        .route(route::STATE, get(routes::state::handle))
        .method_not_allowed_fallback(method_not_allowed)
}

fn public(app: &Shared) -> Router<Shared> {
    let stack = ServiceBuilder::new()
        // Pages may read errors too.
        .layer(with(app.clone(), cors::layer))
        // No more at once than may be. (The keys are checked by the routes, which need to know whose.)
        .layer(with(app.clone(), admit::layer));
    Router::new()
        .route(route::PUBLIC_JOBS, post(routes::submit_public_job::handle).options(cors::preflight))
        .route("/v1/public/jobs/{id}", get(routes::get_public_job::handle).options(cors::preflight))
        .method_not_allowed_fallback(method_not_allowed)
        .route_layer(stack)
}

async fn not_found(method: Method, uri: Uri) -> ApiError {
    ApiError::not_found(format!("not found: {method} {}", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let sentence = format!("method not allowed: {method} {}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::MethodNotAllowed, sentence)
}
