//! How long a run in Podman takes from the call to its first line, and to its end, beside a plain process
//! and `podman run --rm`: medians of one run, all four in turn in every round.
//!
//! As root, with nothing else running: `cargo run -p skyclaw-exec --example podman [ROUNDS]`

#![expect(clippy::expect_used, reason = "what fails in a measurement must be seen")]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use skyclaw_exec::podman::{Config, IdRange, Podman, Policy, PoolConfig, Spec};
use skyclaw_tests::podman::{IMAGE, Service, Who};
use tokio_util::task::TaskTracker;

/// From the call to the first line, and to the exit code.
type Taken = (Duration, Duration);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let rounds = std::env::args().nth(1).and_then(|given| given.parse().ok()).unwrap_or(15);
    for who in [Who::Root, Who::Rootless] {
        let service = Service::start(who);
        let tracker = TaskTracker::new();
        let plain = Podman::connect(config(&service, "plain", 0), &tracker).await.expect("it answers");
        let ahead = Podman::connect(config(&service, "ahead", 2), &tracker).await.expect("it answers");
        let mut taken: [Vec<Taken>; 4] = Default::default();
        for round in 0..=rounds {
            let fork = by_command(Command::new("/bin/busybox").args(["echo", "x"]));
            let run = by_command(service.command().args(["run", "--rm", IMAGE, "echo", "x"]));
            let unprepared = by_driver(&plain).await;
            if round > 0 {
                while ahead.ready().await == 0 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            let prepared = by_driver(&ahead).await;
            // The first finds cold caches, and nothing that was made ahead.
            if round > 0 {
                for (all, one) in taken.iter_mut().zip([fork, run, unprepared, prepared]) {
                    all.push(one);
                }
            }
        }
        report(who, rounds, &taken);
        ahead.drain().await;
    }
}

fn report(who: Who, rounds: usize, taken: &[Vec<Taken>; 4]) {
    let median = |times: &[Taken], which: fn(&Taken) -> Duration| {
        let mut all: Vec<_> = times.iter().map(which).collect();
        all.sort();
        all[all.len() / 2].as_secs_f64() * 1000.0
    };
    println!("{who:?}, medians of {rounds} in ms             first line        exit");
    let base = (median(&taken[1], |t| t.0), median(&taken[1], |t| t.1));
    for (name, times) in
        ["fork/exec", "podman run --rm", "ours, unprepared", "ours, prepared"].iter().zip(taken)
    {
        let (first, end) = (median(times, |t| t.0), median(times, |t| t.1));
        println!(
            "  {name:<36} {first:>8.1} ({:>4.2} x) {end:>8.1} ({:>4.2} x)",
            first / base.0,
            end / base.1
        );
    }
}

fn by_command(command: &mut Command) -> Taken {
    let start = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("output")).read_line(&mut line).expect("a line");
    let first = start.elapsed();
    assert!(child.wait().expect("an end").success() && line == "x\n");
    (first, start.elapsed())
}

async fn by_driver(podman: &Podman) -> Taken {
    let spec = Spec {
        image: IMAGE.to_owned(),
        command: Some("echo".to_owned()),
        args: vec!["x".to_owned()],
        ..Spec::default()
    };
    let start = Instant::now();
    let mut run = podman.start(spec).await.expect("it starts");
    let mut output = run.take_output().expect("output");
    let (_, line) = output.next().await.expect("a line");
    let first = start.elapsed();
    assert_eq!(&line[..], b"x\n");
    let exit = run.wait().await;
    let end = start.elapsed();
    run.finish(exit).await.1.expect("it is cleared away");
    (first, end)
}

fn config(service: &Service, name: &str, ahead: usize) -> Config {
    Config {
        socket: service.socket(),
        owner: format!("{name}.{}", service.dir().display()),
        runs_dir: service.dir().join(format!("runs-{name}")),
        state_dir: service.dir().join("state"),
        policy: Policy { images: [IMAGE.to_owned()].into(), ..Policy::default() },
        ids: IdRange::default(),
        log_bytes: 1 << 20,
        pool: PoolConfig {
            max: ahead,
            per_shape: 1,
            often: 1,
            min_available_bytes: 0,
            ..PoolConfig::default()
        },
    }
}
