//! Builds the launcher that containers start with: a program of its own, linked statically, so that it
//! runs in an image of any libc or none. It is compiled here because it is part of the driver's bytes.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=launcher/main.rs");
    println!("cargo:rerun-if-changed=build.rs");
    let needed = |name: &str| match std::env::var_os(name) {
        Some(value) => value,
        None => fail(&format!("cargo did not set {name}")),
    };
    let output = PathBuf::from(needed("OUT_DIR")).join("launcher");
    let mut rustc = Command::new(needed("RUSTC"));
    rustc
        .args(["--edition", "2024", "--crate-name", "skyclaw_launcher", "--crate-type", "bin"])
        .args(["-C", "opt-level=s", "-C", "panic=abort", "-C", "strip=symbols", "-C", "lto=fat"])
        .args(["-C", "embed-bitcode=yes", "-C", "target-feature=+crt-static"])
        .arg("--target")
        .arg(needed("TARGET"))
        .arg("-o")
        .arg(&output)
        .arg("launcher/main.rs");
    if let Some(linker) = std::env::var_os("RUSTC_LINKER") {
        let mut option = std::ffi::OsString::from("linker=");
        option.push(linker);
        rustc.arg("-C").arg(option);
    }
    match rustc.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!(
            "the launcher of containers could not be built ({status}); it is linked statically, which \
             needs the static C library (Debian: libc6-dev, Fedora: glibc-static)"
        )),
        Err(error) => fail(&format!("rustc could not be started: {error}")),
    }
}

fn fail(why: &str) -> ! {
    eprintln!("error: {why}");
    std::process::exit(1)
}
