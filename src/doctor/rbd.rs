//! Ceph RBD, opened by QEMU or mapped by the kernel.

use super::facts::{Facts, FileFact, Module};
use crate::model::{Finding, Verdict};

const AREA: &str = "rbd";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let is_needed = facts.attached("rbd", None) > 0 || disk_pool(facts).is_some();
    let needed = if is_needed { Verdict::Failure } else { Verdict::Warning };
    let mut findings = vec![tool(facts, needed), qemu(facts, needed), module(facts), conf(facts), keyrings(facts)];
    findings.extend(disk_pool(facts));
    findings.extend(set_files(facts));
    findings
}

fn in_kernel(facts: &Facts) -> bool {
    facts.agent.as_ref().is_some_and(|agent| agent.rbd_in_kernel)
}

fn module(facts: &Facts) -> Finding {
    const CHECK: &str = "kernel module rbd";
    match facts.host.modules.get("rbd") {
        None => Finding::unknown(AREA, CHECK, "it is not loaded, and the folder of modules cannot be seen from here"),
        Some(Module::Loaded) => Finding::ok(AREA, CHECK, "loaded"),
        Some(Module::Available) => Finding::ok(AREA, CHECK, "not loaded yet; rbd loads it when it maps an image"),
        Some(Module::Absent) if in_kernel(facts) || facts.attached("rbd", Some("kernel")) > 0 => {
            let remedy = "apt-get install linux-image-amd64 and boot it, or set rbd.client = \"qemu\"";
            Finding::new(AREA, CHECK, Verdict::Failure, "this kernel has no such module", remedy)
        }
        Some(Module::Absent) => Finding::ok(AREA, CHECK, "this kernel has none; QEMU opens images itself"),
    }
}

/// The pool of ephemeral disks, where the settings want one.
fn disk_pool(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "pool of ephemeral disks";
    Some(match facts.agent.as_ref()?.disk_pool.as_ref()? {
        Ok(()) => Finding::ok(AREA, CHECK, "an image can be made there, and removed"),
        Err(problem) => {
            let remedy = "see images.rbd_pool, rbd.user, rbd.keyring_file and rbd.conf_file in the settings";
            Finding::new(AREA, CHECK, Verdict::Failure, problem.clone(), remedy)
        }
    })
}

/// What the settings name must be there, and be for nobody else to read if it is a key.
fn set_files(facts: &Facts) -> Vec<Finding> {
    let Some(agent) = &facts.agent else { return vec![] };
    let finding = |(key, path, file): &(&'static str, std::path::PathBuf, Option<FileFact>)| {
        let path = path.display();
        match file {
            None => Finding::unknown(AREA, key, format!("{path} cannot be seen from here")),
            Some(FileFact::Absent) => {
                let remedy = format!("put it there, or take {key} out of the settings");
                Finding::new(AREA, key, Verdict::Failure, format!("{path} is not there"), remedy)
            }
            Some(FileFact::There { mode, .. }) if *key == "rbd.keyring_file" && mode & 0o007 != 0 => {
                let message = format!("any user of this host can read the key in {path}");
                Finding::new(AREA, key, Verdict::Warning, message, format!("chmod o-rwx {path}"))
            }
            Some(FileFact::There { .. }) => Finding::ok(AREA, key, format!("{path} is there")),
        }
    };
    agent.ceph_files.iter().map(finding).collect()
}

fn tool(facts: &Facts, needed: Verdict) -> Finding {
    const CHECK: &str = "ceph-common";
    match facts.host.programs.get("rbd") {
        None => Finding::unknown(AREA, CHECK, "the path was not looked at"),
        Some(true) => Finding::ok(AREA, CHECK, "rbd is installed"),
        Some(false) => {
            let message = "rbd is not installed: which image it is cannot be proved, so none is attached, nor is one made for an ephemeral disk";
            Finding::new(AREA, CHECK, needed, message, "apt-get install ceph-common")
        }
    }
}

fn qemu(facts: &Facts, needed: Verdict) -> Finding {
    const CHECK: &str = "QEMU's RBD driver";
    match facts.qemu_can("rbd") {
        None => Finding::unknown(AREA, CHECK, "QEMU has no folder of drivers: they are built in, or it is not installed"),
        Some(true) => Finding::ok(AREA, CHECK, "installed"),
        Some(false) if in_kernel(facts) && facts.attached("rbd", Some("qemu")) == 0 && disk_pool(facts).is_none() => {
            Finding::ok(AREA, CHECK, "not installed, nor needed: the kernel maps images (rbd.client)")
        }
        Some(false) => Finding::new(AREA, CHECK, needed, "QEMU cannot open RBD images", "apt-get install qemu-block-extra"),
    }
}

fn conf(facts: &Facts) -> Finding {
    const CHECK: &str = "ceph.conf";
    match facts.host.ceph_conf {
        None => Finding::unknown(AREA, CHECK, "/etc/ceph cannot be seen from here"),
        Some(FileFact::There { .. }) => Finding::ok(AREA, CHECK, "/etc/ceph/ceph.conf is there"),
        Some(FileFact::Absent) => {
            Finding::ok(AREA, CHECK, "there is none; the monitors that the volume service names are used")
        }
    }
}

fn keyrings(facts: &Facts) -> Finding {
    const CHECK: &str = "keyrings";
    let Some(keyrings) = &facts.host.ceph_keyrings else {
        return Finding::unknown(AREA, CHECK, "/etc/ceph cannot be seen from here");
    };
    let open = keyrings.iter().find(|(_, file)| matches!(file, FileFact::There { mode, .. } if mode & 0o007 != 0));
    if let Some((name, _)) = open {
        let message = format!("any user of this host can read the key in /etc/ceph/{name}");
        return Finding::new(AREA, CHECK, Verdict::Warning, message, format!("chmod o-rwx /etc/ceph/{name}"));
    }
    let names: Vec<_> = keyrings.keys().map(String::as_str).collect();
    match names.as_slice() {
        [] => Finding::ok(AREA, CHECK, "there is none; keys must come with the connection info"),
        names => Finding::ok(AREA, CHECK, names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_for_all_to_read_is_told() {
        let mut facts = Facts::default();
        let file = |mode| FileFact::There { mode, uid: 0 };
        facts.host.ceph_keyrings = Some([("ceph.client.a.keyring".to_owned(), file(0o640))].into());
        assert_eq!(keyrings(&facts).verdict, Verdict::Ok);
        facts.host.ceph_keyrings = Some([("ceph.client.a.keyring".to_owned(), file(0o644))].into());
        assert_eq!(keyrings(&facts).remedy, "chmod o-rwx /etc/ceph/ceph.client.a.keyring");
    }

    #[test]
    fn a_pool_that_cannot_be_used_is_told_where_disks_are_to_be_made_there() {
        let with = |disk_pool| Facts {
            agent: Some(crate::doctor::facts::AgentFacts { disk_pool, ..crate::doctor::facts::AgentFacts::sample() }),
            ..Facts::default()
        };
        assert_eq!(disk_pool(&with(None)), None);
        assert_eq!(disk_pool(&with(Some(Ok(())))).unwrap().verdict, Verdict::Ok);
        let mut facts = with(Some(Err("no pool".to_owned())));
        facts.host.programs.insert("rbd", false);
        let failures = check(&facts).into_iter().filter(|finding| finding.verdict == Verdict::Failure);
        assert_eq!(failures.map(|finding| finding.check).collect::<Vec<_>>(), ["ceph-common", "pool of ephemeral disks"]);
    }

    #[test]
    fn an_attached_image_makes_a_missing_driver_a_failure() {
        let mut facts = Facts::default();
        facts.host.qemu_drivers = Some(vec![]);
        assert_eq!(qemu(&facts, Verdict::Warning).remedy, "apt-get install qemu-block-extra");
        assert_eq!(check(&facts)[1].verdict, Verdict::Warning);
    }
}
