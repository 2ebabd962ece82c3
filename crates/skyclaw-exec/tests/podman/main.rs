//! Runs in real Podman: the system's service and a user's. Every test ends with nothing of it left.

#![cfg(test)]

mod escapes;
mod faults;
mod kept;
mod kit;
mod limits;
mod pool;
mod refusals;
mod runs;
mod shared;
mod unprivileged;

/// Makes of each a test with the system's service and one with a user's.
macro_rules! with_both {
    ($($name:ident),* $(,)?) => {
        mod root {
            $(#[test] fn $name() { super::super::kit::check(skyclaw_tests::podman::Who::Root, super::$name); })*
        }
        mod rootless {
            $(#[test] fn $name() { super::super::kit::check(skyclaw_tests::podman::Who::Rootless, super::$name); })*
        }
    };
}
pub(crate) use with_both;
