//! Paths, queries and methods that lead nowhere.

use skyclaw_tests::raw::Until;

use super::{Case, Outcome, assert_all_refused, head};

/// A path or query is wrong or names nothing: either may be said.
const NOWHERE: Outcome = Outcome::Fault(&[400, 404], "");
const NOT_ALLOWED: Outcome = Outcome::Fault(&[405], "");

const PATHS: &[&str] = &[
    "/v1/jobs/%00",
    "/v1/jobs/%ff%fe",
    "/v1/jobs/%",
    "/v1/jobs/%zz",
    "/v1/jobs/a%2fb",
    "/v1/jobs/..%2f..%2f..%2fetc%2fpasswd",
    "/v1/jobs/../../../../etc/passwd",
    "/v1/jobs/%2e%2e/%2e%2e/health",
    "/v1/jobs/a%20b",
    "/v1/jobs/job_%F0%9F%A6%80",
    "/v1/jobs/a;drop%20table%20jobs",
    "/v1/jobs/'%20or%20'1'='1",
    "/v1/jobs/job_x/",
    "/v1/jobs/job_x/cancel/more",
    "/v1//jobs",
    "//v1/jobs",
    "/v1/state/../state",
    "/V1/state",
    "/v1/state%00",
    "/v2/state",
    "/",
    "/.env",
    "/v1/hosts/%00",
    "/v1/hosts/a%0d%0ab",
    "/v1/services/%2e%2e",
    "/v1/public/jobs/../../state",
];

const QUERIES: &[(&str, &str)] = &[
    ("status=fine", "status"),
    ("status=queued%00", "status"),
    ("limit=-1", "limit"),
    ("limit=0", "limit"),
    ("limit=99999999999999999999", "limit"),
    ("limit=1.5", "limit"),
    ("limit=NaN", "limit"),
    ("cursor=%00", "cursor"),
    ("cursor=-1", "cursor"),
    ("cursor=99999999999999999999999", "cursor"),
    ("cursor=a'b", "cursor"),
    ("host=a%20b", "host"),
    ("host=%ff", ""),
    ("label=nosign", "label"),
];

const METHODS: &[(&str, &str)] = &[
    ("DELETE", "/v1/jobs"),
    ("PUT", "/v1/jobs"),
    ("PATCH", "/v1/jobs/job_x"),
    ("GET", "/v1/hosts/register"),
    ("GET", "/v1/jobs/job_x/complete"),
    ("POST", "/v1/state"),
    ("POST", "/health"),
    ("TRACE", "/v1/state"),
    ("PROPFIND", "/v1/jobs"),
    ("get", "/v1/state"),
];

pub(super) fn cases() -> Vec<Case> {
    let get = |path: &str, outcome| {
        Case::raw(&format!("GET {path}"), head("GET", path, ""), Until::Answer, outcome)
    };
    let mut all: Vec<Case> = PATHS.iter().map(|path| get(path, NOWHERE)).collect();
    all.push(get(&format!("/v1/jobs/{}", "x".repeat(129)), NOWHERE));
    all.push(get(&format!("/v1/jobs/{}", "x".repeat(60_000)), Outcome::Fault(&[400, 404, 414, 431], "")));
    all.extend(
        QUERIES
            .iter()
            .map(|(query, mention)| get(&format!("/v1/jobs?{query}"), Outcome::Fault(&[400], mention))),
    );
    all.extend(METHODS.iter().map(|(method, path)| {
        Case::raw(
            &format!("{method} {path}"),
            head(method, path, "content-length: 0\r\n"),
            Until::Answer,
            NOT_ALLOWED,
        )
    }));
    all
}

#[test]
fn what_leads_nowhere_is_refused_and_says_so() {
    assert_all_refused(&cases());
}
