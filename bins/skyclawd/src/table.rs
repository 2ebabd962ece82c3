//! Which endpoint a request is for.
//!
//! axum gives the handlers and takes requests apart for them; the table of routes is our own. In axum's router
//! every layer costs a request several allocations: routes and layers are cloned and boxed anew for each, and so
//! are their futures, the path that matched and its parameters. Here a request is looked up once, and only the
//! future of its handler lies on the heap.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::pin::Pin;

use axum::body::Body;
use axum::extract::Request;
use axum::handler::Handler;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Body as _;
use percent_encoding::percent_decode_str;
use skyclaw_proto::ErrorCode;

use crate::app::Shared;
use crate::error::ApiError;
use crate::metrics::RouteMeter;
use crate::middleware::entry::Entry;

/// The answer of a handler, on its way.
type Answering = Pin<Box<dyn Future<Output = Response> + Send>>;

/// A handler, whatever it takes out of a request.
trait Handle: Send + Sync {
    fn call(&self, app: Shared, request: Request) -> Answering;
}

struct Handling<H, T>(H, PhantomData<fn() -> T>);

impl<H: Handler<T, Shared, Future = Answering>, T: 'static> Handle for Handling<H, T> {
    fn call(&self, app: Shared, request: Request) -> Answering {
        self.0.clone().call(request, app)
    }
}

/// What answers the requests for one path.
pub(crate) struct Endpoint {
    /// What a request goes through before it is answered.
    pub(crate) entry: Entry,
    pub(crate) meter: RouteMeter,
    /// Whether it is always told by which request it was done: what is done by hand, and rarely.
    pub(crate) is_told: bool,
    methods: Vec<(Method, Box<dyn Handle>)>,
}

impl Endpoint {
    fn new(entry: Entry, meter: RouteMeter) -> Self {
        Self { entry, meter, is_told: false, methods: Vec::new() }
    }

    fn handler(&self, method: &Method) -> Option<&dyn Handle> {
        let of = |method: &Method| self.methods.iter().find(|(known, _)| known == method);
        // Who asks for the head alone is answered by what would give the whole.
        let found = of(method).or_else(|| (method == Method::HEAD).then(|| of(&Method::GET))?);
        found.map(|(_, handler)| &**handler)
    }

    /// Answers a request for the path.
    pub(crate) async fn answer(&self, app: &Shared, request: Request) -> Response {
        let is_head = request.method() == Method::HEAD;
        let Some(handler) = self.handler(request.method()) else { return self.refuse(&request) };
        let response = handler.call(Shared::clone(app), request).await;
        if is_head { head_of(response) } else { response }
    }

    fn refuse(&self, request: &Request) -> Response {
        let (method, path) = (request.method(), request.uri().path());
        if self.methods.is_empty() {
            return ApiError::not_found(format!("not found: {method} {path}")).into_response();
        }
        let sentence = format!("method not allowed: {method} {path}");
        let refusal = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::MethodNotAllowed, sentence);
        let mut response = refusal.into_response();
        if let Ok(allowed) = HeaderValue::try_from(self.allowed()) {
            response.headers_mut().insert(header::ALLOW, allowed);
        }
        response
    }

    fn allowed(&self) -> String {
        let names = self.methods.iter().map(|(method, _)| match *method {
            Method::GET => "GET,HEAD",
            ref other => other.as_str(),
        });
        names.collect::<Vec<_>>().join(",")
    }
}

/// An answer without its body, which tells all the same how long that would be.
fn head_of(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    if let Some(bytes) = body.size_hint().exact() {
        parts.headers.entry(header::CONTENT_LENGTH).or_insert_with(|| bytes.into());
    }
    Response::from_parts(parts, Body::empty())
}

/// What stands in the path for the parameters of its route, decoded, in their order. `None` for what is not
/// UTF-8.
#[derive(Debug, Clone)]
pub(crate) struct Params(pub(crate) Vec<Option<String>>);

/// All endpoints by their paths.
pub(crate) struct Table {
    paths: matchit::Router<Endpoint>,
    nowhere: Endpoint,
}

impl Table {
    /// The endpoint a request is for. What its path has for parameters is put to it.
    pub(crate) fn find(&self, request: &mut Request) -> &Endpoint {
        let Ok(found) = self.paths.at(request.uri().path()) else { return &self.nowhere };
        let endpoint = found.value;
        if !found.params.is_empty() {
            let decoded = found
                .params
                .iter()
                .map(|(_, raw)| percent_decode_str(raw).decode_utf8().ok().map(std::borrow::Cow::into_owned));
            let params = Params(decoded.collect());
            request.extensions_mut().insert(params);
        }
        endpoint
    }
}

/// Puts a [`Table`] together.
pub(crate) struct Routes {
    meter: Box<dyn Fn(&'static str) -> RouteMeter>,
    paths: BTreeMap<&'static str, Endpoint>,
}

/// Where routes are added that have the same entry.
pub(crate) struct Group<'a> {
    routes: &'a mut Routes,
    entry: Entry,
}

impl Routes {
    pub(crate) fn new(meter: impl Fn(&'static str) -> RouteMeter + 'static) -> Self {
        Self { meter: Box::new(meter), paths: BTreeMap::new() }
    }

    /// What is done there is told with the request that did it.
    pub(crate) fn tell_of(&mut self, paths: &[&str]) {
        for (_, endpoint) in self.paths.iter_mut().filter(|(path, _)| paths.contains(path)) {
            endpoint.is_told = true;
        }
    }

    pub(crate) fn behind(&mut self, entry: Entry) -> Group<'_> {
        Group { routes: self, entry }
    }

    /// Every route: its path, its way in, its methods.
    #[cfg(test)]
    pub(crate) fn told(&self) -> impl Iterator<Item = (&'static str, Entry, Vec<Method>)> {
        let methods =
            |endpoint: &Endpoint| endpoint.methods.iter().map(|(method, _)| method.clone()).collect();
        self.paths.iter().map(move |(path, endpoint)| (*path, endpoint.entry, methods(endpoint)))
    }

    /// The table; `nowhere` is what requests are counted under that no route is for.
    #[expect(
        clippy::expect_used,
        reason = "the paths are written down in the program, and tests put them together"
    )]
    pub(crate) fn table(self, nowhere: &'static str) -> Table {
        let mut paths = matchit::Router::new();
        for (path, endpoint) in self.paths {
            paths.insert(path, endpoint).expect("paths that do not stand in each other's way");
        }
        Table { paths, nowhere: Endpoint::new(Entry::Open, (self.meter)(nowhere)) }
    }
}

impl Group<'_> {
    pub(crate) fn get<H, T: 'static>(&mut self, path: &'static str, handler: H) -> &mut Self
    where
        H: Handler<T, Shared, Future = Answering>,
    {
        self.on(Method::GET, path, handler)
    }

    pub(crate) fn post<H, T: 'static>(&mut self, path: &'static str, handler: H) -> &mut Self
    where
        H: Handler<T, Shared, Future = Answering>,
    {
        self.on(Method::POST, path, handler)
    }

    pub(crate) fn on<H, T: 'static>(&mut self, method: Method, path: &'static str, handler: H) -> &mut Self
    where
        H: Handler<T, Shared, Future = Answering>,
    {
        let Routes { meter, paths } = &mut *self.routes;
        let endpoint = paths.entry(path).or_insert_with(|| Endpoint::new(self.entry, meter(path)));
        debug_assert!(endpoint.entry == self.entry, "{path} has one entry");
        endpoint.methods.push((method, Box::new(Handling(handler, PhantomData))));
        self
    }
}
