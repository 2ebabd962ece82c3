//! What the operator says of Podman, read from the settings.
//!
//! Without an image that may be run there is no Podman here: nothing could be run in it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use skyclaw_exec::podman::{AllowedMount, Config, IdRange, Limits, Policy, PoolConfig};

use crate::settings::{Place, Settings};

/// Where the socket of a user's service is within the directory of what runs for that user.
const SOCKET: &str = "podman/podman.sock";
/// How much of a run's output Podman keeps beside what its shim keeps, in bytes.
const LOG_BYTES: u64 = 64 << 10;
/// Less than this is none: the least that a job may ask for.
const MIN_TMPFS_BYTES: u64 = 4096;

/// How jobs are run in Podman here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    socket: PathBuf,
    runs_dir: PathBuf,
    pub(crate) policy: Policy,
    prepared: usize,
    /// The image of jobs that must run in Podman here, and name none.
    pub(crate) default_image: Option<String>,
}

impl Terms {
    /// As the driver takes it.
    pub(crate) fn driver(&self, owner: &str, state_dir: &Path) -> Config {
        // Each daemon of a machine has a folder of its own, whatever it calls itself.
        let own = state_dir.metadata().map_or_else(
            |_| owner.bytes().map(|byte| format!("{byte:02x}")).collect(),
            |meta| format!("{:x}-{:x}", meta.dev(), meta.ino()),
        );
        Config {
            socket: self.socket.clone(),
            owner: owner.to_owned(),
            runs_dir: self.runs_dir.join(own),
            state_dir: state_dir.join("podman"),
            policy: self.policy.clone(),
            ids: IdRange::default(),
            log_bytes: LOG_BYTES,
            pool: PoolConfig { max: self.prepared, ..PoolConfig::default() },
        }
    }
}

/// What the settings say; `None` where there is no Podman.
///
/// # Errors
/// The variable that is no good, and what is wrong with it, as the rest of a sentence.
pub(crate) fn terms(settings: &Settings, place: &Place) -> Result<Option<Terms>, (&'static str, String)> {
    let images: BTreeSet<String> = settings.podman_images.iter().cloned().collect();
    if images.is_empty() {
        return without(settings);
    }
    let plain = |text: &&String| !text.bytes().all(|byte| byte.is_ascii_graphic());
    if let Some(bad) = images.iter().find(plain) {
        return Err(("SKYCLAW_PODMAN_IMAGES", format!("names {bad:?}, which is no reference of an image")));
    }
    if let Some(image) = settings.podman_default_image.as_ref().filter(|image| !images.contains(*image)) {
        let fault = format!("names {image}, which SKYCLAW_PODMAN_IMAGES does not allow");
        return Err(("SKYCLAW_PODMAN_DEFAULT_IMAGE", fault));
    }
    if settings.podman_max_tmpfs_bytes < MIN_TMPFS_BYTES {
        return Err(("SKYCLAW_PODMAN_MAX_TMPFS_BYTES", format!("must be at least {MIN_TMPFS_BYTES}")));
    }
    let policy = Policy {
        images,
        pull: settings.podman_pull,
        mounts: mounts(&settings.podman_mounts).map_err(|fault| ("SKYCLAW_PODMAN_MOUNTS", fault))?,
        networks: settings.podman_networks.iter().filter(|name| *name != "none").cloned().collect(),
        best_effort: settings.best_effort_limits,
        ceiling: Limits { tmpfs_bytes: Some(settings.podman_max_tmpfs_bytes), ..Limits::default() },
        forced_capabilities: settings.podman_forced_capabilities.iter().cloned().collect(),
        forced_labels: labels(&settings.podman_forced_labels)
            .map_err(|fault| ("SKYCLAW_PODMAN_FORCED_LABELS", fault))?,
        ..Policy::default()
    };
    Ok(Some(Terms {
        socket: socket(settings, place).map_err(|fault| ("SKYCLAW_PODMAN_SOCKET", fault))?,
        runs_dir: runs_dir(settings, place).map_err(|fault| ("SKYCLAW_PODMAN_RUN_DIR", fault))?,
        policy,
        prepared: settings.podman_prepared,
        default_image: settings.podman_default_image.clone(),
    }))
}

/// No Podman. Then nothing may depend on it.
fn without(settings: &Settings) -> Result<Option<Terms>, (&'static str, String)> {
    let needs = [
        ("SKYCLAW_PODMAN_SOCKET", settings.podman_socket.is_some()),
        ("SKYCLAW_PODMAN_DEFAULT_IMAGE", settings.podman_default_image.is_some()),
        ("SKYCLAW_PODMAN_FORCED_CAPABILITIES", !settings.podman_forced_capabilities.is_empty()),
        ("SKYCLAW_PODMAN_FORCED_LABELS", !settings.podman_forced_labels.is_empty()),
    ];
    match needs.into_iter().find(|(_, given)| *given) {
        Some((variable, _)) => Err((
            variable,
            "is of no use without images that may be run: name them in SKYCLAW_PODMAN_IMAGES".to_owned(),
        )),
        None => Ok(None),
    }
}

fn socket(settings: &Settings, place: &Place) -> Result<PathBuf, String> {
    if let Some(given) = &settings.podman_socket {
        return match given.is_absolute() {
            true => Ok(given.clone()),
            false => Err(format!("names {}, which is no absolute path", given.display())),
        };
    }
    // Root has no service of a user's; that of the system is not taken without being named.
    if geteuid().is_root() {
        return Err("must be given for a daemon that is root, such as /run/podman/podman.sock".to_owned());
    }
    let usual = || format!("/run/user/{}", geteuid()).into();
    Ok(place.runtime_dir.clone().unwrap_or_else(usual).join(SOCKET))
}

/// In memory, as what a job is started with lies there.
fn runs_dir(settings: &Settings, place: &Place) -> Result<PathBuf, String> {
    match (&settings.podman_run_dir, &place.runtime_dir) {
        (Some(given), _) if given.is_absolute() => Ok(given.clone()),
        (Some(given), _) => Err(format!("names {}, which is no absolute path", given.display())),
        (None, _) if geteuid().is_root() => Ok("/run/skyclaw".into()),
        (None, Some(dir)) => Ok(dir.join("skyclaw")),
        (None, None) => {
            Err("must be given where XDG_RUNTIME_DIR is not set: a directory in memory".to_owned())
        }
    }
}

/// `/path` for reading, `/path:rw` for writing as well.
fn mounts(texts: &[String]) -> Result<Vec<AllowedMount>, String> {
    let one = |text: &String| {
        let (path, writable) = match text.strip_suffix(":rw") {
            Some(path) => (path, true),
            None => (text.strip_suffix(":ro").unwrap_or(text), false),
        };
        let path = PathBuf::from(path);
        match path.is_absolute() && path.exists() {
            true => Ok(AllowedMount { path, writable }),
            false => Err(format!("names {}, which is no absolute path that exists", path.display())),
        }
    };
    texts.iter().map(one).collect()
}

fn labels(texts: &[String]) -> Result<BTreeMap<String, String>, String> {
    let one = |text: &String| {
        let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
        let pair = pair.ok_or_else(|| format!("has {text:?}, which is not of the form name=value"))?;
        Ok((pair.0.to_owned(), pair.1.to_owned()))
    };
    let mut all = BTreeMap::new();
    for (name, value) in texts.iter().map(one).collect::<Result<Vec<_>, String>>()? {
        if all.insert(name.clone(), value).is_some() {
            return Err(format!("names {name} twice"));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::settings;
    use skyclaw_exec::Shim;

    fn place() -> Place {
        Place {
            search_path: "/bin".into(),
            base_dir: "/".into(),
            shim: Shim { program: "/shim".into(), args: vec![] },
            runtime_dir: Some("/run/user/7".into()),
            supervisor: skyclaw_config::Supervisor::nobody(),
        }
    }

    #[test]
    fn a_host_that_names_no_image_has_no_podman() {
        assert_eq!(terms(&settings(&[]), &place()), Ok(None));
        for (variable, value) in [
            ("SKYCLAW_PODMAN_SOCKET", "/s"),
            ("SKYCLAW_PODMAN_FORCED_CAPABILITIES", "wallet"),
            ("SKYCLAW_PODMAN_FORCED_LABELS", "a=b"),
            ("SKYCLAW_PODMAN_DEFAULT_IMAGE", "i"),
        ] {
            let (named, fault) = terms(&settings(&[(variable, value)]), &place()).expect_err(variable);
            assert_eq!(named, variable);
            assert!(fault.contains("SKYCLAW_PODMAN_IMAGES"), "{fault}");
        }
    }

    #[test]
    fn what_is_said_of_podman_becomes_its_policy() {
        let given = settings(&[
            ("SKYCLAW_PODMAN_IMAGES", "localhost/a:1,sha256:00"),
            ("SKYCLAW_PODMAN_SOCKET", "/run/podman/podman.sock"),
            ("SKYCLAW_PODMAN_DEFAULT_IMAGE", "localhost/a:1"),
            ("SKYCLAW_PODMAN_MOUNTS", "/tmp:rw,/usr"),
            ("SKYCLAW_PODMAN_NETWORKS", "none,lan"),
            ("SKYCLAW_PODMAN_FORCED_CAPABILITIES", "wallet"),
            ("SKYCLAW_PODMAN_FORCED_LABELS", "trust=none"),
            ("SKYCLAW_PODMAN_MAX_TMPFS_BYTES", "1048576"),
        ]);
        let terms = terms(&given, &place()).expect("they are fine").expect("Podman");
        assert_eq!(terms.default_image.as_deref(), Some("localhost/a:1"));
        let policy = terms.policy;
        assert!(policy.images.contains("sha256:00") && !policy.pull && !policy.best_effort);
        assert_eq!(policy.mounts.iter().map(|mount| mount.writable).collect::<Vec<_>>(), [true, false]);
        assert_eq!(policy.ceiling, Limits { tmpfs_bytes: Some(1 << 20), ..Limits::default() });
        assert_eq!(policy.networks.iter().collect::<Vec<_>>(), ["lan"]);
        assert!(policy.forces(&["wallet".into()], &BTreeMap::new()));
        assert!(policy.forces(&[], &BTreeMap::from([("trust".into(), "none".into())])));
    }

    #[test]
    fn what_is_no_good_is_named() {
        for (variable, value) in [
            ("SKYCLAW_PODMAN_DEFAULT_IMAGE", "other"),
            ("SKYCLAW_PODMAN_SOCKET", "podman.sock"),
            ("SKYCLAW_PODMAN_RUN_DIR", "here"),
            ("SKYCLAW_PODMAN_MOUNTS", "/nowhere/at-all"),
            ("SKYCLAW_PODMAN_MOUNTS", "tmp"),
            ("SKYCLAW_PODMAN_FORCED_LABELS", "a"),
            ("SKYCLAW_PODMAN_FORCED_LABELS", "a=1,a=2"),
            ("SKYCLAW_PODMAN_IMAGES", "a b"),
            ("SKYCLAW_PODMAN_MAX_TMPFS_BYTES", "0"),
        ] {
            let mut pairs = vec![("SKYCLAW_PODMAN_IMAGES", "i"), ("SKYCLAW_PODMAN_SOCKET", "/s")];
            pairs.retain(|(name, _)| *name != variable);
            pairs.push((variable, value));
            let (named, _) = terms(&settings(&pairs), &place()).expect_err(value);
            assert_eq!(named, variable);
        }
    }
}
