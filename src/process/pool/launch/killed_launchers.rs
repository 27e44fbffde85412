//! Process groups of launchers that were killed.
//!
//! `srun` has a helper process that ends its job when `srun` itself cannot. Killing that at once would leave the job in
//! Slurm for ever, so the rest of the group is killed a moment later, if any is left by then. Until then the launcher
//! is not reaped, so that its number is not given to another group.

use std::collections::HashSet;
#[cfg(target_os = "linux")]
use std::path::Path;
use std::time::{Duration, Instant};

use crate::process::pool::launch::child::ChildProcess;

const GRACE: Duration = Duration::from_secs(2);
/// How often to look whether anything is left.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

#[derive(Default)]
pub(crate) struct KilledLaunchers {
    launchers: Vec<(ChildProcess, Instant)>,
    next_look: Option<Instant>,
}

impl KilledLaunchers {
    /// Takes in a launcher that has ended, and was not reaped.
    pub(crate) fn keep(&mut self, launcher: ChildProcess, now: Instant) {
        self.launchers.push((launcher, now + GRACE));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.launchers.is_empty()
    }

    /// Kills the groups whose time is over, and forgets those of which nothing is left. Returns when to do so again.
    pub(crate) fn sweep(&mut self, now: Instant) -> Option<Instant> {
        self.launchers.retain(|(launcher, until)| {
            if *until <= now {
                launcher.kill();
                launcher.reap();
            }
            *until > now
        });
        // One look serves all of them, of which there may be many.
        if !self.is_empty() && self.next_look.is_none_or(|at| at <= now) {
            self.forget_those_that_are_alone();
            self.next_look = Some(now + CHECK_INTERVAL);
        }
        let next_look = self.next_look.filter(|_| !self.is_empty());
        self.launchers.iter().map(|&(_, until)| until).chain(next_look).min()
    }

    fn forget_those_that_are_alone(&mut self) {
        // If that cannot be seen, each keeps its time.
        let Some(alive) = groups_alive() else { return };
        self.launchers.retain(|(launcher, _)| {
            let has_left_others = alive.contains(&launcher.number());
            if !has_left_others {
                launcher.reap();
            }
            has_left_others
        });
    }
}

/// The groups in which a process is alive, or `None` if that cannot be seen.
#[cfg(target_os = "linux")]
fn groups_alive() -> Option<HashSet<i32>> {
    // The `/proc` of another PID namespace has other numbers.
    let is_ours = std::fs::read_link("/proc/self").is_ok_and(|own| own == Path::new(&std::process::id().to_string()));
    let processes = std::fs::read_dir("/proc").ok().filter(|_| is_ours)?.flatten();
    // Some entries are no processes, and some processes are gone by now.
    let stats = processes.filter_map(|process| std::fs::read(process.path().join("stat")).ok());
    Some(stats.filter_map(|stat| group_alive(&String::from_utf8_lossy(&stat))).collect())
}

#[cfg(not(target_os = "linux"))]
fn groups_alive() -> Option<HashSet<i32>> {
    None
}

/// The group of a process, unless that has ended and was not reaped.
#[cfg(target_os = "linux")]
fn group_alive(stat: &str) -> Option<i32> {
    // The name of the process comes before that, and may contain anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    let is_alive = !["Z", "X"].contains(&words.next()?);
    words.nth(1).filter(|_| is_alive)?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::{CHECK_INTERVAL, GRACE, KilledLaunchers, group_alive};
    use std::fs;
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};
    use std::thread;
    use std::time::{Duration, Instant};

    use rustix::process::{Pid, Signal, getpgrp, kill_process};

    use crate::process::pool::launch::child::ChildProcess;

    /// Starts a launcher that prints a process id and is then killed; returns both.
    fn killed(group: i32, script: &str) -> (ChildProcess, Pid) {
        let mut command = Command::new("sh");
        command.args(["-c", script]).process_group(group).stdout(Stdio::piped());
        let output = |child: &mut Child| Ok(child.stdout.take().unwrap());
        let (launcher, output) = ChildProcess::adopt(command.spawn().unwrap(), output).unwrap();
        let mut number = String::new();
        BufReader::new(output).read_line(&mut number).unwrap();
        eventually(|| launcher.exit().is_some());
        (launcher, Pid::from_raw(number.trim().parse().unwrap()).unwrap())
    }

    fn eventually(mut holds: impl FnMut() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < Duration::from_secs(60));
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn stat(process: Pid) -> Option<String> {
        fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()
    }

    #[test]
    fn a_launcher_of_which_nothing_is_left_is_not_waited_for() {
        let (mut killed_launchers, now) = (KilledLaunchers::default(), Instant::now());
        // One with a group of its own, and one that was killed before it had one.
        for group in [0, getpgrp().as_raw_nonzero().get()] {
            let (launcher, number) = killed(group, "echo $$; kill -KILL $$");
            assert!(stat(number).is_some(), "it is not reaped");
            killed_launchers.keep(launcher, now);
            killed_launchers.next_look = None;
            assert_eq!(killed_launchers.sweep(now), None);
            assert!(killed_launchers.is_empty() && stat(number).is_none());
        }
    }

    #[test]
    fn what_a_launcher_has_left_behind_has_a_moment_to_end() {
        let (mut killed_launchers, now) = (KilledLaunchers::default(), Instant::now());
        let script = "sleep 1000 >&2 & echo $!; kill -KILL $$";
        let ((one, ends), (other, stays)) = (killed(0, script), killed(0, script));
        killed_launchers.keep(one, now);
        killed_launchers.keep(other, now);
        assert_eq!(killed_launchers.sweep(now), Some(now + CHECK_INTERVAL));
        assert_eq!(killed_launchers.launchers.len(), 2);
        kill_process(ends, Signal::KILL).unwrap();
        eventually(|| {
            killed_launchers.next_look = None;
            killed_launchers.sweep(now);
            killed_launchers.launchers.len() == 1
        });
        let is_alive = || stat(stays).is_some_and(|stat| group_alive(&stat).is_some());
        assert!(is_alive());
        assert_eq!(killed_launchers.sweep(now + GRACE), None);
        eventually(|| !is_alive());
    }
}
