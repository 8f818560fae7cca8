//! Files on NFS.

use super::facts::{Facts, Module};
use crate::model::{Finding, Verdict};

const AREA: &str = "nfs";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let needed = if facts.attached("nfs", None) > 0 { Verdict::Failure } else { Verdict::Warning };
    vec![tool(facts, needed), module(facts, needed)]
}

fn tool(facts: &Facts, needed: Verdict) -> Finding {
    const CHECK: &str = "nfs-common";
    match facts.host.programs.get("mount.nfs") {
        None => Finding::unknown(AREA, CHECK, "the path was not looked at"),
        Some(true) => Finding::ok(AREA, CHECK, "mount.nfs is installed"),
        Some(false) => {
            let message = "mount.nfs is not installed: no export can be mounted";
            Finding::new(AREA, CHECK, needed, message, "apt-get install nfs-common")
        }
    }
}

fn module(facts: &Facts, needed: Verdict) -> Finding {
    const CHECK: &str = "kernel module nfs";
    match facts.host.modules.get("nfs") {
        None => Finding::unknown(AREA, CHECK, "it is not loaded, and the folder of modules cannot be seen from here"),
        Some(Module::Loaded) => Finding::ok(AREA, CHECK, "loaded"),
        Some(Module::Available) => Finding::ok(AREA, CHECK, "not loaded yet; the first mount loads it"),
        Some(Module::Absent) => {
            let remedy = "apt-get install linux-image-amd64 and boot it";
            Finding::new(AREA, CHECK, needed, "this kernel has no NFS client", remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_the_client_is_told_what_to_install() {
        let mut facts = Facts::default();
        facts.host.programs.insert("mount.nfs", false);
        facts.host.modules.insert("nfs", Module::Absent);
        let findings = check(&facts);
        assert_eq!(findings[0].remedy, "apt-get install nfs-common");
        assert_eq!(findings[1].verdict, Verdict::Warning);
    }
}
