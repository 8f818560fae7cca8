//! iSCSI: by the host's kernel (open-iscsi), or by QEMU.

use super::facts::{Facts, InitiatorName, Module};
use crate::model::{Finding, Verdict};
use std::time::Duration;

const AREA: &str = "iscsi";

/// iscsid listens here; systemd does for it where it is started on demand.
const ISCSID_SOCKET: &str = "ISCSIADM_ABSTRACT_NAMESPACE";

/// A name this much older than the machine's id was there before the host was. An installation takes less.
const COPIED: Duration = Duration::from_secs(24 * 3600);

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let needed = need(facts);
    vec![tool(facts, needed), module(facts, needed), daemon(facts, needed), name(facts), qemu(facts)]
}

/// How bad it is that the kernel's initiator cannot be used.
fn need(facts: &Facts) -> Verdict {
    let set = facts.agent.as_ref().is_some_and(|agent| agent.initiator == "kernel");
    if set || facts.attached("iscsi", Some("kernel")) > 0 { Verdict::Failure } else { Verdict::Warning }
}

fn tool(facts: &Facts, needed: Verdict) -> Finding {
    const CHECK: &str = "open-iscsi";
    match facts.host.programs.get("iscsiadm") {
        None => Finding::unknown(AREA, CHECK, "the path was not looked at"),
        Some(true) => Finding::ok(AREA, CHECK, "iscsiadm is installed"),
        Some(false) => {
            let message = "iscsiadm is not installed: the kernel's initiator cannot be used";
            Finding::new(AREA, CHECK, needed, message, "apt-get install open-iscsi")
        }
    }
}

fn module(facts: &Facts, needed: Verdict) -> Finding {
    const CHECK: &str = "kernel module iscsi_tcp";
    match facts.host.modules.get("iscsi_tcp") {
        None => Finding::unknown(AREA, CHECK, "it is not loaded, and the folder of modules cannot be seen from here"),
        Some(Module::Loaded) => Finding::ok(AREA, CHECK, "loaded"),
        Some(Module::Available) => Finding::ok(AREA, CHECK, "not loaded yet; iscsid loads it when it starts"),
        Some(Module::Absent) => {
            let remedy = "apt-get install linux-image-amd64 and boot it, or set iscsi.initiator = \"qemu\"";
            Finding::new(AREA, CHECK, needed, "this kernel has no such module", remedy)
        }
    }
}

fn daemon(facts: &Facts, needed: Verdict) -> Finding {
    const CHECK: &str = "iscsid";
    match facts.listens(ISCSID_SOCKET) {
        None => Finding::unknown(AREA, CHECK, "the sockets of this host cannot be seen from here"),
        Some(true) => Finding::ok(AREA, CHECK, "its socket is there"),
        Some(false) if facts.host.programs.get("iscsiadm") == Some(&false) => {
            Finding::unknown(AREA, CHECK, "open-iscsi is not installed")
        }
        Some(false) => {
            let message = "neither iscsid nor its socket is there: no login works, and no session that fails is mended";
            Finding::new(AREA, CHECK, needed, message, "systemctl enable --now iscsid.socket")
        }
    }
}

fn name(facts: &Facts) -> Finding {
    const CHECK: &str = "initiator name";
    let new_name = "echo \"InitiatorName=$(iscsi-iname)\" >/etc/iscsi/initiatorname.iscsi && systemctl restart iscsid, \
                    while nothing is attached";
    match &facts.host.initiator_name {
        None => Finding::unknown(AREA, CHECK, "the file is readable by root alone"),
        Some(InitiatorName::NoFile | InitiatorName::Unnamed) => {
            let message =
                "none is set: QEMU is given one that is made of the machine's id, and the kernel's initiator has none";
            Finding::new(AREA, CHECK, Verdict::Warning, message, new_name)
        }
        Some(InitiatorName::Named { name, machine_id_later }) if *machine_id_later > COPIED => {
            let message = format!(
                "{name} is older than this host's machine id: the host looks like a copy, and the original may log in \
                 under the same name, which lets each have the other's volumes"
            );
            Finding::new(AREA, CHECK, Verdict::Warning, message, new_name)
        }
        Some(InitiatorName::Named { name, .. }) => Finding::ok(AREA, CHECK, name.clone()),
    }
}

fn qemu(facts: &Facts) -> Finding {
    const CHECK: &str = "QEMU's iSCSI driver";
    let set = facts.agent.as_ref().is_some_and(|agent| agent.initiator == "qemu");
    let needed = set || facts.attached("iscsi", Some("qemu")) > 0;
    match facts.qemu_can("iscsi") {
        None => Finding::unknown(AREA, CHECK, "QEMU has no folder of drivers: they are built in, or it is not installed"),
        Some(true) => Finding::ok(AREA, CHECK, "installed"),
        Some(false) => {
            let verdict = if needed { Verdict::Failure } else { Verdict::Warning };
            Finding::new(AREA, CHECK, verdict, "QEMU cannot log in by itself", "apt-get install qemu-block-extra")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::AgentFacts;

    fn facts(initiator: &str) -> Facts {
        let agent = AgentFacts { initiator: initiator.into(), ..AgentFacts::sample() };
        let mut facts = Facts { agent: Some(agent), ..Facts::default() };
        facts.host.programs.insert("iscsiadm", true);
        facts.host.modules.insert("iscsi_tcp", Module::Loaded);
        facts.host.sockets = Some(vec![ISCSID_SOCKET.into()]);
        facts.host.qemu_drivers = Some(vec!["iscsi".into()]);
        facts.host.initiator_name =
            Some(InitiatorName::Named { name: "iqn.a".into(), machine_id_later: Duration::from_secs(60) });
        facts
    }

    fn worst(facts: &Facts) -> Finding {
        check(facts).into_iter().max_by_key(|finding| finding.verdict).unwrap()
    }

    #[test]
    fn a_whole_host_is_fine() {
        assert!(check(&facts("kernel")).iter().all(|finding| finding.verdict == Verdict::Ok));
    }

    #[test]
    fn what_is_missing_is_named_with_the_command_that_mends_it() {
        let mut without = facts("kernel");
        without.host.programs.insert("iscsiadm", false);
        assert_eq!(worst(&without).remedy, "apt-get install open-iscsi");
        let mut without = facts("kernel");
        without.host.sockets = Some(vec![]);
        assert_eq!(worst(&without).remedy, "systemctl enable --now iscsid.socket");
        let mut without = facts("kernel");
        without.host.modules.insert("iscsi_tcp", Module::Absent);
        assert!(worst(&without).message.contains("no such module"));
        let mut without = facts("qemu");
        without.host.qemu_drivers = Some(vec!["rbd".into()]);
        assert_eq!(worst(&without).remedy, "apt-get install qemu-block-extra");
    }

    #[test]
    fn only_what_is_used_fails() {
        let mut without = facts("auto");
        without.host.sockets = Some(vec![]);
        assert_eq!(worst(&without).verdict, Verdict::Warning);
        without.agent.as_mut().unwrap().attached.insert("iscsi/kernel".into(), 1);
        assert_eq!(worst(&without).verdict, Verdict::Failure);
    }

    #[test]
    fn a_copied_host_is_told_by_the_age_of_its_name() {
        let mut copy = facts("kernel");
        copy.host.initiator_name =
            Some(InitiatorName::Named { name: "iqn.a".into(), machine_id_later: Duration::from_secs(30 * 24 * 3600) });
        assert!(worst(&copy).message.contains("looks like a copy"));
    }
}
