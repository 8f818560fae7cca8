//! Ways to a LUN: discovery, CHAP of every kind, IPv6, addressing modes, interfaces.

use serde_json::json;

use super::{
    KERNEL, QEMU, agent_log, behind, comes_and_goes, in_node, iqn, lun, refused, sessions, told, volume, with_settings,
};
use crate::common::Machine;

const ACCOUNTS: &str = "/etc/bowline/target-accounts";

#[test]
fn what_is_left_to_discovery_is_found_with_and_without_its_own_chap() {
    in_node("discovery", KERNEL, |site, guest| {
        let node = site.machine;
        node.ok(&format!("lio-up one --portal 127.0.0.1:3261 --portal '[::1]:3261' {}", lun(3, "0a01")));
        let unnamed = json!({"target_portal": "127.0.0.1:3261", "target_lun": 3});
        let id = volume(site, "unnamed", &unnamed);
        comes_and_goes(site, guest, &id, ("one", 3), "found by asking");

        // Two targets, none named: nothing is guessed. The one that is named is found.
        node.ok(&format!("lio-up two --portal 127.0.0.1:3261 {}", lun(3, "0a02")));
        refused(site, guest, &id, 2, &["names no target", "2"], "two targets");
        node.ok("lio-down two");

        // Now the portal wants to know who asks.
        node.ok("lio-up one --lun none --discovery asker asker-password");
        refused(site, guest, &id, 6, &["127.0.0.1:3261"], "discovery without credentials");
        for (password, exit_code) in [("wrong-password", 6), ("asker-password", 0)] {
            let info = json!({
                "target_portal": "[::1]:3261", "target_lun": 3, "discovery_auth_method": "CHAP",
                "discovery_auth_username": "asker", "discovery_auth_password": password,
            });
            super::tell(node, "unnamed", &info);
            match exit_code {
                0 => comes_and_goes(site, guest, &id, ("one", 3), "found by IPv6 too"),
                code => refused(site, guest, &id, code, &["[::1]:3261"], "a wrong discovery password"),
            }
        }
        assert_eq!(node.ok("find /etc/iscsi/send_targets /var/lib/iscsi/send_targets -mindepth 1 2>/dev/null || :"), "");
        // QEMU's initiator is given what discovery found.
        with_settings(site, QEMU);
        comes_and_goes(site, guest, &id, ("one", 3), "found for QEMU");
        assert_eq!(sessions(node), 0);
    });
}

#[test]
fn both_sides_prove_themselves_or_nothing_is_attached() {
    let with_accounts = KERNEL.replace("[iscsi]\n", &format!("[iscsi]\ntarget_accounts_file = \"{ACCOUNTS}\"\n"));
    in_node("mutual-chap", KERNEL, |site, guest| {
        let node = site.machine;
        node.write(ACCOUNTS, &format!("# arrays\n{} array array-password-1", iqn("mutual")));
        node.ok(&format!("chmod 600 {ACCOUNTS}"));
        node.ok(&format!("lio-up mutual {} --chap host host-password-12 --mutual array array-password-1", lun(1, "0b01")));
        let mut info = told("mutual", "127.0.0.1:3260", 1);
        let id = volume(site, "mutual", &info);
        refused(site, guest, &id, 6, &["mutual"], "no credentials at all");
        for (key, value) in [("auth_method", "CHAP"), ("auth_username", "host"), ("auth_password", "host-password-12")] {
            info[key] = json!(value);
        }
        super::tell(node, "mutual", &info);
        // One way is enough where no account is kept for the target.
        comes_and_goes(site, guest, &id, ("mutual", 1), "one way");

        with_settings(site, &with_accounts);
        comes_and_goes(site, guest, &id, ("mutual", 1), "both ways");
        for (account, context) in [("array wrong-password-1", "a wrong password"), ("other array-password-1", "a wrong name")] {
            node.write(ACCOUNTS, &format!("{} {account}", iqn("mutual")));
            with_settings(site, &with_accounts);
            refused(site, guest, &id, 6, &["mutual"], context);
        }
        // A target that cannot: an impostor without the array's password.
        node.ok(&format!("lio-up plain --portal 127.0.0.1:3262 {} --chap host host-password-12", lun(1, "0b02")));
        node.write(ACCOUNTS, "iqn.2026-01.org.bowline.lio:* array array-password-1");
        with_settings(site, &with_accounts);
        let mut impostor = told("plain", "127.0.0.1:3262", 1);
        for key in ["auth_method", "auth_username", "auth_password"] {
            impostor[key] = info[key].clone();
        }
        let other = volume(site, "impostor", &impostor);
        refused(site, guest, &other, 6, &["plain"], "a target that cannot prove itself");

        // QEMU cannot ask for it: said, and nothing done with less.
        with_settings(site, &with_accounts.replace("\"kernel\"", "\"qemu\""));
        refused(site, guest, &id, 6, &["QEMU's initiator"], "mutual CHAP by QEMU");
        assert_eq!(behind(node, "mutual", 1, 9000, 12), "by the guest");

        // A file that others can read stops the agent, which says why.
        node.ok(&format!("chmod 644 {ACCOUNTS}"));
        site.stop_agent();
        let started = node.exec("systemctl start bowlined");
        let log = agent_log(node);
        assert!(started.status != 0 && log.contains("chmod 600"), "{started:?} {log}");
        assert!(!node.ok("journalctl -b --no-pager -a -o verbose").contains("array-password-1"));
    });
}

#[test]
fn portals_of_ipv6_work_with_both_initiators_and_both_kinds_of_target() {
    in_node("ipv6", KERNEL, |site, guest| {
        let node = site.machine;
        node.ok(&format!("lio-up six --portal '[::1]:3263' {} --chap host host-password-12", lun(2, "0c01")));
        node.ok("target-up seven 1024");
        let mut lio = told("six", "[::1]:3263", 2);
        let mut tgt =
            json!({"target_portal": "[::1]:3260", "target_iqn": "iqn.2026-01.org.bowline.test:seven", "target_lun": 1});
        for (info, user, password) in [(&mut lio, "host", "host-password-12"), (&mut tgt, "chapuser", "chappassword12")] {
            info["auth_method"] = json!("CHAP");
            info["auth_username"] = json!(user);
            info["auth_password"] = json!(password);
        }
        let on_lio = volume(site, "on-lio", &lio);
        let on_tgt = volume(site, "on-tgt", &tgt);
        node.ok("ln -s /run/target/seven.img /run/lio/seven-1.img");
        for fragment in [KERNEL, QEMU] {
            with_settings(site, fragment);
            comes_and_goes(site, guest, &on_lio, ("six", 2), "LIO by IPv6");
            comes_and_goes(site, guest, &on_tgt, ("seven", 1), "tgt by IPv6");
        }
        // Each kind of target was asked who its LUN is, and answered.
        let log = agent_log(node);
        let confirmed: Vec<&str> = log.lines().filter(|entry| entry.contains("the target confirms")).collect();
        for path in ["bowline.lio:six", "bowline.test:seven"] {
            assert!(confirmed.iter().any(|entry| entry.contains(path)), "{path} was not asked: {confirmed:?}");
        }
        assert!(!log.contains("does not confirm"), "{log}");
    });
}

#[test]
fn luns_are_addressed_as_the_array_wants() {
    in_node("addressing", KERNEL, |site, guest| {
        let node = site.machine;
        // LIO and the kernel agree on the number as it stands, whatever its high bits: 16640 is flat space's 256.
        node.ok(&format!("lio-up wide {} {} {}", lun(255, "0d01"), lun(300, "0d02"), lun(16640, "0d03")));
        for (name, mode, number, behind_it, serial) in [
            ("plain", "SAM", 300, 300, "0d02"),
            ("low", "SAM2", 255, 255, "0d01"),
            ("high", "SAM2", 256, 16640, "0d03"),
            ("flat", "SAM3-flat", 256, 16640, "0d03"),
        ] {
            let mut info = told("wide", "127.0.0.1:3260", number);
            info["addressing_mode"] = json!(mode);
            info["scsi_serial"] = json!(serial);
            let id = volume(site, name, &info);
            for fragment in [KERNEL, QEMU] {
                with_settings(site, fragment);
                comes_and_goes(site, guest, &id, ("wide", behind_it), &format!("{mode} {number}"));
            }
        }
    });
}

#[test]
fn logins_go_by_the_interface_that_is_asked_for() {
    in_node("iface", KERNEL, |site, guest| {
        let node = site.machine;
        node.ok(&format!("lio-up by-iface {}", lun(1, "0e01")));
        node.ok("iscsiadm -m iface -I storage -o new
            iscsiadm -m iface -I storage -o update -n iface.net_ifacename -v lo
            iscsiadm -m iface -I storage -o update -n iface.initiatorname -v iqn.2026-01.org.bowline.host:storage");
        with_settings(site, &KERNEL.replace("[iscsi]\n", "[iscsi]\niface = \"storage\"\n"));
        let id = volume(site, "by-iface", &told("by-iface", "127.0.0.1:3260", 1));
        site.bowline(&format!("attach {id} g1")).ok();
        let seen = node.ok("cat /sys/class/iscsi_session/*/ifacename /sys/class/iscsi_session/*/initiatorname");
        assert_eq!(seen, "storage\niqn.2026-01.org.bowline.host:storage");
        let (disk, _) = guest.expect_disk(&id[..20], super::SOON);
        site.bowline(&format!("detach {id}")).ok();
        guest.expect_gone(&disk, super::SOON);
        site.assert_nothing_attached("g1", &id, "after a login by an interface");

        site.stop_agent();
        node.ok("sed -i 's/storage/missing/' /etc/bowline/bowlined.d/20-test.toml");
        let started = node.exec("systemctl start bowlined");
        let log = agent_log(node);
        assert!(started.status != 0 && log.contains("iscsi.iface") && log.contains("missing"), "{started:?} {log}");
    });
}
