//! What this host allows in Podman.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::spec::{OWN_FOLDER, User};
use super::{Error, Limits, Mount, Network, Spec};

/// What a host allows. The default allows nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// References and digests of images that may be run, as they are written here. A digest
    /// (`sha256:…`) allows the image whatever it is called by.
    pub images: BTreeSet<String>,
    /// Whether an image that is allowed and not there may be fetched.
    pub pull: bool,
    /// Folders and files of the host that runs may have mounted, and what is below them.
    pub mounts: Vec<AllowedMount>,
    /// Networks beside `none`.
    pub networks: BTreeSet<String>,
    /// Whether a run is started although this machine cannot enforce a limit that it asks for.
    pub best_effort: bool,
    /// What no run may exceed, and what one has that asks for nothing.
    pub ceiling: Limits,
    /// Who a run is that names no user.
    pub user: User,
    /// A job that requires one of these capabilities runs in Podman, whatever it asks for.
    pub forced_capabilities: BTreeSet<String>,
    /// A job that carries one of these labels runs in Podman, whatever it asks for.
    pub forced_labels: BTreeMap<String, String>,
}

/// A place of the host that runs may have mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedMount {
    /// Absolute.
    pub path: PathBuf,
    /// Whether they may write there.
    pub writable: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            images: BTreeSet::new(),
            pull: false,
            mounts: Vec::new(),
            networks: BTreeSet::new(),
            best_effort: false,
            ceiling: Limits { tmpfs_bytes: Some(64 << 20), ..Limits::default() },
            user: User { uid: 1000, gid: 1000 },
            forced_capabilities: BTreeSet::new(),
            forced_labels: BTreeMap::new(),
        }
    }
}

impl Policy {
    /// Whether a job with these capabilities and labels must run in Podman here.
    #[must_use]
    pub fn forces(&self, capabilities: &[String], labels: &BTreeMap<String, String>) -> bool {
        capabilities.iter().any(|capability| self.forced_capabilities.contains(capability))
            || self.forced_labels.iter().any(|(name, value)| labels.get(name) == Some(value))
    }

    /// What of a run can be judged without Podman: image by its name, network, mounts. Returns the mounts
    /// as they really are, symbolic links followed. Blocks on the file system.
    pub(crate) fn check(&self, spec: &Spec) -> Result<Vec<Mount>, Error> {
        match &spec.network {
            Network::None => {}
            network if self.networks.contains(&network.to_string()) => {}
            network => {
                let known: Vec<_> = self.networks.iter().map(String::as_str).collect();
                return Err(Error::refused(
                    "network",
                    format!("{network} is not allowed on this host; allowed: none {}", known.join(" ")),
                ));
            }
        }
        spec.mounts.iter().map(|mount| self.mount(mount)).collect()
    }

    /// Whether an image may be run that was asked for by `reference` and found to be `digests`.
    pub(crate) fn check_image(&self, reference: &str, digests: &[String]) -> Result<(), Error> {
        let by_digest = |digest: &String| {
            let bare = digest.rsplit('@').next().unwrap_or(digest);
            self.images.contains(digest) || self.images.contains(bare)
        };
        if self.images.contains(reference) || digests.iter().any(by_digest) {
            return Ok(());
        }
        Err(Error::refused(
            "image",
            format!(
                "{reference} is not on this host's list of images; its operator can add it, or its digest"
            ),
        ))
    }

    /// Whether an image that is not there may be looked for.
    pub(crate) fn may_pull(&self, reference: &str) -> bool {
        self.pull && self.images.contains(reference)
    }

    fn mount(&self, mount: &Mount) -> Result<Mount, Error> {
        let shown = mount.source.display();
        check_target(&mount.target)?;
        if !mount.source.is_absolute() {
            return Err(Error::refused("mounts", format!("{shown} must be absolute")));
        }
        // What is mounted is what was judged: not a link that may lead elsewhere by then, but its end.
        let real = mount.source.canonicalize().map_err(|error| {
            Error::refused("mounts", format!("{shown} cannot be found on this host ({})", error.kind()))
        })?;
        // The place that is nearest decides, so a part of a writable folder can be kept read-only.
        let within = |allowed: &&AllowedMount| {
            allowed.path.canonicalize().is_ok_and(|allowed| real.starts_with(allowed))
        };
        let nearest = self.mounts.iter().filter(within).max_by_key(|allowed| allowed.path.as_os_str().len());
        match nearest {
            None => Err(Error::refused(
                "mounts",
                format!("{shown} is not below a folder that this host allows; its operator can add one"),
            )),
            Some(allowed) if mount.writable && !allowed.writable => {
                Err(Error::refused("mounts", format!("{shown} may be mounted on this host only for reading")))
            }
            Some(_) => Ok(Mount { source: real, ..mount.clone() }),
        }
    }
}

/// Places in a container that a mount must not cover: they are what binds it.
fn check_target(target: &Path) -> Result<(), Error> {
    let shown = target.display();
    let plain = target.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !target.is_absolute() || !plain || target == Path::new("/") {
        return Err(Error::refused(
            "mounts",
            format!("{shown} must be an absolute path in the container, without `..`"),
        ));
    }
    let kept = ["/proc", "/sys", "/dev", "/tmp", "/run", OWN_FOLDER];
    if let Some(kept) = kept.iter().find(|kept| target.starts_with(kept)) {
        return Err(Error::refused("mounts", format!("{shown} must not be within {kept} of the container")));
    }
    if target.to_str().is_none_or(|text| text.contains('\0')) {
        return Err(Error::refused("mounts", "a target must be UTF-8"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forced_is_forced_by_any_capability_or_label() {
        let policy = Policy {
            forced_capabilities: ["wallet".to_owned()].into(),
            forced_labels: [("trust".to_owned(), "none".to_owned())].into(),
            ..Policy::default()
        };
        let forces = |capabilities: &[&str], labels: &[(&str, &str)]| {
            let capabilities: Vec<_> = capabilities.iter().map(|&name| name.to_owned()).collect();
            let labels = labels.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
            policy.forces(&capabilities, &labels)
        };
        assert!(forces(&["shell", "wallet"], &[]));
        assert!(forces(&[], &[("trust", "none")]));
        assert!(!forces(&["shell"], &[("trust", "full"), ("none", "trust")]));
        assert!(!Policy::default().forces(&["wallet".to_owned()], &BTreeMap::new()));
    }

    #[test]
    fn a_policy_that_says_nothing_allows_nothing() {
        let policy = Policy::default();
        assert!(policy.check_image("localhost/a:1", &["sha256:00".to_owned()]).is_err());
        assert!(!policy.may_pull("localhost/a:1"));
        let mount = Mount { source: "/tmp".into(), target: "/data".into(), writable: false };
        assert!(policy.check(&Spec { mounts: vec![mount], ..Spec::default() }).is_err());
        for network in [Network::Host, Network::Named("podman".to_owned())] {
            assert!(policy.check(&Spec { network, ..Spec::default() }).is_err());
        }
        assert!(policy.check(&Spec::default()).is_ok());
    }

    #[test]
    fn an_image_is_allowed_by_its_digest_alone_or_with_its_name() {
        let by = |allowed: &str| Policy { images: [allowed.to_owned()].into(), ..Policy::default() };
        let digests = ["docker.io/a/b@sha256:11".to_owned(), "sha256:22".to_owned()];
        for (allowed, found) in [
            ("sha256:11", true),
            ("sha256:22", true),
            ("docker.io/a/b@sha256:11", true),
            ("docker.io/a/c@sha256:11", false),
            ("docker.io/a/b", false),
            ("sha256:1", false),
        ] {
            assert_eq!(by(allowed).check_image("asked", &digests).is_ok(), found, "{allowed}");
        }
    }
}
