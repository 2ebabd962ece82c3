//! What is in the database of a coordinator that has ended, read by the `sqlite3` of the system.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::net_ns::find;

/// Tables that tell of a node and not of the state: how far in the log it is, and when its tables were
/// made. The numbers that come next stand in the first of them, and are compared.
const OWN: [&str; 3] = ["applied", "_sqlx_migrations", EVENTS];
/// What is told of changes. How many of them share a row is a node's own affair, what is told is not.
const EVENTS: &str = "events";

/// Asserts that two coordinators have the same in every table and every row: hosts, jobs in any state,
/// services, kept replies and whatever else there is.
///
/// # Panics
/// When they have not, with the first row that differs, or when one cannot be read.
#[track_caller]
pub fn assert_same(one: &Path, other: &Path) {
    let queries = queries(one);
    assert_eq!(queries, self::queries(other), "the tables of {} and {}", one.display(), other.display());
    for sql in queries {
        if digest(one, &sql) != digest(other, &sql) {
            let [ones, others] = [one, other].map(|data| query(data, &sql));
            let differing = ones.lines().zip(others.lines()).find(|(one, other)| one != other);
            let counts = (ones.lines().count(), others.lines().count());
            let names = (one.display(), other.display());
            panic!("{names:?} differ in {sql}: {counts:?} rows, the first that differ: {differing:#?}");
        }
    }
    assert_same_told(one, other);
}

/// Asserts that two coordinators tell the same of all changes, in the same order.
#[track_caller]
fn assert_same_told(one: &Path, other: &Path) {
    let digest = |data| {
        let (mut hasher, mut count) = (DefaultHasher::new(), 0);
        each_told(data, |told| {
            told.hash(&mut hasher);
            count += 1;
        });
        (hasher.finish(), count)
    };
    let digests = [one, other].map(digest);
    if digests[0] != digests[1] {
        let [ones, others] = [one, other].map(|data| {
            let mut all = Vec::new();
            each_told(data, |told| all.push(told));
            all
        });
        let differing = ones.iter().zip(&others).find(|(one, other)| one != other);
        let (names, counts) = ((one.display(), other.display()), (ones.len(), others.len()));
        panic!("{names:?} tell differently: {counts:?} events, the first that differ: {differing:#?}");
    }
}

/// All that a coordinator tells of changes, as JSON, oldest first. Its rows are compressed.
#[track_caller]
fn each_told(data: &Path, mut take: impl FnMut(String)) {
    let sql = format!("SELECT hex(body) FROM {EVENTS} WHERE count > 0 ORDER BY last_index, last_n");
    let mut reading = sqlite(data, &sql).stdout(Stdio::piped()).spawn().expect("sqlite3 starts");
    for row in BufReader::new(reading.stdout.take().expect("its output")).lines() {
        let row = row.expect("a row");
        let bytes = (0..row.len()).step_by(2).map(|at| u8::from_str_radix(&row[at..at + 2], 16));
        let bytes: Vec<u8> = bytes.collect::<Result<_, _>>().expect("two digits a byte");
        let json = zstd::decode_all(&*bytes).expect("a compressed row");
        let told: Vec<Value> = serde_json::from_slice(&json).expect("a list of events");
        told.iter().for_each(|told| take(told.to_string()));
    }
    assert!(reading.wait().expect("its end").success(), "{}: {sql}", data.display());
}

/// How many rows a table has.
///
/// # Panics
/// When it cannot be read.
#[must_use]
#[track_caller]
pub fn count(data: &Path, table: &str) -> u64 {
    let count = query(data, &format!("SELECT count(*) FROM {table}"));
    count.trim().parse().unwrap_or_else(|e| panic!("{count:?}: {e}"))
}

/// What gives every row of the state, in the order of their content.
fn queries(data: &Path) -> Vec<String> {
    // SQLite's own are what its planner has learned.
    let of_state = "type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    let tables = query(data, &format!("SELECT name FROM sqlite_schema WHERE {of_state} ORDER BY name"));
    assert!(tables.contains("jobs") && tables.contains("replies"), "not a database of ours: {tables}");
    let rows = |table: &str| {
        let columns = query(data, &format!("SELECT name FROM pragma_table_info('{table}') ORDER BY cid"));
        let quoted: Vec<String> = columns.lines().map(|column| format!("quote({column})")).collect();
        let order: Vec<&str> = columns.lines().collect();
        format!("SELECT {} FROM {table} ORDER BY {}", quoted.join(", "), order.join(", "))
    };
    let counters = "SELECT counters FROM applied".to_owned();
    tables.lines().filter(|table| !OWN.contains(table)).map(rows).chain([counters]).collect()
}

/// The hash of what a query gives, which may be too much to hold.
#[track_caller]
fn digest(data: &Path, sql: &str) -> String {
    let mut reading = sqlite(data, sql).stdout(Stdio::piped()).spawn().expect("sqlite3 starts");
    let mut hashing = Command::new(find("sha256sum"));
    let digest =
        hashing.stdin(reading.stdout.take().expect("its output")).output().expect("sha256sum starts");
    let status = reading.wait().expect("its end");
    assert!(status.success() && digest.status.success(), "{}: {sql}", data.display());
    String::from_utf8(digest.stdout).expect("text")
}

#[track_caller]
fn query(data: &Path, sql: &str) -> String {
    let output = sqlite(data, sql).output().expect("sqlite3 starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {sql}: {said}", data.display());
    String::from_utf8(output.stdout).expect("text")
}

fn sqlite(data: &Path, sql: &str) -> Command {
    let mut command = Command::new(find("sqlite3"));
    command.args(["-batch", "-bail", "-noheader", "-init", "/dev/null"]);
    command.arg(data.join("coordinator.db")).arg(sql);
    command
}
