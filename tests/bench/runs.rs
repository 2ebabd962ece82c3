//! How long it takes from the submission of a job to the first thing it does, as a process and in Podman, beside
//! a plain fork and exec and beside `podman run --rm`: medians, all in turn in every round, through a real
//! coordinator and a real host.
//!
//! As root, with nothing else running, after `cargo build --workspace --release`:
//! `cargo run --release -p skyclaw-tests --example runs [ROUNDS]`

#![expect(clippy::expect_used, reason = "what fails in a measurement must be seen")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use skyclaw_tests::mesh::id;
use skyclaw_tests::podman::{IMAGE, Service, Who};
use skyclaw_tests::{Coordinator, Host, LONG, Options, Value, Wire, json, wait_until};

/// How closely is looked.
const LOOK: Duration = Duration::from_micros(100);

/// What follows the end of anything is over after this. Containers are made ahead when nothing is asked for.
const REST: Duration = Duration::from_millis(800);

fn main() {
    let rounds = std::env::args().nth(1).and_then(|given| given.parse().ok()).unwrap_or(15);
    for who in [Who::Root, Who::Rootless] {
        measure(who, rounds);
    }
}

fn measure(who: Who, rounds: usize) {
    let service = Service::start(who);
    let shared = service.dir().join("shared");
    fs::create_dir(&shared).expect("a folder");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).expect("its mode");
    let node = Options::default().start();
    let mut host = host(&node, &service, &shared);
    // One client throughout, as what submits jobs has: making one takes longer than a request.
    let wire = node.wire();
    let mount = format!("{}:/shared", shared.display());
    let mut taken: [Vec<Duration>; 4] = Default::default();
    // The first two find cold caches, and no container that was made ahead.
    for round in 0..rounds + 2 {
        let file = shared.join(format!("at-{round}"));
        let (outside, inside) = (file.display().to_string(), format!("/shared/at-{round}"));
        let all = [
            plain(&file, touch(&outside)),
            plain(&file, {
                // Without a network, as a job is when it asks for none.
                let args = ["run", "--rm", "--network", "none", "-v", &mount, IMAGE, "touch", &inside];
                let mut run = service.command();
                run.args(args);
                run
            }),
            job(&wire, &file, &json!({"payload": payload(&outside)})),
            job(&wire, &file, &in_podman(&shared, &inside)),
        ];
        if round > 1 {
            taken.iter_mut().zip(all).for_each(|(times, one)| times.push(one));
        }
    }
    report(who, rounds, &taken);
    host.terminate();
}

fn host(node: &Coordinator, service: &Service, shared: &Path) -> Host {
    let (socket, runs) = (service.socket(), service.dir().join("runs"));
    let host = Host::start(
        &node.url(),
        "h1",
        &[
            ("SKYCLAW_ALLOWED_COMMANDS", "touch"),
            ("SKYCLAW_PODMAN_IMAGES", IMAGE),
            ("SKYCLAW_PODMAN_SOCKET", socket.to_str().expect("a path")),
            ("SKYCLAW_PODMAN_RUN_DIR", runs.to_str().expect("a path")),
            ("SKYCLAW_PODMAN_MOUNTS", &format!("{}:rw", shared.display())),
            ("SKYCLAW_PODMAN_PREPARED", "2"),
            ("SKYCLAW_LOG", "warn"),
        ],
    );
    wait_until("the host has registered", LONG, || {
        (node.wire().get("/v1/hosts/h1").send().status == 200).then_some(())
    });
    host
}

fn payload(file: &str) -> Value {
    json!({"kind": "shell", "command": "touch", "args": [file]})
}

fn in_podman(shared: &Path, file: &str) -> Value {
    let mounts = json!([{"source": shared, "target": "/shared", "readOnly": false}]);
    json!({"payload": payload(file), "isolation": "podman", "image": IMAGE, "mounts": mounts})
}

/// A job's time from its submission; it has ended before the next begins, and its successor's container is
/// there.
fn job(wire: &Wire, file: &Path, body: &Value) -> Duration {
    let mut submitted = String::new();
    let taken = until(file, || submitted = id(&wire.enqueue_with(body)));
    wait_until("the job has ended", LONG, || (wire.job(&submitted)["status"] == "completed").then_some(()));
    std::thread::sleep(REST);
    taken
}

/// How long it takes until the file is there; it is removed again.
fn until(file: &Path, begin: impl FnOnce()) -> Duration {
    let start = Instant::now();
    begin();
    while !file.exists() {
        assert!(start.elapsed() < LONG, "{} is not made", file.display());
        std::thread::sleep(LOOK);
    }
    let taken = start.elapsed();
    fs::remove_file(file).expect("it is there");
    taken
}

fn touch(file: &str) -> Command {
    let mut touch = Command::new("touch");
    touch.arg(file);
    touch
}

/// A command's time until the file is there. What it does after that is over before anything else begins.
fn plain(file: &Path, mut command: Command) -> Duration {
    let mut child = None;
    let taken = until(file, || child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().ok());
    child.expect("it starts").wait().expect("its end");
    std::thread::sleep(REST);
    taken
}

fn report(who: Who, rounds: usize, taken: &[Vec<Duration>; 4]) {
    let median = |times: &[Duration]| {
        let mut all = times.to_vec();
        all.sort();
        all[all.len() / 2].as_secs_f64() * 1000.0
    };
    let [fork, run, process, podman] = [0, 1, 2, 3].map(|at| median(&taken[at]));
    println!("{who:?}, medians of {rounds} in ms, until the first thing is done");
    println!("  fork and exec            {fork:>8.1}");
    println!("  podman run --rm          {run:>8.1}");
    println!("  a job, as a process      {process:>8.1}  ({:+.1} ms over fork and exec)", process - fork);
    println!("  a job, in Podman         {podman:>8.1}  ({:.2} x podman run --rm)", podman / run);
}
