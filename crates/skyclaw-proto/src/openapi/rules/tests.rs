use serde_json::{Value, json};

use super::*;
use crate::limits::{MAX_CAPABILITY_LEN, MAX_LABEL_KEY_LEN, MAX_LABEL_VALUE_LEN, MAX_LABELS};
use crate::logs::PushLogsBody;
use crate::request::{
    ActOnScheduleBody, ClaimBody, CommitRestoreBody, CompleteJobBody, CreateScheduleBody, DeployServiceBody,
    DrainHostBody, EnqueueJobBody, FreezeBody, HeartbeatBody, JobEventsBody, PauseScheduleBody,
    RegisterHostBody, ReportServiceBody, ResolveJobBody, RetryJobBody, ThawBody,
};

/// Reads a body and checks it.
macro_rules! checked {
    ($body:ty, $value:expr $(, $more:expr)?) => {
        serde_json::from_value::<$body>($value)
            .map_err(|fault| fault.to_string())
            .and_then(|body| body.check($($more)?).map(drop).map_err(|fault| fault.to_string()))
    };
}

/// The least a schema needs, and the way from it to the check that reads it.
fn least(schema: &str) -> Value {
    let command = json!({"kind": "shell", "command": "true"});
    match schema {
        "EnqueueJobBody" => json!({"payload": command}),
        "PayloadBody" => json!({"kind": "openclaw-run"}),
        "MountBody" => json!({"source": "/a"}),
        "CompleteJobBody" => {
            json!({"hostId": "h", "success": true, "durationMs": 1, "exitCode": 0, "stdout": "", "stderr": ""})
        }
        "EventBody" => json!({"at": "2026-01-01T00:00:00Z", "kind": "k"}),
        "JobEventsBody" => json!({"hostId": "h", "fence": 1, "events": []}),
        "PushLogsBody" => json!({"hostId": "h", "fence": 1, "stream": "stdout", "offset": 0}),
        "ResolveJobBody" => json!({"action": "requeue"}),
        "RegisterHostBody" => json!({"name": "h"}),
        "HostFreeze" => json!({"since": "2026-01-01T00:00:00Z"}),
        "DeployServiceBody" => json!({"name": "s", "command": "true"}),
        "ReportServiceBody" => json!({"hostId": "h", "status": "running"}),
        "CreateScheduleBody" => json!({"name": "s", "cron": "* * * * *", "job": {"payload": command}}),
        "JoinBody" => json!({"url": "http://a.example"}),
        _ => json!({}),
    }
}

fn check(schema: &str, value: Value) -> Result<(), String> {
    let job = |field: &str, value: Value| {
        let mut body = least("EnqueueJobBody");
        body["isolation"] = json!("podman");
        body[field] = value;
        checked!(EnqueueJobBody, body)
    };
    match schema {
        "EnqueueJobBody" => {
            let mut body = value;
            // What is said only together with something else.
            let with = [
                ("image", "isolation", json!("podman")),
                ("network", "isolation", json!("podman")),
                ("mounts", "isolation", json!("podman")),
                ("onDependencyFailure", "dependsOn", json!(["a"])),
                ("concurrencyLimit", "concurrencyKey", json!("k")),
            ];
            for (field, other, value) in with {
                if body.get(field).is_some() {
                    body[other] = value;
                }
            }
            checked!(EnqueueJobBody, body)
        }
        "PayloadBody" => {
            let mut value = value;
            if value["kind"] == "shell" {
                value["command"] = json!("true");
                return job("payload", value);
            }
            let mut shell = value.clone();
            shell["kind"] = value["kind"].as_str().map_or(Value::Null, |_| json!("shell"));
            shell["command"] = json!("true");
            // Of either kind, or of the one that reads it.
            job("payload", value).and_then(|()| job("payload", shell))
        }
        "RequirementBody" => job("requirement", value),
        "Resources" => job("resources", value),
        "RetryBody" => job("retry", value),
        "MountBody" => job("mounts", json!([value])),
        "CompleteJobBody" => checked!(CompleteJobBody, value),
        "EventBody" => checked!(JobEventsBody, json!({"hostId": "h", "fence": 1, "events": [value]})),
        "JobEventsBody" => checked!(JobEventsBody, value),
        "PushLogsBody" => checked!(PushLogsBody, value, crate::JobId::parse("j").expect("an id")),
        "ResolveJobBody" => checked!(ResolveJobBody, value),
        "RetryJobBody" => checked!(RetryJobBody, value),
        "RegisterHostBody" => checked!(RegisterHostBody, value),
        "Enforces" => checked!(RegisterHostBody, json!({"name": "h", "enforces": value})),
        "DrainHostBody" => checked!(DrainHostBody, value),
        "HeartbeatBody" => checked!(HeartbeatBody, value),
        "HostSwitch" => checked!(HeartbeatBody, json!({"switch": value})),
        "HostFreeze" => checked!(HeartbeatBody, json!({"switch": {"frozen": value}})),
        "ClaimBody" => checked!(ClaimBody, value),
        "DeployServiceBody" => checked!(DeployServiceBody, value),
        "ReportServiceBody" => checked!(ReportServiceBody, value),
        "FreezeRequest" => checked!(FreezeBody, value),
        "ThawBody" => checked!(ThawBody, value),
        "CommitRestoreBody" => checked!(CommitRestoreBody, value),
        "CreateScheduleBody" => checked!(CreateScheduleBody, value),
        "PauseScheduleBody" => checked!(PauseScheduleBody, value),
        "ActOnScheduleBody" => checked!(ActOnScheduleBody, value),
        // Checked by the route, which knows what a URL is.
        "JoinBody" => value["url"].as_str().map(|_| ()).ok_or_else(|| "url is required".to_owned()),
        other => panic!("no check is known for {other}: add it here"),
    }
}

/// What a rule lets through, and what it does not.
fn samples(rule: &Rule) -> (Vec<Value>, Vec<Value>) {
    let long = |n: usize| "x".repeat(n);
    match rule {
        Rule::Required => (vec![], vec![]),
        Rule::Between(least, most) => {
            let mut bad = vec![json!(most + 1)];
            bad.extend(least.checked_sub(1).map(|n| json!(n)));
            (vec![json!(least), json!(most)], bad)
        }
        Rule::Text(max) => {
            (vec![json!(long(*max)), json!(" a ")], vec![json!(long(max + 1)), json!(" "), json!("a\0")])
        }
        Rule::OptionalText(max) => {
            (vec![json!(long(*max)), json!("")], vec![json!(long(max + 1)), json!("a\0")])
        }
        Rule::Bytes(max) => {
            (vec![json!(format!("/{}", long(max - 1)))], vec![json!(format!("/{}", long(*max)))])
        }
        Rule::Plain(max) => (
            vec![json!(long(*max)), json!("a"), json!(" a "), json!("")],
            vec![json!(long(max + 1)), json!("a b")],
        ),
        Rule::Pattern(ABSOLUTE) => (vec![json!("/a"), json!(" /a/b ")], vec![json!("a"), json!("/a\0")]),
        Rule::Pattern(KIND) => {
            let widest = json!(format!("  {} ", long(64)));
            (vec![json!("a.b_c-1"), json!(" a "), widest], vec![json!(""), json!("A"), json!(long(65))])
        }
        Rule::Pattern(SCHEDULE_NAME) => (
            vec![json!("Aa:1"), json!(" a "), json!(format!("  {} ", long(128)))],
            vec![json!("sched_a"), json!("a b"), json!(long(129)), json!("")],
        ),
        Rule::Pattern(WHO) => (vec![json!(long(256)), json!(" a ")], vec![json!(long(257))]),
        // Tried where it is checked: by the route.
        Rule::Pattern(HTTP) => (vec![json!("http://a.example:1/b")], vec![]),
        Rule::Pattern(other) => panic!("say what {other} lets through"),
        Rule::Id => {
            (vec![json!(long(128)), json!(" A.b:c-1 ")], vec![json!(""), json!("a b"), json!(long(129))])
        }
        Rule::OptionalId => {
            (vec![json!(long(128)), json!(" a "), json!("")], vec![json!("a b"), json!(long(129))])
        }
        Rule::Words(words) => {
            let good = words.iter().flat_map(|word| [json!(word), json!(format!(" {word} "))]);
            (good.collect(), vec![json!("never")])
        }
        Rule::Exactly(words) => {
            (words.iter().map(|word| json!(word)).collect(), vec![json!("never"), json!("")])
        }
        Rule::Items(_) => (vec![json!([])], vec![json!({})]),
        Rule::Ids(most) => {
            let many = |n: usize| (0..n).map(|n| format!("j{n}")).collect::<Vec<_>>();
            (vec![json!(many(*most)), json!([" a "])], vec![json!(many(most + 1)), json!(["a b"])])
        }
        Rule::Capabilities => (
            vec![json!([long(MAX_CAPABILITY_LEN), ""])],
            vec![json!([long(MAX_CAPABILITY_LEN + 1)]), json!(["a\0"])],
        ),
        Rule::Reasons => (
            vec![json!({long(MAX_CAPABILITY_LEN): long(MAX_REASON_LEN)})],
            vec![json!({long(MAX_CAPABILITY_LEN + 1): ""}), json!({"a": long(MAX_REASON_LEN + 1)})],
        ),
        Rule::Arguments => (vec![json!([""])], vec![json!(["a\0"])]),
        Rule::Environment => {
            (vec![json!({"A": ""})], vec![json!({"": ""}), json!({"A=": ""}), json!({"A": "\0"})])
        }
        Rule::Labels(some) => {
            let many: serde_json::Map<_, _> =
                (0..=MAX_LABELS).map(|n| (format!("k{n}"), json!(""))).collect();
            let mut bad = vec![
                json!({long(MAX_LABEL_KEY_LEN + 1): ""}),
                json!({"a b": ""}),
                json!({"": ""}),
                json!({"a": long(MAX_LABEL_VALUE_LEN + 1)}),
                json!({"a": "\0"}),
                Value::Object(many),
            ];
            bad.extend(some.then(|| json!({})));
            (vec![json!({format!("a/{}", long(MAX_LABEL_KEY_LEN - 2)): long(MAX_LABEL_VALUE_LEN)})], bad)
        }
        Rule::Time => (vec![json!("2026-01-01T00:00:00+02:00")], vec![json!("soon"), json!("")]),
    }
}

#[test]
fn every_rule_is_what_the_check_of_its_field_asks_for() {
    for (schema, field, rule) in rules() {
        let with = |value: Value| {
            let mut body = least(schema);
            body[field] = value;
            check(schema, body)
        };
        let (good, bad) = samples(&rule);
        for value in good {
            assert_eq!(with(value.clone()), Ok(()), "{schema}.{field}: {value} by {rule:?}");
        }
        for value in bad {
            assert!(with(value.clone()).is_err(), "{schema}.{field}: {value} by {rule:?}");
        }
    }
}

#[test]
fn what_is_required_is_all_that_is_required() {
    let all = rules();
    let schemas: std::collections::BTreeSet<_> = all.iter().map(|(schema, ..)| *schema).collect();
    for schema in schemas {
        let body = least(schema);
        assert_eq!(check(schema, body.clone()), Ok(()), "{schema}: {body}");
        for field in body.as_object().expect("an object").keys() {
            // A field that is required by its type alone is so without a rule.
            let is_typed = (schema, field.as_str()) == ("HostFreeze", "since");
            let has_rule = all.iter().any(|rule| *rule == (schema, field, Rule::Required));
            assert!(is_typed || has_rule, "{schema}.{field}");
        }
        for (_, field, _) in all.iter().filter(|(of, _, rule)| *of == schema && *rule == Rule::Required) {
            for missing in [None, Some(Value::Null)] {
                let mut body = body.clone();
                let fields = body.as_object_mut().expect("an object");
                match missing {
                    None => drop(fields.remove(*field)),
                    Some(null) => drop(fields.insert((*field).to_owned(), null)),
                }
                assert!(check(schema, body).is_err(), "{schema} without {field}");
            }
        }
    }
}

/// What each schema says of its fields, before any rule.
macro_rules! derived {
    ($($name:literal: $type:ty),* $(,)?) => {
        [$(($name, serde_json::to_value(<$type as utoipa::PartialSchema>::schema()).expect("a schema"))),*]
    };
}

/// Values of a type that no bound would let through; none for what is not plain.
fn extremes(property: &Value) -> Vec<Value> {
    let is = |name: &str| {
        property["type"] == name || property["type"].as_array().is_some_and(|all| all.contains(&json!(name)))
    };
    let is_plain = property.get("$ref").is_none() && property.get("oneOf").is_none();
    match property["format"].as_str() {
        _ if !is_plain => vec![],
        Some("u-int8") => vec![json!(0), json!(u8::MAX)],
        Some("u-int32") => vec![json!(0), json!(u32::MAX)],
        Some("u-int64") => vec![json!(0), json!(u64::MAX)],
        Some("int32") => vec![json!(i32::MIN), json!(i32::MAX)],
        None if is("string") => vec![json!(""), json!("x".repeat(100_000)), json!("a b")],
        None => vec![],
        Some(other) => panic!("say what bounds {other} has"),
    }
}

#[test]
fn a_field_that_a_check_bounds_has_a_rule() {
    let schemas = derived! {
        "EnqueueJobBody": EnqueueJobBody, "PayloadBody": crate::request::PayloadBody,
        "RetryBody": crate::request::RetryBody, "Resources": crate::Resources,
        "MountBody": crate::request::MountBody, "CompleteJobBody": CompleteJobBody,
        "EventBody": crate::request::EventBody, "JobEventsBody": JobEventsBody, "PushLogsBody": PushLogsBody,
        "ResolveJobBody": ResolveJobBody, "RetryJobBody": RetryJobBody, "RegisterHostBody": RegisterHostBody,
        "DrainHostBody": DrainHostBody, "HeartbeatBody": HeartbeatBody, "HostSwitch": crate::request::HostSwitch,
        "HostFreeze": crate::record::HostFreeze, "ClaimBody": ClaimBody, "DeployServiceBody": DeployServiceBody,
        "ReportServiceBody": ReportServiceBody, "FreezeRequest": FreezeBody, "ThawBody": ThawBody,
        "CommitRestoreBody": CommitRestoreBody, "CreateScheduleBody": CreateScheduleBody,
        "PauseScheduleBody": PauseScheduleBody, "ActOnScheduleBody": ActOnScheduleBody,
    };
    let all = rules();
    let mut tried = 0;
    for (schema, derived) in schemas {
        for (field, property) in derived["properties"].as_object().expect("fields") {
            let is_bounded =
                all.iter().any(|(of, name, rule)| (*of, *name) == (schema, field) && *rule != Rule::Required);
            if is_bounded {
                continue;
            }
            for value in extremes(property) {
                let mut body = least(schema);
                body[field] = value.clone();
                let text = value.to_string();
                let found = check(schema, body);
                assert_eq!(
                    found,
                    Ok(()),
                    "{schema}.{field} = {text:.20}: the check has a bound; add its rule"
                );
                tried += 1;
            }
        }
    }
    assert!(tried >= 25, "{tried} values were tried: has the derive other names for numbers?");
}
