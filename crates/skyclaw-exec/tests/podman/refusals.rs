//! What the policy of a host does not allow is not run.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use skyclaw_exec::podman::{AllowedMount, Mount, Network, Policy, Spec, User};
use skyclaw_tests::podman::IMAGE;

use super::kit::{Kit, config, end, sh};

super::with_both!(
    an_image_off_the_list_is_refused_by_any_name,
    an_image_that_is_allowed_and_not_there_is_not_fetched,
    a_mount_off_the_list_is_refused_by_any_way,
    a_mount_that_is_allowed_holds_what_it_promises,
    nothing_runs_as_root,
    a_network_is_reached_only_where_the_policy_allows,
);

async fn refusal(kit: &Kit, spec: Spec) -> String {
    let refused = kit.podman.start(spec).await.expect_err("it is refused").to_string();
    assert_eq!(kit.service.containers(), Vec::<String>::new(), "nothing was made");
    refused
}

fn image(name: &str) -> Spec {
    Spec { image: name.to_owned(), ..sh("true") }
}

async fn an_image_off_the_list_is_refused_by_any_name(kit: &mut Kit) {
    kit.service.podman_ok(&["tag", IMAGE, "localhost/other:latest"]);
    let id = kit.service.podman_ok(&["image", "inspect", "--format", "{{.Id}}", IMAGE]);
    let digest = format!("sha256:{id}");
    for name in [
        "localhost/other:latest",
        "localhost/skyclaw-test",
        &id,
        &id[..12],
        &digest,
        "no/such:image",
        " ",
        "",
    ] {
        let refused = refusal(kit, image(name)).await;
        assert!(refused.starts_with("image: "), "{name}: {refused}");
    }
    assert_eq!(kit.run(image(IMAGE)).await.code(), 0);
    // Allowed by what it is, it may be called by any name, and no other image may by its name.
    let mut by_digest = config(&kit.service, "by-digest");
    by_digest.policy.images = [digest].into();
    let by_digest = kit.beside(by_digest).await;
    for name in ["localhost/other:latest", IMAGE] {
        assert_eq!(end(by_digest.start(image(name)).await.expect("it starts")).await.code(), 0);
    }
    let archive = kit.service.dir().join("image.tar").display().to_string();
    kit.service.podman_ok(&["import", "--quiet", "--change", "ENV=OTHER=1", &archive, IMAGE]);
    let refused = by_digest.start(image(IMAGE)).await.expect_err("it is another image now").to_string();
    assert!(refused.starts_with("image: "), "{refused}");
}

async fn an_image_that_is_allowed_and_not_there_is_not_fetched(kit: &mut Kit) {
    let absent = "localhost:1/absent:latest".to_owned();
    let mut lists = config(&kit.service, "lists");
    lists.policy.images.insert(absent.clone());
    let refused =
        kit.beside(lists.clone()).await.start(image(&absent)).await.expect_err("it is refused").to_string();
    assert!(refused.contains("is not on this host, and this host does not fetch images"), "{refused}");
    lists.policy.pull = true;
    let failed =
        kit.beside(lists).await.start(image(&absent)).await.expect_err("nobody is there").to_string();
    assert!(failed.starts_with("Podman could not fetch localhost:1/absent:latest"), "{failed}");
}

fn folder(path: PathBuf) -> PathBuf {
    std::fs::create_dir_all(&path).expect("a folder");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).expect("its mode");
    path
}

fn mounted(source: &Path, target: &str, writable: bool) -> Spec {
    let script = "cat /data/file; (echo written > /data/new) 2>/dev/null && echo wrote; true";
    Spec { mounts: vec![Mount { source: source.to_owned(), target: target.into(), writable }], ..sh(script) }
}

async fn with_mounts(kit: &Kit) -> (skyclaw_exec::podman::Podman, PathBuf, PathBuf) {
    let shared = folder(kit.service.dir().join("shared"));
    let secret = folder(kit.service.dir().join("secret"));
    std::fs::write(secret.join("file"), "hidden\n").expect("a file");
    std::fs::write(shared.join("file"), "shown\n").expect("a file");
    let read = folder(shared.join("read"));
    std::fs::write(read.join("file"), "only read\n").expect("a file");
    symlink(&secret, shared.join("link")).expect("a link");
    let mut config = config(&kit.service, "mounts");
    let allowed = |path: &Path, writable| AllowedMount { path: path.to_owned(), writable };
    config.policy = Policy { mounts: vec![allowed(&shared, true), allowed(&read, false)], ..config.policy };
    (kit.beside(config).await, shared, secret)
}

async fn a_mount_off_the_list_is_refused_by_any_way(kit: &mut Kit) {
    let (podman, shared, secret) = with_mounts(kit).await;
    let near = folder(kit.service.dir().join("shared-not"));
    for source in [
        secret.clone(),
        shared.join("link"),
        shared.join("../secret"),
        shared.join("link/../secret"),
        near,
        kit.service.socket(),
        "/".into(),
        "/etc".into(),
        "/proc/self/root/etc".into(),
        "shared".into(),
        shared.join("absent"),
        kit.service.dir().to_owned(),
    ] {
        let refused =
            podman.start(mounted(&source, "/data", false)).await.expect_err("it is refused").to_string();
        assert!(refused.starts_with("mounts: "), "{}: {refused}", source.display());
    }
    let refused =
        podman.start(mounted(&shared.join("read"), "/data", true)).await.expect_err("it is refused");
    assert!(refused.to_string().contains("only for reading"), "{refused}");
    for target in
        ["/", "/proc", "/sys/fs", "/dev/shm", "/tmp", "/run/x", "/.skyclaw/run", "data", "/data/../proc"]
    {
        let refused =
            podman.start(mounted(&shared, target, false)).await.expect_err("it is refused").to_string();
        assert!(refused.starts_with("mounts: "), "{target}: {refused}");
    }
    assert_eq!(kit.service.containers(), Vec::<String>::new());
    let refused = refusal(kit, mounted(&shared, "/data", false)).await;
    assert!(refused.starts_with("mounts: "), "a host that allows none: {refused}");
}

async fn a_mount_that_is_allowed_holds_what_it_promises(kit: &mut Kit) {
    let (podman, shared, _) = with_mounts(kit).await;
    let ended = async |spec| end(podman.start(spec).await.expect("it starts")).await.stdout;
    assert_eq!(ended(mounted(&shared, "/data", false)).await, "shown\n");
    assert_eq!(ended(mounted(&shared.join("read"), "/data", false)).await, "only read\n");
    assert_eq!(ended(mounted(&shared.join("../shared/read"), "/data", false)).await, "only read\n");
    assert_eq!(ended(mounted(&shared, "/data", true)).await, "shown\nwrote\n");
    assert_eq!(std::fs::read_to_string(shared.join("new")).expect("it was written"), "written\n");
}

async fn nothing_runs_as_root(kit: &mut Kit) {
    for (uid, gid) in [(0, 1000), (1000, 0), (70_000, 1000)] {
        let refused = refusal(kit, Spec { user: Some(User { uid, gid }), ..sh("true") }).await;
        assert!(refused.starts_with("user: "), "{refused}");
    }
    let other =
        kit.run(Spec { user: Some(User { uid: 4711, gid: 4712 }), ..sh("id -u; id -g; id -G") }).await;
    assert_eq!(other.stdout, "4711\n4712\n4712\n");
}

async fn a_network_is_reached_only_where_the_policy_allows(kit: &mut Kit) {
    for network in [Network::Host, Network::Named("podman".to_owned())] {
        let refused = refusal(kit, Spec { network, ..sh("true") }).await;
        assert!(refused.starts_with("network: "), "{refused}");
    }
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port of the host");
    let port = server.local_addr().expect("its address").port();
    let mut open = config(&kit.service, "open");
    open.policy.networks = ["host".to_owned()].into();
    let podman = kit.beside(open).await;
    let reach = format!("nc -w 5 127.0.0.1 {port} </dev/null && echo reached");
    let run = podman.start(Spec { network: Network::Host, ..sh(&reach) }).await.expect("it starts");
    let accepted = tokio::task::spawn_blocking(move || server.accept().map(drop));
    assert_eq!(end(run).await.stdout, "reached\n");
    accepted.await.expect("it was asked").expect("it was reached");
}
