//! What systemd's own tools say of the units. Nothing is started.

use std::path::Path;
use std::process::Command;

use super::{COORDINATOR, HOST};

/// How exposed systemd finds a unit, from 0.0 to 10.0, in tenths.
fn exposure(unit: &str) -> u32 {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd").join(unit);
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=true", "--no-pager"]).arg(file);
    let output = analyze.output().expect("systemd-analyze starts: run tests/tools.sh");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let level =
        said.lines().find_map(|line| line.split_once("Overall exposure level for ")?.1.split_once(": "));
    let (_, level) = level.unwrap_or_else(|| panic!("no level in {said}"));
    let digits: String = level.split(' ').next().unwrap_or_default().replace('.', "");
    digits.parse().unwrap_or_else(|error| panic!("{level}: {error}"))
}

#[test]
fn the_coordinators_unit_is_hardly_exposed() {
    let tenths = exposure(COORDINATOR);
    assert!((1..=20).contains(&tenths), "{tenths} tenths");
}

#[test]
fn the_hosts_unit_is_not_more_exposed_than_it_must_be() {
    let tenths = exposure(HOST);
    assert!((1..=89).contains(&tenths), "{tenths} tenths");
}
