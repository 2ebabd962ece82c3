//! The coordinator's units under systemd.

use skyclaw_tests::machine::Machine;
use skyclaw_tests::{LONG, TOKEN, Value, wait_until};

use super::{COORDINATOR, SOCKET, hang, installed, main_pid, skyctl, start, started_anew, with};

/// How many jobs there are.
#[track_caller]
fn jobs(machine: &Machine) -> usize {
    let listed = skyctl(machine, "job list --all --format json").ok();
    let listed: Value = serde_json::from_str(&listed).unwrap_or_else(|error| panic!("{error}: {listed}"));
    let jobs = listed.as_array().or_else(|| listed["jobs"].as_array());
    jobs.unwrap_or_else(|| panic!("no jobs in {listed}")).len()
}

/// Enqueues without a pause until `/run/enough` is there, each over a connection of its own that is tried once, and prints
/// what was answered otherwise than with a job, and then how many were asked for.
fn enqueue_without_a_pause() -> String {
    format!(
        r#"
        body='{{"payload":{{"kind":"shell","command":"true"}}}}'
        asked=0
        until [ -e /run/enough ]; do
            asked=$((asked + 1))
            answer='no connection'
            if exec 3<>/dev/tcp/127.0.0.1/8787; then
                printf 'POST /v1/jobs HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-skyclaw-token: {TOKEN}\r\ncontent-type: application/json\r\ncontent-length: %s\r\n\r\n%s' ${{#body}} "$body" >&3
                answer='no answer'
                IFS= read -r answer <&3
                exec 3>&-
            fi
            sleep 0.005
            case $answer in 'HTTP/1.1 20'*) ;; *) echo "$asked: $answer" ;; esac
        done
        echo "asked for $asked"
        "#
    )
}

#[test]
fn the_socket_starts_it_and_no_restart_refuses_anybody() {
    let machine = installed();
    start(&machine, SOCKET);
    assert_eq!(machine.property(COORDINATOR, "ActiveState"), "inactive");
    assert_eq!(jobs(&machine), 0, "the first who connects is answered");
    assert_eq!(machine.property(COORDINATOR, "ActiveState"), "active");

    let clients = machine.begin(&enqueue_without_a_pause());
    for _ in 0..3 {
        let before = jobs(&machine);
        wait_until("jobs come in", LONG, || (jobs(&machine) > before).then_some(()));
        let _ = machine.run(&["systemctl", "restart", COORDINATOR]).ok();
    }
    let _ = machine.run(&["touch", "/run/enough"]).ok();
    let output = clients.wait_with_output().expect("the end of a loop");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let asked: usize = said
        .trim()
        .strip_prefix("asked for ")
        .and_then(|n| n.parse().ok())
        .unwrap_or_else(|| panic!("{said}"));
    assert_eq!(jobs(&machine), asked);

    // What was gathered is there whichever way it ends.
    let before = main_pid(&machine, COORDINATOR);
    let _ = machine.run(&["kill", "-KILL", &before]).ok();
    started_anew(&machine, COORDINATOR, &before);
    assert_eq!(jobs(&machine), asked);
    hang(&machine, COORDINATOR);
    assert_eq!(jobs(&machine), asked);
}

#[test]
fn it_is_up_when_it_serves_confined_and_ends_cleanly() {
    let machine = installed();
    let all = "/etc/systemd/system/skyclaw*.service /etc/systemd/system/skyclaw*.socket";
    let verified = machine.script(&format!("systemd-analyze verify --recursive-errors=no {all}"));
    // It looks at all that they come after, of which this machine leaves some out.
    let faults: Vec<_> = verified.stderr.lines().filter(|line| !line.ends_with(" is masked.")).collect();
    assert_eq!((verified.code, faults), (0, vec![]));
    start(&machine, COORDINATOR);
    assert_eq!(jobs(&machine), 0, "it serves as soon as it is started");
    wait_until("it says that it takes writes", LONG, || {
        (machine.property(COORDINATOR, "StatusText") == "serves and takes writes").then_some(())
    });
    let pid = main_pid(&machine, COORDINATOR);
    let status = machine.run(&["cat", &format!("/proc/{pid}/status")]).ok();
    for line in ["CapBnd:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line} is not in {status}");
    }
    let owners = machine
        .script("stat -c '%U %a' /var/lib/skyclaw/coordinator /var/lib/skyclaw/coordinator/coordinator.db")
        .ok();
    assert_eq!(owners, "skyclaw 700\nskyclaw 600\n");
    let environment = machine.script(&format!("cat /proc/{pid}/environ /proc/{pid}/cmdline")).ok();
    assert!(environment.contains("CREDENTIALS_DIRECTORY") && !environment.contains(TOKEN), "{environment}");
    assert!(!machine.journal(COORDINATOR).contains(TOKEN));

    let _ = machine.run(&["systemctl", "stop", COORDINATOR]).ok();
    assert_eq!(machine.property(COORDINATOR, "Result"), "success");
    assert_eq!(machine.property(COORDINATOR, "ExecMainStatus"), "0");
    // A node of a cluster that nobody else has come to yet.
    machine.write(
        "/etc/skyclaw/skyclawd.env",
        "SKYCLAW_DB_PATH=/var/lib/skyclaw/coordinator/other.db\n\
        SKYCLAW_COORDINATOR_PUBLIC_URL=http://127.0.0.1:8787\nSKYCLAW_PEER_URLS=http://127.0.0.1:8788\n",
    );
    start(&machine, COORDINATOR);
    wait_until("it says what it waits for", LONG, || {
        let status = machine.property(COORDINATOR, "StatusText");
        status.strip_prefix("serves and takes no writes: ").filter(|why| !why.is_empty()).map(drop)
    });
    assert_eq!(machine.property(COORDINATOR, "ActiveState"), "active");
}

#[test]
fn without_a_token_it_listens_on_loopback_alone_whoever_opens_the_socket() {
    let machine = installed();
    with(&machine, COORDINATOR, "LoadCredential=\nRestart=no");
    let refused = machine.run(&["systemctl", "start", COORDINATOR]);
    assert_ne!(refused.code, 0);
    let said = machine.journal(COORDINATOR);
    assert!(said.contains("without a token") && said.contains("0.0.0.0:8787"), "{said}");

    // The socket stays with systemd, which gives up after some tries; who has connected is told by its end.
    let _ = machine.run(&["systemctl", "start", SOCKET]).ok();
    let asked = machine.script("exec 3<>/dev/tcp/127.0.0.1/8787; printf 'GET /livez HTTP/1.1\\r\\n\\r\\n' >&3; read -t 30 -r line <&3; echo \"$line\"");
    assert!(!asked.stdout.contains("HTTP"), "{asked:?}");
    wait_until("it says why", LONG, || machine.journal(COORDINATOR).contains("ListenStream=").then_some(()));
    let _ = machine.script(&format!("systemctl stop {SOCKET} {COORDINATOR}; systemctl reset-failed")).ok();

    machine.write(
        &format!("/etc/systemd/system/{SOCKET}.d/test.conf"),
        "[Socket]\nListenStream=\nListenStream=127.0.0.1:8787\n",
    );
    let _ = machine.run(&["systemctl", "daemon-reload"]).ok();
    start(&machine, SOCKET);
    let listed = machine.run(&["skyctl", "job", "list"]);
    assert_eq!(listed.code, 0, "{}{}", listed.stderr, machine.journal(COORDINATOR));
}
