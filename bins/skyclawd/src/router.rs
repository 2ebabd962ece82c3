//! Which route answers what, and what a request must show to get there.

use std::sync::Arc;

use axum::body::{Bytes, HttpBody};
use axum::http::{Method, Request};
use axum::response::Response;
use skyclaw_proto::route;

use crate::app::{App, Shared};
use crate::metrics::NO_ROUTE;
use crate::middleware::entry::Entry;
use crate::middleware::{around, cors, trace};
use crate::routes;
use crate::server::Answers;
use crate::table::{Routes, Table};

/// Everything a coordinator answers. Clones are the same.
#[derive(Clone)]
pub struct Router(Arc<Inner>);

struct Inner {
    app: Shared,
    names: trace::Names,
    table: Table,
}

/// Everything a coordinator answers.
pub fn router(app: Arc<App>) -> Router {
    let routes = all(&app);
    let names = trace::Names::new((app.new_uuid)());
    Router(Arc::new(Inner { table: routes.table(NO_ROUTE), names, app }))
}

/// All routes there are.
pub(crate) fn all(app: &Arc<App>) -> Routes {
    let of = Arc::clone(app);
    let mut routes = Routes::new(move |path| of.metrics.route(path));
    probes(&mut routes);
    document(&mut routes);
    metrics(&mut routes);
    core_working(&mut routes);
    core_parking(&mut routes);
    public(&mut routes);
    peers(&mut routes);
    routes.tell_of(DEEDS);
    routes
}

impl Answers for Router {
    async fn answer<B>(&self, request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + Unpin + 'static,
    {
        let Inner { app, names, table } = &*self.0;
        around::answer(app, names, table, request).await
    }
}

/// What is done by hand, and rarely: the request that did it is always told, and followed to the leader.
const DEEDS: &[&str] = &[
    "/v1/hosts/{id}/drain",
    "/v1/hosts/{id}/undrain",
    "/v1/hosts/{id}/remove",
    "/v1/jobs/{id}/cancel",
    "/v1/jobs/{id}/resolve",
    "/v1/jobs/{id}/retry",
    route::FREEZES,
    "/v1/freezes/{id}/thaw",
    route::SCHEDULES,
    "/v1/schedules/{id}",
    "/v1/schedules/{id}/pause",
    "/v1/schedules/{id}/resume",
    "/v1/schedules/{id}/trigger",
    route::SERVICES,
    "/v1/restores/{id}/commit",
    "/v1/restores/{id}/cancel",
    "/v1/cluster/members/{id}/remove",
    route::CLUSTER_TRANSFER,
    route::PUBLIC_JOBS,
];

/// For those who watch over the daemon: open to everybody, answered even when all else is refused.
fn probes(routes: &mut Routes) {
    let mut open = routes.behind(Entry::Open);
    open.get("/health", routes::health::handle);
    open.get("/livez", routes::livez::handle);
    open.get("/readyz", routes::readyz::handle);
}

/// What there is to ask for is no secret, and who asks has often no token yet.
fn document(routes: &mut Routes) {
    routes.behind(Entry::Open).get(crate::openapi::PATH, routes::openapi::handle);
}

/// For who measures: with the token, also where Prometheus puts one.
fn metrics(routes: &mut Routes) {
    routes.behind(Entry::Scrape).get("/metrics", routes::metrics::handle);
}

/// For other coordinators, whose messages are sealed. Nothing turns them away, or a cluster would fall
/// apart under the load it is there to carry.
fn peers(routes: &mut Routes) {
    routes.behind(Entry::Open).post(skyclaw_replication::PEER_PATH, routes::peer::handle);
}

/// Routes that answer as soon as they can.
fn core_working(routes: &mut Routes) {
    let mut core = routes.behind(Entry::Working);
    core.post(route::REGISTER_HOST, routes::register_host::handle);
    core.get(route::HOSTS, routes::list_hosts::handle);
    core.get("/v1/hosts/{id}", routes::get_host::handle);
    core.post("/v1/hosts/{id}/drain", routes::drain_host::handle);
    core.post("/v1/hosts/{id}/undrain", routes::undrain_host::handle);
    core.post("/v1/hosts/{id}/remove", routes::remove_host::handle);
    core.post("/v1/hosts/{id}/services/claim", routes::claim_service::handle);
    core.post(route::JOBS, routes::enqueue_job::handle);
    core.get(route::JOBS, routes::list_jobs::handle);
    core.post("/v1/jobs/{id}/complete", routes::complete_job::handle);
    core.post("/v1/jobs/{id}/cancel", routes::cancel_job::handle);
    core.post("/v1/jobs/{id}/resolve", routes::resolve_job::handle);
    core.post("/v1/jobs/{id}/retry", routes::retry_job::handle);
    core.post("/v1/jobs/{id}/events", routes::tell_events::handle);
    core.get("/v1/jobs/{id}/events", routes::list_events::handle);
    core.get("/v1/jobs/{id}/explain", routes::explain_job::handle);
    core.post(route::FREEZES, routes::freeze::handle);
    core.get(route::FREEZES, routes::list_freezes::handle);
    core.post("/v1/freezes/{id}/thaw", routes::thaw::handle);
    core.post(route::SCHEDULES, routes::create_schedule::handle);
    core.get(route::SCHEDULES, routes::list_schedules::handle);
    core.get("/v1/schedules/{id}", routes::get_schedule::handle);
    core.on(Method::DELETE, "/v1/schedules/{id}", routes::delete_schedule::handle);
    core.post("/v1/schedules/{id}/pause", routes::pause_schedule::handle);
    core.post("/v1/schedules/{id}/resume", routes::resume_schedule::handle);
    core.post("/v1/schedules/{id}/trigger", routes::trigger_schedule::handle);
    core.post(route::SERVICES, routes::deploy_service::handle);
    core.get(route::SERVICES, routes::list_services::handle);
    core.get("/v1/services/{id}", routes::get_service::handle);
    core.post("/v1/services/{id}/report", routes::report_service::handle);
    core.post(route::REPLICATE_SNAPSHOT, routes::replicate_snapshot::handle);
    core.get(route::SNAPSHOT, routes::save_snapshot::handle);
    core.get(route::RESTORES, routes::list_restores::handle);
    core.post("/v1/restores/{id}/parts/{part}", routes::stage_restore::handle);
    core.post("/v1/restores/{id}/commit", routes::commit_restore::handle);
    core.post("/v1/restores/{id}/cancel", routes::cancel_restore::handle);
    core.get(route::NETWORK_PEERS, routes::list_peers::handle);
    core.post(route::NETWORK_JOIN, routes::join::handle);
    core.get(route::CLUSTER, routes::cluster_status::handle);
    core.get(route::CLUSTER_AUTOPILOT, routes::autopilot::handle);
    core.post("/v1/cluster/members/{id}/remove", routes::remove_member::handle);
    core.post(route::CLUSTER_TRANSFER, routes::transfer_leadership::handle);
}

/// Routes that hold their permits themselves, because they give them back while they wait.
fn core_parking(routes: &mut Routes) {
    let mut core = routes.behind(Entry::Parking);
    core.post("/v1/hosts/{id}/heartbeat", routes::heartbeat::handle);
    core.post("/v1/hosts/{id}/claim", routes::claim_jobs::handle);
    core.get("/v1/jobs/{id}", routes::get_job::handle);
    core.get(route::EVENTS, routes::stream_events::handle);
    core.get("/v1/jobs/{id}/logs", routes::job_logs::handle);
    core.post("/v1/jobs/{id}/logs", routes::push_logs::handle);
    core.get(route::STATE, routes::state::handle);
}

/// For whoever has a key, also on pages of the configured origin. (The keys are checked by the routes, which need
/// to know whose.)
fn public(routes: &mut Routes) {
    let mut public = routes.behind(Entry::Public);
    public.post(route::PUBLIC_JOBS, routes::submit_public_job::handle);
    public.on(Method::OPTIONS, route::PUBLIC_JOBS, cors::preflight);
    public.get("/v1/public/jobs/{id}", routes::get_public_job::handle);
    public.on(Method::OPTIONS, "/v1/public/jobs/{id}", cors::preflight);
}
