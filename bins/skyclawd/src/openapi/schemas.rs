//! The schemas of the document: gathered from the types, made exact, and those of requests told apart from those of
//! answers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use skyclaw_proto::limits::{
    MAX_CAPABILITIES, MAX_CAPABILITY_LEN, MAX_LABEL_KEY_LEN, MAX_LABEL_VALUE_LEN, MAX_LABELS, MAX_REASON_LEN,
};
use skyclaw_proto::openapi::{ID, Rule, SENT_ID, rules};
use utoipa::ToSchema;

const REF: &str = "#/components/schemas/";
/// What a schema is called that answers have as well, where requests may say more.
const SENT: &str = "Sent";
/// What is part of requests and of records. Of requests it is checked; records that another coordinator sends are taken as
/// they are.
const IN_RECORDS: &[&str] = &["Resources", "Enforces", "HostFreeze"];
/// No NUL: what ends up in `execve` cannot hold one.
const NO_NUL: &str = r"^[^\x00]*$";

/// The longest text of which a pattern says that white space around it does not count. Patterns for longer ones are too
/// large for some who read them.
const TRIMMED: usize = 256;

/// The schemas that are referred to.
#[derive(Debug, Default)]
pub(super) struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    /// Adds what a type looks like and all that it is made of. Says how it is referred to.
    pub(super) fn add<T: ToSchema + 'static>(&mut self) -> Value {
        let name = plain(&T::name());
        if !self.0.contains_key(&name) {
            let mut parts = Vec::new();
            T::schemas(&mut parts);
            parts.push((name.clone(), T::schema()));
            for (name, schema) in parts {
                let mut schema = serde_json::to_value(schema).unwrap_or_default();
                exact(&mut schema);
                self.0.entry(plain(&name)).or_insert(schema);
            }
            self.rule();
        }
        json!({ "$ref": format!("{REF}{name}") })
    }

    /// Puts all rules into what there is so far. What is not referred to (yet) has nothing to be changed in.
    fn rule(&mut self) {
        let checked = |name: &str| format!("{name}Body");
        for name in IN_RECORDS {
            if let Some(schema) = self.0.get(*name).cloned() {
                self.0.entry(checked(name)).or_insert(schema);
            }
        }
        let both = IN_RECORDS.iter().map(|name| (*name).to_owned()).collect();
        for (name, schema) in &mut self.0 {
            if name.ends_with("Body") || name == "HostSwitch" {
                rename(schema, &both, &checked);
            }
        }
        for (name, field, rule) in rules() {
            let name = if IN_RECORDS.contains(&name) { checked(name) } else { name.to_owned() };
            if let Some(schema) = self.0.get_mut(&name) {
                apply(schema, field, &rule);
            }
        }
    }

    /// Whether an empty object would not do.
    pub(super) fn asks_for_a_field(&self, reference: &Value) -> bool {
        let name = reference["$ref"].as_str().and_then(|path| path.strip_prefix(REF));
        let schema = name.and_then(|name| self.0.get(name));
        schema
            .is_some_and(|schema| schema["required"].as_array().is_some_and(|required| !required.is_empty()))
    }

    pub(super) fn finish(self) -> Map<String, Value> {
        self.0.into_iter().collect()
    }
}

/// The name of a type, whatever it was made with: there is one of each on the wire.
fn plain(name: &str) -> String {
    name.split_once('_').map_or(name, |(name, _)| name).to_owned()
}

/// Says of whole numbers what their types can hold, and of references which types they mean.
fn exact(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let most = match fields.get("format").and_then(Value::as_str) {
                Some("u-int8" | "uint8") => Some((json!(0), json!(u8::MAX))),
                Some("u-int32" | "uint32") => Some((json!(0), json!(u32::MAX))),
                Some("u-int64" | "uint64") => Some((json!(0), json!(u64::MAX))),
                Some("int32") => Some((json!(i32::MIN), json!(i32::MAX))),
                _ => None,
            };
            if let Some((least, most)) = most {
                fields.insert("minimum".to_owned(), least);
                fields.insert("maximum".to_owned(), most);
                // The bounds say all of it, in words that every reader of documents knows.
                fields.remove("format");
            }
            if let Some(Value::String(path)) = fields.get_mut("$ref")
                && let Some(name) = path.strip_prefix(REF)
            {
                *path = format!("{REF}{}", plain(name));
            }
            // What a field is when it is absent, told by the derive as it is in memory: empty, and not on the wire.
            fields.remove("default");
            fields.values_mut().for_each(exact);
        }
        Value::Array(all) => all.iter_mut().for_each(exact),
        _ => {}
    }
}

/// Puts a rule into the schema of a request.
fn apply(schema: &mut Value, field: &str, rule: &Rule) {
    let is_required = is_required(schema, field);
    if *rule == Rule::Required {
        if !is_required {
            if !schema["required"].is_array() {
                schema["required"] = json!([]);
            }
            if let Some(required) = schema["required"].as_array_mut() {
                required.push(field.into());
            }
        }
        let property = &mut schema["properties"][field];
        without_null(property);
        return;
    }
    let property = &mut schema["properties"][field];
    let optional = |pattern: &str| format!(r"^\s*({pattern})?\s*$");
    match rule {
        Rule::Required => {}
        Rule::Between(least, most) => put(property, json!({"minimum": least, "maximum": most})),
        Rule::Text(max) if *max <= TRIMMED => put(property, json!({"pattern": trimmed(*max, "")})),
        Rule::Text(max) => put(property, json!({"maxLength": max, "pattern": r"^\s*[^\s\x00][^\x00]*$"})),
        Rule::OptionalText(max) => put(property, json!({"maxLength": max, "pattern": NO_NUL})),
        Rule::Bytes(max) => put(property, json!({"maxLength": max})),
        Rule::Plain(max) => put(property, json!({"maxLength": max, "pattern": r"^\s*[^\s\x00]*\s*$"})),
        Rule::Pattern(pattern) => put(property, json!({"pattern": pattern})),
        Rule::Id => put(property, json!({"pattern": SENT_ID})),
        Rule::OptionalId => put(property, json!({"pattern": optional("[A-Za-z0-9._:-]{1,128}")})),
        Rule::Words(words) if is_required => {
            put(property, json!({"pattern": format!(r"^\s*({})\s*$", words.join("|")), "examples": words}));
        }
        Rule::Words(words) => {
            put(property, json!({"pattern": optional(&words.join("|")), "examples": words}));
        }
        Rule::Exactly(words) => put(property, json!({"enum": words})),
        Rule::Items(most) => put(property, json!({"maxItems": most})),
        Rule::Ids(most) => put(
            property,
            json!({"maxItems": most, "uniqueItems": true, "items": {"type": "string", "pattern": SENT_ID}}),
        ),
        Rule::Capabilities => {
            put(property, json!({"items": {"type": "string", "pattern": trimmed(MAX_CAPABILITY_LEN, "?")}}));
        }
        Rule::Reasons => put(
            property,
            json!({
                "maxProperties": MAX_CAPABILITIES,
                "propertyNames": {"maxLength": MAX_CAPABILITY_LEN, "pattern": NO_NUL},
                "additionalProperties": {"type": "string", "maxLength": MAX_REASON_LEN, "pattern": NO_NUL},
            }),
        ),
        Rule::Arguments => put(property, json!({"items": {"type": "string", "pattern": NO_NUL}})),
        Rule::Environment => put(
            property,
            json!({
                "propertyNames": {"pattern": r"^[^=\x00]+$"},
                "additionalProperties": {"type": "string", "pattern": NO_NUL},
            }),
        ),
        Rule::Labels(some) => put(
            property,
            json!({
                "minProperties": u8::from(*some), "maxProperties": MAX_LABELS,
                "propertyNames": {"pattern": format!("^[A-Za-z0-9._/-]{{1,{MAX_LABEL_KEY_LEN}}}$")},
                "additionalProperties": {"type": "string", "maxLength": MAX_LABEL_VALUE_LEN, "pattern": NO_NUL},
            }),
        ),
        Rule::Time => put(property, json!({"format": "date-time"})),
    }
}

/// A text of at most so many characters without white space around it; `?` where it may be blank.
fn trimmed(max: usize, may_be_blank: &str) -> String {
    let middle = max.saturating_sub(2);
    format!(r"^\s*([^\s\x00]([^\x00]{{0,{middle}}}[^\s\x00])?){may_be_blank}\s*$")
}

fn is_required(schema: &Value, field: &str) -> bool {
    schema["required"].as_array().is_some_and(|all| all.iter().any(|name| name == field))
}

fn put(property: &mut Value, more: Value) {
    let Value::Object(more) = more else { return };
    for (key, value) in more {
        property[key] = value;
    }
}

/// Has a schema refuse `null`.
fn without_null(schema: &mut Value) {
    if let Some(types) = schema["type"].as_array_mut() {
        types.retain(|name| name != "null");
        if let [one] = &types[..] {
            schema["type"] = one.clone();
        }
    }
    for of in ["oneOf", "anyOf"] {
        let Some(all) = schema[of].as_array_mut() else { continue };
        all.retain(|one| one["type"] != "null");
        if let [one] = &all[..] {
            let one = one.clone();
            let about = schema.get("description").cloned();
            *schema = one;
            if let Some(about) = about {
                schema["description"] = about;
            }
        }
    }
    // Looking for what is not there has put it there.
    if let Some(fields) = schema.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
}

/// Tells schemas of answers apart from those of requests: an answer leaves out what is absent, while a request may
/// say `null`; an id in an answer is as it is, while one in a request may have white space around it.
pub(super) fn separate(document: &mut Value) {
    let Some(schemas) = document["components"]["schemas"].as_object().cloned() else { return };
    let mut sent = BTreeSet::new();
    let mut told = BTreeSet::new();
    if let Some(paths) = document["paths"].as_object() {
        for operation in paths.values().filter_map(Value::as_object).flat_map(Map::values) {
            reach(&operation["requestBody"], &schemas, &BTreeSet::new(), &mut sent);
        }
        // What was sent is told as it was sent: the job of a schedule.
        let bodies = sent.iter().filter(|name| name.ends_with("Body")).cloned().collect();
        for operation in paths.values().filter_map(Value::as_object).flat_map(Map::values) {
            reach(&operation["responses"], &schemas, &bodies, &mut told);
        }
    }
    let sent_name = |name: &str| format!("{SENT}{name}");
    let mut all = Map::new();
    // What is in both gets a second name in requests, if it differs there or is made of what does.
    let mut renamed = BTreeSet::new();
    for name in sent.intersection(&told) {
        let mut of_answer = schemas[name].clone();
        as_told(&mut of_answer);
        let mut of_request = schemas[name].clone();
        as_sent(&mut of_request);
        if of_answer != of_request {
            renamed.insert(name.clone());
        }
    }
    loop {
        let made_of = |name: &String| {
            let mut parts = BTreeSet::new();
            references(&schemas[name], &mut parts);
            parts.iter().any(|part| renamed.contains(part))
        };
        let more: Vec<String> = sent
            .intersection(&told)
            .filter(|name| !renamed.contains(*name) && made_of(name))
            .cloned()
            .collect();
        if more.is_empty() {
            break;
        }
        renamed.extend(more);
    }
    for (name, schema) in &schemas {
        if told.contains(name) {
            let mut schema = schema.clone();
            as_told(&mut schema);
            all.insert(name.clone(), schema);
        }
        if sent.contains(name) {
            let mut schema = schema.clone();
            as_sent(&mut schema);
            rename(&mut schema, &renamed, &sent_name);
            let name = if renamed.contains(name) { sent_name(name) } else { name.clone() };
            all.entry(name).or_insert(schema);
        }
    }
    document["components"]["schemas"] = Value::Object(all);
    if let Some(paths) = document["paths"].as_object_mut() {
        for operation in paths.values_mut().filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
            if let Some(body) = operation.get_mut("requestBody") {
                rename(body, &renamed, &sent_name);
            }
        }
    }
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            let name = fields.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix(REF));
            found.extend(name.map(str::to_owned));
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(all) => all.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

/// Everything that something is made of, however indirectly, but for some.
fn reach(value: &Value, schemas: &Map<String, Value>, but: &BTreeSet<String>, found: &mut BTreeSet<String>) {
    let mut parts = BTreeSet::new();
    references(value, &mut parts);
    for part in parts {
        if !but.contains(&part) && found.insert(part.clone()) {
            reach(&schemas[&part], schemas, but, found);
        }
    }
}

fn rename(value: &mut Value, renamed: &BTreeSet<String>, to: &impl Fn(&str) -> String) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(path)) = fields.get_mut("$ref")
                && let Some(name) = path.strip_prefix(REF)
                && renamed.contains(name)
            {
                *path = format!("{REF}{}", to(name));
            }
            fields.values_mut().for_each(|value| rename(value, renamed, to));
        }
        Value::Array(all) => all.iter_mut().for_each(|value| rename(value, renamed, to)),
        _ => {}
    }
}

fn as_told(schema: &mut Value) {
    let Some(properties) = schema["properties"].as_object().cloned() else { return settle(schema) };
    for name in properties.keys().filter(|name| !is_required(schema, name)).cloned().collect::<Vec<_>>() {
        without_null(&mut schema["properties"][&name]);
    }
    settle(schema);
}

fn as_sent(schema: &mut Value) {
    if schema["pattern"] == ID {
        schema["pattern"] = SENT_ID.into();
    }
    settle(schema);
}

/// Looking for what is not there has put it there.
fn settle(schema: &mut Value) {
    if let Some(fields) = schema.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
}
