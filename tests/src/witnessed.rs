//! An image that has the witness in it, so that jobs in containers can bear witness as plain processes do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::podman::{IMAGE, Service};
use crate::process::binary;

/// The image, once a service was [given](Service::give_witness) it.
pub const WITNESS_IMAGE: &str = "localhost/skyclaw-witness:latest";
/// Where the witness is in it.
pub const WITNESS: &str = "/bin/skyclaw-witness";

impl Service {
    /// Makes the image: the witness, and the libraries of this machine that it needs.
    ///
    /// # Panics
    /// When the witness was not built.
    pub fn give_witness(&self) {
        let (root, program) = (self.dir().join("witness-image"), binary("skyclaw-witness"));
        let told = Command::new("ldd").arg(&program).output().expect("ldd starts");
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        let libraries = told.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
        for (source, target) in
            libraries.map(|path| (path.clone(), path)).chain([(program.clone(), WITNESS.into())])
        {
            let there = root.join(target.strip_prefix("/").unwrap_or(&target));
            fs::create_dir_all(there.parent().unwrap_or(&root)).expect("a folder");
            fs::copy(&source, &there).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        }
        fs::create_dir_all(root.join("tmp")).expect("a folder");
        self.import_as(&root, WITNESS_IMAGE);
    }

    /// The setting that allows both images.
    #[must_use]
    pub fn both_images() -> (&'static str, String) {
        ("SKYCLAW_PODMAN_IMAGES", format!("{IMAGE},{WITNESS_IMAGE}"))
    }

    /// Makes an image of a folder.
    ///
    /// # Panics
    /// When that fails.
    pub(crate) fn import_as(&self, root: &Path, name: &str) {
        let archive = root.with_extension("tar");
        let made = Command::new("tar").arg("-C").arg(root).arg("-cf").arg(&archive).arg(".").status();
        assert!(made.expect("tar starts").success(), "tar makes an archive");
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(&archive, readable).expect("its mode");
        self.podman_ok(&["import", "--quiet", &archive.display().to_string(), name]);
    }
}
