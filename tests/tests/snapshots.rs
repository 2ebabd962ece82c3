//! Backups: what was saved comes back, to all nodes alike, and nothing runs twice for it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use skyclaw_tests::cluster::state;
use skyclaw_tests::ctl::{Ran, skyctl_with};
use skyclaw_tests::mesh::id;
use skyclaw_tests::outside::SmallDisk;
use skyclaw_tests::{Cluster, LONG, Options, Plan, SHORT, TOKEN, Value, Wire, database, json, wait_until};
use tempfile::TempDir;

/// A place for a file.
fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("a.snap");
    (dir, file)
}

fn snapshot(urls: &[String], args: &[&str], file: &Path) -> Ran {
    let file = file.to_str().expect("a path in UTF-8");
    let env = [
        ("SKYCLAW_COORDINATOR_URLS", urls.join(",")),
        ("SKYCLAW_TOKEN", TOKEN.to_owned()),
        ("SKYCLAW_DEADLINE_MS", "30000".to_owned()),
    ];
    let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    skyctl_with(&env, &[&["snapshot"], args, &[file]].concat())
}

fn save(urls: &[String], file: &Path) {
    let _ = snapshot(urls, &["save"], file).ok();
}

fn restore(urls: &[String], more: &[&str], file: &Path) -> Ran {
    snapshot(urls, &[&["restore", "--yes"], more].concat(), file)
}

fn jobs(wire: &Wire) -> Vec<String> {
    let state = state(wire).expect("the state");
    state["jobs"].as_array().expect("jobs").iter().map(id).collect()
}

/// All nodes, once they have all, say the same.
fn same_everywhere(cluster: &Cluster) -> Value {
    let states: Vec<Value> = cluster
        .wires()
        .iter()
        .map(|wire| wait_until("the state can be read", LONG, || state(wire)))
        .collect();
    assert!(states.iter().all(|state| *state == states[0]), "{states:?}");
    states[0].clone()
}

/// All nodes have the same on disk, row by row.
fn same_on_disk(mut cluster: Cluster) {
    for node in 0..cluster.size() {
        cluster.terminate(node);
    }
    for node in 1..cluster.size() {
        database::assert_same(cluster.data(0), cluster.data(node));
    }
}

#[test]
fn what_is_saved_under_load_comes_back_in_a_fresh_cluster() {
    let (_dir, file) = place();
    let old = Cluster::start(3);
    let before: Vec<String> = (0..20).map(|_| id(&old.wire(0).enqueue())).collect();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = old.wire(1).enqueue();
            }
        });
        save(&old.urls()[2..], &file);
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(std::fs::metadata(&file).expect("the file").permissions().mode() & 0o777, 0o600);
    let header: Value = serde_json(&snapshot(&[], &["inspect", "-o", "json"], &file).ok());
    let queued = header["counts"]["jobs"]["queued"].as_u64().expect("a count");
    assert!(queued >= 20, "{header}");

    let fresh = Cluster::start(3);
    let refused = restore(&fresh.urls(), &[], &file).ended(1);
    assert!(refused.stderr.contains("the snapshot was taken of cluster"), "{}", refused.stderr);
    assert!(jobs(&fresh.wire(0)).is_empty(), "nothing was changed");
    let _ = restore(&fresh.urls(), &["--force"], &file).ok();
    let state = same_everywhere(&fresh);
    let there: Vec<String> = state["jobs"].as_array().expect("jobs").iter().map(id).collect();
    assert_eq!(there.len() as u64, queued);
    assert_eq!(there[..20], before, "in the same order");
    same_on_disk(fresh);
}

fn serde_json(text: &str) -> Value {
    text.parse().unwrap_or_else(|e| panic!("{e} in {text}"))
}

#[test]
fn a_running_cluster_goes_back_only_when_nothing_runs_and_its_tokens_go_on() {
    let (_dir, file) = place();
    let cluster = Cluster::start(3);
    let (wire, urls) = (cluster.wire(0), cluster.urls());
    wire.host("h1", &[], 4);
    let first = id(&wire.enqueue());
    save(&urls, &file);
    let second = id(&wire.enqueue());
    let leased = wire.claim("h1");
    assert_eq!(leased["id"], first);

    let refused = restore(&urls, &[], &file).ended(1);
    assert!(refused.stderr.contains(&first) && refused.stderr.contains("leased"), "{}", refused.stderr);
    assert_eq!(jobs(&wire), [first.clone(), second], "nothing was changed");

    thread::scope(|scope| {
        let waiting = scope.spawn(|| restore(&urls, &["--wait"], &file));
        // While it waits nothing is handed out, though a job is queued.
        wait_until("a claim finds nothing", SHORT, || {
            let claimed = wire.claim("h1");
            if claimed.is_null() {
                return Some(());
            }
            let _ = wire.completion(&id(&claimed), "h1").send();
            let _ = wire.enqueue();
            None
        });
        let _ = wire.completion(&first, "h1").ok();
        let _ = waiting.join().expect("skyctl ends").ok();
    });
    let state = same_everywhere(&cluster);
    assert_eq!(state["jobs"].as_array().map(Vec::len), Some(1));
    assert_eq!(state["jobs"][0]["status"], "queued");
    let again =
        wait_until("it is claimed again", SHORT, || Some(wire.claim("h1")).filter(|job| !job.is_null()));
    assert_eq!(again["id"], first);
    assert!(again["fence"].as_u64() > leased["fence"].as_u64(), "{again} after {leased}");
    let history = wire.get("/v1/restores").ok();
    assert_eq!(history["restores"].as_array().map(Vec::len), Some(1), "{history}");
    let _ = wire.completion(&first, "h1").ok();
    same_on_disk(cluster);
}

#[test]
fn jobs_that_are_tied_to_each_other_are_so_again_after_a_way_back() {
    let (_dir, file) = place();
    let cluster = Cluster::start(3);
    let (wire, urls) = (cluster.wire(0), cluster.urls());
    wire.host("h1", &[], 9);
    let first = id(&wire.enqueue());
    let dependent = id(&wire.enqueue_with(&json!({"dependsOn": [first]})));
    let sharing = json!({"concurrencyKey": "db"});
    let (one, other) = (id(&wire.enqueue_with(&sharing)), id(&wire.enqueue_with(&sharing)));
    let unique = json!({"uniqueKey": "nightly"});
    let nightly = id(&wire.enqueue_with(&unique));
    save(&urls, &file);
    // What is undone: all of it is run or called off, and the key is another's.
    let done = |wire: &Wire, job: &str| drop(wire.completion(job, "h1").ok());
    let claimed = |wire: &Wire| -> Vec<String> {
        let all = wire.post("/v1/hosts/h1/claim", &json!({"max": 9})).ok();
        all["jobs"].as_array().into_iter().flatten().map(id).collect()
    };
    assert_eq!(claimed(&wire), [first.clone(), one.clone(), nightly.clone()]);
    [&first, &one, &nightly].into_iter().for_each(|job| done(&wire, job));
    assert_eq!(claimed(&wire), [dependent.clone(), other.clone()]);
    [&dependent, &other].into_iter().for_each(|job| done(&wire, job));
    assert_ne!(id(&wire.enqueue_with(&unique)), nightly);

    let _ = restore(&urls, &[], &file).ok();
    let state = same_everywhere(&cluster);
    let there: Vec<String> = state["jobs"].as_array().expect("jobs").iter().map(id).collect();
    assert_eq!(there, [&first, &dependent, &one, &other, &nightly].map(String::clone));
    let again = wire.post("/v1/jobs", &skyclaw_tests::mesh::shell_job(&unique)).ok();
    assert_eq!(
        (&again["job"]["id"], &again["existing"]),
        (&json!(nightly), &json!(true)),
        "it has its key again"
    );
    // Whoever leads after that knows the same: what ties jobs is in the records.
    cluster.transfer(cluster.follower());
    let wire = cluster.wire(cluster.leader());
    assert_eq!(wire.job(&dependent)["waitsFor"], json!([first]));
    let begun = wait_until("claims find something again", SHORT, || {
        Some(claimed(&wire)).filter(|jobs| !jobs.is_empty())
    });
    assert_eq!(
        begun,
        [first.clone(), one.clone(), nightly.clone()],
        "neither the dependent nor the other one"
    );
    assert_eq!(claimed(&wire), Vec::<String>::new());
    done(&wire, &first);
    assert_eq!(claimed(&wire), std::slice::from_ref(&dependent));
    done(&wire, &one);
    assert_eq!(claimed(&wire), std::slice::from_ref(&other));
    [&dependent, &other, &nightly].into_iter().for_each(|job| done(&wire, job));
    // A node that is stopped has what it has heard of by then.
    let _ = same_everywhere(&cluster);
    same_on_disk(cluster);
}

#[test]
fn a_leader_killed_in_the_middle_of_a_restore_leaves_all_nodes_equal() {
    let (_dir, file) = place();
    let mut cluster = Cluster::start(3);
    let payload = json!({"kind": "shell", "command": "true", "args": ["x".repeat(200_000)]});
    for _ in 0..40 {
        cluster.wire(0).post("/v1/jobs", &json!({"payload": payload})).ok();
    }
    let urls = cluster.urls();
    save(&urls, &file);
    let kept = jobs(&cluster.wire(0));
    for _ in 0..2 {
        let undone = id(&cluster.wire(cluster.follower()).enqueue());
        let leader = cluster.leader();
        let follower = cluster.wire((leader + 1) % 3);
        let before = follower.get("/v1/cluster").ok()["applied"].as_u64();
        let done = thread::scope(|scope| {
            let restoring = scope.spawn(|| restore(&urls, &[], &file));
            wait_until("parts have arrived", LONG, || {
                (follower.get("/v1/cluster").ok()["applied"].as_u64() > before.map(|n| n + 3)).then_some(())
            });
            cluster.kill9(leader);
            restoring.join().expect("skyctl ends")
        });
        cluster.restart(leader);
        cluster.wait_whole();
        let _ = done.ok();
        let _ = same_everywhere(&cluster);
        let now = jobs(&cluster.wire(0));
        assert_eq!(now, kept);
        assert!(!now.contains(&undone));
    }
    same_on_disk(cluster);
}

#[test]
fn a_damaged_snapshot_is_refused_by_name_and_nothing_is_changed() {
    let (_dir, file) = place();
    let node = Options::default().start();
    let (wire, urls) = (node.wire(), vec![node.url()]);
    let first = id(&wire.enqueue());
    save(&urls, &file);
    let second = id(&wire.enqueue());
    let whole = std::fs::read(&file).expect("the file");
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 16;
        bytes
    };
    let damaged = [
        ("magic", flipped(2), "it is no snapshot"),
        ("version", flipped(11), "it was written by a newer version"),
        ("length", flipped(13), "its header cannot be read"),
        ("header", flipped(20), "fetch it again or take another"),
        ("database", flipped(whole.len() / 2), "it is damaged"),
        ("hash", flipped(whole.len() - 3), "it is damaged"),
        ("end", whole[..whole.len() - 7].to_vec(), "it is cut short"),
        ("more", [&whole[..], b"x"].concat(), "something follows its end"),
        ("nothing", Vec::new(), "it is cut short"),
    ];
    for (name, bytes, sentence) in damaged {
        let path = file.with_file_name(format!("{name}.snap"));
        std::fs::write(&path, bytes).expect("a file");
        for args in [vec!["inspect"], vec!["restore", "--yes"]] {
            let refused = snapshot(&urls, &args, &path).ended(1);
            let said = &refused.stderr;
            assert!(said.contains(&format!("{name}.snap")) && said.contains(sentence), "{name}: {said}");
        }
    }
    assert_eq!(jobs(&wire), [first, second]);
    assert_eq!(wire.get("/v1/restores").ok(), json!({"restores": []}));
    // Nobody who cannot be asked is taken to have said yes.
    let refused = snapshot(&urls, &["restore"], &file).ended(2);
    assert!(refused.stderr.contains("--yes"), "{}", refused.stderr);
}

#[test]
fn parts_and_their_places_are_checked_and_need_the_token() {
    let node = Options::default().start();
    let wire = node.wire();
    let part = |path: &str, bytes: usize| wire.call("POST", path).body(vec![7; bytes]).send();
    assert_eq!(part("/v1/restores/r/parts/0", 512 * 1024 + 1).status, 413);
    assert_eq!(part("/v1/restores/r/parts/0", 0).error(), "body must hold the bytes of the part");
    assert_eq!(part("/v1/restores/r/parts/x", 1).error(), "part must be a number below 131072");
    assert_eq!(part("/v1/restores/a%20b/parts/0", 1).status, 400);
    assert_eq!(part("/v1/restores/r/parts/0", 1).status, 200);
    let commit = |body: &Value| wire.post("/v1/restores/r/commit", body).send();
    assert_eq!(commit(&json!({"waitMs": 30_001})).error(), "waitMs must be at most 30000");
    let refused = commit(&json!({}));
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (409, &json!("snapshot_unusable")),
        "{}",
        refused.text
    );
    let gone = commit(&json!({}));
    assert_eq!((gone.status, &gone.json()["code"]), (409, &json!("restore_incomplete")), "{}", gone.text);
    assert_eq!(wire.post("/v1/restores/r/cancel", &json!({})).send().status, 200);
    let stranger = wire.without_token();
    for path in ["/v1/snapshot", "/v1/restores"] {
        assert_eq!(stranger.get(path).send().status, 401, "{path}");
    }
    for path in ["/v1/restores/r/parts/0", "/v1/restores/r/commit", "/v1/restores/r/cancel"] {
        assert_eq!(stranger.post(path, &json!({})).send().status, 401, "{path}");
    }
}

#[test]
fn a_node_without_room_for_a_restore_holds_nobody_up_and_follows_when_it_has() {
    const WEAK: usize = 1;
    const SMALL: u64 = 160 * 1024 * 1024;
    let (_dir, file) = place();
    let disk = SmallDisk::mount(SMALL);
    let mut cluster = Plan::on_loopback(3).on_disk(WEAK, disk.path()).start();
    cluster.transfer(0);
    let payload = json!({"kind": "shell", "command": "true", "args": ["x".repeat(500_000)]});
    for _ in 0..10 {
        cluster.wire(0).post("/v1/jobs", &json!({"payload": payload})).ok();
    }
    let urls = vec![cluster.wire(0), cluster.wire(2)];
    let strong: Vec<String> = [0, 2].iter().map(|node| cluster.urls()[*node].clone()).collect();
    save(&strong, &file);
    let kept = jobs(&urls[0]);
    let undone = id(&urls[0].enqueue());
    disk.fill("filler");
    let _ = restore(&strong, &[], &file).ok();
    for wire in &urls {
        wait_until("it has gone back", LONG, || (jobs(wire) == kept).then_some(()));
    }
    for wire in &urls {
        wait_until("writes are taken", LONG, || {
            (wire.post("/v1/jobs", &json!({"payload": payload})).send().status == 200).then_some(())
        });
    }
    disk.free("filler");
    if cluster.has_ended(WEAK) {
        cluster.restart(WEAK);
    }
    cluster.wait_whole();
    let state = same_everywhere(&cluster);
    let there: Vec<String> = state["jobs"].as_array().expect("jobs").iter().map(id).collect();
    assert!(there.len() >= kept.len() + 2 && !there.contains(&undone));
    same_on_disk(cluster);
}
