//! What befalls a host and the keepers of its runs, at random moments, and for how long.

use std::ops::Range;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use skyclaw_tests::Host;
use skyclaw_tests::keepers::{Keepers, Known};
use skyclaw_tests::net_ns::Network;

use super::witness::Kind;

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) kind: Kind,
    /// Whether it runs in a container.
    pub(crate) contained: bool,
}

/// What befalls the daemon of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Daemon {
    Spared,
    Killed,
    Frozen,
}

/// What befalls one of the processes that keep a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    Spared,
    Killed,
    Frozen,
}

/// In which directions a host is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Parted,
    Deafened,
    Muted,
    Unplugged,
}

/// What befalls the keepers of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keeping {
    pub(crate) shim: Blow,
    pub(crate) guard: Blow,
    /// What watches its container; spared where there is none, as is the next.
    pub(crate) monitor: Blow,
    /// The first process of its container, which is ours.
    pub(crate) launcher: Blow,
}

/// What befalls a host and the runs on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blows {
    pub(crate) daemon: Daemon,
    pub(crate) cut: Option<Cut>,
    pub(crate) keeping: Vec<Keeping>,
}

/// Something that is done at a moment.
enum Act {
    KillDaemon,
    StartDaemon,
    SignalDaemon(Signal),
    Cut(Cut),
    Mend,
    Signal(Known, Signal),
}

impl Keeping {
    const SPARED: Self =
        Self { shim: Blow::Spared, guard: Blow::Spared, monitor: Blow::Spared, launcher: Blow::Spared };

    fn hits_both(self) -> bool {
        self.shim != Blow::Spared && self.guard != Blow::Spared
    }
}

impl Blows {
    /// Something for a host with this work.
    ///
    /// When all that could end a run is dead or frozen at the same time, the kernel still ends its first
    /// process, and nothing is promised of what left its group: so that befalls runs of one process only. The
    /// same of a container whose first process is stopped as well: it would have to end by itself.
    pub(crate) fn draw(work: &[Work], rng: &mut StdRng) -> Self {
        loop {
            let daemon = [Daemon::Spared, Daemon::Spared, Daemon::Killed, Daemon::Frozen];
            let daemon = *daemon.choose(rng).expect("one");
            let cuts = [Cut::Parted, Cut::Deafened, Cut::Muted, Cut::Unplugged];
            let cut = rng.random_bool(0.4).then(|| *cuts.choose(rng).expect("one"));
            let keeping: Vec<_> =
                work.iter().map(|work| keeping(*work, daemon != Daemon::Spared, rng)).collect();
            let drawn = Self { daemon, cut, keeping };
            if (0..work.len()).any(|run| !drawn.spares(run)) {
                return drawn;
            }
        }
    }

    /// Whether nothing befalls this run.
    pub(crate) fn spares(&self, run: usize) -> bool {
        self.daemon == Daemon::Spared && self.cut.is_none() && !self.hits_keepers_of(run)
    }

    /// Whether something befalls who keeps this run.
    pub(crate) fn hits_keepers_of(&self, run: usize) -> bool {
        self.keeping[run] != Keeping::SPARED
    }

    /// Has it befall `host`, which is `node` of the network and has runs with these keepers. Each blow falls
    /// within `when`, and what can be undone is undone after `how_long`.
    pub(crate) fn fall(
        &self,
        host: &mut Host,
        (network, node): (&Network, usize),
        runs: &[Keepers],
        (when, how_long): (Range<u64>, Range<u64>),
        rng: &mut StdRng,
    ) {
        let mut acts: Vec<(u64, Act)> = Vec::new();
        let mut add = |first: Act, second: Option<Act>| {
            let at = rng.random_range(when.clone());
            let over = at + rng.random_range(how_long.clone());
            acts.push((at, first));
            acts.extend(second.map(|act| (over, act)));
        };
        match self.daemon {
            Daemon::Spared => {}
            Daemon::Killed => add(Act::KillDaemon, Some(Act::StartDaemon)),
            Daemon::Frozen => {
                add(Act::SignalDaemon(Signal::SIGSTOP), Some(Act::SignalDaemon(Signal::SIGCONT)));
            }
        }
        if let Some(cut) = self.cut {
            add(Act::Cut(cut), Some(Act::Mend));
        }
        for (keeping, keepers) in self.keeping.iter().zip(runs) {
            let mut all = vec![(keeping.shim, keepers.shim), (keeping.guard, keepers.guard)];
            if let Some(monitor) = keepers.monitor {
                all.extend([(keeping.monitor, monitor), (keeping.launcher, keepers.leader)]);
            }
            for (blow, who) in all {
                let signal = |signal| Act::Signal(who, signal);
                match blow {
                    Blow::Spared => {}
                    Blow::Killed => add(signal(Signal::SIGKILL), None),
                    Blow::Frozen => add(signal(Signal::SIGSTOP), Some(signal(Signal::SIGCONT))),
                }
            }
        }
        acts.sort_by_key(|(at, _)| *at);
        let start = Instant::now();
        for (at, act) in acts {
            // Not to wait for anything: this is how long a state of things lasts.
            std::thread::sleep(Duration::from_millis(at).saturating_sub(start.elapsed()));
            match act {
                Act::KillDaemon => host.kill9(),
                Act::StartDaemon => host.restart(),
                Act::SignalDaemon(signal) => host.process().signal(signal),
                Act::Cut(Cut::Parted) => network.part(node),
                Act::Cut(Cut::Deafened) => network.deafen(node),
                Act::Cut(Cut::Muted) => network.mute(node),
                Act::Cut(Cut::Unplugged) => network.unplug(node),
                Act::Mend => network.mend(),
                Act::Signal(who, signal) => who.signal(signal),
            }
        }
    }
}

fn keeping(work: Work, daemon_is_hit: bool, rng: &mut StdRng) -> Keeping {
    const OFTEN: &[Blow] = &[Blow::Spared, Blow::Spared, Blow::Killed, Blow::Frozen, Blow::Frozen];
    const RARELY: &[Blow] =
        &[Blow::Spared, Blow::Spared, Blow::Spared, Blow::Spared, Blow::Killed, Blow::Frozen];
    const NEVER: &[Blow] = &[Blow::Spared];
    let of_container = if work.contained { RARELY } else { NEVER };
    // Else hardly a run would live long enough to be ended by the loss of its host.
    if rng.random_bool(0.5) {
        return Keeping::SPARED;
    }
    loop {
        let mut draw = |blows: &[Blow]| *blows.choose(rng).expect("one");
        let drawn = Keeping {
            shim: draw(OFTEN),
            guard: draw(OFTEN),
            monitor: draw(of_container),
            launcher: draw(of_container),
        };
        let needs_another =
            if work.contained { drawn.launcher == Blow::Frozen } else { work.kind == Kind::Daemon };
        let too_much = daemon_is_hit && drawn.hits_both() && needs_another;
        if !too_much {
            return drawn;
        }
    }
}
