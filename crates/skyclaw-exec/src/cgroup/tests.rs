//! Version 2 in a folder that stands for it, as this machine may have none.

use super::*;

fn base(root: &Path) -> Base {
    Base {
        root: root.to_owned(),
        dir: root.join("own.service/skyclaw/host"),
        version: Version::V2,
        controllers: Controller::ALL.to_vec(),
        kills: false,
    }
}

fn memory(bytes: u64) -> Resources {
    Resources { memory_bytes: Some(bytes), ..Resources::default() }
}

#[test]
fn names_that_differ_are_encoded_differently_and_name_no_other_directory() {
    for (id, want) in [
        ("agent-7_A", "agent-7_A"),
        ("..", "%2e%2e"),
        ("a/b", "a%2fb"),
        ("a%2fb", "a%252fb"),
        ("é", "%c3%a9"),
    ] {
        assert_eq!(encoded(id), want);
    }
    let (long, other) = (":".repeat(128), format!("{}.", ":".repeat(127)));
    assert_eq!(encoded(&long).len(), MAX_NAME);
    assert_ne!(encoded(&long), encoded(&other));
}

#[test]
fn version_2_is_told_and_asked_in_its_own_files() {
    let root = tempfile::tempdir().expect("a folder");
    fs::create_dir(root.path().join("own.service")).expect("mkdir");
    let cgroups = Cgroups { bases: vec![base(root.path())], ..Cgroups::default() };
    assert_eq!(cgroups.takes_containers(), Ok(()));
    let agent = root.path().join("own.service/skyclaw/host/agent-a");
    let bound = Resources { cpu_millis: Some(250), ..memory(1 << 20) };
    // The kernel makes these files with the group.
    fs::create_dir_all(&agent).expect("mkdir");
    for file in ["memory.max", "cpu.max", "pids.max"] {
        fs::write(agent.join(file), "max").expect("write");
    }
    let mut wanted = Wanted {
        run: "skyclaw-1",
        member: Member::Container,
        resources: Resources { pids: Some(9), ..memory(1 << 20) },
        agent: Some(("a", bound)),
    };
    let made = cgroups.make(&wanted).expect("they are made");
    let run = agent.join("skyclaw-1");
    assert_eq!(cgroups.parent(&made), Some("/own.service/skyclaw/host/agent-a/skyclaw-1".to_owned()));
    let read = |dir: &Path, file: &str| fs::read_to_string(dir.join(file)).expect("a file");
    assert_eq!(read(&run, "cgroup.subtree_control"), "+memory +cpu +pids");
    assert_eq!(
        (read(&agent, "memory.max"), read(&agent, "cpu.max")),
        ("1048576".into(), "25000 100000".into())
    );
    assert_eq!((read(&agent, "pids.max"), read(&run, "pids.max")), ("max".into(), "9".into()));
    // Less does not cut short what runs already, and more is given.
    for (asked, holds) in [(1 << 19, "1048576"), (1 << 21, "2097152")] {
        wanted.agent = Some(("a", memory(asked)));
        cgroups.make(&wanted).expect("they are made");
        assert_eq!(read(&agent, "memory.max"), holds);
    }
    for (file, text) in [
        ("cpu.stat", "usage_usec 1500\nuser_usec 1000\n"),
        ("memory.peak", "4096\n"),
        ("memory.events", "low 0\noom 2\noom_kill 1\n"),
    ] {
        fs::write(run.join(file), text).expect("a file");
    }
    let want = Spent {
        cpu: Some(std::time::Duration::from_micros(1500)),
        peak_memory_bytes: Some(4096),
        oom_kills: 1,
    };
    assert_eq!(Spent::of(&made), want);
    assert_eq!(cgroups.left().into_keys().collect::<Vec<_>>(), ["skyclaw-1"]);
}

#[test]
fn what_another_could_have_written_into_a_record_is_not_removed() {
    let root = tempfile::tempdir().expect("a folder");
    let cgroups = Cgroups { bases: vec![base(root.path())], ..Cgroups::default() };
    let at = |path: &str| vec![Group::found(root.path().join(path), Version::V2)];
    assert!(cgroups.place(&at("own.service/skyclaw/host/skyclaw-1")).is_some());
    for path in ["own.service/skyclaw/host", "own.service/skyclaw/host/../../x", "system.slice/ssh.service"] {
        assert_eq!(cgroups.place(&at(path)), None, "{path}");
    }
}

#[test]
fn groups_that_were_written_down_stay_readable() {
    let text = r#"{"dir":"/sys/fs/cgroup/memory/skyclaw-1-2/run-3","version":"v1","bounds":["memory","cpu"],"more":1}"#;
    let group: Group = serde_json::from_str(text).expect("a group");
    assert_eq!(group.door(), Path::new("/sys/fs/cgroup/memory/skyclaw-1-2/run-3/tasks"));
}
