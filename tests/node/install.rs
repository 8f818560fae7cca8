//! What `make install` lays down, as systemd, D-Bus and polkit of a real system take it.

use crate::common::{Machine, Node};

/// The exit status of `pkcheck` for an action that wants a password nobody can be asked for.
const NEEDS_AUTHENTICATION: i32 = 2;

#[test]
fn units_and_policies_are_what_the_system_accepts() {
    let node = Node::with_bowline("install");
    node.ok("systemd-analyze verify --man=no bowlined.service bowline-backend.service");
    // In tenths: 10 is a service without any fence, 0 one that can do nothing.
    node.ok("systemd-analyze security --threshold=30 bowlined.service >/run/exposure || { cat /run/exposure; false; }");
    node.ok("systemd-analyze security --threshold=15 bowline-backend.service >/run/exposure || { cat /run/exposure; false; }");
    // With what LVM and LIO, and a share that the service mounts itself, need beyond that: docs/volume-service.md tells these figures.
    let kernel_storage = include_str!("../../systemd/bowline-backend-kernel-storage.conf");
    let nfs = "[Service]\nCapabilityBoundingSet=CAP_SYS_ADMIN\nPrivateUsers=no\nSystemCallFilter=@mount\n";
    let drop_in = "/run/systemd/system/bowline-backend.service.d/measured.conf";
    for (lines, tenths) in [(kernel_storage, 26), (nfs, 21)] {
        node.ok(&format!("mkdir -p $(dirname {drop_in})"));
        node.write(drop_in, lines);
        node.ok(&format!(
            "systemctl daemon-reload
             systemd-analyze security --threshold={tenths} bowline-backend.service >/run/exposure || {{ cat /run/exposure; false; }}
             rm {drop_in}; systemctl daemon-reload"
        ));
    }

    node.ok("useradd --groups bowline member && useradd stranger && systemctl start polkit");
    let may = |user: &str, action: &str| {
        let check = format!("pkcheck --action-id org.bowline.agent1.{action} --process $$");
        node.exec(&format!("sudo -u {user} bash -c '{check}; exit $?'")).status
    };
    let policy = include_str!("../../systemd/org.bowline.agent1.policy");
    let actions = policy.split("<action id=\"org.bowline.agent1.").skip(1).map(|rest| rest.split('"').next().unwrap());
    let guarded: Vec<&str> = actions.filter(|action| !["list", "abandon", "define-guest"].contains(action)).collect();
    assert!(guarded.len() >= 6, "{guarded:?}");
    for action in guarded {
        assert_eq!(may("member", action), 0, "a member of the group 'bowline' asks to {action}");
        assert_eq!(may("stranger", action), NEEDS_AUTHENTICATION, "a stranger asks to {action}");
    }
    for action in ["abandon", "define-guest"] {
        assert_eq!(may("member", action), NEEDS_AUTHENTICATION, "to {action} is the administrator's alone");
    }
    assert_eq!(may("stranger", "list"), 0, "a stranger looks");

    let own = "busctl call org.freedesktop.DBus / org.freedesktop.DBus RequestName su org.bowline.Agent1 0";
    let refused = node.exec(&format!("sudo -u member {own}"));
    assert_ne!(refused.status, 0, "only root can be the agent");
    assert!(refused.stderr.contains("Access denied"), "{}", refused.stderr);
    node.ok(own);
}
