//! One operation of the document, put together from what its route does and from its way in.

use axum::http::Method;
use serde_json::{Map, Value, json};
use skyclaw_proto::NoticeKind;
use skyclaw_proto::limits::{MAX_ACTOR_LEN, MAX_IDEMPOTENCY_KEY_LEN, MAX_WAIT_MS};
use skyclaw_proto::notice::{END_EVENT, GAP_EVENT, Gap, Notice};
use skyclaw_proto::openapi::PATH_ID;
use skyclaw_proto::route::{
    ACTOR_HEADER, IDEMPOTENCY_HEADER, INDEX_HEADER, MIN_INDEX_HEADER, REQUEST_ID_HEADER,
};
use utoipa::ToSchema;

use super::schemas::Schemas;
use crate::middleware::entry::Entry;

/// Adds a schema to the document and says how it is referred to.
type Schema = fn(&mut Schemas) -> Value;

/// What an answer may hold: of which media type, and what it looks like.
enum Content {
    Typed(&'static str, Schema),
    Text(&'static str),
}

/// What an operation takes as its body.
enum Body {
    Nothing,
    Json(Schema),
    /// An object of which nothing is read.
    Empty,
    Octets,
}

/// One operation.
pub(super) struct Operation {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) entry: Entry,
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    description: Option<&'static str>,
    parameters: Vec<Value>,
    is_keyed: bool,
    is_stated: bool,
    body: Body,
    answers: Vec<Content>,
    told: &'static str,
    faults: Vec<(u16, &'static str)>,
    headers: Vec<(&'static str, Value)>,
    /// Where in the answer the id stands that other operations take.
    makes: Option<(&'static str, &'static str)>,
}

fn reference<T: ToSchema + 'static>(schemas: &mut Schemas) -> Value {
    schemas.add::<T>()
}

impl Operation {
    pub(super) fn new(
        method: Method,
        path: &'static str,
        entry: Entry,
        tag: &'static str,
        id: &'static str,
        summary: &'static str,
    ) -> Self {
        Self {
            method,
            path,
            entry,
            id,
            tag,
            summary,
            description: None,
            parameters: Vec::new(),
            is_keyed: false,
            is_stated: false,
            body: Body::Nothing,
            answers: Vec::new(),
            told: "Done.",
            faults: Vec::new(),
            headers: Vec::new(),
            makes: None,
        }
    }

    pub(super) fn get(
        path: &'static str,
        entry: Entry,
        tag: &'static str,
        id: &'static str,
        summary: &'static str,
    ) -> Self {
        Self::new(Method::GET, path, entry, tag, id, summary)
    }

    pub(super) fn post(
        path: &'static str,
        entry: Entry,
        tag: &'static str,
        id: &'static str,
        summary: &'static str,
    ) -> Self {
        Self::new(Method::POST, path, entry, tag, id, summary)
    }

    /// More about it.
    pub(super) fn about(self, description: &'static str) -> Self {
        Self { description: Some(description), ..self }
    }

    /// Takes a JSON object.
    pub(super) fn takes<T: ToSchema + 'static>(self) -> Self {
        Self { body: Body::Json(reference::<T>), ..self }
    }

    /// Takes a JSON object and reads nothing of it.
    pub(super) fn takes_nothing(self) -> Self {
        Self { body: Body::Empty, ..self }
    }

    /// Takes bytes as they are.
    pub(super) fn takes_octets(self) -> Self {
        Self { body: Body::Octets, ..self }
    }

    /// Answers with JSON.
    pub(super) fn gives<T: ToSchema + 'static>(self) -> Self {
        self.gives_as::<T>("application/json")
    }

    /// Answers with a type in a media type of its own.
    pub(super) fn gives_as<T: ToSchema + 'static>(mut self, media: &'static str) -> Self {
        self.answers.push(Content::Typed(media, reference::<T>));
        self
    }

    /// Answers with a JSON object of which no more is said.
    pub(super) fn gives_json(mut self) -> Self {
        self.answers.push(Content::Typed("application/json", |_| json!({"type": "object"})));
        self
    }

    /// Answers with server-sent events; the schema is that of one.
    pub(super) fn gives_events(mut self) -> Self {
        self.answers.push(Content::Typed("text/event-stream", |schemas| {
            let data = [schemas.add::<Notice>(), schemas.add::<Gap>(), json!({"type": "object", "maxProperties": 0})];
            let kinds = NoticeKind::ALL.iter().map(|kind| kind.as_str()).chain([GAP_EVENT, END_EVENT]);
            json!({
                "type": "object",
                "properties": {
                    "id": {"type": "string"},
                    "event": {"type": "string", "enum": kinds.collect::<Vec<_>>()},
                    "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": {"anyOf": data}},
                },
            })
        }));
        self
    }

    /// Answers with what no schema tells more of.
    pub(super) fn gives_text(mut self, media: &'static str) -> Self {
        self.answers.push(Content::Text(media));
        self
    }

    /// A parameter of the query.
    pub(super) fn query(mut self, name: &str, schema: Value, about: &str) -> Self {
        let is_list = schema["type"] == "array";
        let mut parameter = json!({
            "name": name, "in": "query", "required": false, "description": about,
            // Blank is as good as absent.
            "allowEmptyValue": true,
        });
        parameter["schema"] = schema;
        if is_list {
            parameter["style"] = json!("form");
            parameter["explode"] = json!(true);
        }
        self.parameters.push(parameter);
        self
    }

    /// How long the answer may wait.
    pub(super) fn waits(self, about: &str) -> Self {
        self.query("waitMs", json!({"type": "integer", "minimum": 0, "maximum": MAX_WAIT_MS}), about)
    }

    /// A header that may come with the request.
    pub(super) fn header(mut self, name: &str, schema: Value, about: &str) -> Self {
        let mut parameter = json!({"name": name, "in": "header", "required": false, "description": about});
        parameter["schema"] = schema;
        self.parameters.push(parameter);
        self
    }

    /// May carry an idempotency key, whose answer is kept.
    pub(super) fn once(self) -> Self {
        self.keyed().fault(409, "The idempotency key came with another body.")
    }

    /// May carry an idempotency key. What is asked for is the same when it is asked for twice, so none is kept.
    pub(super) fn keyed(self) -> Self {
        Self { is_keyed: true, ..self }
    }

    /// Who asks may say who they are.
    pub(super) fn stated(self) -> Self {
        Self { is_stated: true, ..self }
    }

    /// A status that can come, with when. Of two of one status, both are told.
    pub(super) fn fault(mut self, status: u16, when: &'static str) -> Self {
        self.faults.push((status, when));
        self
    }

    /// A header of the answer.
    pub(super) fn tells(mut self, name: &'static str, schema: Value) -> Self {
        self.headers.push((name, schema));
        self
    }

    /// Makes what other operations take the id of: those whose paths begin so. `pointer` is where it stands in the
    /// answer.
    pub(super) fn makes(self, prefix: &'static str, pointer: &'static str) -> Self {
        Self { makes: Some((prefix, pointer)), ..self }
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        let parts = self.path.split('/');
        parts.filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }

    /// Faults that follow from the way in, and from what is taken.
    fn all_faults(&self) -> Vec<(u16, &'static str)> {
        let mut all = self.faults.clone();
        let is_open = matches!(self.entry, Entry::Open | Entry::Scrape);
        let reads = !self.parameters.is_empty()
            || !matches!(self.body, Body::Nothing)
            || self.names().next().is_some();
        if self.entry == Entry::Scrape || self.entry == Entry::Working || self.entry == Entry::Parking {
            all.push((401, "The token is missing or wrong."));
        }
        if self.method == Method::OPTIONS {
            return all;
        }
        if self.entry == Entry::Public {
            all.push((401, "The key is missing or not known."));
            all.push((503, "The public API is off."));
        }
        if !is_open {
            all.push((
                503,
                "Not now: too much goes on, there is no leader, or the index asked for is not reached.",
            ));
        }
        if reads || !is_open {
            all.push((400, "Something of the request is not as it must be; `details.field` names it."));
        }
        if !matches!(self.body, Body::Nothing) {
            all.push((408, "The body did not arrive in time."));
            all.push((413, "The body is too large."));
        }
        if matches!(self.body, Body::Json(_) | Body::Empty) {
            all.push((415, "The body is encoded."));
        }
        all
    }

    fn all_parameters(&self) -> Vec<Value> {
        let path = self.names().map(|name| {
            let schema = match name {
                "part" => json!({"type": "integer", "minimum": 0, "maximum": skyclaw_proto::limits::MAX_RESTORE_PARTS - 1}),
                // A browser that asks first is told the same of any.
                _ if self.method == Method::OPTIONS => json!({"type": "string", "minLength": 1}),
                _ => json!({"type": "string", "pattern": PATH_ID}),
            };
            json!({"name": name, "in": "path", "required": true, "schema": schema})
        });
        let mut all: Vec<Value> = path.chain(self.parameters.iter().cloned()).collect();
        if self.is_keyed {
            all.push(shared("parameters", "idempotencyKey"));
        }
        if self.is_stated {
            all.push(shared("parameters", "actor"));
        }
        let asks = matches!(self.entry, Entry::Working | Entry::Parking | Entry::Public);
        if asks && self.method != Method::OPTIONS {
            all.push(shared("parameters", "minIndex"));
        }
        if matches!(self.entry, Entry::Working | Entry::Parking) {
            all.push(shared("parameters", "consistent"));
        }
        all.push(shared("parameters", "requestId"));
        all
    }

    fn answer_headers(&self, status: u16) -> Value {
        let mut headers = Map::new();
        headers.insert(INDEX_HEADER.to_owned(), shared("headers", "index"));
        headers.insert(REQUEST_ID_HEADER.to_owned(), shared("headers", "requestId"));
        if status == 503 {
            headers.insert("retry-after".to_owned(), shared("headers", "retryAfter"));
        }
        if self.entry == Entry::Public {
            for name in ["origin", "methods", "headers"] {
                headers.insert(format!("access-control-allow-{name}"), shared("headers", "cors"));
            }
        }
        if status < 300 {
            headers.extend(
                self.headers.iter().map(|(name, schema)| ((*name).to_owned(), json!({"schema": schema}))),
            );
        }
        Value::Object(headers)
    }

    fn responses(&self, operations: &[Self], schemas: &mut Schemas) -> Value {
        let mut all = Map::new();
        let status = if self.answers.is_empty() { 204 } else { 200 };
        let mut done = json!({"description": self.told, "headers": self.answer_headers(status)});
        for content in &self.answers {
            match content {
                Content::Typed(media, schema) => done["content"][*media] = json!({"schema": schema(schemas)}),
                Content::Text(media) => done["content"][*media] = json!({"schema": {"type": "string"}}),
            }
        }
        if let Some(links) = self.links(operations) {
            done["links"] = links;
        }
        all.insert(status.to_string(), done);
        for (status, when) in self.all_faults() {
            let answer = all.entry(status.to_string()).or_insert_with(|| {
                json!({
                    "description": "",
                    "headers": self.answer_headers(status),
                    "content": {"application/json": {"schema": schemas.add::<skyclaw_proto::ErrorBody>()}},
                })
            });
            let told = answer["description"].as_str().unwrap_or_default();
            answer["description"] = format!("{told} {when}").trim().into();
        }
        Value::Object(all)
    }

    /// Who takes the id that this one gives.
    fn links(&self, operations: &[Self]) -> Option<Value> {
        let (prefix, pointer) = self.makes?;
        let takers = operations.iter().filter(|taker| taker.path.starts_with(prefix));
        let links = takers.map(|taker| {
            let link =
                json!({"operationId": taker.id, "parameters": {"id": format!("$response.body#{pointer}")}});
            (taker.id.to_owned(), link)
        });
        Some(Value::Object(links.collect()))
    }

    fn security(&self) -> Value {
        match self.entry {
            Entry::Open => json!([]),
            Entry::Scrape => json!([{"token": []}, {"scrapeToken": []}]),
            Entry::Working | Entry::Parking => json!([{"token": []}]),
            Entry::Public if self.method == Method::OPTIONS => json!([]),
            Entry::Public => json!([{"publicKey": []}, {"publicBearer": []}]),
        }
    }

    /// The operation as it stands in the document.
    pub(super) fn value(&self, operations: &[Self], schemas: &mut Schemas) -> Value {
        let mut value = json!({
            "operationId": self.id,
            "tags": [self.tag],
            "summary": self.summary,
            "parameters": self.all_parameters(),
            "security": self.security(),
            "responses": self.responses(operations, schemas),
        });
        if let Some(description) = self.description {
            value["description"] = description.into();
        }
        let body = match self.body {
            Body::Nothing => None,
            Body::Json(schema) => Some(("application/json", schema(schemas))),
            Body::Empty => Some(("application/json", json!({"type": "object"}))),
            Body::Octets => Some(("application/octet-stream", json!({"type": "string", "minLength": 1}))),
        };
        if let Some((media, schema)) = body {
            // An empty body is an empty object.
            let required = matches!(self.body, Body::Octets) || schemas.asks_for_a_field(&schema);
            value["requestBody"] = json!({"required": required, "content": {media: {"schema": schema}}});
        }
        value
    }
}

/// A part of the document that many operations have: see [`parts`].
fn shared(kind: &str, name: &str) -> Value {
    json!({"$ref": format!("#/components/{kind}/{name}")})
}

/// Parameters and headers that many operations have.
pub(super) fn parts() -> (Value, Value) {
    let in_header = |name: &str, about: &str, schema: Value| json!({"name": name, "in": "header", "required": false, "description": about, "schema": schema});
    let parameters = json!({
        "idempotencyKey": in_header(
            IDEMPOTENCY_HEADER,
            "Done once, however often it is sent with the same key.",
            json!({"type": "string", "maxLength": MAX_IDEMPOTENCY_KEY_LEN, "pattern": "^[ -~]*$"}),
        ),
        "actor": in_header(
            ACTOR_HEADER,
            "What the client calls itself: told with what it did, as its own word. A name in the body counts for more.",
            json!({"type": "string", "maxLength": MAX_ACTOR_LEN, "pattern": "^[ -~]*$"}),
        ),
        "minIndex": in_header(
            MIN_INDEX_HEADER,
            "The answer waits until this index of the log is applied here.",
            json!({"type": "integer", "minimum": 0, "maximum": u64::MAX}),
        ),
        "requestId": in_header(
            REQUEST_ID_HEADER,
            "Names the request in every log line and on the answer. One that is not of A-Z a-z 0-9 . _ : -, or too long, is passed over.",
            json!({"type": "string"}),
        ),
        "consistent": {
            "name": "consistent", "in": "query", "required": false,
            "description": "`true`: the answer reflects everything that was acknowledged before, wherever. Anything else is passed over.",
            "schema": {"type": "string"},
        },
    });
    let number = || json!({"type": "integer", "minimum": 0});
    let headers = json!({
        "index": {"required": true, "description": "The index of the log that the answer reflects.", "schema": number()},
        "requestId": {"required": true, "description": "The name of the request.", "schema": {"type": "string", "minLength": 1}},
        "retryAfter": {"required": true, "description": "When to come back, in seconds.", "schema": number()},
        "cors": {"required": true, "description": "What pages may read and ask.", "schema": {"type": "string"}},
    });
    (parameters, headers)
}

/// What the routes of probes answer.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is the schema of what is written as it is")]
pub(super) struct Ok {
    /// Always true.
    ok: bool,
}
