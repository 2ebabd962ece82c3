//! What runs try on a host, through real daemons, and what comes of it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use skyclaw_tests::keepers::Keepers;
use skyclaw_tests::mesh::id;
use skyclaw_tests::outside::SmallDisk;
use skyclaw_tests::process::binary;
use skyclaw_tests::{Coordinator, Host, LONG, Options, Value, json, wait_until};

/// Whose runs are, where they are not the daemon's user's: nobody's.
const USER: u32 = 65534;
const RUN_USER: &str = "65534:65534";

/// A coordinator, a host, and a directory that everybody may read.
struct Scene {
    host: Host,
    node: Coordinator,
    dir: tempfile::TempDir,
    program: PathBuf,
}

impl Scene {
    fn new(extra: &[(&str, &str)]) -> Self {
        Self::set(extra, Host::start)
    }

    /// The same with a daemon that is not root, and so has no other user for its runs than its own.
    fn of_a_user(extra: &[(&str, &str)]) -> Self {
        Self::set(extra, |url, name, all| Host::start_as(USER, url, name, all))
    }

    fn set(extra: &[(&str, &str)], start: impl FnOnce(&str, &str, &[(&str, &str)]) -> Host) -> Self {
        let node = Options::default().env("SKYCLAW_LEASE_MS", "60000").start();
        let dir = tempfile::tempdir().expect("a temporary directory");
        open_to_all(dir.path());
        // Where it was built only its builder may be able to go.
        let program = dir.path().join("witness");
        fs::copy(binary("skyclaw-witness"), &program).expect("a copy of the witness");
        let allowed = format!("sh,{}", program.display());
        let usual = [
            ("SKYCLAW_ALLOWED_COMMANDS", allowed.as_str()),
            ("SKYCLAW_MAX_PARALLEL", "8"),
            ("SKYCLAW_CAPABILITIES", "shell"),
        ];
        let host = start(&node.url(), "h1", &[&usual, extra].concat());
        Self { host, node, dir, program }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn submit(&self, command: &str, args: &Value, extra: &Value) -> String {
        let mut body =
            json!({"payload": {"kind": "shell", "command": command, "args": args, "timeoutMs": 60_000}});
        for (name, value) in extra.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        id(&self.node.wire().enqueue_with(&body))
    }

    fn sh(&self, script: &str) -> String {
        self.submit("sh", &json!(["-c", script]), &json!({}))
    }

    #[track_caller]
    fn ended(&self, job: &str) -> Value {
        wait_until("the job has ended", LONG, || {
            Some(self.node.wire().job(job))
                .filter(|job| !matches!(job["status"].as_str(), Some("queued" | "leased")))
        })
    }

    /// A run of the witness that goes on, by the ids of its job and of its run.
    fn bystander(&self) -> (String, String) {
        let file = self.at("bystander");
        fs::write(&file, "").expect("a file");
        fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).expect("its mode");
        let lock = self.at("bystander.lock");
        fs::write(&lock, "").expect("a file");
        fs::set_permissions(&lock, PermissionsExt::from_mode(0o666)).expect("its mode");
        let args = json!(["beat", file, "600000", "plain", "bystander"]);
        let job = self.submit(&self.program.display().to_string(), &args, &json!({}));
        let run = wait_until("the other run has begun", LONG, || {
            let told = super::witness::runs(&file).expect("its lines");
            told.first().map(|run| run.run.clone()).filter(|run| self.host.keepers(run).is_some())
        });
        (job, run)
    }

    /// Calls off a job that goes on, and waits until it has ended.
    fn call_off(&self, job: &str) {
        self.node.wire().post(&format!("/v1/jobs/{job}/cancel"), &json!({})).ok();
        assert_eq!(self.ended(job)["status"], "cancelled");
    }

    fn runs(&self) -> Vec<String> {
        self.host.places().0
    }

    /// Waits until a run has begun, and says who keeps it.
    fn begun(&self) -> Keepers {
        wait_until("a run has begun", LONG, || self.runs().iter().find_map(|run| self.host.keepers(run)))
    }

    /// Has a run try all of it, and gives what came of each.
    fn attempts(&self, what: &[String]) -> BTreeMap<String, String> {
        let args: Vec<&str> = std::iter::once("attempt").chain(what.iter().map(String::as_str)).collect();
        let job = self.ended(&self.submit(&self.program.display().to_string(), &json!(args), &json!({})));
        outcomes(job["result"]["stdout"].as_str().unwrap_or_default(), what)
    }

    /// The same by this process, which has all rights: so each of them can be done.
    fn done_here(&self, what: &[String]) {
        let ran = Command::new(&self.program).arg("attempt").args(what).output().expect("the witness starts");
        let all = outcomes(&String::from_utf8_lossy(&ran.stdout), what);
        let undone: Vec<_> = all.iter().filter(|(_, outcome)| *outcome != "done").collect();
        assert!(undone.is_empty(), "not possible at all here, so nothing is shown by it: {undone:?}");
    }

    fn assert_nothing_left(&self) {
        wait_until("nothing is left of any run", LONG, || self.host.left(&[""; 0]).is_empty().then_some(()));
    }
}

/// By what was tried.
fn outcomes(said: &str, what: &[String]) -> BTreeMap<String, String> {
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), what.len(), "{said}");
    let outcome =
        |line: &str| line.split_once(' ').map(|(_, outcome)| outcome.to_owned()).unwrap_or_default();
    what.iter().cloned().zip(lines.into_iter().map(outcome)).collect()
}

#[track_caller]
fn assert_denied(all: &BTreeMap<String, String>) {
    let denied = |outcome: &str| matches!(outcome, "EACCES" | "EPERM");
    let got_away: Vec<_> = all.iter().filter(|(_, outcome)| !denied(outcome)).collect();
    assert!(got_away.is_empty(), "not denied: {got_away:?}");
}

fn open_to_all(dir: &Path) {
    fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).expect("its mode");
}

/// Whether this kernel can keep a run from sending signals to others: Linux can since 6.12.
fn signals_are_bounded() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the version of the kernel");
    let mut numbers = release.split(['.', '-']).map_while(|number| number.trim().parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(12))
}

/// All that can be tried with a process.
fn with_process(pid: u32) -> Vec<String> {
    ["memory", "environment", "files", "trace", "signal"].map(|what| format!("{what}={pid}")).to_vec()
}

#[test]
fn a_run_with_a_user_of_its_own_gets_neither_at_its_keepers_nor_out_of_its_rights() {
    let mut scene = Scene::new(&[("SKYCLAW_RUN_USER", RUN_USER)]);
    let (job, other) = scene.bystander();
    let keepers = scene.host.keepers(&other).expect("its keepers");
    let disk = SmallDisk::mount(1 << 20);
    let folder = scene.host.runs_dir().join(&other);
    let everybodys = scene.at("everybodys");
    for dir in [&everybodys, &scene.at("mounted")] {
        fs::create_dir(dir).expect("a directory");
    }
    fs::set_permissions(&everybodys, PermissionsExt::from_mode(0o777)).expect("its mode");
    let rooted = scene.at("rooted");
    fs::copy("/usr/bin/id", &rooted).expect("a copy of id");
    fs::set_permissions(&rooted, PermissionsExt::from_mode(0o4755)).expect("its mode");
    let as_user = Command::new(&rooted).arg("-u").uid(USER).gid(USER).output().expect("it starts");
    assert_eq!(as_user.stdout, b"0\n", "others become root by it");

    let mut what: Vec<String> = [scene.host.process().pid(), keepers.shim.pid, keepers.guard.pid]
        .into_iter()
        .flat_map(with_process)
        .collect();
    let state = scene.host.state_dir();
    for (name, path) in [
        ("list", state.clone()),
        ("list", state.join("completions")),
        ("list", scene.host.runs_dir()),
        ("list", folder.join("control")),
        ("read", folder.join("control/label.json")),
        ("write", folder.join("control/stdout.0")),
        ("write", state.join("host-id")),
        ("make", state.join("runs/run-of-nobody")),
        ("write", scene.at("escaped")),
        ("mount", scene.at("mounted")),
        ("device", everybodys.join("device")),
        ("raw-socket", "".into()),
        ("packet-socket", "".into()),
        ("become-root", "".into()),
        ("setuid-program", rooted.clone()),
        ("unmount", disk.path().to_owned()),
    ] {
        what.push(format!("{name}={}", path.display()));
    }
    assert_denied(&scene.attempts(&what));
    // The control: it is the rights that are missing. The last takes the disk away for good.
    scene.done_here(&what);
    nix::mount::umount(&scene.at("mounted")).expect("what was mounted here to show that it can be");
    fs::remove_dir(state.join("runs/run-of-nobody")).expect("what was made to show that it can be");
    scene.call_off(&job);
    scene.assert_nothing_left();
}

#[test]
fn a_run_of_root_that_may_write_to_its_own_directories_alone_sees_and_touches_no_other_process_either() {
    let mut scene = Scene::new(&[("SKYCLAW_WRITABLE_PATHS", "own")]);
    let other = scene.sh("until [ -e stop ]; do sleep 0.05; done");
    let keepers = scene.begun();
    let run = scene.runs().pop().expect("a run");
    let daemon = scene.host.process().pid();
    let mut what: Vec<String> = [daemon, keepers.shim.pid, keepers.guard.pid, keepers.leader.pid]
        .into_iter()
        .flat_map(with_process)
        // Root may still read these two.
        .filter(|what| !what.starts_with("files") && !what.starts_with("environment"))
        .filter(|what| signals_are_bounded() || !what.starts_with("signal"))
        .collect();
    let state = scene.host.state_dir();
    for (name, path) in [
        ("write", scene.at("escaped")),
        ("make", scene.at("escaped-directory")),
        ("write", state.join("lock")),
        ("remove", state.join("lock")),
        ("write", scene.host.runs_dir().join(&run).join("work/stop")),
        ("write", scene.host.runs_dir().join(&run).join("control/exit.json")),
        ("device", scene.at("device")),
        ("mount", scene.dir.path().to_owned()),
    ] {
        what.push(format!("{name}={}", path.display()));
    }
    assert_denied(&scene.attempts(&what));
    scene.call_off(&other);
    scene.assert_nothing_left();
}

#[test]
fn runs_of_one_user_see_nothing_of_each_other_in_proc_where_they_may_write_to_their_own_directories_alone() {
    let attempts = |extra: &[(&str, &str)]| {
        let scene = Scene::new(extra);
        let other = scene.sh("while :; do sleep 0.05; done");
        let keepers = scene.begun();
        let what = with_process(keepers.leader.pid);
        let all = scene.attempts(&what);
        scene.node.wire().post(&format!("/v1/jobs/{other}/cancel"), &json!({})).ok();
        scene.ended(&other);
        scene.assert_nothing_left();
        all
    };
    let user = ("SKYCLAW_RUN_USER", RUN_USER);
    let mut apart = attempts(&[user, ("SKYCLAW_WRITABLE_PATHS", "own")]);
    // Its list of open files is its user's to read; what they are is not.
    apart.retain(|what, _| !what.starts_with("files"));
    apart.retain(|what, _| signals_are_bounded() || !what.starts_with("signal"));
    assert_denied(&apart);
    // The control: without that bound, all of it can be done.
    let together = attempts(&[user]);
    assert!(together.values().all(|outcome| outcome == "done"), "{together:?}");
}

#[test]
fn a_run_with_the_user_of_its_daemon_finds_neither_its_token_nor_its_memory_nor_those_of_its_keepers() {
    for extra in [&[][..], &[("SKYCLAW_WRITABLE_PATHS", "own")]] {
        let mut scene = Scene::of_a_user(extra);
        let job = scene.sh("while :; do sleep 0.05; done");
        let keepers = scene.begun();
        let all = [scene.host.process().pid(), keepers.shim.pid, keepers.guard.pid];
        let what: Vec<_> = all.into_iter().flat_map(with_process).collect();
        let got = scene.attempts(&what);
        // Whoever has the same user may send signals, where nothing else keeps it from that.
        let (signals, rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
            got.into_iter().partition(|(what, _)| what.starts_with("signal"));
        assert_denied(&rest);
        if extra.is_empty() {
            assert!(signals.values().all(|outcome| outcome == "done"), "{signals:?}");
        } else if signals_are_bounded() {
            assert_denied(&signals);
        }
        // The control: it is not the user that is wrong. A run of the same one can be read where nothing bounds it.
        if extra.is_empty() {
            let of_run: Vec<_> = with_process(keepers.leader.pid);
            let got = scene.attempts(&of_run);
            assert!(got.values().all(|outcome| outcome == "done"), "{got:?}");
        }
        // Nor is the token handed on in any other way.
        let daemon = scene.host.process().pid();
        let script =
            format!("cat /proc/self/environ /proc/$PPID/cmdline /proc/{daemon}/cmdline; ls -l /proc/self/fd");
        let told = scene.ended(&scene.sh(&script));
        let said = told["result"]["stdout"].as_str().expect("output");
        assert!(!said.is_empty() && !said.contains(skyclaw_tests::TOKEN), "{said}");
        scene.call_off(&job);
        scene.assert_nothing_left();
    }
}

#[test]
fn what_a_run_mounted_is_taken_away_with_it_and_what_it_showed_stays() {
    let scene = Scene::new(&[]);
    let precious = scene.at("precious");
    fs::create_dir_all(precious.join("below")).expect("a directory");
    fs::write(precious.join("file"), "kept").expect("a file");
    fs::write(precious.join("below/file"), "kept").expect("a file");
    let script = format!(
        "mkdir a b && {0} attempt mount=$PWD/a bind={1}:$PWD/b bind={1}:$HOME && ls $HOME",
        scene.program.display(),
        precious.display()
    );
    let job = scene.ended(&scene.sh(&script));
    assert_eq!(job["result"]["stdout"], "mount done\nbind done\nbind done\nbelow\nfile\n", "{job}");
    scene.assert_nothing_left();
    for file in ["file", "below/file"] {
        assert_eq!(fs::read_to_string(precious.join(file)).expect("it is there"), "kept");
    }
    let runs = scene.host.runs_dir().display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("the list of mounts");
    assert!(!mounts.contains(&runs), "{mounts}");
}

#[test]
fn a_run_makes_no_file_beyond_what_its_host_allows() {
    let scene = Scene::new(&[("SKYCLAW_MAX_FILE_BYTES", "1048576")]);
    let job = scene.ended(
        &scene.sh("head -c 1048576 /dev/zero > fits && echo fits; exec head -c 1048577 /dev/zero > more"),
    );
    assert_eq!(job["result"]["stdout"], "fits\n", "{job}");
    assert_eq!(job["error"], "killed by signal 25 (SIGXFSZ)", "{job}");
    scene.assert_nothing_left();
}

#[test]
fn a_run_that_fills_the_disk_of_its_host_is_told_of_and_gives_all_of_it_back() {
    const DISK: u64 = 16 << 20;
    let disk = SmallDisk::mount(DISK);
    open_to_all(disk.path());
    let state = disk.path().join("state").display().to_string();
    let scene = Scene::new(&[("SKYCLAW_STATE_DIR", &state)]);
    let go = scene.at("go");
    let fill = format!(
        "echo before; cat /dev/zero > fill 2> /dev/null; cat /dev/zero > $HOME/fill 2> /dev/null; \
         touch {}; until [ -e {} ]; do sleep 0.05; done; exit 5",
        scene.at("full").display(),
        go.display()
    );
    let job = scene.sh(&fill);
    wait_until("the disk is full", LONG, || scene.at("full").exists().then_some(()));
    // Nothing can be kept for another run: it does not begin, and that is told.
    let other = scene.ended(&scene.sh("echo other"));
    assert_eq!((&other["status"], &other["result"]["exitCode"]), (&json!("failed"), &json!(126)), "{other}");
    fs::write(&go, "").expect("a file");
    let done = scene.ended(&job);
    assert_eq!(
        (&done["result"]["exitCode"], &done["result"]["stdout"]),
        (&json!(5), &json!("before\n")),
        "{done}"
    );
    scene.assert_nothing_left();
    // As much as there was before fits again.
    let next = scene.ended(&scene.sh(&format!("head -c {} /dev/zero > fits && echo fits", DISK / 2)));
    assert_eq!(next["result"]["stdout"], "fits\n", "{next}");
}
