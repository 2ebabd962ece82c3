//! The environment of a run: built from nothing, so that no variable of the daemon is in it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use skyclaw_proto::payload::Env;

/// Marks every process of a run; its value is the name of the run's directory.
pub(crate) const RUN_ID: &str = "SKYCLAW_RUN_ID";

/// What of the run's own surroundings its environment speaks of.
pub(crate) struct Surroundings<'a> {
    pub(crate) search_path: &'a OsStr,
    pub(crate) home: &'a Path,
    pub(crate) tmp: &'a Path,
    pub(crate) run_id: &'a str,
}

/// Basic variables, then the client's own over them, then what the client may not change.
pub(crate) fn build(at: &Surroundings<'_>, own: &Env, reserved: &Env) -> BTreeMap<OsString, OsString> {
    let basic = [
        ("PATH", at.search_path),
        ("HOME", at.home.as_os_str()),
        ("TMPDIR", at.tmp.as_os_str()),
        ("LANG", OsStr::new("C.UTF-8")),
    ];
    let basic = basic.into_iter().map(|(name, value)| (name.into(), value.to_owned()));
    let texts = |env: &Env| env.iter().map(|(k, v)| (k.into(), v.into())).collect::<Vec<_>>();
    basic.chain(texts(own)).chain(texts(reserved)).chain([(RUN_ID.into(), at.run_id.into())]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Env {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_client_may_change_what_is_basic_and_not_what_is_reserved() {
        let at = Surroundings {
            search_path: OsStr::new("/bin"),
            home: Path::new("/h"),
            tmp: Path::new("/t"),
            run_id: "run",
        };
        let own = env(&[("PATH", "/own"), ("A", "1"), ("SKYCLAW_FENCE", "99"), (RUN_ID, "other")]);
        let built = build(&at, &own, &env(&[("SKYCLAW_FENCE", "7")]));
        let want = [
            ("A", "1"),
            ("HOME", "/h"),
            ("LANG", "C.UTF-8"),
            ("PATH", "/own"),
            ("SKYCLAW_FENCE", "7"),
            (RUN_ID, "run"),
            ("TMPDIR", "/t"),
        ];
        assert_eq!(built, want.iter().map(|(k, v)| (k.into(), v.into())).collect());
    }
}
