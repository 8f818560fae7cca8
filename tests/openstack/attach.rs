//! A volume's life between Cinder and a guest.

use std::time::Duration;

use crate::cloud::{Backend, Cloud};
use crate::common::{Guest, HostRig, Machine, Site};

const SOON: Duration = Duration::from_secs(60);

/// One start of the cloud serves all: it takes longer than everything that is asked of it.
#[test]
fn volumes_of_a_real_cinder_come_and_go() {
    let cloud = Cloud::start("openstack");
    let guest = cloud.host().persistent_guest("g1");

    let site = cloud.agent_as("tenant");
    for backend in [Backend::Ceph, Backend::Iscsi] {
        a_volume_comes_and_goes_and_keeps_what_was_written(&cloud, &site, &guest, backend);
    }
    killed_midway_it_ends_attached_or_undone(&cloud, &site, Backend::Ceph);

    let site = cloud.agent_as("application");
    a_volume_comes_and_goes_and_keeps_what_was_written(&cloud, &site, &guest, Backend::Ceph);

    crate::boot::guests_boot_from_it_and_images_are_made_of_them(&cloud);
    without_a_service_user_cinder_s_refusal_is_told(&cloud, &guest);
    cloud.bundled_service_takes_its_tokens_and_images();
}

fn create(site: &Site<'_, HostRig>, name: &str, backend: Backend) -> String {
    let made = site.json(&format!("volume create {name} --size 1 --type {}", backend.volume_type()));
    made["volume"]["id"].as_str().unwrap_or_else(|| panic!("no id in {made}")).to_owned()
}

fn a_volume_comes_and_goes_and_keeps_what_was_written(
    cloud: &Cloud,
    site: &Site<'_, HostRig>,
    guest: &Guest<'_>,
    backend: Backend,
) {
    let volume = create(site, &format!("data-{backend:?}"), backend);
    let attached = site.json(&format!("attach {volume} g1"));
    assert_eq!(attached["operation"]["state"], "succeeded", "{attached}");
    let (disk, _) = guest.expect_disk(&volume[..20], SOON);
    let shown = cloud.cinder(&format!("/volumes/{volume}"));
    assert_eq!(shown["volume"]["status"], "in-use", "{shown}");
    assert_eq!(shown["volume"]["attachments"][0]["server_id"], guest.uuid(), "{shown}");
    assert_eq!(cloud.attachments(), ["attached"]);
    assert_ne!(cloud.users(backend, &volume), "", "the guest should have it open");
    guest.write(&disk, 5000, "written by the guest");
    assert_eq!(cloud.stored(backend, &volume, 5000, 20), "written by the guest");
    it_grows_under_the_guest(cloud, site, guest, &volume, &disk);

    site.bowline(&format!("detach {volume} g1")).ok();
    guest.expect_gone(&disk, SOON);
    cloud.assert_nothing_left(site, backend, &volume, &format!("{backend:?}: after a detach"));

    site.bowline(&format!("attach {volume} g1")).ok();
    let (disk, _) = guest.expect_disk(&volume[..20], SOON);
    assert_eq!(guest.read(&disk, 5000, 20), "written.by.the.guest");
    site.bowline(&format!("detach {volume}")).ok();
    guest.expect_gone(&disk, SOON);
    cloud.assert_nothing_left(site, backend, &volume, &format!("{backend:?}: after the second detach"));
    site.bowline(&format!("volume delete {volume}")).ok();
    let all = cloud.cinder("/volumes?all_tenants=1");
    assert_eq!(all["volumes"].as_array().map(Vec::len), Some(0), "{all}");
}

/// Cinder, which has nobody but the agent to tell the guest, and the guest agree on the size.
fn it_grows_under_the_guest(cloud: &Cloud, site: &Site<'_, HostRig>, guest: &Guest<'_>, volume: &str, disk: &str) {
    const GIB: u64 = 1 << 30;
    let done = site.json(&format!("extend {volume} 2"));
    assert_eq!(done["operation"]["state"], "succeeded", "{done}");
    guest.expect_line(&format!("= {disk} {}", 2 * GIB / 512), SOON);
    let shown = cloud.cinder(&format!("/volumes/{volume}"));
    assert_eq!((shown["volume"]["size"].as_u64(), shown["volume"]["status"].as_str()), (Some(2), Some("in-use")), "{shown}");
    assert_eq!(guest.read(disk, 5000, 20), "written.by.the.guest");
    guest.write(disk, 2 * GIB - 8192, "in the new part");
}

/// The agent dies at a boundary where Cinder knows more than the journal, or less.
fn killed_midway_it_ends_attached_or_undone(cloud: &Cloud, site: &Site<'_, HostRig>, backend: Backend) {
    let volume = create(site, "survivor", backend);
    for (verb, at) in [
        ("attach", "CreateAttachment:succeeded"),
        ("attach", "UpdateAttachment:started"),
        ("attach", "CompleteAttachment:started"),
        ("detach", "DeleteAttachment:started"),
    ] {
        site.stop_agent();
        site.start_agent(at);
        let output = site.bowline(&format!("{verb} {volume} g1 --no-wait"));
        site.assert_agent_dies(&format!("{at}: {output:?}"));
        site.start_agent("");
        if at == "CompleteAttachment:started" {
            assert_eq!(cloud.attachments(), ["attached"], "{at}: the guest has the disk");
        } else {
            cloud.assert_nothing_left(site, backend, &volume, at);
        }
    }
    site.bowline(&format!("volume delete {volume}")).ok();
}

/// Cinder lets nobody but a service free what a server uses (CVE-2023-2088). That is said, and what can be done.
fn without_a_service_user_cinder_s_refusal_is_told(cloud: &Cloud, guest: &Guest<'_>) {
    let site = cloud.agent_as("tenant");
    let volume = create(&site, "no-service", Backend::Ceph);
    site.bowline(&format!("attach {volume} g1")).ok();
    let (disk, _) = guest.expect_disk(&volume[..20], SOON);
    site.stop_agent();
    cloud.host().ok("sed -i /service_name/d /etc/bowline/bowlined.d/10-cloud.toml");
    site.start_agent("");
    site.bowline(&format!("detach {volume} g1 --no-wait")).ok();
    guest.expect_gone(&disk, SOON);
    site.machine.ok(
        "timeout 60 bash -c 'until bowline --json operations --all | grep -q configure.a.service.user; do sleep 0.2; done'",
    );
    // With one, what is left is done.
    let site = cloud.agent_as("tenant");
    cloud.assert_nothing_left(&site, Backend::Ceph, &volume, "after the service user was set");
    site.bowline(&format!("volume delete {volume}")).ok();
    site.stop_agent();
}
