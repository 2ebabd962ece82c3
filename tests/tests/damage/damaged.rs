//! Files that were changed behind the daemon's back.

use std::fs;
use std::path::Path;

use skyclaw_tests::Options;

use super::{assert_untouched, contents, jobs, laid_out, stopped};

/// What becomes of a file.
struct Damage {
    name: &'static str,
    apply: fn(&mut Vec<u8>),
}

const DAMAGES: &[Damage] = &[
    Damage { name: "cut in half", apply: |bytes| bytes.truncate(bytes.len() / 2) },
    Damage { name: "cut to nothing", apply: Vec::clear },
    Damage {
        name: "garbage at its start",
        apply: |bytes| bytes.iter_mut().take(100).for_each(|b| *b ^= 0x5a),
    },
    Damage { name: "a page of zeros in the middle", apply: |bytes| blank(bytes) },
    Damage { name: "a bit flipped in its first quarter", apply: |bytes| flip(bytes, 4) },
    Damage { name: "a bit flipped in its middle", apply: |bytes| flip(bytes, 2) },
    Damage { name: "a bit flipped at its end", apply: |bytes| flip(bytes, 1) },
];

/// Where what was written ends: log files are filled up with zeros.
fn written(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1)
}

fn flip(bytes: &mut [u8], part: usize) {
    let at = (written(bytes) / part).saturating_sub(1);
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
}

fn blank(bytes: &mut [u8]) {
    let end = written(bytes);
    bytes[end / 2..end].iter_mut().take(4096).for_each(|b| *b = 0);
}

/// Asserts that what is said of the damage helps: it names a file in the directory and what to do, and is
/// no panic.
#[track_caller]
fn assert_helpful(said: &str, data: &Path, what: &str) {
    assert!(said.contains(&data.display().to_string()), "{what}: no file is named in {said}");
    assert!(ADVICE.iter().any(|advice| said.contains(advice)), "{what}: {said} does not say what to do");
    assert!(!said.contains("panicked"), "{what}: {said}");
}

/// One of these is in every sentence that refuses a start.
const ADVICE: &[&str] = &["restore", "name another path"];

#[test]
fn a_daemon_with_damaged_files_refuses_and_touches_nothing_or_tells_nothing_but_the_truth() {
    let stopped = stopped();
    let good = contents(stopped.dir.path());
    let mut noticed = 0;
    for path in good.keys() {
        for damage in DAMAGES {
            let what = format!("{} with {}", path.display(), damage.name);
            let mut bad = good.clone();
            bad.entry(path.clone()).and_modify(damage.apply);
            if bad == good {
                continue;
            }
            let dir = laid_out(&bad);
            match Options::default().attempt_in(dir.path()) {
                Ok(node) => assert_eq!(jobs(&node), stopped.jobs, "{what}: it forgot something"),
                Err(refusal) => {
                    noticed += 1;
                    assert!(!refusal.status.success(), "{what}");
                    assert_helpful(&refusal.said, dir.path(), &what);
                    assert_untouched(dir.path(), &bad, &what);
                }
            }
        }
    }
    assert!(noticed >= 8, "only {noticed} damages were noticed");
}

#[test]
fn a_single_letter_changed_in_a_job_that_has_ended_is_found_before_the_start() {
    let stopped = stopped();
    let jobs = stopped.jobs.as_array().expect("a list");
    let ended = jobs.iter().find(|job| job["status"] == "completed").expect("one has ended");
    let submitter = ended["submittedBy"].as_str().expect("who submitted it").as_bytes();
    let good = contents(stopped.dir.path());
    let database = Path::new("coordinator.db");
    let all = good[database].windows(submitter.len()).enumerate();
    let places: Vec<_> = all.filter(|(_, bytes)| *bytes == submitter).map(|(at, _)| at).collect();
    let mut noticed = 0;
    for at in places {
        let what = format!("a letter changed at byte {at}");
        let mut bad = good.clone();
        bad.entry(database.into()).and_modify(|bytes| bytes[at + submitter.len() - 1] = b'y');
        let dir = laid_out(&bad);
        match Options::default().attempt_in(dir.path()) {
            // Where the record was before SQLite moved it.
            Ok(node) => assert_eq!(super::jobs(&node), stopped.jobs, "{what}"),
            Err(refusal) => {
                noticed += 1;
                assert_helpful(&refusal.said, dir.path(), &what);
                let file = dir.path().join(database).display().to_string();
                assert!(refusal.said.contains(&format!("{file} is damaged")), "{what}: {}", refusal.said);
                assert_untouched(dir.path(), &bad, &what);
            }
        }
    }
    assert!(noticed >= 2, "the record and the column that repeats it, not {noticed} of them");
}

#[test]
fn a_daemon_that_lacks_a_file_refuses_or_knows_everything() {
    let stopped = stopped();
    let good = contents(stopped.dir.path());
    for path in good.keys() {
        let what = format!("without {}", path.display());
        let mut bad = good.clone();
        bad.remove(path);
        let dir = laid_out(&bad);
        match Options::default().attempt_in(dir.path()) {
            Ok(node) => assert_eq!(jobs(&node), stopped.jobs, "{what}: it forgot something"),
            Err(refusal) => {
                assert_helpful(&refusal.said, dir.path(), &what);
                assert_untouched(dir.path(), &bad, &what);
            }
        }
    }
}

#[test]
fn a_database_whose_header_is_garbage_is_refused_by_name() {
    let stopped = stopped();
    let mut bad = contents(stopped.dir.path());
    bad.entry("coordinator.db".into()).and_modify(|bytes| bytes[..16].copy_from_slice(&[0xff; 16]));
    let dir = laid_out(&bad);
    let refused = Options::default().refused_in(dir.path());
    assert!(refused.said.contains("coordinator.db"), "{}", refused.said);
    assert_untouched(dir.path(), &bad, "a garbage header");
}

#[test]
fn a_database_of_another_program_is_refused_and_not_touched() {
    /// Where SQLite keeps the id of the program a database belongs to.
    const APPLICATION_ID: std::ops::Range<usize> = 68..72;
    let stopped = stopped();
    let own = contents(stopped.dir.path()).remove(Path::new("coordinator.db")).expect("a database");
    let mut foreign = own.clone();
    foreign[APPLICATION_ID].copy_from_slice(&[0; 4]);
    for (what, content) in [("a foreign database", foreign), ("a text", b"notes to myself\n".to_vec())] {
        let files = [("coordinator.db".into(), content)].into();
        let dir = laid_out(&files);
        let refused = Options::default().refused_in(dir.path());
        assert_helpful(&refused.said, dir.path(), what);
        assert!(refused.said.contains("coordinator.db"), "{what}: {}", refused.said);
        assert_untouched(dir.path(), &files, what);
    }
}

#[test]
fn a_directory_in_the_place_of_the_database_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir(dir.path().join("coordinator.db")).expect("a directory");
    let refused = Options::default().refused_in(dir.path());
    assert!(refused.said.contains("coordinator.db"), "{}", refused.said);
}

#[test]
fn data_that_is_whole_is_taken_up_wherever_it_lies() {
    let stopped = stopped();
    let dir = laid_out(&contents(stopped.dir.path()));
    assert_eq!(jobs(&Options::default().start_in(dir.path())), stopped.jobs);
}
