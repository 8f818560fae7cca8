//! What was known before a wait is looked at anew after it, on the simulated world; and every path is journalled before it is connected.

use super::super::reconnect;
use super::*;
use crate::agent::api::ExtendRequest;
use crate::agent::health::Wards;
use crate::agent::journal::AttachmentRecord;
use crate::model::{BlockDevice, ConnectedDevice, DiskEncryption, GuestUuid, MultipathMap, VolumeId};
use uuid::Uuid;

fn attach_to(guest: &str) -> Request {
    let Request::Attach(request) = attach() else { panic!("not an attach") };
    Request::Attach(AttachRequest { guest: guest.into(), ..request })
}

#[tokio::test]
async fn an_attach_that_waited_goes_by_the_volume_as_it_is_then() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let agent = start(&world, dir.path()).await;
    let id = agent.submit(attach()).await.unwrap();
    end_of(&agent, id).await;
    refuse(&world, "delete_attachment");
    let leaving = agent.submit(detach()).await.unwrap();
    state_of(&agent, leaving, OperationState::Stuck).await;
    world.state.lock().unwrap().volumes.get_mut(&volume_id()).unwrap().status = "available".into();
    let waiting = agent.submit(attach_to("guest-2")).await.unwrap();
    assert_eq!(agent.operation(waiting).unwrap().state, OperationState::Queued);
    world.state.lock().unwrap().volumes.get_mut(&volume_id()).unwrap().size_gib = 3;
    allow_all(&world);
    assert_eq!(end_of(&agent, leaving).await.state, OperationState::Succeeded);
    let view = end_of(&agent, waiting).await;
    assert_eq!(view.state, OperationState::Succeeded, "it was verified by an old size: {view:?}");
    world.assert_sizes(3, "after the wait");
}

#[tokio::test]
async fn what_was_attached_anew_meanwhile_is_not_taken_for_what_was_seen_before() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let agent = start(&world, dir.path()).await;
    let mut seen: Vec<AttachmentRecord> = vec![];
    for request in [attach(), detach(), attach()] {
        let id = agent.submit(request).await.unwrap();
        assert_eq!(end_of(&agent, id).await.state, OperationState::Succeeded);
        seen.extend(agent.shared.registry.attachments());
    }
    let [before, now] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((before.volume, before.guest), (now.volume, now.guest));
    assert!(agent.shared.registry.still_attached(before).is_none(), "another attachment of the same two");
    // As after a restart of libvirtd, whose secrets are gone: those of the old attachment must not come back.
    world.state.lock().unwrap().secrets.clear();
    assert_eq!(reconnect::reconnect(&agent.shared, before).await, Ok(false));
    assert!(world.state.lock().unwrap().secrets.is_empty());
    assert_eq!(reconnect::reconnect(&agent.shared, now).await, Ok(false));
    assert_eq!(world.state.lock().unwrap().secrets.iter().copied().collect::<Vec<_>>(), [now.secret.unwrap()]);
}

/// Makes the recorded devices a map of one path that is not the one the service names.
async fn give_map(agent: &Agent) {
    for record in agent.shared.registry.attachments() {
        let ConnectedDevice::IscsiNetwork(network) = &record.device else { panic!("{record:?}") };
        let mut path = network.path.clone();
        path.portal = "127.0.0.9:3260".parse().unwrap();
        let device = ConnectedDevice::Block(BlockDevice {
            path: "/run/bowline/volumes/x".into(),
            kernel_name: "dm-0".into(),
            paths: vec![path],
            multipath: Some(MultipathMap { wwid: "3600".into() }),
        });
        reconnect::put_device(&agent.shared, &record, &device, None).await.unwrap();
    }
}

/// The portals of each guest's record, as a next life reads them.
fn journalled(dir: &Path) -> Vec<(GuestUuid, Vec<String>)> {
    let contents = (0..12_000).find_map(|_| {
        std::thread::sleep(Duration::from_millis(5));
        Journal::open(dir).ok()
    });
    let records = contents.expect("the journal is never let go").1.attachments;
    let portals = |record: AttachmentRecord| match record.device {
        ConnectedDevice::Block(block) => (record.guest, block.paths.iter().map(|path| path.portal.to_string()).collect()),
        other => panic!("{other:?}"),
    };
    records.into_iter().map(portals).collect()
}

#[test]
fn a_repair_that_is_cut_has_journalled_its_paths_for_every_guest_of_the_volume() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    world.state.lock().unwrap().volumes.get_mut(&volume_id()).unwrap().multiattach = true;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let agent = start(&world, dir.path()).await;
        for guest in ["guest-1", "guest-2"] {
            let id = agent.submit(attach_to(guest)).await.unwrap();
            assert_eq!(end_of(&agent, id).await.state, OperationState::Succeeded);
        }
        give_map(&agent).await;
        {
            let mut state = world.state.lock().unwrap();
            state.fault = Some((state.calls, Fault::DiesAfter));
        }
        let id = agent.shared.registry.attachments()[0].id;
        tokio::select! {
            result = agent.repair(id) => panic!("{result:?}"),
            () = world.died.notified() => {}
        }
        assert_eq!(world.state.lock().unwrap().names.last(), Some(&"repair"));
    });
    drop(runtime);
    let journalled = journalled(dir.path());
    assert_eq!(journalled.len(), 2);
    for (guest, portals) in journalled {
        assert_eq!(portals, ["127.0.0.9:3260", "127.0.0.1:3260"], "{guest}");
    }
}

#[tokio::test]
async fn an_extend_that_brings_a_device_back_keeps_the_device_it_brought() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let agent = start(&world, dir.path()).await;
    let id = agent.submit(attach()).await.unwrap();
    end_of(&agent, id).await;
    let brought = agent.shared.registry.attachments()[0].device.clone();
    give_map(&agent).await;
    // As after a reboot of the host.
    world.state.lock().unwrap().connected.clear();
    let id = agent.submit(Request::Extend(ExtendRequest { volume: "data".into(), size_gib: 2 })).await.unwrap();
    let view = end_of(&agent, id).await;
    assert_eq!(view.state, OperationState::Succeeded, "{view:?}");
    assert_eq!(agent.shared.registry.attachments()[0].device, brought);
    world.assert_sizes(2, "after the extend");
}

/// What an agent asks for, and does, at its start on a host that has so many attachments like the world's one.
async fn calls_of_a_start(count: u128, lost: impl FnOnce(&mut Vec<Uuid>)) -> (usize, Vec<&'static str>) {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    world.state.lock().unwrap().encrypted = true;
    let agent = start(&world, dir.path()).await;
    let id = agent.submit(attach()).await.unwrap();
    assert_eq!(end_of(&agent, id).await.state, OperationState::Succeeded);
    let one = agent.shared.registry.attachments().remove(0);
    let mut held: Vec<Uuid> = vec![];
    for number in 1..=count {
        let secret = |of: u128| Uuid::from_u128(of << 64 | number);
        let record = AttachmentRecord {
            volume: VolumeId(secret(1)),
            secret: Some(secret(2)),
            encryption: one.encryption.map(|encryption| DiskEncryption { secret: secret(3), ..encryption }),
            ..one.clone()
        };
        held.extend([secret(2), secret(3)]);
        world.state.lock().unwrap().connected.insert(record.volume);
        agent.shared.registry.put_attachment(record);
    }
    lost(&mut held);
    let before = {
        let mut state = world.state.lock().unwrap();
        state.secrets.extend(held);
        state.questions = 0;
        state.calls
    };
    assert_eq!(agent.reconnect().await, 0);
    let state = world.state.lock().unwrap();
    (state.questions, state.names[before..].to_vec())
}

#[tokio::test]
async fn a_start_that_finds_everything_in_its_place_asks_no_more_for_many_attachments_than_for_one() {
    let one = calls_of_a_start(1, |_| {}).await;
    assert_eq!(one, (1, vec![]), "what libvirt holds, once");
    assert_eq!(calls_of_a_start(300, |_| {}).await, one);
}

#[tokio::test]
async fn a_start_gives_libvirt_back_just_the_secret_that_it_lost() {
    let (_, did) = calls_of_a_start(40, |held| {
        held.remove(0);
    })
    .await;
    assert_eq!(did, ["define_secret"], "of one attachment of forty");
}
