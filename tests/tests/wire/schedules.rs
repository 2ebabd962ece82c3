//! Schedules: jobs at the times of a cron expression. (Ours.)

use skyclaw_tests::fake_clock::FakeClock;
use skyclaw_tests::mesh::{id, shell_job, with};
use skyclaw_tests::{Coordinator, LONG, Options, Value, Wire, json, wait_until};

fn node() -> Coordinator {
    Options::default().env("SKYCLAW_LEASE_MS", "60000").start()
}

/// A schedule that is not due before long.
fn yearly(extra: &Value) -> Value {
    with(&json!({"name": "yearly", "cron": "0 0 29 2 *", "job": shell_job(&json!({}))}), extra)
}

fn create(wire: &Wire, body: &Value) -> Value {
    wire.post("/v1/schedules", body).ok()["schedule"].take()
}

fn schedule(wire: &Wire, name: &str) -> Value {
    wire.get(&format!("/v1/schedules/{name}")).ok()["schedule"].take()
}

fn act(wire: &Wire, name: &str, action: &str, body: &Value) -> Value {
    wire.post(&format!("/v1/schedules/{name}/{action}"), body).ok()
}

/// The jobs of a schedule, newest first.
fn jobs(wire: &Wire, name: &str) -> Vec<Value> {
    let page = wire.get(&format!("/v1/jobs?limit=1000&label=skyclaw/schedule={name}")).ok()["jobs"].take();
    page.as_array().cloned().expect("jobs")
}

fn millis(time: &Value) -> i64 {
    let text = time.as_str().unwrap_or_else(|| panic!("no time: {time}"));
    text.parse::<jiff::Timestamp>().expect("a time").as_millisecond()
}

#[test]
fn a_schedule_is_created_shown_by_id_and_name_listed_and_deleted() {
    let node = node();
    let wire = node.wire();
    let job = shell_job(&json!({"priority": 7, "labels": {"team": "a"}, "onLost": "hold"}));
    let made = create(&wire, &yearly(&json!({"job": job, "timeZone": "europe/berlin", "by": "ann"})));
    assert!(id(&made).starts_with("sched_"), "{made}");
    assert_eq!((&made["name"], &made["cron"]), (&json!("yearly"), &json!("0 0 29 2 *")));
    assert_eq!((&made["timeZone"], &made["overlap"]), (&json!("Europe/Berlin"), &json!("skip")));
    assert_eq!((&made["catchUpMs"], &made["paused"]), (&json!(3_600_000), &json!(false)));
    assert_eq!(made["job"], job, "the job is shown as it was given");
    assert!(made["nextAt"].as_str().is_some_and(|at| at.ends_with("-02-28T23:00:00.000Z")), "{made}");
    assert_eq!((&made["submitted"], &made["skipped"], &made["missed"]), (&json!(0), &json!(0), &json!(0)));
    assert_eq!(made["events"][0]["detail"], "by ann");
    assert_eq!(made["updatedBy"], "node-a");
    assert_eq!(schedule(&wire, "yearly"), made);
    assert_eq!(schedule(&wire, &id(&made)), made);
    assert_eq!(wire.get("/v1/schedules").ok(), json!({"schedules": [made]}));
    let sentence = format!(
        "a schedule named yearly is there already: {}; delete that one, or choose another name",
        id(&made)
    );
    wire.post("/v1/schedules", &yearly(&json!({}))).refused(409, &sentence);
    let delete = || wire.call("DELETE", "/v1/schedules/yearly").key("k");
    assert_eq!(delete().ok()["schedule"], made);
    assert_eq!(delete().ok()["schedule"], made, "the first answer is given again");
    wire.call("DELETE", "/v1/schedules/yearly").refused(404, "unknown schedule: yearly");
    wire.get("/v1/schedules/yearly").refused(404, "schedule not found");
    for action in ["pause", "resume", "trigger"] {
        let call = wire.post(&format!("/v1/schedules/{}/{action}", id(&made)), &json!({}));
        call.refused(404, &format!("unknown schedule: {}", id(&made)));
    }
    assert_eq!(wire.get("/v1/schedules").ok(), json!({"schedules": []}));
    assert!(
        wire.get("/v1/state").ok().get("schedules").is_none(),
        "reference peers see what they always saw"
    );
}

#[test]
fn a_list_has_pages_oldest_first() {
    let node = node();
    let wire = node.wire();
    let names: Vec<String> = (0..5).map(|n| format!("n{n}")).collect();
    for name in &names {
        create(&wire, &yearly(&json!({"name": name})));
    }
    let (mut seen, mut query) = (Vec::new(), "limit=2".to_owned());
    loop {
        let page = wire.get(&format!("/v1/schedules?{query}")).ok();
        let schedules = page["schedules"].as_array().expect("schedules");
        seen.extend(schedules.iter().map(|it| it["name"].as_str().unwrap_or_default().to_owned()));
        let Some(cursor) = page["nextCursor"].as_str() else { break };
        query = format!("limit=2&cursor={cursor}");
    }
    assert_eq!(seen, names);
    wire.get("/v1/schedules?limit=0").refused(400, "limit must be a whole number from 1 to 1000");
    wire.get("/v1/schedules?cursor=a%20b").refused(400, "cursor must be the nextCursor of another page");
}

#[test]
fn what_cannot_be_a_schedule_is_refused_with_its_field() {
    let node = node();
    let wire = node.wire();
    let cron = "cron must be minute, hour, day of month, month and day of week, with seconds before them if \
                wanted, or a name such as @daily: ";
    let table = [
        (json!({"name": ""}), "name is required".to_owned()),
        (json!({"name": "a b"}), "name must be 1 to 128 of the characters A-Z a-z 0-9 . _ : -".to_owned()),
        (json!({"name": "sched_a"}), "name must not begin with sched_, as ids do".to_owned()),
        (json!({"cron": "61 * * * *"}), format!("{cron}Number out of bounds")),
        (json!({"cron": "0 0 31 2 *"}), "cron names no time that ever comes".to_owned()),
        (
            json!({"timeZone": "Nowhere/Atall"}),
            "timeZone must be the name of an IANA time zone, such as UTC or Europe/Berlin: Nowhere/Atall is none"
                .to_owned(),
        ),
        (json!({"overlap": "allow"}), r#"overlap must be "skip", "queue" or "replace""#.to_owned()),
        (json!({"catchUpMs": 1}), "catchUpMs must be between 1000 and 31536000000".to_owned()),
        (json!({"job": {"payload": {"kind": "shell"}}}), "job.payload.command is required".to_owned()),
        (json!({"job": "ls"}), "job must be an object".to_owned()),
    ];
    for (extra, sentence) in table {
        wire.post("/v1/schedules", &yearly(&extra)).refused(400, &sentence);
    }
    assert_eq!(wire.get("/v1/schedules").ok(), json!({"schedules": []}));
}

#[test]
fn every_second_has_a_job_that_tells_where_it_comes_from_or_is_counted() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 9);
    let made = create(&wire, &yearly(&json!({"name": "poll", "cron": "* * * * * *"})));
    let first = wait_until("the first job is there", LONG, || jobs(&wire, "poll").pop());
    assert_eq!(first["scheduleId"], made["id"]);
    assert_eq!(first["submittedBy"], "schedule:poll");
    assert_eq!(first["labels"], json!({"skyclaw/schedule": "poll"}));
    assert!(millis(&first["scheduledAt"]) >= millis(&made["nextAt"]), "{first}");
    assert!(millis(&first["createdAt"]) >= millis(&first["scheduledAt"]), "not before its time: {first}");
    // Nobody takes it, so the next are skipped.
    let skipped = |now: &Value| now["skipped"].as_i64().expect("a count");
    wait_until("two more have passed", LONG, || (skipped(&schedule(&wire, "poll")) >= 2).then_some(()));
    assert_eq!(jobs(&wire, "poll").len(), 1);
    let claimed = wire.claim("h1");
    wire.completion(&id(&claimed), "h1").ok();
    wait_until("another job is there", LONG, || (jobs(&wire, "poll").len() == 2).then_some(()));
    let now = schedule(&wire, "poll");
    let missed = now["missed"].as_i64().expect("a count");
    let passed = (millis(&now["nextAt"]) - millis(&made["nextAt"])) / 1000;
    assert_eq!((now["submitted"].as_i64(), 2 + skipped(&now) + missed), (Some(2), passed), "{now}");
}

#[test]
fn a_queued_job_is_submitted_as_soon_as_the_last_has_ended() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 9);
    create(&wire, &yearly(&json!({"overlap": "queue"})));
    let first = act(&wire, "yearly", "trigger", &json!({"by": "ann"}));
    assert_eq!(first["job"]["scheduleId"], first["schedule"]["id"]);
    let second = act(&wire, "yearly", "trigger", &json!({}));
    assert!(second.get("job").is_none() && second["schedule"]["waitingAt"].is_string(), "{second}");
    let sentence = format!(
        "schedule yearly submits nothing now: its job {} has not ended, and another waits for that already; wait \
         until it has, or cancel it",
        id(&first["job"])
    );
    wire.post("/v1/schedules/yearly/trigger", &json!({})).refused(409, &sentence);
    let claimed = wire.claim("h1");
    assert_eq!(jobs(&wire, "yearly").len(), 1, "the other waits");
    wire.completion(&id(&claimed), "h1").ok();
    let next = wait_until("the other is submitted", LONG, || {
        let claimed = wire.claim("h1");
        (!claimed.is_null()).then_some(claimed)
    });
    assert_eq!(next["scheduledAt"], second["schedule"]["waitingAt"]);
    assert_eq!(schedule(&wire, "yearly")["submitted"], 2);
}

#[test]
fn a_replaced_job_is_called_off_and_its_successor_waits_for_its_end() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 9);
    create(&wire, &yearly(&json!({"overlap": "replace"})));
    act(&wire, "yearly", "trigger", &json!({}));
    let running = wire.claim("h1");
    let second = act(&wire, "yearly", "trigger", &json!({}));
    assert!(second.get("job").is_none(), "{second}");
    assert!(wire.job(&id(&running))["cancelRequestedAt"].is_string());
    assert!(wire.claim("h1").is_null(), "it still runs");
    let stopped = json!({"hostId": "h1", "success": false, "durationMs": 1, "exitCode": 143, "stdout": "", "stderr": ""});
    wire.post(&format!("/v1/jobs/{}/complete", id(&running)), &stopped).ok();
    wait_until("the other is submitted", LONG, || (!wire.claim("h1").is_null()).then_some(()));
    assert_eq!(wire.job(&id(&running))["status"], "cancelled");
}

#[test]
fn what_is_paused_waits_for_nothing_until_it_is_resumed_also_after_a_crash() {
    let mut node = node();
    let wire = node.wire();
    create(&wire, &yearly(&json!({"name": "poll", "cron": "* * * * * *", "paused": true})));
    let paused = act(&wire, "poll", "pause", &json!({"reason": "again"}))["schedule"].take();
    assert!(paused["paused"] == true && paused.get("nextAt").is_none() && paused["pausedAt"].is_string());
    let triggered = act(&wire, "poll", "trigger", &json!({}));
    assert!(triggered["job"].is_object(), "also while it is paused: {triggered}");
    wire.post(&format!("/v1/jobs/{}/cancel", id(&triggered["job"])), &json!({})).ok();
    node.kill9();
    node.restart();
    let wire = node.wire();
    assert_eq!(schedule(&wire, "poll"), triggered["schedule"], "as it was, and nothing was submitted");
    let resumed = act(&wire, "poll", "resume", &json!({"by": "bob"}))["schedule"].take();
    assert!(resumed["paused"] == false && resumed["nextAt"].is_string(), "{resumed}");
    let kinds = |it: &Value| -> Vec<Value> {
        it["events"].as_array().into_iter().flatten().map(|event| event["kind"].clone()).collect()
    };
    assert_eq!(kinds(&resumed), ["created", "triggered", "resumed"].map(|kind| json!(kind)));
    wait_until("it submits again", LONG, || (jobs(&wire, "poll").len() == 2).then_some(()));
    let reason = act(&wire, "poll", "pause", &json!({"reason": "odd", "by": "ann"}))["schedule"].take();
    assert_eq!((&reason["pausedReason"], &reason["pausedBy"]), (&json!("odd"), &json!("ann")));
}

#[test]
fn times_that_nobody_led_at_are_made_up_for_by_one_job_unless_it_is_too_late() {
    let clock = FakeClock::new();
    let mut node = clock.given_to(Options::default()).start();
    let wire = node.wire();
    // Half an hour from now, and each hour after that.
    let now = millis(&create(&wire, &yearly(&json!({})))["createdAt"]);
    let minute = (now / 60_000 + 30) % 60;
    let late =
        |name: &str, ms: u32| json!({"name": name, "cron": format!("{minute} * * * *"), "catchUpMs": ms});
    for body in [late("patient", 3_600_000), late("strict", 60_000)] {
        create(&wire, &yearly(&body));
    }
    node.kill9();
    clock.jump(3 * 3600);
    node.restart();
    let wire = node.wire();
    let made_up = wait_until("a job is submitted", LONG, || jobs(&wire, "patient").pop());
    let patient = schedule(&wire, "patient");
    assert_eq!((&patient["submitted"], &patient["missed"]), (&json!(1), &json!(2)), "{patient}");
    assert_eq!(patient["lastAt"], made_up["scheduledAt"]);
    let strict = wait_until("those are passed by", LONG, || {
        Some(schedule(&wire, "strict")).filter(|now| now["missed"] != 0)
    });
    assert_eq!((&strict["submitted"], &strict["missed"]), (&json!(0), &json!(3)), "{strict}");
    assert_eq!(jobs(&wire, "strict"), [json!(null); 0]);
}
