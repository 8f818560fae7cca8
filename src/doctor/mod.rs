//! What this host can do, and what is missing for each protocol, in plain words with the command that mends it.
//!
//! ```text
//! gather (files, sockets, /proc, /sys)  --\
//!                                          Facts --> one small pure check each --> Findings
//! the agent (libvirt, the cloud)        --/
//! ```
//! It starts no process and changes nothing, but that an agent whose ephemeral disks are on RBD makes and removes a small image. It runs in the agent, which may see more of the host than its caller, and in the command,
//! which has no sandbox and is there when the agent is not. Whatever could not be seen is `unknown`, never a fault, so
//! that [`merge`] can take the better sight of the two.

mod agent;
pub mod facts;
mod gather;
mod iscsi;
mod lvm;
mod multipath;
mod nfs;
mod rbd;
mod room;

pub use gather::{file, gather};

use crate::model::{Finding, Verdict};
use facts::Facts;

/// Everything that can be said from these facts, area by area.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let areas = [iscsi::check, multipath::check, nfs::check, rbd::check, lvm::check, room::check, agent::check];
    areas.iter().flat_map(|check| check(facts)).collect()
}

/// The agent's findings, and for what it could not see, or said nothing of, the caller's own.
pub fn merge(agent: Vec<Finding>, own: Vec<Finding>) -> Vec<Finding> {
    let mut merged = own;
    for finding in agent {
        match merged.iter_mut().find(|own| (&own.area, &own.check) == (&finding.area, &finding.check)) {
            Some(own) if finding.verdict == Verdict::Unknown => {
                tracing::debug!(check = own.check, "the agent cannot see it");
            }
            Some(own) => *own = finding,
            None => merged.push(finding),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_sight_wins() {
        let agent = vec![Finding::unknown("iscsi", "module", "hidden"), Finding::ok("iscsi", "name", "iqn.a")];
        let own = vec![Finding::ok("iscsi", "module", "loaded"), Finding::unknown("iscsi", "name", "not root")];
        let merged = merge(agent, own);
        assert_eq!(merged.iter().map(|finding| finding.message.as_str()).collect::<Vec<_>>(), ["loaded", "iqn.a"]);
    }

    #[test]
    fn nothing_known_is_no_fault() {
        for finding in examine(&Facts::default()) {
            assert_eq!(finding.verdict, Verdict::Unknown, "{finding:?}");
        }
    }
}
