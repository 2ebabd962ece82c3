//! Lists of jobs: filters, pages, order. (Ours.)

use skyclaw_tests::mesh::id;
use skyclaw_tests::{Coordinator, Options, Value, Wire, json};

/// Six jobs: two done by h1, one held by h2, one cancelled, two queued; labels and submitters differ.
fn stage() -> (Coordinator, Vec<String>) {
    let node = Options::default().start();
    let wire = node.wire();
    wire.host("h1", &[], 2);
    wire.host("h2", &[], 1);
    let job = |i: usize| {
        let team = if i.is_multiple_of(2) { "even" } else { "odd" };
        let submitter = if i < 3 { "ann" } else { "bob" };
        id(&wire
            .enqueue_with(&json!({"labels": {"team": team, "n": i.to_string()}, "submittedBy": submitter})))
    };
    let jobs: Vec<String> = (0..6).map(job).collect();
    for job in &jobs[..2] {
        wire.claim("h1");
        wire.completion(job, "h1").ok();
    }
    wire.claim("h2");
    wire.call("POST", &format!("/v1/jobs/{}/cancel", jobs[3])).ok();
    (node, jobs)
}

fn ids(page: &Value) -> Vec<String> {
    page["jobs"].as_array().expect("jobs").iter().map(id).collect()
}

fn pick(jobs: &[String], indexes: &[usize]) -> Vec<String> {
    indexes.iter().map(|i| jobs[*i].clone()).collect()
}

#[test]
fn a_list_shows_the_newest_first_and_each_filter_narrows_it() {
    let (node, jobs) = stage();
    let table: &[(&str, &[usize])] = &[
        ("", &[5, 4, 3, 2, 1, 0]),
        ("?status=queued", &[5, 4]),
        ("?status=completed", &[1, 0]),
        ("?status=leased", &[2]),
        ("?status=cancelled", &[3]),
        ("?status=failed", &[]),
        ("?host=h1", &[1, 0]),
        ("?host=h2", &[2]),
        ("?label=team%3Deven", &[4, 2, 0]),
        ("?label=team=odd", &[5, 3, 1]),
        ("?submitter=ann", &[2, 1, 0]),
        ("?submitter=bob&status=queued", &[5, 4]),
        ("?label=team=odd&submitter=ann", &[1]),
        ("?status=queued&limit=1", &[5]),
    ];
    for (query, want) in table {
        let page = node.wire().get(&format!("/v1/jobs{query}")).ok();
        assert_eq!(ids(&page), pick(&jobs, want), "{query}");
    }
}

fn walk(wire: &Wire, query: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = wire.get(&format!("/v1/jobs?{query}{cursor}")).ok();
        all.extend(ids(&page));
        let Some(next) = page["nextCursor"].as_str() else { return all };
        cursor = format!("&cursor={next}");
    }
}

#[test]
fn pages_follow_each_other_without_gap_or_double() {
    let (node, jobs) = stage();
    for limit in 1..=7 {
        let query = format!("limit={limit}");
        assert_eq!(walk(&node.wire(), &query), pick(&jobs, &[5, 4, 3, 2, 1, 0]), "{query}");
        let query = format!("limit={limit}&label=team=even");
        assert_eq!(walk(&node.wire(), &query), pick(&jobs, &[4, 2, 0]), "{query}");
    }
}

#[test]
fn a_new_job_does_not_disturb_the_pages_that_follow() {
    let (node, jobs) = stage();
    let wire = node.wire();
    let page = wire.get("/v1/jobs?limit=4").ok();
    wire.enqueue();
    let cursor = page["nextCursor"].as_str().expect("a cursor");
    let rest = wire.get(&format!("/v1/jobs?limit=4&cursor={cursor}")).ok();
    assert_eq!(ids(&rest), pick(&jobs, &[1, 0]));
}

#[test]
fn what_is_no_filter_is_400_and_named() {
    let (node, _) = stage();
    for (query, field) in
        [("status=fine", "status"), ("limit=0", "limit"), ("limit=x", "limit"), ("cursor=%21", "cursor")]
    {
        let reply = node.wire().get(&format!("/v1/jobs?{query}")).send();
        assert_eq!(reply.status, 400, "{query}: {}", reply.text);
        assert!(reply.error().contains(field), "{query}: {}", reply.error());
    }
}

#[test]
fn a_job_is_found_by_its_id_in_every_state() {
    let (node, jobs) = stage();
    for job in &jobs {
        assert_eq!(id(&node.wire().job(job)), *job);
    }
    let missing = node.wire().get("/v1/jobs/job_none").send();
    assert_eq!(missing.status, 404);
    assert!(missing.error().contains("job_none"));
}
