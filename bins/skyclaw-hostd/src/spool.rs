//! Outcomes on disk until a coordinator has accepted or refused them.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use skyclaw_config::ids;

use crate::completion::Completion;
use crate::state::{HALF_WRITTEN, write_durably};

/// The directory of outcomes, one file each.
#[derive(Debug, Clone)]
pub(crate) struct Spool {
    dir: PathBuf,
}

/// An outcome's file.
#[derive(Debug)]
pub(crate) struct Spooled(PathBuf);

impl Spool {
    /// Opens the spool; makes it when it is not there.
    pub(crate) fn open(state_dir: &Path) -> io::Result<Self> {
        let dir = state_dir.join("completions");
        fs::create_dir_all(&dir)?;
        // Output of jobs is in it, which other jobs have no business with.
        fs::set_permissions(&dir, Permissions::from_mode(0o700))?;
        // Of a daemon that died while it wrote: the run's own record still tells the outcome.
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ext| ext == HALF_WRITTEN) {
                fs::remove_file(path)?;
            }
        }
        Ok(Self { dir })
    }

    /// Keeps an outcome. Blocks until it is on disk.
    pub(crate) fn keep(&self, completion: &Completion) -> io::Result<Spooled> {
        let path = self.dir.join(format!("{}.json", ids::uuid()));
        write_durably(&path, &serde_json::to_vec(completion)?)?;
        Ok(Spooled(path))
    }

    /// What was kept and never heard, oldest first. A file that cannot be read is set aside.
    pub(crate) fn kept(&self) -> io::Result<Vec<(Spooled, Completion)>> {
        let mut paths =
            fs::read_dir(&self.dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        paths.retain(|path| path.extension().is_some_and(|ext| ext == "json"));
        paths.sort();
        let mut kept = Vec::new();
        for path in paths {
            match serde_json::from_slice(&fs::read(&path)?) {
                Ok(completion) => kept.push((Spooled(path), completion)),
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "an outcome on disk is damaged; it is set aside");
                    fs::rename(&path, path.with_extension("damaged"))?;
                }
            }
        }
        Ok(kept)
    }
}

impl Spooled {
    /// Forgets the outcome: it was heard.
    pub(crate) fn forget(self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "could not remove an outcome that was heard");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion(job: &str) -> Completion {
        let json = serde_json::json!({ "job": job, "key": "k", "body": { "success": true } });
        serde_json::from_value(json).expect("a completion")
    }

    #[test]
    fn outcomes_are_kept_in_order_until_they_are_forgotten() {
        let dir = tempfile::tempdir().expect("temp dir");
        let spool = Spool::open(dir.path()).expect("open");
        let first = spool.keep(&completion("a")).expect("keep");
        spool.keep(&completion("b")).expect("keep");
        spool.keep(&completion("c")).expect("keep");
        first.forget();
        let again = Spool::open(dir.path()).expect("open").kept().expect("kept");
        let jobs: Vec<_> = again.iter().map(|(_, completion)| completion.job.as_str()).collect();
        assert_eq!(jobs, ["b", "c"]);
    }

    #[test]
    fn what_was_never_written_to_its_end_is_not_left() {
        let dir = tempfile::tempdir().expect("temp dir");
        let spool = Spool::open(dir.path()).expect("open");
        spool.keep(&completion("a")).expect("keep");
        fs::write(spool.dir.join("b.new"), "{\"job").expect("write");
        let again = Spool::open(dir.path()).expect("open");
        assert!(!spool.dir.join("b.new").exists());
        assert_eq!(again.kept().expect("kept").len(), 1);
    }

    #[test]
    fn a_damaged_outcome_is_set_aside_and_does_not_hide_the_others() {
        let dir = tempfile::tempdir().expect("temp dir");
        let spool = Spool::open(dir.path()).expect("open");
        fs::write(spool.dir.join("0.json"), "{").expect("write");
        spool.keep(&completion("a")).expect("keep");
        assert_eq!(spool.kept().expect("kept").len(), 1);
        assert!(spool.dir.join("0.damaged").exists());
    }
}
