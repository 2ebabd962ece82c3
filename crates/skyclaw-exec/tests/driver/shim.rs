//! The shim, for the tests of this crate.

fn main() -> std::process::ExitCode {
    skyclaw_exec::shim::main()
}
