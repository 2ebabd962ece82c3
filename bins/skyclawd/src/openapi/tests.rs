use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use serde_json::{Value, json};
use skyclaw_proto::openapi::rules;

use super::*;
use crate::kit::Kit;
use crate::middleware::entry::Entry;
use crate::router;

fn operations_of(document: &Value) -> impl Iterator<Item = (&String, &String, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    paths.iter().flat_map(|(path, item)| {
        item.as_object().expect("operations").iter().map(move |(method, operation)| (path, method, operation))
    })
}

#[tokio::test]
async fn the_document_has_every_public_route_with_its_way_in_and_nothing_else() {
    let kit = Kit::start().await;
    let routes: BTreeSet<(String, String, String)> = router::all(&kit.app)
        .told()
        // What coordinators say to each other is nobody else's.
        .filter(|(path, ..)| *path != skyclaw_replication::PEER_PATH)
        .flat_map(|(path, entry, methods)| {
            methods.into_iter().map(move |method| (path.to_owned(), method.to_string(), format!("{entry:?}")))
        })
        .collect();
    let told: BTreeSet<_> = operations::all()
        .iter()
        .map(|it| (it.path.to_owned(), it.method.to_string(), format!("{:?}", it.entry)))
        .collect();
    let missing: Vec<_> = routes.difference(&told).collect();
    let made_up: Vec<_> = told.difference(&routes).collect();
    assert!(missing.is_empty(), "not in the document (bins/skyclawd/src/openapi/operations): {missing:?}");
    assert!(made_up.is_empty(), "in the document, and no route: {made_up:?}");
    let document = document();
    let written: BTreeSet<_> = operations_of(&document)
        .map(|(path, method, _)| (path.clone(), method.to_ascii_uppercase()))
        .collect();
    assert_eq!(written, told.into_iter().map(|(path, method, _)| (path, method)).collect());
    kit.end().await;
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_referred_to() {
    let document = document();
    let mut referred = BTreeSet::new();
    fn look(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| look(value, found));
            }
            Value::Array(all) => all.iter().for_each(|value| look(value, found)),
            _ => {}
        }
    }
    look(&document, &mut referred);
    let mut there = BTreeSet::new();
    for kind in ["schemas", "parameters", "headers"] {
        let all = document["components"][kind].as_object().expect("components");
        there.extend(all.keys().map(|name| format!("#/components/{kind}/{name}")));
    }
    assert_eq!(referred, there);
}

#[test]
fn every_rule_is_about_a_field_that_is_there() {
    let mut schemas = Schemas::default();
    let operations = operations::all();
    paths(&operations, &mut schemas);
    let schemas = schemas.finish();
    for (schema, field, rule) in rules() {
        let property =
            &schemas.get(schema).unwrap_or_else(|| panic!("no schema {schema}"))["properties"][field];
        let is_there = ["type", "$ref", "oneOf"].iter().any(|key| property.get(key).is_some());
        assert!(is_there, "{schema}.{field}: {rule:?} made {property}");
    }
}

#[test]
fn names_of_operations_are_unique_and_links_lead_to_them() {
    let document = document();
    let mut ids = BTreeMap::new();
    for (path, method, operation) in operations_of(&document) {
        let id = operation["operationId"].as_str().expect("an id");
        assert_eq!(ids.insert(id, (path, method)), None, "{id}");
        let tag = operation["tags"][0].as_str().expect("a tag");
        assert!(TAGS.iter().any(|(known, _)| *known == tag), "{id}: {tag}");
    }
    let mut linked = BTreeSet::new();
    for (.., operation) in operations_of(&document) {
        for answer in operation["responses"].as_object().expect("answers").values() {
            for link in answer["links"].as_object().into_iter().flat_map(|links| links.values()) {
                let id = link["operationId"].as_str().expect("an id");
                assert!(ids.contains_key(id), "{id}");
                linked.insert(id.to_owned());
            }
        }
    }
    for used in
        ["getJob", "completeJob", "heartbeat", "thaw", "triggerSchedule", "reportService", "getPublicJob"]
    {
        assert!(linked.contains(used), "{used}");
    }
}

#[test]
fn an_answer_leaves_out_what_is_absent_while_a_request_may_say_null() {
    let document = document();
    let of =
        |schema: &str, field: &str| document["components"]["schemas"][schema]["properties"][field].clone();
    assert_eq!(of("Job", "error")["type"], json!("string"));
    assert_eq!(of("SentJob", "error")["type"], json!(["string", "null"]));
    assert_eq!(of("EnqueueJobBody", "priority")["type"], json!(["integer", "null"]));
    assert_eq!(of("EnqueueJobBody", "priority")["maximum"], json!(100));
    // The one null that the contract has.
    assert!(of("ClaimedJobs", "job").to_string().contains("null"));
    let required = |schema: &str| document["components"]["schemas"][schema]["required"].clone();
    assert_eq!(required("EnqueueJobBody"), json!(["payload"]));
    assert!(required("ClaimedJobs").as_array().is_some_and(|all| all.contains(&json!("job"))));
}

#[test]
fn ids_in_answers_are_as_they_are_and_in_requests_may_have_white_space_around_them() {
    let document = document();
    let pattern = |schema: &str| document["components"]["schemas"][schema]["pattern"].clone();
    assert_eq!(pattern("JobId"), json!(skyclaw_proto::openapi::ID));
    assert_eq!(pattern("SentJobId"), json!(skyclaw_proto::openapi::SENT_ID));
}

#[test]
fn a_path_cannot_have_an_id_that_clients_take_for_a_way_through_it() {
    let document = document();
    let parameter = &document["paths"]["/v1/hosts/{id}/drain"]["post"]["parameters"][0];
    assert_eq!(parameter["schema"]["pattern"], json!(skyclaw_proto::openapi::PATH_ID));
}

#[test]
fn a_route_that_takes_a_body_or_an_id_says_what_comes_of_a_bad_one() {
    for operation in operations::all() {
        let value = operation.value(&[], &mut Schemas::default());
        let has = |status: &str| value["responses"].get(status).is_some();
        let id = &value["operationId"];
        let is_asked = operation.method != Method::OPTIONS;
        assert_eq!(has("413"), value.get("requestBody").is_some(), "{id}");
        assert_eq!(has("401"), is_asked && operation.entry != Entry::Open, "{id}");
        assert!(!has("500"), "{id}");
    }
}

#[tokio::test]
async fn the_document_needs_no_token_and_is_the_same_each_time() {
    let kit = Kit::with(|app| app.token = Some(crate::token::Token::new(b"t"))).await;
    let first = kit.get(PATH, &[]).await;
    assert_eq!((first.status, first.header("content-type")), (200, Some("application/json")));
    assert_eq!(first.json["openapi"], json!("3.1.0"));
    assert_eq!(first.json, document());
    assert_eq!(kit.get(PATH, &[]).await.json, first.json);
    let refused = kit.call("POST", PATH, &[], "").await;
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET,HEAD")));
    kit.end().await;
}
