//! No secret is shown: not to jobs, not in process lists, logs, answers or printed settings.

use std::fs;

use skyclaw_tests::ctl::{skyctl, skyctl_with};
use skyclaw_tests::mesh::{id, shell_job};
use skyclaw_tests::{Coordinator, Host, LONG, Options, TOKEN, json, process, wait_until};

const API_KEY: &str = "tests-api-key-Hd83kLpQz0";
const RULES: &str = "tests-api-key-Hd83kLpQz0:acme:openclaw";

#[track_caller]
fn assert_hidden(what: &str, text: &str) {
    for secret in [TOKEN, API_KEY] {
        assert!(!text.contains(secret), "{what} shows a secret:\n{text}");
    }
}

fn node() -> Coordinator {
    Options::default()
        .env("SKYCLAW_PUBLIC_API_KEYS", RULES)
        .env("SKYCLAW_LOG", "trace")
        .env("SKYCLAW_LEASE_MS", "60000")
        .start()
}

#[test]
fn a_job_finds_no_secret_in_its_environment_or_that_of_its_host() {
    let node = node();
    let host = Host::start(&node.url(), "h1", &[("SKYCLAW_MAX_PARALLEL", "2")]);
    let look = "env; cat /proc/self/environ /proc/$PPID/environ; ls -l /proc/self/fd/ /proc/$PPID/fd/; true";
    let body = json!({"payload": {"kind": "shell", "command": "sh", "args": ["-c", look]}});
    let job = id(&node.wire().enqueue_with(&body));
    let ended = wait_until("the job has ended", LONG, || {
        Some(node.wire().job(&job)).filter(|job| job["status"] == "completed")
    });
    assert_hidden("a job", &ended.to_string());
    let stdout = ended["result"]["stdout"].as_str().expect("output");
    for line in [format!("SKYCLAW_JOB_ID={job}"), "SKYCLAW_ATTEMPT=1".to_owned()] {
        assert!(stdout.contains(&line), "{line} is not in {stdout}");
    }
    assert!(stdout.lines().any(|line| line.starts_with("SKYCLAW_FENCE=")), "{stdout}");
    assert!(!stdout.contains("SKYCLAW_TOKEN="), "{stdout}");
    assert!(!stdout.contains("memfd"), "the host still holds the file it read its token from: {stdout}");
    drop(host);
}

#[test]
fn a_job_cannot_take_the_names_of_the_daemon_for_its_own() {
    let node = node();
    let _host = Host::start(&node.url(), "h1", &[]);
    let env = json!({"SKYCLAW_JOB_ID": "job_forged", "OWN": "kept"});
    let body = json!({"payload": {"kind": "shell", "command": "env", "env": env}});
    let job = id(&node.wire().enqueue_with(&body));
    let ended = wait_until("the job has ended", LONG, || {
        Some(node.wire().job(&job)).filter(|job| job["status"] == "completed")
    });
    let stdout = ended["result"]["stdout"].as_str().expect("output");
    assert!(stdout.contains(&format!("SKYCLAW_JOB_ID={job}\n")) && stdout.contains("OWN=kept\n"), "{stdout}");
    assert!(!stdout.contains("forged"), "{stdout}");
}

#[test]
fn no_process_shows_a_secret_in_its_command_line_and_no_job_in_its_environment() {
    let node = node();
    let mut host = Host::start(&node.url(), "h1", &[]);
    let started = node.data().join("started");
    let text = format!("touch {}; sleep 1000", started.display());
    let body = json!({"payload": {"kind": "shell", "command": "sh", "args": ["-c", text]}});
    node.wire().enqueue_with(&body);
    wait_until("the job runs", LONG, || started.exists().then_some(()));
    assert_hidden("a command line", &process::command_lines().join("\n"));
    let host_pid = host.process().pid();
    assert_hidden("the host's environment", &process::environment(host_pid));
    let below = process::descendants(host_pid);
    assert!(below.len() >= 2, "the shell and its sleep, not {below:?}");
    for pid in below {
        assert_hidden("a job's environment", &process::environment(pid));
    }
}

#[test]
fn logs_and_answers_show_no_secret_at_any_level() {
    let mut node = node();
    let mut host = Host::start(&node.url(), "h1", &[("SKYCLAW_LOG", "trace")]);
    let wire = node.wire();
    let mut said = String::new();
    let job = json!({"payload": {"kind": "openclaw-run"}});
    for (header, value) in [("x-api-key", API_KEY), ("authorization", &format!("Bearer {API_KEY}"))] {
        said += &wire.post("/v1/public/jobs", &job).header(header, value).send().text;
        said += &wire.post("/v1/public/jobs", &json!({})).header(header, value).send().text;
    }
    said += &wire.with_token(&format!("{TOKEN}x")).get("/v1/state").send().text;
    said += &wire.post("/v1/jobs", &json!({"payload": 5})).key("k").send().text;
    said += &wire.get("/v1/state").send().text;
    said += &wire.get("/v1/network/peers").send().text;
    let done = id(&wire.enqueue());
    wait_until("the job has ended", LONG, || (wire.job(&done)["status"] == "completed").then_some(()));
    assert_hidden("an answer", &said);
    node.terminate();
    // The host now meets a coordinator that is down, and says so.
    wait_until("the host notices", LONG, || host.process().stderr().contains("WARN").then_some(()));
    host.terminate();
    assert_hidden("the coordinator's log", &node.log());
    assert_hidden("the host's log", &host.process().stderr());
}

#[test]
fn printed_settings_are_redacted() {
    let dir = files(&[]);
    let env = [("SKYCLAW_TOKEN", TOKEN), ("SKYCLAW_PUBLIC_API_KEYS", RULES)];
    for binary in ["skyclawd", "skyclaw-hostd", "skyctl"] {
        let mut command = process::command(binary, dir.path(), env);
        let output = command.arg("--print-config").output().expect("it starts");
        let stdout = String::from_utf8(output.stdout).expect("text");
        assert!(output.status.success(), "{binary}: {}", String::from_utf8_lossy(&output.stderr));
        assert_hidden(binary, &stdout);
        assert!(stdout.contains("<redacted>"), "{binary} does not show that there is a token:\n{stdout}");
        assert!(stdout.contains("SKYCLAW_TOKEN"), "{binary} does not say where it is from:\n{stdout}");
    }
}

#[test]
fn a_setting_that_is_refused_is_not_repeated_when_it_is_secret() {
    let dir = files(&[]);
    let broken = format!("{API_KEY}::::");
    let refused = Options::default().env("SKYCLAW_PUBLIC_API_KEYS", broken).refused_in(dir.path());
    assert!(refused.said.contains("SKYCLAW_PUBLIC_API_KEYS"), "{}", refused.said);
    assert_hidden("the refusal", &refused.said);
}

#[test]
fn a_token_can_be_read_from_a_file_by_every_binary() {
    let dir = files(&[("token", &format!("{TOKEN}\n"))]);
    let path = dir.path().join("token").display().to_string();
    let node = Options::default().without("SKYCLAW_TOKEN").env("SKYCLAW_TOKEN_FILE", &path).start();
    node.wire().get("/v1/state").ok();
    node.wire().without_token().get("/v1/state").refused(401, "unauthorized");
    let env = [("SKYCLAW_TOKEN", ""), ("SKYCLAW_TOKEN_FILE", path.as_str())];
    let _host = Host::start(&node.url(), "h1", &env);
    let job = id(&node.wire().post("/v1/jobs", &shell_job(&json!({}))).ok()["job"]);
    wait_until("the job has ended", LONG, || (node.wire().job(&job)["status"] == "completed").then_some(()));
    let url = node.url();
    let env = [("SKYCLAW_COORDINATOR_URL", url.as_str()), ("SKYCLAW_TOKEN_FILE", &path)];
    skyctl_with(&env, &["job", "get", &job]).ended(0);
    let flags = ["--coordinator", &url, "--token-file", &path, "job", "get", &job];
    skyctl_with(&[], &flags).ended(0);
}

#[test]
fn the_cli_never_repeats_the_token() {
    let node = node();
    let mut said = String::new();
    for args in [&["job", "list"][..], &["job", "get", "none"], &["nonsense"], &["--help"]] {
        let ran = skyctl(&node.url(), args);
        said += &(ran.stdout + &ran.stderr);
    }
    let ran = skyctl("http://127.0.0.1:1", &["job", "list"]);
    said += &(ran.stdout + &ran.stderr);
    let url = node.url();
    let wrong = format!("{TOKEN}x");
    let env =
        [("SKYCLAW_COORDINATOR_URL", url.as_str()), ("SKYCLAW_TOKEN", &wrong), ("SKYCLAW_LOG", "trace")];
    let ran = skyctl_with(&env, &["job", "list"]);
    said += &(ran.stdout + &ran.stderr);
    assert_hidden("skyctl", &said);
}

fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
    }
    dir
}
