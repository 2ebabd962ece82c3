//! Reads what the runs of a job have written while they ran, and judges whether they ever ran at the same time.
//!
//! Three things bear witness, each without the others: the kernel, which gives a lock of the job to one run at a
//! time; the order of the lines in the file, which no clock decides; and two clocks of the machine.

use std::fs;
use std::path::Path;
use std::time::Duration;

use skyclaw_tests::process::binary;
use skyclaw_tests::witnessed::{WITNESS, WITNESS_IMAGE};
use skyclaw_tests::{Value, json};

/// Where a job in a container finds the folder it writes to.
const SHARED: &str = "/shared";

/// What a run does besides bearing witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One process, which ends when it is asked to.
    Plain,
    /// One process that ignores `SIGTERM`.
    Stubborn,
    /// It ignores `SIGTERM`, and so does a second process, which has left its session, its parent and its
    /// environment.
    Daemon,
}

/// The program of the witness, which a host must allow.
pub(crate) fn program() -> String {
    binary("skyclaw-witness").display().to_string()
}

/// The payload of a job that bears witness in `file` for so long.
pub(crate) fn payload(file: &Path, how_long: Duration, kind: Kind, mark: &str) -> Value {
    beat(&program(), file, how_long, kind, mark)
}

/// A job in a container that bears witness in `file`, whose folder is mounted for it.
pub(crate) fn contained(file: &Path, how_long: Duration, kind: Kind, mark: &str) -> Value {
    let (folder, name) = (file.parent().expect("a folder"), file.file_name().expect("a name"));
    let payload = beat(WITNESS, &Path::new(SHARED).join(name), how_long, kind, mark);
    let mounts = json!([{"source": folder, "target": SHARED, "readOnly": false}]);
    json!({"payload": payload, "isolation": "podman", "image": WITNESS_IMAGE, "mounts": mounts})
}

fn beat(program: &str, file: &Path, how_long: Duration, kind: Kind, mark: &str) -> Value {
    let kind = format!("{kind:?}").to_lowercase();
    let args = json!(["beat", file, how_long.as_millis().to_string(), kind, mark]);
    json!({"kind": "shell", "command": program, "args": args, "timeoutMs": 120_000})
}

/// What is known of one run. Times are in nanoseconds since the machine was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) fence: u64,
    pub(crate) run: String,
    attempt: u64,
    first: [u64; 2],
    pub(crate) last: [u64; 2],
}

/// The runs that the file of a job tells of, in the order of their fencing tokens.
///
/// # Errors
/// What is there that must not be.
pub(crate) fn runs(file: &Path) -> Result<Vec<Run>, String> {
    judge(&fs::read_to_string(file).unwrap_or_default())
}

/// By how much one run was over before the next began.
pub(crate) fn gaps(runs: &[Run]) -> impl Iterator<Item = Duration> {
    runs.windows(2).map(|pair| Duration::from_nanos(pair[1].first[1].saturating_sub(pair[0].last[1])))
}

/// How often something began to write to a file.
pub(crate) fn starts(file: &Path) -> usize {
    lines(file).iter().filter(|(what, _)| what == "start").count()
}

/// When something last wrote to a file, by the clock that goes on while the machine sleeps.
pub(crate) fn last(file: &Path) -> Option<Duration> {
    lines(file).iter().map(|(_, run)| Duration::from_nanos(run.last[1])).max()
}

fn lines(file: &Path) -> Vec<(String, Run)> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(read).map(|(what, run)| (what.to_owned(), run)).collect()
}

fn judge(text: &str) -> Result<Vec<Run>, String> {
    let mut runs: Vec<Run> = Vec::new();
    for line in text.lines() {
        let (what, seen) = read(line).ok_or_else(|| format!("a line that is none: {line:?}"))?;
        if what == "overlap" {
            return Err(format!("another run had the lock: {line}"));
        }
        match runs.last_mut() {
            Some(run) if run.fence == seen.fence => {
                if run.run != seen.run {
                    return Err(format!("fence {} was run twice: {} and {}", run.fence, run.run, seen.run));
                }
                // Several processes of a run write: what one says may come after what another says later.
                run.last = [0, 1].map(|clock| run.last[clock].max(seen.last[clock]));
            }
            Some(run) if run.fence > seen.fence => {
                return Err(format!("fence {} goes on after {} began: {line}", seen.fence, run.fence));
            }
            _ => runs.push(seen),
        }
    }
    for pair in runs.windows(2) {
        if pair[0].attempt >= pair[1].attempt {
            return Err(format!("not one attempt after the other: {pair:?}"));
        }
        if (0..2).any(|clock| pair[0].last[clock] >= pair[1].first[clock]) {
            return Err(format!("at the same time: {pair:?}"));
        }
    }
    Ok(runs)
}

fn read(line: &str) -> Option<(&str, Run)> {
    let mut words = line.split(' ');
    let what = words.next()?;
    // A service has neither a fencing token nor attempts.
    let number = |word: &str| if word == "-" { Some(0) } else { word.parse().ok() };
    let (fence, run, attempt) = (number(words.next()?)?, words.next()?, number(words.next()?)?);
    let time = [words.next()?.parse().ok()?, words.next()?.parse().ok()?];
    Some((what, Run { fence, run: run.to_owned(), attempt, first: time, last: time }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of two runs: of the first at 10 and 30, of the second at `begin` and 60.
    fn two(begin: u64) -> String {
        format!(
            "start 7 run-a 1 10 110 5\nbeat 7 run-a 1 30 130 5\n\
             start 9 run-b 2 {begin} {} 6\nbeat 9 run-b 2 60 160 6\n",
            begin + 100
        )
    }

    #[test]
    fn two_runs_one_after_the_other_are_told_apart_and_are_well() {
        let runs = judge(&two(40)).expect("all is well");
        assert_eq!(runs.iter().map(|run| run.fence).collect::<Vec<_>>(), [7, 9]);
        assert_eq!(gaps(&runs).collect::<Vec<_>>(), [Duration::from_nanos(10)]);
        assert_eq!(judge(""), Ok(vec![]));
    }

    #[test]
    fn whatever_tells_of_two_runs_at_the_same_time_is_noticed() {
        let late = two(40) + "beat 7 run-a 1 70 170 5\n";
        let double = "start 7 run-a 1 10 110 5\nstart 7 run-b 1 20 120 6\n".to_owned();
        let locked = two(40) + "overlap 11 run-c 3 80 180 7\n";
        let again = two(40).replace("run-b 2", "run-b 1");
        // One of the clocks alone is enough.
        let by_boot = two(40).replace("40 140", "40 125");
        for text in [two(30), two(25), late, double, locked, again, by_boot, "beat 7\n".to_owned()] {
            assert!(judge(&text).is_err(), "{text}");
        }
    }
}
