//! The agent itself and whom it talks to: the bus, libvirt, the volume service, its journal.

use super::facts::{AgentFacts, CloudFacts, Facts, FileFact, LibvirtFacts};
use crate::model::{Finding, Verdict};

/// The oldest libvirt with all that is used here: `virDomainDetachDeviceAlias` came with 4.4, aliases of one's own with 3.9.
const OLDEST_LIBVIRT: u32 = 4_004_000;

/// Tokens and the times in logs stand a clock that is a minute off; more confuses both.
const SKEW_S: u64 = 60;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let installed = |check, file: &Option<FileFact>| match file {
        None => Finding::unknown("agent", check, "cannot be seen from here"),
        Some(FileFact::There { .. }) => Finding::ok("agent", check, "installed"),
        Some(FileFact::Absent) => {
            let message = "it is not installed: who may ask the agent for what is not settled";
            Finding::new("agent", check, Verdict::Failure, message, "make install")
        }
    };
    let mut findings =
        vec![installed("bus policy", &facts.host.bus_policy), installed("polkit actions", &facts.host.polkit_actions)];
    match &facts.agent {
        None => findings.push(Finding::unknown("agent", "bowlined", "it was not asked")),
        Some(agent) => findings.extend(of_agent(agent)),
    }
    findings
}

fn of_agent(agent: &AgentFacts) -> Vec<Finding> {
    let mut findings = vec![Finding::ok("agent", "bowlined", "running"), journal(agent)];
    if let Some(problem) = &agent.metrics_problem {
        let remedy = "set metrics.listen to a free address of this host or to unix:/run/bowline/metrics.sock, then: systemctl \
                      restart bowlined";
        findings.push(Finding::new("agent", "metrics", Verdict::Warning, problem.clone(), remedy));
    }
    match &agent.libvirt {
        Ok(libvirt) => findings.extend([version(libvirt), secrets(libvirt)]),
        Err(why) => {
            let remedy = "systemctl start libvirtd.socket";
            findings.push(Finding::new("libvirt", "connection", Verdict::Failure, why.clone(), remedy));
        }
    }
    match &agent.cloud {
        Ok(cloud) => findings.extend([
            Finding::ok("cloud", "volume service", "it answers, and takes the token"),
            clock(cloud),
            service_user(cloud),
        ]),
        Err(why) => {
            let remedy = "look at the entry of clouds.yaml that cloud.name names, and whether the service is up";
            findings.push(Finding::new("cloud", "volume service", Verdict::Failure, why.clone(), remedy));
        }
    }
    findings
}

fn journal(agent: &AgentFacts) -> Finding {
    let (path, problem) = &agent.journal;
    match problem {
        None => Finding::ok("agent", "journal", format!("{path} can be written to")),
        Some(problem) => {
            let remedy = format!("make room, or mend the permissions: df -h {path}; ls -ld {path}");
            Finding::new("agent", "journal", Verdict::Failure, format!("{path}: {problem}"), remedy)
        }
    }
}

fn spelt(version: u32) -> String {
    format!("{}.{}.{}", version / 1_000_000, version / 1_000 % 1_000, version % 1_000)
}

fn version(libvirt: &LibvirtFacts) -> Finding {
    let message = format!("libvirt {} with QEMU {}", spelt(libvirt.version), spelt(libvirt.hypervisor_version));
    if libvirt.version < OLDEST_LIBVIRT {
        let needed = format!("{message}: at least {} is needed", spelt(OLDEST_LIBVIRT));
        return Finding::new("libvirt", "connection", Verdict::Failure, needed, "apt-get install libvirt-daemon-system");
    }
    Finding::ok("libvirt", "connection", message)
}

fn secrets(libvirt: &LibvirtFacts) -> Finding {
    const CHECK: &str = "forgotten secrets";
    match libvirt.forgotten_secrets.as_slice() {
        [] => Finding::ok("libvirt", CHECK, "none"),
        [first, ..] => {
            let message = format!(
                "{} that no attachment knows: {}",
                libvirt.forgotten_secrets.len(),
                libvirt.forgotten_secrets.join(", ")
            );
            Finding::new("libvirt", CHECK, Verdict::Warning, message, format!("virsh secret-undefine {first}"))
        }
    }
}

fn clock(cloud: &CloudFacts) -> Finding {
    const CHECK: &str = "clock";
    match cloud.skew_s {
        None => Finding::unknown("cloud", CHECK, "the service does not say what time it has"),
        Some(skew_s) if skew_s.unsigned_abs() > SKEW_S => {
            let direction = if skew_s > 0 { "ahead of" } else { "behind" };
            let message = format!("this host's clock is {} s {direction} the volume service's", skew_s.unsigned_abs());
            Finding::new("cloud", CHECK, Verdict::Warning, message, "timedatectl set-ntp true")
        }
        Some(_) => Finding::ok("cloud", CHECK, "agrees with the volume service's"),
    }
}

fn service_user(cloud: &CloudFacts) -> Finding {
    const CHECK: &str = "service user";
    match (&cloud.service_roles, cloud.has_service_user, cloud.has_keystone) {
        (_, false, false) => Finding::ok("cloud", CHECK, "none, and none is needed without a Keystone"),
        (_, false, true) => {
            let message = "none is set (cloud.service_name): Cinder refuses to detach a volume that a server of Nova uses";
            Finding::new(
                "cloud",
                CHECK,
                Verdict::Warning,
                message,
                "set cloud.service_name to an entry whose user has the role service",
            )
        }
        (None, true, _) => Finding::unknown("cloud", CHECK, "its roles are not told"),
        (Some(roles), true, _) if roles.iter().any(|role| role == "service") => {
            Finding::ok("cloud", CHECK, "it has the role service")
        }
        (Some(roles), true, _) => {
            let message = format!("it lacks the role service (it has: {}): Cinder will refuse to detach", roles.join(", "));
            let remedy = "openstack role add --user USER --project PROJECT service";
            Finding::new("cloud", CHECK, Verdict::Failure, message, remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cloud() -> CloudFacts {
        CloudFacts { skew_s: Some(1), service_roles: Some(vec!["service".into()]), has_service_user: true, has_keystone: true }
    }

    #[test]
    fn a_service_user_without_its_role_fails() {
        assert_eq!(service_user(&cloud()).verdict, Verdict::Ok);
        let without = CloudFacts { service_roles: Some(vec!["member".into()]), ..cloud() };
        assert_eq!(service_user(&without).verdict, Verdict::Failure);
        let none = CloudFacts { service_roles: None, has_service_user: false, ..cloud() };
        assert_eq!(service_user(&none).verdict, Verdict::Warning);
        assert_eq!(service_user(&CloudFacts { has_keystone: false, ..none }).verdict, Verdict::Ok);
    }

    #[test]
    fn a_clock_that_is_off_is_told_with_its_direction() {
        assert_eq!(clock(&cloud()).verdict, Verdict::Ok);
        assert!(clock(&CloudFacts { skew_s: Some(-120), ..cloud() }).message.contains("120 s behind"));
    }

    #[test]
    fn forgotten_secrets_and_an_old_libvirt_are_told() {
        let libvirt = LibvirtFacts { version: 9_000_000, hypervisor_version: 7_002_000, forgotten_secrets: vec!["u".into()] };
        assert_eq!(version(&libvirt).message, "libvirt 9.0.0 with QEMU 7.2.0");
        assert_eq!(secrets(&libvirt).remedy, "virsh secret-undefine u");
        assert_eq!(version(&LibvirtFacts { version: 4_000_000, ..libvirt }).verdict, Verdict::Failure);
    }
}
