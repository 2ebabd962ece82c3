//! What a run may try, and what comes of it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use skyclaw_exec::podman::{Exit, Network, Spec};
use skyclaw_tests::podman::Service;

use super::kit::{Kit, end, read, sh, until};

super::with_both!(
    it_is_bound_before_it_begins,
    it_can_write_nowhere_but_in_its_memory,
    a_setuid_program_makes_no_root_of_it,
    it_can_mount_nothing_and_make_no_device,
    it_can_open_no_raw_socket_and_reach_no_network,
    it_sees_no_process_but_its_own,
    it_cannot_fill_the_disk,
    it_cannot_change_what_it_was_started_with,
    a_flood_of_output_costs_no_room,
);

async fn it_is_bound_before_it_begins(kit: &mut Kit) {
    let mut run =
        kit.podman.start(sh("cat /proc/self/status; echo ready; exec sleep 1000")).await.expect("it starts");
    let pid = run.pid().expect("a process");
    let _output = until(run.take_output().expect("output"), "ready\n").await;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000"] {
        assert!(status.contains(line), "{line} in {status}");
    }
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("its limits");
    for (name, want) in [("Max open files", "4096"), ("Max processes", "2048"), ("Max core file size", "0")] {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).expect("a limit");
        let found: Vec<_> = line.split_whitespace().take(2).collect();
        assert_eq!(found, [want, want], "{name}, soft and hard");
    }
    let of_root =
        status.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().any(|id| id == "0"));
    assert!(!of_root, "{status}");
    for space in ["user", "pid", "net", "mnt", "ipc", "uts", "cgroup"] {
        let link = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/{space}")).expect("a namespace");
        assert_ne!(link(&pid.to_string()), link("self"), "{space}");
    }
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its files").count();
    assert!(descriptors <= 4, "it has {descriptors} files open");
    run.kill().await;
    let exit = run.wait().await;
    run.finish(exit).await.1.expect("it is cleared away");
}

async fn it_can_write_nowhere_but_in_its_memory(kit: &mut Kit) {
    let script = "for d in / /bin /etc /data /run /var /dev /sys /proc /proc/sys/kernel /.skyclaw /.skyclaw/run; do \
                  (echo x > $d/written) 2>/dev/null && echo $d; done; \
                  for f in /etc/passwd /etc/hosts /etc/hostname /.skyclaw/launcher /proc/sys/kernel/core_pattern; do \
                  (echo x >> $f) 2>/dev/null && echo $f; done; \
                  echo x > /tmp/written && echo x > /dev/shm/written && echo done";
    assert_eq!(kit.sh(script).await.stdout, "done\n");
    let given = kit.service.dir().join("given");
    std::fs::create_dir(&given).expect("a folder");
    std::fs::set_permissions(&given, std::fs::Permissions::from_mode(0o777)).expect("its mode");
    assert!(!given.join("written").exists());
}

async fn a_setuid_program_makes_no_root_of_it(kit: &mut Kit) {
    let ended = kit.sh("ls -ln /bin/rooted; rooted").await;
    assert!(ended.stdout.starts_with("-rwsr-xr-x    1 0 "), "{ended:?}");
    assert!(ended.stdout.ends_with("\n1000\n"), "{ended:?}");
    assert_ne!(kit.sh("su -c id root").await.code(), 0);
}

async fn it_can_mount_nothing_and_make_no_device(kit: &mut Kit) {
    for script in [
        "mount -t tmpfs none /tmp",
        "mount -o remount,rw /",
        "mount --bind /etc /tmp",
        "umount /proc/sys",
        "mknod /tmp/disk b 254 0",
        "unshare -Ur true",
        "unshare -Urm true",
        "unshare -n true",
        "nsenter -t 1 -m true",
        "chroot /tmp true",
        "swapoff -a && swapon /tmp",
        "hostname other",
        "insmod /tmp/none.ko",
        "dmesg -c > /tmp/log && test -s /tmp/log",
    ] {
        let ended = kit.sh(script).await;
        assert_ne!(ended.code(), 0, "{script}: {ended:?}");
    }
}

async fn it_can_open_no_raw_socket_and_reach_no_network(kit: &mut Kit) {
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port of the host");
    let port = server.local_addr().expect("its address").port();
    let script = format!(
        "ping -c 1 -W 1 127.0.0.1 >/dev/null && echo raw; nc -w 1 127.0.0.1 {port} </dev/null && echo host; \
         ip route show | grep . && echo route; grep -v -e lo: -e '|' /proc/net/dev; echo done"
    );
    let ended = kit.sh(&script).await;
    assert_eq!(ended.stdout, "done\n", "{ended:?}");
    assert!(ended.stderr.contains("ping: permission denied"), "{ended:?}");
    let host = kit.podman.start(Spec { network: Network::Host, ..sh("true") }).await;
    let refused = host.expect_err("the policy allows none").to_string();
    assert!(refused.starts_with("network: host is not allowed"), "{refused}");
}

async fn it_sees_no_process_but_its_own(kit: &mut Kit) {
    let mut spec = sh("echo ready; exec sleep 1000");
    spec.env.insert("HIDDEN".to_owned(), "other-run-3b1f".to_owned());
    let mut other = kit.podman.start(spec).await.expect("it starts");
    let _output = until(other.take_output().expect("output"), "ready\n").await;
    let ended = kit.sh("cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'; ls -d /proc/[0-9]* | wc -l").await;
    assert!(!ended.stdout.contains("other-run-3b1f"), "{ended:?}");
    assert!(!ended.stdout.contains("CARGO"), "the environment of this test: {ended:?}");
    let seen: u32 = ended.stdout.lines().last().and_then(|line| line.trim().parse().ok()).expect("a number");
    assert!((2..=6).contains(&seen), "{ended:?}");
    // Nor can it signal one.
    let pid = other.pid().expect("a process");
    assert_ne!(kit.sh(&format!("kill -9 {pid}; kill -9 -1; exit 1")).await.code(), 0);
    assert!(Service::is_alive(pid));
    other.kill().await;
    let exit = other.wait().await;
    other.finish(exit).await.1.expect("it is cleared away");
}

async fn it_cannot_fill_the_disk(kit: &mut Kit) {
    let mut spec = sh(
        "dd if=/dev/zero of=/tmp/big bs=64k; dd if=/dev/zero of=/dev/shm/big bs=64k; du -k /tmp/big /dev/shm/big",
    );
    spec.limits.tmpfs_bytes = Some(2 << 20);
    let ended = kit.run(spec).await;
    assert_eq!(ended.stdout, "2048\t/tmp/big\n2048\t/dev/shm/big\n", "{ended:?}");
    assert!(ended.stderr.contains("No space left on device"), "{ended:?}");
}

async fn it_cannot_change_what_it_was_started_with(kit: &mut Kit) {
    let ended = kit
        .sh("cd /.skyclaw/run; ls; rm -f launch; mv launch other; chmod 777 launch; echo x > launch; ls")
        .await;
    assert_eq!(ended.stdout, "launch\nsecrets\nlaunch\nsecrets\n", "{ended:?}");
}

async fn a_flood_of_output_costs_no_room(kit: &mut Kit) {
    let mut run = kit
        .podman
        .start(sh("head -c 300000000 /dev/zero | tr '\\0' x; echo; echo last >&2; exit 5"))
        .await
        .expect("it starts");
    let mut output = run.take_output().expect("output");
    let (mut bytes, mut last) = (0_usize, Vec::new());
    while let Some((stream, piece)) = output.next().await {
        bytes += piece.len();
        if stream == skyclaw_exec::podman::Stream::Stderr {
            last.extend(&piece);
        }
    }
    let exit = run.wait().await;
    let log = kit.service.podman_ok(&["inspect", "--format", "{{.HostConfig.LogConfig.Path}}", run.id()]);
    // All that its monitor keeps of it, under whatever name.
    let folder = Path::new(&log).parent().expect("a folder");
    let files = || std::fs::read_dir(folder).expect("it can be read").flatten();
    let kept: Vec<_> = files().filter_map(|file| Some((file.path(), file.metadata().ok()?.len()))).collect();
    let free = nix::sys::statvfs::statvfs(folder).map(|disk| disk.blocks_available() * disk.fragment_size());
    let seen = format!(
        "{bytes} bytes came, {:?} on standard error, it ended with {exit:?}; {kept:?}; {free:?} bytes are free",
        String::from_utf8_lossy(&last)
    );
    assert_eq!((bytes, last.as_slice()), (300_000_006, b"last\n".as_slice()), "{seen}");
    assert_eq!(exit, Exit::Code(5), "{seen}");
    assert!(kept.iter().map(|(_, size)| size).sum::<u64>() <= 2 * (256 << 10), "{seen}");
    let (logged, _) = read(run.logged().await.expect("a log")).await;
    assert!(logged.len() < 600_000, "{} bytes of the log; {seen}", logged.len());
    run.finish(exit).await.1.expect("it is cleared away");
    // One that nobody reads does no harm either, and its end is seen.
    let run = kit.podman.start(sh("head -c 3000000 /dev/zero; exit 6")).await.expect("it starts");
    let ended = end(run).await;
    assert_eq!(ended.code(), 6);
}
