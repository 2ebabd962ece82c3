//! A machine of its own, with systemd as its first process, for tests of units: a container that shares with this machine
//! what is below `/usr`, and nothing else. All of `/etc`, `/var` and `/run` is made anew by systemd's own tools when it
//! boots, which takes a second or two.
//!
//! What always holds:
//! - Nothing that is written there reaches this machine: `/usr` is the lower part of an overlay, the rest is in memory.
//! - What would change the kernel for this machine as well (its settings, modules, devices) is not started there.
//! - The network is its own and leads nowhere.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::ctl::Ran;
use crate::net_ns::find;
use crate::process::binary;
use crate::wait::{LONG, wait_until};

/// Units that reach for the kernel or the devices of the machine below, or wait for people.
const MASKED: [&str; 22] = [
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "getty.target",
    "kmod-static-nodes.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-logind.service",
    "systemd-modules-load.service",
    "systemd-networkd.service",
    "systemd-random-seed.service",
    "systemd-sysctl.service",
    "systemd-timesyncd.service",
    "systemd-udev-trigger.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udevd.service",
];
/// Where the built programs are there.
const PROGRAMS: &str = "/opt/skyclaw";

/// A running machine. It goes with this value.
#[derive(Debug)]
pub struct Machine {
    name: String,
    /// Settings of Podman, and the file system of the machine.
    dir: tempfile::TempDir,
}

impl Machine {
    /// Boots one that has the built programs in `/usr/bin`.
    ///
    /// # Panics
    /// When it does not come up, or this machine lacks what `tests/tools.sh` installs.
    #[must_use]
    pub fn boot() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("skyclaw-machine-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::Builder::new().prefix("skyclaw-machine-").tempdir_in("/tmp").expect("a folder");
        let machine = Self { name, dir };
        machine.furnish();
        let built = binary("skyclawd");
        let built = built.parent().expect("a folder of programs");
        let programs = format!("{}:{PROGRAMS}:ro", built.display());
        // Credentials are mounted by a helper of systemd's, whose mounts must be seen by all; a container's root is not
        // shared by itself.
        let init = "mount --make-rshared / && exec /lib/systemd/systemd";
        let mut run = machine.podman();
        run.args(["run", "--detach", "--name", &machine.name, "--privileged", "--systemd=always"]);
        run.args(["--network", "none", "--volume", &programs, "--rootfs"]).arg(machine.root());
        let output = run.args(["/bin/sh", "-c", init]).output().expect("podman starts: run tests/tools.sh");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        wait_until("the machine is up", LONG, || {
            let state = machine.run(&["systemctl", "is-system-running"]).stdout;
            matches!(state.trim(), "running" | "degraded").then_some(())
        });
        machine
    }

    fn furnish(&self) {
        let at = |name: &str| self.dir.path().join(name);
        for name in ["disk", "store", "run"] {
            fs::create_dir(at(name)).expect("a folder");
        }
        let size = Some("size=256m,mode=755");
        mount(Some("tmpfs"), &at("disk"), Some("tmpfs"), MsFlags::empty(), size).expect("a disk in memory");
        for name in ["upper", "work", "root/usr", "root/etc/systemd/system", "root/var", "root/run"] {
            fs::create_dir_all(at("disk").join(name)).expect("a folder");
        }
        for name in ["tmp", "proc", "sys", "dev", "root", "opt/skyclaw"] {
            fs::create_dir_all(self.root().join(name)).expect("a folder");
        }
        for name in ["bin", "sbin", "lib", "lib64", "lib32", "libx32"] {
            if Path::new("/").join(name).is_symlink() {
                symlink(format!("usr/{name}"), self.root().join(name)).expect("a link");
            }
        }
        let layers = format!(
            "lowerdir=/usr,upperdir={},workdir={}",
            at("disk/upper").display(),
            at("disk/work").display()
        );
        mount(
            Some("overlay"),
            &self.root().join("usr"),
            Some("overlay"),
            MsFlags::empty(),
            Some(layers.as_str()),
        )
        .expect("an overlay over /usr");
        for program in ["skyclawd", "skyclaw-hostd", "skyctl"] {
            let installed = self.root().join("usr/bin").join(program);
            let _ = fs::remove_file(&installed);
            symlink(format!("{PROGRAMS}/{program}"), installed).expect("a link");
        }
        // Made up when it boots.
        self.write("/etc/machine-id", "");
        // What the kernel says is said to all machines that it runs.
        self.write("/etc/systemd/journald.conf", "[Journal]\nReadKMsg=no\nForwardToKMsg=no\n");
        for unit in MASKED {
            symlink("/dev/null", self.root().join("etc/systemd/system").join(unit)).expect("a link");
        }
        self.configure();
    }

    fn configure(&self) {
        let at = |name: &str| self.dir.path().join(name);
        // Limits are those that need no rights over this machine's.
        let settings = "[containers]\n\
             default_ulimits = [\"nofile=4096:4096\", \"nproc=2048:2048\"]\n\
             [engine]\n\
             runtime = \"runc\"\n\
             cgroup_manager = \"cgroupfs\"\n\
             events_logger = \"file\"\n\
             lock_type = \"file\"\n\
             [network]\n\
             network_backend = \"netavark\"\n";
        fs::write(at("containers.conf"), settings).expect("settings");
        let (root, run) = (at("store"), at("run"));
        let settings = format!("[storage]\ndriver = \"vfs\"\ngraphroot = {root:?}\nrunroot = {run:?}\n");
        fs::write(at("storage.conf"), settings).expect("settings");
    }

    fn podman(&self) -> Command {
        let mut podman = Command::new(find("podman"));
        podman
            .env("CONTAINERS_CONF", self.dir.path().join("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", self.dir.path().join("storage.conf"))
            .stdin(Stdio::null());
        podman
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("disk/root")
    }

    /// Writes a file there.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, path: &str, text: &str) {
        self.write_with(path, text, 0o644);
    }

    /// Writes a file there that root alone can read.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write_secret(&self, path: &str, text: &str) {
        self.write_with(path, text, 0o600);
    }

    fn write_with(&self, path: &str, text: &str, mode: u32) {
        let path = self.root().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        let mut file = fs::File::create(&path).expect("a file");
        file.set_permissions(Permissions::from_mode(mode)).expect("its mode");
        file.write_all(text.as_bytes()).expect("written");
    }

    /// Installs a file of this repository there, for all to read.
    ///
    /// # Panics
    /// When there is none.
    pub fn install(&self, from: &str, to: &str) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(from);
        let text =
            fs::read_to_string(&source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        self.write(to, &text);
    }

    /// Runs a program there as root, and waits for its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Ran {
        let output = self.podman().args(["exec", &self.name]).args(args).output().expect("podman starts");
        let Output { status, stdout, stderr } = output;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) }
    }

    /// Runs a script of bash there.
    #[must_use]
    pub fn script(&self, script: &str) -> Ran {
        self.run(&["bash", "-c", script])
    }

    /// Starts a script of bash there, whose output can be read when it has ended.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn begin(&self, script: &str) -> Child {
        let mut podman = self.podman();
        podman.args(["exec", &self.name, "bash", "-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
        podman.spawn().expect("podman starts")
    }

    /// A property of a unit.
    #[must_use]
    #[track_caller]
    pub fn property(&self, unit: &str, property: &str) -> String {
        self.run(&["systemctl", "show", "--value", "--property", property, unit]).ok().trim().to_owned()
    }

    /// What a unit has logged.
    #[must_use]
    pub fn journal(&self, unit: &str) -> String {
        self.run(&["journalctl", "--no-pager", "--output", "cat", "--unit", unit]).stdout
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.run(&["journalctl", "--no-pager", "--lines", "80"]);
            eprintln!("--- the end of the machine's journal:\n{}{}", log.stdout, log.stderr);
        }
        let _ = self.podman().args(["rm", "--force", "--time", "0", &self.name]).output();
        for place in ["disk/root/usr", "disk"] {
            let _ = umount2(&self.dir.path().join(place), MntFlags::MNT_DETACH);
        }
    }
}
