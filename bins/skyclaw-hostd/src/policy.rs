//! What the operator decides about runs, read from the settings.

use std::path::PathBuf;

use nix::unistd::{User as Account, geteuid};
use skyclaw_exec::User;

/// Runs may write to their own directories alone.
const OWN: &str = "own";

/// What becomes of runs when the daemon is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopMode {
    /// Jobs may finish for a while; then they are stopped. Services are stopped.
    Drain,
    /// All are stopped at once.
    Stop,
    /// All go on, and the next start takes them over.
    Leave,
}

impl StopMode {
    /// What a setting says.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "drain" => Some(Self::Drain),
            "stop" => Some(Self::Stop),
            "leave" => Some(Self::Leave),
            _ => None,
        }
    }
}

/// The user a setting names, by name or as `UID:GID`.
///
/// # Errors
/// What is wrong with it, as the rest of a sentence.
pub(crate) fn user(text: &str) -> Result<User, String> {
    let by_number = text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    let user = match by_number {
        Some((uid, gid)) => User { uid, gid },
        None => match Account::from_name(text) {
            Ok(Some(account)) => User { uid: account.uid.as_raw(), gid: account.gid.as_raw() },
            Ok(None) => return Err(format!("names {text:?}, and there is no such user on this machine")),
            Err(error) => return Err(format!("names {text:?}, which cannot be looked up: {error}")),
        },
    };
    if !geteuid().is_root() {
        return Err("needs a daemon that is started as root".to_owned());
    }
    if user.uid == 0 {
        return Err("must not be root: leave it out to run as the daemon's own user".to_owned());
    }
    Ok(user)
}

/// Where runs may write besides their own directories; `None` for anywhere.
///
/// # Errors
/// What is wrong with it, as the rest of a sentence.
pub(crate) fn writable(paths: &[String]) -> Result<Option<Vec<PathBuf>>, String> {
    if paths.iter().any(|path| path == "/") {
        return Ok(None);
    }
    let paths: Vec<PathBuf> = paths.iter().filter(|path| *path != OWN).map(PathBuf::from).collect();
    match paths.iter().find(|path| !(path.is_absolute() && path.exists())) {
        Some(path) => Err(format!("names {}, which is no absolute path that exists", path.display())),
        None => Ok(Some(paths)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_or_number_and_is_never_root() {
        let nobody = user("nobody").expect("a user");
        assert_eq!(user("65534:65534"), Ok(User { uid: 65534, gid: 65534 }));
        assert_eq!(nobody.uid, 65534);
        assert!(user("root").is_err() && user("0:0").is_err() && user("nobody-at-all").is_err());
    }

    #[test]
    fn writes_are_limited_to_what_is_named() {
        let paths = |texts: &[&str]| writable(&texts.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
        assert_eq!(paths(&["/"]), Ok(None));
        assert_eq!(paths(&["/tmp", "/"]), Ok(None));
        assert_eq!(paths(&["own"]), Ok(Some(vec![])));
        assert_eq!(paths(&["/tmp"]), Ok(Some(vec!["/tmp".into()])));
        assert!(paths(&["tmp"]).is_err() && paths(&["/nowhere/at-all"]).is_err());
    }
}
