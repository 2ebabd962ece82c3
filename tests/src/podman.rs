//! A Podman service of a test's own: socket, images, containers and settings are nobody else's, so that
//! tests can run side by side and beside a Podman that is in use on the machine.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};

use crate::wait::{LONG, SHORT, wait_until};

/// The user whose rootless service it is, made by `tests/tools.sh`.
const USER: &str = "skyclaw-test";
/// The image that every service has: busybox, and `rooted`, which belongs to root, is setuid, and says who it runs as.
pub const IMAGE: &str = "localhost/skyclaw-test:latest";

/// Whose service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The system's.
    Root,
    /// A user's.
    Rootless,
}

/// A running service. Its containers, images and processes go with it.
#[derive(Debug)]
pub struct Service {
    who: Who,
    user: User,
    dir: tempfile::TempDir,
    child: Option<Child>,
}

impl Service {
    /// Starts one and gives it the image.
    ///
    /// # Panics
    /// When the machine lacks what `tests/tools.sh` installs.
    #[must_use]
    pub fn start(who: Who) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "tests with Podman must be run by root");
        let user = if who == Who::Root { "root" } else { USER };
        let user = User::from_name(user).expect("users can be looked up");
        let user = user.expect("the user of the tests exists: run tests/tools.sh");
        let dir = tempfile::Builder::new().prefix("skyclaw-podman-").tempdir_in("/tmp").expect("a folder");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).expect("its mode");
        let mut service = Self { who, user, dir, child: None };
        service.furnish();
        service.import();
        service.serve();
        service
    }

    /// Whose it is.
    #[must_use]
    pub fn who(&self) -> Who {
        self.who
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.at("own/sock")
    }

    /// A folder that a test may use; removed with the service. The service's user can go through it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs the command line with the same containers and images.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn podman(&self, args: &[&str]) -> Output {
        self.command().args(args).output().expect("podman starts")
    }

    /// The same for what must go well; returns what it said.
    ///
    /// # Panics
    /// When it fails.
    pub fn podman_ok(&self, args: &[&str]) -> String {
        let done = self.podman(args);
        assert!(done.status.success(), "podman {args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }

    /// The names of all containers there are.
    #[must_use]
    pub fn containers(&self) -> Vec<String> {
        let all = self.podman_ok(&["ps", "--all", "--format", "{{.Names}}"]);
        all.lines().map(str::to_owned).collect()
    }

    /// Kills the service as a crash would. Its containers run on.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A rootless one serves from a child in a namespace of its own.
            let pid = child.id();
            let served = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            for pid in served.split_whitespace().filter_map(|pid| pid.parse().ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let _ = child.kill();
            let _ = child.wait();
            let _ = fs::remove_file(self.socket());
        }
    }

    /// Starts it again after it was killed.
    ///
    /// # Panics
    /// When it does not listen.
    pub fn serve(&mut self) {
        let log = fs::File::create(self.at("own/log")).expect("a log");
        let url = format!("unix://{}", self.socket().display());
        let mut command = self.command();
        command.args(["system", "service", "--time=0", &url]).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(log).spawn().expect("podman starts");
        self.child = Some(child);
        wait_until("the service listens", LONG, || {
            std::os::unix::net::UnixStream::connect(self.socket()).ok()
        });
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn furnish(&self) {
        for (name, mode) in [("own", 0o700), ("own/runtime", 0o700)] {
            let path = self.at(name);
            fs::create_dir(&path).expect("a folder");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
            chown(&path, Some(self.user.uid.as_raw()), Some(self.user.gid.as_raw())).expect("its owner");
        }
        // runc, as crun refuses machines that have both versions of control groups. Locks of its own: they
        // are the machine's otherwise. Limits that may be set without being allowed to raise them.
        let settings = "[containers]\n\
             default_ulimits = [\"nofile=4096:4096\", \"nproc=2048:2048\"]\n\
             [engine]\n\
             runtime = \"runc\"\n\
             cgroup_manager = \"cgroupfs\"\n\
             events_logger = \"file\"\n\
             lock_type = \"file\"\n\
             [network]\n\
             network_backend = \"netavark\"\n";
        fs::write(self.at("containers.conf"), settings).expect("settings");
        // No name leads to a registry of the outside.
        self.may_pull_from(&[]);
        let (root, run) = (self.at("own/root"), self.at("own/run"));
        let settings = format!("[storage]\ndriver = \"overlay\"\ngraphroot = {root:?}\nrunroot = {run:?}\n");
        fs::write(self.at("storage.conf"), settings).expect("settings");
    }

    /// Lets it fetch from these registries, without encryption. Known to what is started after this.
    ///
    /// # Panics
    /// When that cannot be written down.
    pub fn may_pull_from(&self, registries: &[&str]) {
        let insecure =
            registries.iter().map(|at| format!("[[registry]]\nlocation = {at:?}\ninsecure = true\n"));
        let settings =
            insecure.fold("unqualified-search-registries = []\n".to_owned(), |all, one| all + &one);
        fs::write(self.at("registries.conf"), settings).expect("settings");
    }

    /// No registry is asked: the image is made of what the machine has.
    fn import(&self) {
        let root = self.at("image");
        for name in ["bin", "tmp", "etc", "data"] {
            fs::create_dir_all(root.join(name)).expect("a folder");
        }
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("its mode");
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        let busybox = busybox.expect("busybox is installed: run tests/tools.sh");
        let there = root.join("bin/busybox");
        fs::copy(busybox, &there).expect("busybox");
        // Not the copy: it may still be open for writing in a process that another test has just forked.
        let applets = Command::new(busybox).arg("--list").output().expect("busybox lists its programs");
        for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|name| *name != "busybox") {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("a link");
        }
        let source = self.at("rooted.c");
        fs::write(
            &source,
            "#include <stdio.h>\n#include <unistd.h>\nint main() { printf(\"%d\\n\", geteuid()); }\n",
        )
        .expect("a source");
        let rooted = root.join("bin/rooted");
        let built = Command::new("cc").arg("-static").arg("-o").arg(&rooted).arg(&source).status();
        assert!(built.expect("cc starts").success(), "cc builds a program");
        fs::set_permissions(&rooted, fs::Permissions::from_mode(0o4755)).expect("its mode");
        self.import_as(&root, IMAGE);
    }

    /// The settings of a host that runs jobs with this service: the image, and where it finds and keeps what.
    #[must_use]
    pub fn settings(&self, host: &str) -> [(&'static str, String); 3] {
        let text = |path: PathBuf| path.display().to_string();
        [
            ("SKYCLAW_PODMAN_IMAGES", IMAGE.to_owned()),
            ("SKYCLAW_PODMAN_SOCKET", text(self.socket())),
            ("SKYCLAW_PODMAN_RUN_DIR", text(self.dir().join(format!("runs-{host}")))),
        ]
    }

    /// A folder that belongs to the service's user, who alone can look into it.
    #[must_use]
    pub fn own_dir(&self) -> PathBuf {
        self.at("own")
    }

    /// Any program, as the service's user.
    #[must_use]
    pub fn as_user(&self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        let (uid, gid) = (self.user.uid.to_string(), self.user.gid.to_string());
        command.args(["--reuid", &uid, "--regid", &gid, "--init-groups"]).arg(program);
        command
    }

    /// The command line, with the same containers and images.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = self.as_user(Path::new("podman"));
        for (option, name) in [("--root", "own/root"), ("--runroot", "own/run"), ("--tmpdir", "own/tmp")] {
            command.arg(option).arg(self.at(name));
        }
        command
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &self.user.dir)
            .env("XDG_RUNTIME_DIR", self.at("own/runtime"))
            .env("CONTAINERS_CONF", self.at("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", self.at("storage.conf"))
            .env("CONTAINERS_REGISTRIES_CONF", self.at("registries.conf"));
        command
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.podman(&["rm", "--all", "--force", "--time", "0"]);
        self.kill();
        // Rootless Podman keeps a process that holds its namespaces.
        if let Ok(pid) = fs::read_to_string(self.at("own/tmp/pause.pid"))
            && let Ok(pid) = pid.trim().parse()
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        // What ended just now is still being cleared up, by processes that would make folders anew.
        let start = Instant::now();
        while self.is_in_use() && start.elapsed() < SHORT {
            std::thread::sleep(Duration::from_millis(10));
        }
        for mount in self.mounts() {
            let _ = nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

impl Service {
    /// Whether a process of Podman's works on its containers.
    fn is_in_use(&self) -> bool {
        let own = self.own_dir().display().to_string();
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let lines = all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        lines.into_iter().any(|line| String::from_utf8_lossy(&line).contains(&own))
    }

    /// What is still mounted below its folder, the innermost first.
    #[must_use]
    pub fn mounts(&self) -> Vec<PathBuf> {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let places = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        let mut found: Vec<_> = places.filter(|place| place.starts_with(self.dir.path())).collect();
        found.reverse();
        found
    }

    /// Whether a process is there and has not ended.
    #[must_use]
    pub fn is_alive(pid: u32) -> bool {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        let state = |stat: &str| stat.rsplit_once(") ").map(|(_, rest)| rest.starts_with(['Z', 'X']));
        stat.is_ok_and(|stat| state(&stat) == Some(false))
    }

    /// Kills a process.
    ///
    /// # Errors
    /// When there is none.
    pub fn kill_process(pid: u32) -> io::Result<()> {
        let pid = i32::try_from(pid).map_err(io::Error::other)?;
        Ok(kill(Pid::from_raw(pid), Signal::SIGKILL)?)
    }
}
