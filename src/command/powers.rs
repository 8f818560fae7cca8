//! What a child keeps of the agent's capabilities: by its program, and none unless it is named here.
//!
//! The child is started by a thread that has given up the rest. A program of user 0 would get all of the bounding set back when it is
//! executed (capabilities(7)), but not where no new privileges may be gained, which that thread settles too: it needs no capability.

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs};
use std::{io, thread};
use tokio::{
    process::{Child, Command},
    runtime::Handle,
};

/// What a program keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// What the agent has.
    All,
    /// Of what the agent has, these.
    Only(CapabilitySet),
}

fn kept(program: &str) -> Kept {
    match program {
        // The kernel's storage obeys nobody else.
        "iscsiadm" | "dmsetup" | "lvcreate" | "lvremove" | "lvs" | "vgs" | "mount" | "umount" | "rbd" => Kept::All,
        // Writes into /sys/bus/rbd, which asks for it.
        "tee" => Kept::Only(CapabilitySet::SYS_ADMIN),
        // Disks, which libvirt gives to QEMU's user while a guest has them, and keyrings, which may be another's. `prlimit` runs qemu-img.
        "qemu-img" | "prlimit" | "head" | "stat" | "ceph" => Kept::Only(CapabilitySet::DAC_OVERRIDE),
        _ => Kept::Only(CapabilitySet::empty()),
    }
}

/// Starts `command`, whose program this is, with no more than that keeps.
pub(super) fn spawn(program: &str, command: &mut Command) -> io::Result<Child> {
    let Kept::Only(kept) = kept(program) else { return command.spawn() };
    let runtime = Handle::try_current().map_err(io::Error::other)?;
    // Capabilities are a thread's own: those of the others stay.
    let start = || {
        let _entered = runtime.enter();
        set_no_new_privs(true)?;
        let kept = capabilities(None)?.permitted & kept;
        set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() })?;
        command.spawn()
    };
    let started = thread::scope(|scope| {
        let thread = thread::Builder::new().name("starts-command".to_owned()).spawn_scoped(scope, start)?;
        thread.join().map_err(|_| io::Error::other("the thread that starts it died"))
    });
    started?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::run;
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_secs(60);

    /// What /proc says in these lines, of a child or of this thread.
    fn lines(status: &str) -> Vec<String> {
        let is_meant = |line: &&str| ["CapInh", "CapPrm", "CapEff", "CapAmb"].iter().any(|name| line.starts_with(name));
        status.lines().filter(is_meant).map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn a_child_has_no_capability_and_nothing_of_the_environment_but_the_path() {
        let own = || std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let before = own();
        let seen = run("cat", &["--", "/proc/self/status"], LIMIT).await.unwrap();
        let of_child = String::from_utf8(seen.stdout).unwrap();
        assert_eq!(lines(&of_child).len(), 4, "{of_child}");
        assert!(lines(&of_child).iter().all(|line| line.ends_with("\t0000000000000000")), "{of_child}");
        assert!(of_child.contains("NoNewPrivs:\t1"), "{of_child}");
        assert_eq!(lines(&own()), lines(&before), "this thread's own stay");

        let seen = run("env", &[""; 0], LIMIT).await.unwrap();
        let environment = String::from_utf8(seen.stdout).unwrap();
        let mut names: Vec<&str> = environment.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
        names.sort_unstable();
        assert_eq!(names, ["LC_ALL", "PATH"], "{environment}");
    }

    #[tokio::test]
    async fn one_that_reads_the_files_of_others_has_that_power_alone() {
        let own = capabilities(None).unwrap().permitted;
        let seen = run("head", &["--", "/proc/self/status"], LIMIT).await.unwrap();
        assert_eq!(seen.code, Some(0));
        let seen = run("prlimit", &["--as=2147483648", "--", "cat", "/proc/self/status"], LIMIT).await.unwrap();
        let of_child = String::from_utf8(seen.stdout).unwrap();
        let kept = (own & CapabilitySet::DAC_OVERRIDE).bits();
        assert!(of_child.contains(&format!("CapEff:\t{kept:016x}")), "{of_child}");
    }

    #[test]
    fn only_what_talks_to_the_kernels_storage_keeps_all() {
        for program in ["mkfs.ext4", "mkfs.xfs", "mkfs.vfat", "mkswap", "blkdiscard", "journalctl", "sh"] {
            assert_eq!(kept(program), Kept::Only(CapabilitySet::empty()), "{program}");
        }
        for program in ["iscsiadm", "rbd", "mount", "lvcreate"] {
            assert_eq!(kept(program), Kept::All, "{program}");
        }
    }
}
