//! Leases between the agent and the bundled volume service, both real: what becomes of a volume whose host is heard of no more, and
//! of one whose host is. The hours that a lease runs are taken off in the service's database.

use std::time::Duration;

use crate::common::service::{STATE, until};
use crate::common::{HostRig, Machine, Services, Site};

const FRAGMENT: &str = "[iscsi]\ninitiator = \"qemu\"";

/// The service looks every ten seconds.
const NOTICED_WITHIN: Duration = Duration::from_secs(120);

/// Every lease ran out long ago.
fn leases_run_out(host: &HostRig) {
    host.ok(&format!(
        "python3 -c \"import sqlite3
base = sqlite3.connect('{STATE}/volumes.db', timeout=30)
assert base.execute('UPDATE attachments SET lease_until_us = 1 WHERE lease_host IS NOT NULL').rowcount > 0
base.commit()\""
    ));
}

/// Waits until the only attachment's lease is lost, or is kept.
#[track_caller]
fn until_lease(host: &HostRig, is: &str) {
    let ask = format!(
        "curl -sS -H \"X-Auth-Token: $(cat {STATE}/token)\" -H 'OpenStack-API-Version: volume 3.54' \
         http://127.0.0.1:8776/v3/attachments/detail | jq -r '.attachments | length, (.[0].lease.lost_since != null)' | xargs"
    );
    host.write("/run/look", &format!("until [ \"$({ask})\" = '1 {}' ]; do sleep 0.2; done", is == "lost"));
    assert_eq!(host.exec_for("bash /run/look", NOTICED_WITHIN).status, 0, "its lease is not {is}: {}", host.exec(&ask).stdout);
}

#[test]
fn a_silent_host_loses_what_it_had_half_done_and_one_that_is_heard_keeps_what_it_has() {
    let host = HostRig::start("leases");
    let site = Site::start(&host, Services::Processes, FRAGMENT);
    let guest = host.persistent_guest("g1");
    let (kept, half) = (site.volume("kept", "kept-is-here"), site.volume("half", "half-is-here"));
    site.bowline(&format!("attach {kept} g1")).ok();
    guest.expect_disk(&kept[..20], Duration::from_secs(90));

    // Silent, its guest may still have the disk: that is told, and nothing is taken. Heard of again, all is as it was.
    leases_run_out(&host);
    until_lease(&host, "lost");
    assert_eq!(site.status(&kept), "in-use");
    site.stop_agent();
    site.start_agent("");
    until_lease(&host, "kept");

    // It dies between two steps of an attach and is heard of no more: the volume is free for others.
    site.stop_agent();
    site.start_agent("CreateAttachment:succeeded");
    assert_ne!(site.bowline(&format!("attach {half} g1")).status, 0);
    site.assert_agent_dies("half of an attach");
    until(&host, &format!("/v3/volumes/{half}"), "reserved");
    leases_run_out(&host);
    until(&host, &format!("/v3/volumes/{half}"), "available");
    until_lease(&host, "lost");
    until(&host, &format!("/v3/volumes/{kept}"), "in-use");

    // Back, it knows that it lost the one, and goes on with the other.
    site.start_agent("");
    until_lease(&host, "kept");
    site.bowline(&format!("attach {half} g1")).ok();
    for volume in [&half, &kept] {
        site.bowline(&format!("detach {volume} g1")).ok();
    }
    site.assert_nothing_left("g1", &half, "after its lease was lost");
    site.stop_agent();
    site.stop_service();
}
