//! The container of a run, as it is asked of Podman.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{Http, escaped};
use super::spec::{OWN_FOLDER, User};
use super::{Agent, Error, IdRange, Limits, Mount, Network, Policy};

/// The host whose container it is.
pub(crate) const HOST_LABEL: &str = "io.skyclaw.host";
/// The run.
pub(crate) const RUN_LABEL: &str = "io.skyclaw.run";
const JOB_LABEL: &str = "io.skyclaw.job";
const FENCE_LABEL: &str = "io.skyclaw.fence";
const ATTEMPT_LABEL: &str = "io.skyclaw.attempt";
const AGENT_LABEL: &str = "io.skyclaw.agent";

/// Open files of a process. Soft and hard alike: the service takes one for the other.
const OPEN_FILES: u64 = 4096;
/// Processes of a container's user, where nothing else bounds them. Counted by the kernel for each user
/// namespace's owner as well, so it is generous.
const PROCESSES: u64 = 2048;
/// The size of `/dev/shm`, in bytes, which counts as memory of the run too.
const SHM_BYTES: u64 = 16 << 20;
/// The size of `/tmp` of a run that asks for nothing, on a host without a ceiling, in bytes.
const TMP_BYTES: u64 = 64 << 20;

/// What is asked of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// Its id: what is run is what was judged, wherever its name leads by then.
    pub(crate) id: String,
    pub(crate) digests: Vec<String>,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) command: Vec<String>,
    pub(crate) folder: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ImageInfo {
    id: String,
    digest: Option<String>,
    repo_digests: Option<Vec<String>>,
    config: Option<ImageConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ImageConfig {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    #[serde(default)]
    working_dir: String,
}

/// Finds an image that the policy allows, and fetches it when that is allowed as well.
pub(crate) async fn find_image(http: &Http, reference: &str, policy: &Policy) -> Result<Image, Error> {
    let image = match look(http, reference).await {
        Err(error) if error.is_not_found() => {
            // Whether it is here is nobody's business who may not run it.
            policy.check_image(reference, &[reference.to_owned()])?;
            if !policy.may_pull(reference) {
                return Err(Error::refused(
                    "image",
                    format!(
                        "{reference} is not on this host, and this host does not fetch images: `podman pull` it there"
                    ),
                ));
            }
            pull(http, reference).await?;
            look(http, reference).await?
        }
        found => found?,
    };
    policy.check_image(reference, &image.digests)?;
    Ok(image)
}

async fn look(http: &Http, reference: &str) -> Result<Image, Error> {
    let path = format!("/images/{}/json", escaped(reference));
    let info: ImageInfo = http.get("look at an image", &path).await?;
    let config = info.config.unwrap_or_default();
    let mut digests = info.repo_digests.unwrap_or_default();
    digests.extend(info.digest);
    digests.push(format!("sha256:{}", info.id));
    Ok(Image {
        id: info.id,
        digests,
        entrypoint: config.entrypoint.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
        folder: config.working_dir,
    })
}

async fn pull(http: &Http, reference: &str) -> Result<(), Error> {
    let path = format!("/images/pull?quiet=true&reference={}", escaped(reference));
    // The status says nothing: it is sent before the work begins, and what goes wrong is in a line.
    let lines = http.post_patiently("fetch an image", &path).await?;
    let failed = lines.split(|byte| *byte == b'\n').find_map(|line| {
        let line: Value = serde_json::from_slice(line).ok()?;
        line.get("error")?.as_str().filter(|error| !error.is_empty()).map(str::to_owned)
    });
    match failed {
        Some(message) => Err(Error::Podman { what: format!("fetch {reference}"), status: 500, message }),
        None => Ok(()),
    }
}

/// What a container is made of, and so what two runs must have in common to use one that was made ahead.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// The id of the image.
    pub(crate) image: String,
    /// Those that are fixed when a container is made.
    pub(crate) limits: Limits,
    pub(crate) agent: Option<Agent>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) network: Network,
    pub(crate) user: User,
}

/// What else a container needs to know.
pub(crate) struct Place<'a> {
    pub(crate) run: &'a str,
    pub(crate) owner: &'a str,
    pub(crate) launcher: &'a Path,
    /// The folder of the run that it has mounted.
    pub(crate) folder: &'a Path,
    /// The group that its own is to be in.
    pub(crate) parent: Option<String>,
    /// Whether Podman is to hold the limits.
    pub(crate) held_by_podman: bool,
    /// The ids of its user namespace, where the service does not have one of its own.
    pub(crate) ids: Option<IdRange>,
    pub(crate) log_bytes: u64,
    pub(crate) identity: Option<&'a super::Identity>,
}

/// The body of a create call.
pub(crate) fn body(shape: &Shape, at: &Place<'_>) -> Value {
    let private = json!({"nsmode": "private"});
    let mut body = json!({
        "name": at.run,
        "image": shape.image,
        // The image's own words are not the launcher's.
        "entrypoint": [format!("{OWN_FOLDER}/launcher")],
        "command": [],
        "labels": labels(shape, at),
        "terminal": false,
        "stdin": false,
        // The launcher is one.
        "init": false,
        // Its exit code must be there to be read, whatever happens to whom it was meant for.
        "remove": false,
        "restart_policy": "no",
        "privileged": false,
        "read_only_filesystem": true,
        "cap_drop": ["ALL"],
        "no_new_privileges": true,
        "seccomp_policy": "default",
        "user": format!("{}:{}", shape.user.uid, shape.user.gid),
        "work_dir": "/",
        "pidns": private,
        "utsns": private,
        "cgroupns": private,
        // Its own, and without a `/dev/shm` that Podman would mount on the host.
        "ipcns": {"nsmode": "none"},
        // What watches the container is not part of what it may use.
        "cgroups_mode": "no-conmon",
        "image_volume_mode": "ignore",
        "systemd": "false",
        "sdnotifyMode": "ignore",
        "httpproxy": false,
        "env_host": false,
        "r_limits": [
            {"type": "NOFILE", "soft": OPEN_FILES, "hard": OPEN_FILES},
            {"type": "NPROC", "soft": PROCESSES, "hard": PROCESSES},
            {"type": "CORE", "soft": 0, "hard": 0},
        ],
        "log_configuration": {"driver": "k8s-file", "size": at.log_bytes},
        "mounts": mounts(shape, at),
    });
    let mut set = |name: &str, value: Value| {
        body[name] = value;
    };
    match &shape.network {
        Network::None => set("netns", json!({"nsmode": "none"})),
        Network::Host => set("netns", json!({"nsmode": "host"})),
        Network::Named(name) => {
            set("netns", json!({"nsmode": "bridge"}));
            set("Networks", json!({name: {}}));
        }
    }
    if matches!(shape.network, Network::None) {
        set("use_image_hosts", json!(true));
        set("use_image_resolve_conf", json!(true));
    }
    if let Some(parent) = &at.parent {
        set("cgroup_parent", json!(parent));
    }
    if at.held_by_podman {
        set("resource_limits", limits(shape.limits));
    }
    if let Some(ids) = at.ids {
        let map = json!([{"container_id": 0, "host_id": ids.first, "size": ids.count}]);
        set("userns", private);
        set("idmappings", json!({"UIDMap": map, "GIDMap": map}));
    }
    body
}

fn labels(shape: &Shape, at: &Place<'_>) -> Value {
    let mut labels = json!({HOST_LABEL: at.owner, RUN_LABEL: at.run});
    if let Some(agent) = &shape.agent {
        labels[AGENT_LABEL] = json!(agent.id);
    }
    if let Some(identity) = at.identity {
        labels[JOB_LABEL] = json!(identity.job);
        labels[FENCE_LABEL] = json!(identity.fence.to_string());
        labels[ATTEMPT_LABEL] = json!(identity.attempt.to_string());
    }
    labels
}

fn mounts(shape: &Shape, at: &Place<'_>) -> Value {
    let tmpfs = |at: &str, bytes: u64, more: &str| {
        let size = format!("size={bytes}");
        let mut options = vec![size.as_str(), "mode=1777", "nosuid", "nodev"];
        options.extend(Some(more).filter(|more| !more.is_empty()));
        json!({"destination": at, "type": "tmpfs", "source": "tmpfs", "options": options})
    };
    let bind = |source: &Path, target: &str, options: &[&str]| {
        let options: Vec<_> = ["bind", "private", "nosuid", "nodev"].iter().chain(options).collect();
        json!({"destination": target, "type": "bind", "source": source, "options": options})
    };
    let tmp_bytes = shape.limits.tmpfs_bytes.unwrap_or(TMP_BYTES);
    let mut all = vec![
        tmpfs("/tmp", tmp_bytes, ""),
        tmpfs("/dev/shm", SHM_BYTES.min(tmp_bytes), "noexec"),
        bind(at.launcher, &format!("{OWN_FOLDER}/launcher"), &["ro"]),
        bind(at.folder, &format!("{OWN_FOLDER}/run"), &["ro", "noexec"]),
    ];
    all.extend(shape.mounts.iter().map(|mount| {
        let mode = if mount.writable { "rw" } else { "ro" };
        bind(&mount.source, &mount.target.to_string_lossy(), &[mode])
    }));
    Value::Array(all)
}

fn limits(limits: Limits) -> Value {
    let mut out = json!({});
    if let Some(bytes) = limits.memory_bytes {
        out["memory"] = json!({"limit": bytes, "swap": bytes});
    }
    if let Some(millis) = limits.cpu_millis {
        out["cpu"] = json!({"quota": millis.saturating_mul(100), "period": 100_000});
    }
    if let Some(pids) = limits.pids {
        out["pids"] = json!({"limit": pids});
    }
    out
}
