//! Bodies that are no JSON, and JSON that is no request.

use super::{Case, Outcome, assert_all_refused};

const REGISTER: &str = "/v1/hosts/register";
const JOBS: &str = "/v1/jobs";
const COMPLETE: &str = "/v1/jobs/j1/complete";
const HEARTBEAT: &str = "/v1/hosts/h1/heartbeat";
const CLAIM: &str = "/v1/hosts/h1/claim";
const SERVICES: &str = "/v1/services";
const RESOLVE: &str = "/v1/jobs/j1/resolve";
const RETRY: &str = "/v1/jobs/j1/retry";
const EVENTS: &str = "/v1/jobs/j1/events";
const LOGS: &str = "/v1/jobs/j1/logs";
const FREEZES: &str = "/v1/freezes";
const SCHEDULES: &str = "/v1/schedules";
const DRAIN: &str = "/v1/hosts/h1/drain";
const REPORT: &str = "/v1/services/s1/report";
const SNAPSHOT: &str = "/v1/replicate/snapshot";

/// Texts that are no JSON object, whatever route they come to.
const NO_OBJECT: &[&[u8]] = &[
    b"[]",
    b"\"text\"",
    b"5",
    b"true",
    b"{",
    b"}",
    b"nonsense",
    b"{\"name\":\"a\"",
    b"{\"name\":\"a\"}}",
    b"{\"name\":\"a\"} x",
    b"{\"name\":\"a\"}{\"name\":\"b\"}",
    b"{'name':'a'}",
    b"{name:\"a\"}",
    b"{\"name\":\"a\",}",
    b"{\"name\":\"a\" /* b */}",
    b"{\"name\":NaN}",
    b"{\"name\":\"a\",\"maxParallel\":Infinity}",
    b"{\"name\":\"a\",\"maxParallel\":01}",
    b"{\"name\":\"\\x\"}",
    b"{\"name\":\"\\ud800\"}",
    b"{\"name\":\"\\udc00\\ud800\"}",
    b"{\"name\":\"a\nb\"}",
    b"{\"name\":\"\xff\xfe\"}",
    b"{\"name\":\"\xc0\xaf\"}",
    b"{\"name\":\"\xed\xa0\x80\"}",
    b"{\"name\":\"\xf4\x90\x80\x80\"}",
    b"\xff\xfe{\0\"\0n\0",
    b"\0",
    b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
    b"name=a&capabilities=b",
    b"<host><name>a</name></host>",
];

/// A route, a body that is wrong in one field, and how the error names the field.
const FIELDS: &[(&str, &str, &str)] = &[
    (REGISTER, r#"{"name":5}"#, "name"),
    (REGISTER, r#"{"name":["a"]}"#, "name"),
    (REGISTER, r#"{"name":{"a":1}}"#, "name"),
    (REGISTER, r#"{"name":true}"#, "name"),
    (REGISTER, r#"{"name":"a\u0000b"}"#, "name"),
    (REGISTER, r#"{"name":"a","hostId":5}"#, "hostId"),
    (REGISTER, r#"{"name":"a","hostId":"../../etc/passwd"}"#, "hostId"),
    (REGISTER, r#"{"name":"a","hostId":"a b"}"#, "hostId"),
    (REGISTER, r#"{"name":"a","hostId":"h\u00f6st"}"#, "hostId"),
    (REGISTER, r#"{"name":"a","hostId":"a\u0000"}"#, "hostId"),
    (REGISTER, r#"{"name":"a","hostId":"a\r\nb"}"#, "hostId"),
    (REGISTER, r#"{"name":"a","capabilities":"shell"}"#, "capabilities"),
    (REGISTER, r#"{"name":"a","capabilities":[1]}"#, "capabilities"),
    (REGISTER, r#"{"name":"a","capabilities":[null]}"#, "capabilities"),
    (REGISTER, r#"{"name":"a","capabilities":[["a"]]}"#, "capabilities"),
    (REGISTER, r#"{"name":"a","capabilities":{"0":"a"}}"#, "capabilities"),
    (REGISTER, r#"{"name":"a","maxParallel":"2"}"#, "maxParallel"),
    (REGISTER, r#"{"name":"a","maxParallel":-1}"#, "maxParallel"),
    (REGISTER, r#"{"name":"a","maxParallel":1.5}"#, "maxParallel"),
    (REGISTER, r#"{"name":"a","maxParallel":1e300}"#, "maxParallel"),
    (REGISTER, r#"{"name":"a","maxParallel":1e9999}"#, ""),
    (REGISTER, r#"{"name":"a","maxParallel":4294967296}"#, "maxParallel"),
    (REGISTER, r#"{"name":"a","maxParallel":99999999999999999999999999}"#, "maxParallel"),
    (REGISTER, r#"{"name":"a","maxParallel":100001}"#, "maxParallel"),
    (REGISTER, r#"{"name":"a","maxParallel":true}"#, "maxParallel"),
    (REGISTER, r#"{"name":"a","name":"b"}"#, "name"),
    (JOBS, r#"{"payload":"echo"}"#, "payload"),
    (JOBS, r#"{"payload":5}"#, "payload"),
    (JOBS, r#"{"payload":["echo"]}"#, "payload"),
    (JOBS, r#"{"payload":{"kind":5}}"#, "kind"),
    (JOBS, r#"{"payload":{"kind":"python","command":"x"}}"#, "kind"),
    (JOBS, r#"{"payload":{"kind":"__proto__"}}"#, "kind"),
    (JOBS, r#"{"payload":{"kind":"shell"}}"#, "command"),
    (JOBS, r#"{"payload":{"kind":"shell","command":5}}"#, "command"),
    (JOBS, r#"{"payload":{"kind":"shell","command":""}}"#, "command"),
    (JOBS, r#"{"payload":{"kind":"shell","command":"a\u0000b"}}"#, "command"),
    (JOBS, r#"{"payload":{"kind":"shell","command":"a","args":"x"}}"#, "args"),
    (JOBS, r#"{"payload":{"kind":"shell","command":"a","args":[1]}}"#, "args"),
    (JOBS, r#"{"payload":{"kind":"shell","command":"a","args":[null]}}"#, "args"),
    (JOBS, r#"{"payload":{"kind":"shell","command":"a","args":["x\u0000"]}}"#, "args"),
    (JOBS, r#"{"payload":{"kind":"shell","command":"a","env":[]}}"#, "env"),
    (JOBS, r#"{"payload":{"kind":"shell","command":"a","env":{"A":1}}}"#, "env"),
    (JOBS, r#"{"payload":{"kind":"shell","command":"a","env":{"A":null}}}"#, "env"),
    (JOBS, r#"{"payload":{"kind":"shell","command":"a","env":{"":"x"}}}"#, "env"),
    (JOBS, r#"{"payload":{"kind":"shell","command":"a","env":{"A=B":"x"}}}"#, "env"),
    (JOBS, r#"{"payload":{"kind":"shell","command":"a","env":{"A":"\u0000"}}}"#, "env"),
    (JOBS, r#"{"payload":{"kind":"shell","command":"a","cwd":5}}"#, "cwd"),
    (JOBS, r#"{"payload":{"kind":"shell","command":"a","cwd":"/\u0000"}}"#, "cwd"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run","openclawDir":["/"]}}"#, "openclawDir"),
    (JOBS, r#"{"payload":{"kind":"shell","command":"a","timeoutMs":0}}"#, "timeoutMs"),
    (JOBS, r#"{"payload":{"kind":"shell","command":"a","timeoutMs":-1}}"#, "timeoutMs"),
    (JOBS, r#"{"payload":{"kind":"shell","command":"a","timeoutMs":"5"}}"#, "timeoutMs"),
    (JOBS, r#"{"payload":{"kind":"shell","command":"a","timeoutMs":0.5}}"#, "timeoutMs"),
    (JOBS, r#"{"payload":{"kind":"shell","command":"a","timeoutMs":18446744073709551615}}"#, "timeoutMs"),
    (JOBS, r#"{"payload":{"kind":"shell","command":"a","timeoutMs":1e308}}"#, "timeoutMs"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"dependsOn":"j1"}"#, "dependsOn"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"dependsOn":[5]}"#, "dependsOn"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"dependsOn":["../x"]}"#, "dependsOn"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"dependsOn":["a","a"]}"#, "dependsOn"),
    (
        JOBS,
        r#"{"payload":{"kind":"openclaw-run"},"dependsOn":["a"],"onDependencyFailure":"x"}"#,
        "onDependencyFailure",
    ),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"concurrencyKey":5}"#, "concurrencyKey"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"concurrencyKey":"a\u0000"}"#, "concurrencyKey"),
    (
        JOBS,
        r#"{"payload":{"kind":"openclaw-run"},"concurrencyKey":"a","concurrencyLimit":0}"#,
        "concurrencyLimit",
    ),
    (
        JOBS,
        r#"{"payload":{"kind":"openclaw-run"},"concurrencyKey":"a","concurrencyLimit":-1}"#,
        "concurrencyLimit",
    ),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"concurrencyLimit":1}"#, "concurrencyLimit"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"uniqueKey":["a"]}"#, "uniqueKey"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"requirement":5}"#, "requirement"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"requirement":["a"]}"#, "requirement"),
    (
        JOBS,
        r#"{"payload":{"kind":"openclaw-run"},"requirement":{"requiredCapabilities":"a"}}"#,
        "requiredCapabilities",
    ),
    (
        JOBS,
        r#"{"payload":{"kind":"openclaw-run"},"requirement":{"requiredCapabilities":[5]}}"#,
        "requiredCapabilities",
    ),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"submittedBy":5}"#, "submittedBy"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"priority":101}"#, "priority"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"priority":256}"#, "priority"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"priority":-1}"#, "priority"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"priority":"high"}"#, "priority"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"labels":[]}"#, "labels"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"labels":{"a":1}}"#, "labels"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"labels":{"a b":"x"}}"#, "labels"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"labels":{"":"x"}}"#, "labels"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"onLost":"cry"}"#, "onLost"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"onLost":5}"#, "onLost"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"isolation":"docker"}"#, "isolation"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"isolation":true}"#, "isolation"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"image":"a"}"#, "image"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"isolation":"podman","image":"a b"}"#, "image"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"isolation":"podman","image":"a\u0000"}"#, "image"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"network":"host"}"#, "network"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"resources":5}"#, "resources"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"resources":{"cpuMillis":0}}"#, "cpuMillis"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"resources":{"cpuMillis":-1}}"#, "cpuMillis"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"resources":{"memoryBytes":5}}"#, "memoryBytes"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"resources":{"pids":0}}"#, "pids"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"resources":{"tmpfsBytes":4096}}"#, "tmpfsBytes"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"agentId":"a b"}"#, "agentId"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"mounts":[{"source":"/a"}]}"#, "mounts"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"isolation":"podman","mounts":[{}]}"#, "mounts[0].source"),
    (
        JOBS,
        r#"{"payload":{"kind":"openclaw-run"},"isolation":"podman","mounts":[{"source":"a"}]}"#,
        "mounts[0]",
    ),
    (
        JOBS,
        r#"{"payload":{"kind":"openclaw-run"},"isolation":"podman","mounts":[{"source":"/a/../b"}]}"#,
        "mounts[0].source",
    ),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"graceMs":600001}"#, "graceMs"),
    (REGISTER, r#"{"name":"a","enforces":[]}"#, "enforces"),
    (REGISTER, r#"{"name":"a","enforces":{"can":"podman"}}"#, "can"),
    (REGISTER, r#"{"name":"a","enforces":{"can":["a\u0000"]}}"#, "enforces.can"),
    (COMPLETE, r#"{"hostId":"h1","success":false,"stopped":"bored"}"#, ""),
    (
        COMPLETE,
        r#"{"hostId":"h1","success":false,"durationMs":1,"exitCode":0,"stdout":"","stderr":"","stopped":"bored"}"#,
        "stopped",
    ),
    (
        COMPLETE,
        r#"{"hostId":"h1","success":false,"durationMs":1,"exitCode":0,"stdout":"","stderr":"","usage":{"cpuMs":-1}}"#,
        "cpuMs",
    ),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"ttlMs":0}"#, "ttlMs"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"ttlMs":1.5}"#, "ttlMs"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"notBefore":"soon"}"#, "notBefore"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"notBefore":5}"#, "notBefore"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"notBefore":"99999-01-01T00:00:00Z"}"#, "notBefore"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"retry":[]}"#, "retry"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"retry":{"maxAttempts":0}}"#, "retry.maxAttempts"),
    (JOBS, r#"{"payload":{"kind":"openclaw-run"},"retry":{"maxAttempts":-1}}"#, "maxAttempts"),
    (
        JOBS,
        r#"{"payload":{"kind":"openclaw-run"},"retry":{"backoffMs":9,"maxBackoffMs":8}}"#,
        "retry.maxBackoffMs",
    ),
    (RETRY, r#"{"reason":5}"#, "reason"),
    (RETRY, r#"{"by":"a\u0000"}"#, "by"),
    (RESOLVE, r#"{}"#, "action"),
    (RESOLVE, r#"{"action":"forget"}"#, "action"),
    (RESOLVE, r#"{"action":"fail","result":{}}"#, "result"),
    (EVENTS, r#"{"hostId":"h1","events":[]}"#, "fence"),
    (EVENTS, r#"{"hostId":"h1","fence":1}"#, "events"),
    (EVENTS, r#"{"hostId":"h1","fence":1,"events":[{}]}"#, "events[0].kind"),
    (EVENTS, r#"{"hostId":"h1","fence":1,"events":[{"kind":"a"}]}"#, "events[0].at"),
    (
        EVENTS,
        r#"{"hostId":"h1","fence":1,"events":[{"kind":"A B","at":"2026-01-01T00:00:00Z"}]}"#,
        "events[0].kind",
    ),
    (EVENTS, r#"{"hostId":"h1","fence":1,"events":[{"kind":"a","at":"yesterday"}]}"#, "at"),
    (LOGS, r#"{"fence":1,"stream":"stdout","offset":0}"#, "hostId"),
    (LOGS, r#"{"hostId":"h1","fence":1,"stream":5,"offset":0}"#, "stream"),
    (LOGS, r#"{"hostId":"h1","fence":1,"stream":"stdout","offset":-1}"#, "offset"),
    (
        LOGS,
        r#"{"hostId":"h1","fence":1,"stream":"stdout","offset":18446744073709551615,"data":"x"}"#,
        "offset",
    ),
    (LOGS, r#"{"hostId":"h1","fence":1,"stream":"stdout","offset":0,"data":["x"]}"#, "data"),
    (FREEZES, r#"{"labels":{"a b":"c"}}"#, "labels"),
    (FREEZES, r#"{"labels":{}}"#, "labels"),
    (FREEZES, r#"{"agentId":" "}"#, "agentId"),
    (FREEZES, r#"{"agentId":"a/b"}"#, "agentId"),
    (FREEZES, r#"{"reason":5}"#, "reason"),
    (SCHEDULES, r#"{"name":5}"#, "name"),
    (SCHEDULES, r#"{"name":"a/b"}"#, "name"),
    (SCHEDULES, r#"{"name":"a","cron":5}"#, "cron"),
    (SCHEDULES, r#"{"name":"a","cron":"* * * * *","job":[]}"#, "job"),
    (SCHEDULES, r#"{"name":"a","cron":"* * * * *","job":{"payload":{"kind":"x"}}}"#, "job.payload.kind"),
    (SCHEDULES, r#"{"name":"a","cron":"* * * * *","catchUpMs":-1}"#, "catchUpMs"),
    (SCHEDULES, r#"{"name":"a","cron":"* * * * *","paused":"yes"}"#, "paused"),
    (
        SCHEDULES,
        r#"{"name":"a","cron":"* * * * \u0000","job":{"payload":{"kind":"shell","command":"ls"}}}"#,
        "cron",
    ),
    (DRAIN, r#"{"deadlineMs":"5"}"#, "deadlineMs"),
    (DRAIN, r#"{"deadlineMs":99999999999999}"#, "deadlineMs"),
    (COMPLETE, r#"{"hostId":5,"success":true}"#, "hostId"),
    (COMPLETE, r#"{"hostId":"h1","success":"true"}"#, "success"),
    (COMPLETE, r#"{"hostId":"h1","success":1}"#, "success"),
    (COMPLETE, r#"{"hostId":"h1","success":true,"durationMs":-1}"#, "durationMs"),
    (COMPLETE, r#"{"hostId":"h1","success":true,"durationMs":1.5}"#, "durationMs"),
    (COMPLETE, r#"{"hostId":"h1","success":true,"durationMs":1,"exitCode":"0"}"#, "exitCode"),
    (COMPLETE, r#"{"hostId":"h1","success":true,"durationMs":1,"exitCode":2147483648}"#, "exitCode"),
    (COMPLETE, r#"{"hostId":"h1","success":true,"durationMs":1,"exitCode":0,"stdout":5}"#, "stdout"),
    (
        COMPLETE,
        r#"{"hostId":"h1","success":true,"durationMs":1,"exitCode":0,"stdout":"","stderr":[]}"#,
        "stderr",
    ),
    (COMPLETE, r#"{"hostId":"h1","success":true,"error":{}}"#, "error"),
    (COMPLETE, r#"{"hostId":"h1","success":true,"fence":-1}"#, "fence"),
    (HEARTBEAT, r#"{"running":"j1"}"#, "running"),
    (HEARTBEAT, r#"{"logs":[{"jobId":"j1","fence":1,"stream":"both","offset":0}]}"#, "stream"),
    (HEARTBEAT, r#"{"running":[{}]}"#, "running"),
    (HEARTBEAT, r#"{"running":[{"jobId":"a b","fence":1}]}"#, "running"),
    (HEARTBEAT, r#"{"running":[{"jobId":"j1","fence":"1"}]}"#, "running"),
    (HEARTBEAT, r#"{"activeLeases":-1}"#, "activeLeases"),
    (HEARTBEAT, r#"{"waitMs":30001}"#, "waitMs"),
    (CLAIM, r#"{"max":0}"#, "max"),
    (CLAIM, r#"{"max":1001}"#, "max"),
    (CLAIM, r#"{"max":"1"}"#, "max"),
    (CLAIM, r#"{"waitMs":-1}"#, "waitMs"),
    (CLAIM, r#"{"waitMs":99999999999}"#, "waitMs"),
    (SERVICES, r#"{"name":5,"command":"a"}"#, "name"),
    (SERVICES, r#"{"name":"a","command":["a"]}"#, "command"),
    (SERVICES, r#"{"name":"a","command":"a","serviceId":"a/b"}"#, "serviceId"),
    (SERVICES, r#"{"name":"a","command":"a","replicas":-1}"#, "replicas"),
    (SERVICES, r#"{"name":"a","command":"a","replicas":10001}"#, "replicas"),
    (SERVICES, r#"{"name":"a","command":"a","args":[1]}"#, "args"),
    (SERVICES, r#"{"name":"a","command":"a","env":{"A=":"x"}}"#, "env"),
    (SERVICES, r#"{"name":"a","command":"a","requiredCapabilities":"x"}"#, "requiredCapabilities"),
    (REPORT, r#"{"hostId":"h1","status":5}"#, "status"),
    (REPORT, r#"{"hostId":"h1","status":"RUNNING"}"#, "status"),
    (REPORT, r#"{"hostId":"h1","status":"running","endpoint":5}"#, "endpoint"),
    (SNAPSHOT, r#"{"nodeId":"r","jobs":5}"#, "jobs"),
    (SNAPSHOT, r#"{"nodeId":"r","jobs":[5]}"#, "jobs"),
    (SNAPSHOT, r#"{"nodeId":"r","hosts":[{}]}"#, "hosts"),
    (SNAPSHOT, r#"{"nodeId":"r","services":{}}"#, "services"),
    (SNAPSHOT, r#"{"nodeId":"a b","jobs":[]}"#, "nodeId"),
    ("/v1/network/join", r#"{"url":5}"#, "url"),
    ("/v1/network/join", r#"{"url":"http://a\u0000b"}"#, "url"),
];

/// Bodies with one value that is too long, or too many of something.
fn too_much() -> Vec<Case> {
    let list = |n: usize, width: usize| {
        let items: Vec<_> = (0..n).map(|i| format!("\"{i:0>width$}\"")).collect();
        format!("[{}]", items.join(","))
    };
    let labels: Vec<_> = (0..65).map(|i| format!("\"l{i}\":\"x\"")).collect();
    let job = |extra: String| format!(r#"{{"payload":{{"kind":"openclaw-run"}},{extra}}}"#);
    let long = |n: usize| "x".repeat(n);
    let (key, refused) = ("x-idempotency-key: k\r\n", Outcome::Fault(&[400], ""));
    vec![
        Case::post(REGISTER, format!(r#"{{"name":"{}"}}"#, long(257)), "name"),
        Case::post(REGISTER, format!(r#"{{"name":"a","hostId":"{}"}}"#, long(129)), "hostId"),
        Case::post(REGISTER, format!(r#"{{"name":"a","capabilities":{}}}"#, list(257, 3)), "capabilities"),
        Case::post(REGISTER, format!(r#"{{"name":"a","capabilities":{}}}"#, list(1, 129)), "capabilities"),
        Case::post(
            JOBS,
            format!(r#"{{"payload":{{"kind":"shell","command":"{}"}}}}"#, long(4097)),
            "command",
        ),
        Case::post(JOBS, job(format!(r#""submittedBy":"{}""#, long(257))), "submittedBy"),
        Case::post(JOBS, job(format!(r#""labels":{{{}}}"#, labels.join(","))), "labels"),
        Case::post(JOBS, job(format!(r#""labels":{{"a":"{}"}}"#, long(257))), "labels"),
        Case::post(JOBS, job(format!(r#""labels":{{"{}":"a"}}"#, long(65))), "labels"),
        Case::post(
            EVENTS,
            format!(
                r#"{{"hostId":"h1","fence":1,"events":[{{"at":"2026-01-01T00:00:00Z","kind":"a","detail":"{}"}}]}}"#,
                long(1025)
            ),
            "detail",
        ),
        Case::post(FREEZES, format!(r#"{{"reason":"{}"}}"#, long(1025)), "reason"),
        Case::post(JOBS, format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)), ""),
        Case::post(JOBS, "[".repeat(500_000), ""),
        // Nobody reads this field; but with a key the whole body is to be compared.
        Case::with_headers(
            JOBS,
            key,
            job(format!(r#""x":{}1{}"#, "[".repeat(100_000), "]".repeat(100_000))),
            refused,
        ),
        Case::with_headers(
            JOBS,
            key,
            job(format!(r#""x":{}1{}"#, "{\"a\":".repeat(10_000), "}".repeat(10_000))),
            refused,
        ),
        Case::post(REGISTER, format!(r#"{{"name":"a","maxParallel":{}}}"#, "9".repeat(100_000)), ""),
    ]
}

/// Encodings that are not taken, or not what they say they are.
fn encoded() -> Vec<Case> {
    let refused = Outcome::Fault(&[400, 415], "");
    ["gzip", "br", "deflate", "zstd", "nonsense"]
        .iter()
        .map(|coding| {
            let header = format!("content-encoding: {coding}\r\n");
            Case::with_headers(JOBS, &header, b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0", refused)
        })
        .collect()
}

pub(super) fn cases() -> Vec<Case> {
    let mut all: Vec<Case> = NO_OBJECT.iter().map(|body| Case::post(REGISTER, body, "")).collect();
    all.extend(FIELDS.iter().map(|(path, body, mention)| Case::post(path, body, mention)));
    all.extend(too_much());
    all.extend(encoded());
    all
}

#[test]
fn a_body_that_is_no_request_is_400_and_the_fault_is_named() {
    assert_all_refused(&cases());
}
