//! A registry of images on the loopback address, with what a test puts into it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::podman::Service;
use crate::process::Process;
use crate::wait::{LONG, wait_until};

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    // Ended before its folder is removed.
    _process: Process,
    dir: tempfile::TempDir,
    address: String,
}

impl Registry {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When the machine lacks what `tests/tools.sh` installs.
    #[must_use]
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("skyclaw-registry-").tempdir().expect("a folder");
        let settings = format!(
            "version: 0.1\nlog: {{level: info, formatter: json}}\nstorage: {{filesystem: {{rootdirectory: {:?}}}}}\n\
             http: {{addr: '127.0.0.1:0', secret: of-the-test}}\n",
            dir.path().join("kept")
        );
        let file = dir.path().join("registry.yml");
        fs::write(&file, settings).expect("settings");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&file);
        let process = Process::start("registry", dir.path(), command);
        let address = wait_until("the registry listens", LONG, || {
            let said = process.stderr() + &process.stdout();
            let at = said.split("listening on ").nth(1)?;
            let end = at.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))?;
            Some(at[..end].to_owned())
        });
        Self { _process: process, dir, address }
    }

    /// Its address and port, as the first part of an image's name.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Puts an image of a service into it under a name, and gives its digest (`sha256:…`).
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn push(&self, service: &Service, image: &str, name: &str) -> String {
        let digest = service.own_dir().join(format!("digest-{}", name.replace(['/', ':'], "-")));
        let target = format!("docker://{}/{name}", self.address);
        let written = format!("--digestfile={}", digest.display());
        service.podman_ok(&["push", "--quiet", "--tls-verify=false", &written, image, &target]);
        fs::read_to_string(digest).expect("a digest").trim().to_owned()
    }

    /// Has it give other bytes for what has this digest: still a manifest of the same image, and not the one that
    /// is called so.
    ///
    /// # Panics
    /// When it has nothing of it.
    pub fn tamper(&self, digest: &str) {
        let hash = digest.trim_start_matches("sha256:");
        let blobs = self.dir.path().join("kept/docker/registry/v2/blobs/sha256");
        let blob: PathBuf = blobs.join(&hash[..2]).join(hash).join("data");
        let text = fs::read_to_string(&blob).expect("a manifest");
        fs::write(&blob, text.replacen('{', "{ ", 1)).expect("another manifest");
    }
}
