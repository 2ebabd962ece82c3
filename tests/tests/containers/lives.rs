//! What becomes of jobs in Podman when their host's daemon dies, is frozen, or is told to stop them.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use skyclaw_tests::mesh::id;
use skyclaw_tests::{LONG, json, wait_until};

use super::{Place, ended, exists, kinds};

super::with_both!(
    jobs_whose_daemon_is_killed_again_and_again_end_once_with_all_they_wrote,
    a_job_of_a_frozen_host_has_ended_before_another_host_begins_it,
    a_job_whose_keepers_are_frozen_with_its_host_has_ended_before_another_host_begins_it,
    what_is_called_off_frozen_or_shut_down_is_stopped,
    what_nobody_knows_is_swept_when_a_host_starts,
);

fn jobs_whose_daemon_is_killed_again_and_again_end_once_with_all_they_wrote(place: &mut Place) {
    const KILLS: usize = 4;
    const LINES: usize = 60;
    const JOBS: usize = 3;
    let node = Place::node(60_000);
    let mut host = place.host(&node, "h1", &[("SKYCLAW_PODMAN_PREPARED", "1")]);
    let (ticks, go) = (place.shared().join("ticks"), place.shared().join("go"));
    let jobs: Vec<_> = (0..JOBS)
        .map(|at| {
            let text = format!(
                "i=0; while [ $i -lt {LINES} ]; do echo line $i; echo >> /shared/ticks; i=$((i+1)); sleep 0.02; done; \
                 touch /shared/written-{at}; until [ -e /shared/go ]; do sleep 0.02; done; echo end; exit {at}"
            );
            place.submit(&node, &text)
        })
        .collect();
    for kill in 1..=KILLS {
        // They go on, each time, until a part of what they write in all is written.
        let part = (JOBS * LINES * kill / (KILLS + 1)) as u64;
        wait_until("more is written", LONG, || {
            ticks.metadata().is_ok_and(|ticks| ticks.len() >= part).then_some(())
        });
        host.restart();
    }
    (0..JOBS).for_each(|at| exists(&place.shared().join(format!("written-{at}"))));
    host.kill9();
    // They end while their host has no daemon, or while it takes them over.
    fs::write(&go, "").expect("a file");
    host.restart();
    for (at, job) in jobs.iter().enumerate() {
        let done = ended(&node, job);
        assert_eq!((&done["attempts"], &done["result"]["exitCode"]), (&json!(1), &json!(at)), "{done}");
        let want: String = (0..LINES).map(|line| format!("line {line}\n")).collect();
        assert_eq!(done["result"]["stdout"], want + "end\n");
        assert_eq!(kinds(&node, job).iter().filter(|kind| *kind == "exited").count(), 1);
    }
    // A daemon that is killed while it makes or removes a container leaves that to the next.
    place.is_cleared();
    host.terminate();
}

/// What a run has written of itself: since when and until when it ran, by the machine's own clock.
fn interval(of: &PathBuf) -> Option<(f64, f64)> {
    let text = fs::read_to_string(of).ok()?;
    let mut times = text.lines().filter_map(|line| line.split(' ').next()?.parse::<f64>().ok());
    let first = times.next()?;
    Some((first, times.next_back().unwrap_or(first)))
}

fn a_job_of_a_frozen_host_has_ended_before_another_host_begins_it(place: &mut Place) {
    frozen(place, false);
}

fn a_job_whose_keepers_are_frozen_with_its_host_has_ended_before_another_host_begins_it(place: &mut Place) {
    frozen(place, true);
}

fn frozen(place: &mut Place, with_keepers: bool) {
    let node = Place::node(3000);
    // It writes the time again and again, and heeds no one.
    let text =
        "trap '' TERM INT HUP; while :; do cat /proc/uptime >> /shared/run-$SKYCLAW_FENCE; sleep 0.01; done";
    let mut first = place.host(&node, "h1", &[]);
    let job = id(&node.wire().enqueue_with(&place.script(text)));
    let begun = wait_until("it runs", LONG, || {
        let fence = node.wire().job(&job)["fence"].as_u64()?;
        let file = place.shared().join(format!("run-{fence}"));
        interval(&file).map(|_| file)
    });
    let mut second = place.host(&node, "h2", &[]);
    first.process().signal(Signal::SIGSTOP);
    let keepers = skyclaw_tests::process::descendants(first.process().pid());
    for pid in keepers.iter().filter(|_| with_keepers) {
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGSTOP).expect("it is there");
    }
    let again = wait_until("another host has it", LONG, || {
        let job = node.wire().job(&job);
        let file = place.shared().join(format!("run-{}", job["fence"].as_u64()?));
        (job["assignedHostId"] == "h2" && interval(&file).is_some()).then_some(file)
    });
    let ((_, last), (next, _)) =
        (interval(&begun).expect("the first run"), interval(&again).expect("the second run"));
    assert!(last < next, "the first run went on until {last}, the second began at {next}");
    node.wire().post(&format!("/v1/jobs/{job}/cancel"), &json!({})).ok();
    assert_eq!(ended(&node, &job)["status"], "cancelled");
    let (_, last) = interval(&begun).expect("the first run");
    assert!(last < next, "the first run went on until {last}");
    first.process().signal(Signal::SIGCONT);
    first.terminate();
    second.terminate();
}

fn what_is_called_off_frozen_or_shut_down_is_stopped(place: &mut Place) {
    let node = Place::node(60_000);
    let mut host = place.host(&node, "h1", &[]);
    let running = |name: &str| {
        let text = format!("trap '' TERM; touch /shared/{name}; while :; do sleep 1000; done");
        let mut body = place.script(&text);
        body["labels"] = json!({"book": name});
        body["graceMs"] = json!(100);
        let job = id(&node.wire().enqueue_with(&body));
        exists(&place.shared().join(name));
        job
    };
    let (called_off, frozen, shut_down) = (running("a"), running("b"), running("c"));
    node.wire().post(&format!("/v1/jobs/{called_off}/cancel"), &json!({})).ok();
    assert_eq!(ended(&node, &called_off)["status"], "cancelled");
    node.wire().post("/v1/freezes", &json!({"labels": {"book": "b"}, "reason": "a test"})).ok();
    wait_until("it is stopped and waits", LONG, || {
        (node.wire().job(&frozen)["status"] == "queued").then_some(())
    });
    assert!(kinds(&node, &frozen).contains(&"stopping".to_owned()));
    let containers = wait_until("one is left", LONG, || {
        Some(place.service.containers()).filter(|containers| containers.len() == 1)
    });
    host.terminate();
    let given_back = node.wire().job(&shut_down);
    assert_eq!(
        (&given_back["status"], &given_back["attempts"]),
        (&json!("queued"), &json!(1)),
        "{containers:?}"
    );
}

fn what_nobody_knows_is_swept_when_a_host_starts(place: &mut Place) {
    let node = Place::node(2000);
    let mut host = place.host(&node, "h1", &[("SKYCLAW_PODMAN_PREPARED", "1")]);
    let job = place.submit(&node, "touch /shared/begun; while :; do sleep 1000; done");
    exists(&place.shared().join("begun"));
    // All that keeps the run is killed with the daemon; so its container ends, and stays for the sweep.
    let below = skyclaw_tests::process::descendants(host.process().pid());
    host.process().signal(Signal::SIGSTOP);
    for pid in below {
        let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
    }
    host.kill9();
    wait_until("its container has ended", Duration::from_secs(60), || {
        place.service.podman_ok(&["ps", "--format", "{{.Names}}"]).is_empty().then_some(())
    });
    node.wire().post(&format!("/v1/jobs/{job}/cancel"), &json!({})).ok();
    host.restart();
    place.is_cleared();
    wait_until("the job is cancelled", LONG, || {
        (node.wire().job(&job)["status"] == "cancelled").then_some(())
    });
    host.terminate();
}
