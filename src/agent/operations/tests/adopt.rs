//! Taking over what somebody else attached: what is proved becomes as good as attached here, and what is not stays as it was.

use super::{agreement::settled, world::State, *};
use crate::agent::operations::ports::GuestDiskFacts;
use crate::model::{AttachmentId, AttachmentStatus};
use uuid::Uuid;

/// Somebody attached the volume to the first guest.
fn attached_by_hand(state: &mut State) {
    state.attachments.insert(AttachmentId(Uuid::from_u128(0xc5)), (volume_id(), guest_uuid(), AttachmentStatus::Attached));
    state.volumes.get_mut(&volume_id()).unwrap().status = "in-use".into();
    state.connected.insert(volume_id());
    state.host_bytes.insert(volume_id(), crate::model::GIB);
    let disk = GuestDiskFacts { target: "vdk".into(), volume: Some(volume_id()), live: true, defined: true };
    state.guests.get_mut(&guest_uuid()).unwrap().disks.push(disk);
}

#[tokio::test]
async fn what_is_proved_is_checked_and_detached_as_if_it_had_been_attached_here() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    attached_by_hand(&mut world.state.lock().unwrap());
    let agent = start(&world, dir.path()).await;
    assert_eq!(agent.check(false).await.unwrap()[0].area, "guest", "before it is foreign");
    agent.adopt("data", "guest-1").await.unwrap();
    assert_eq!(agent.check(false).await.unwrap(), []);
    assert_eq!(agent.attachments()[0].target, "vdk");
    assert_eq!(agent.adopt("data", "guest-1").await.unwrap_err().kind, ErrorKind::Conflict);
    let id = agent.submit(detach()).await.unwrap();
    assert_eq!(end_of(&agent, id).await.state, OperationState::Succeeded);
    settled(&world, &agent).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_proved_is_refused_and_left_as_it_was() {
    type Change = fn(&mut State);
    let changes: [(Change, ErrorKind, &str); 6] = [
        (|state| state.guests.values_mut().for_each(|guest| guest.disks.clear()), ErrorKind::NotFound, "no disk"),
        (|state| state.attachments.clear(), ErrorKind::NotFound, "no attachment"),
        (
            |state| state.attachments.values_mut().for_each(|entry| entry.2 = AttachmentStatus::Attaching),
            ErrorKind::Conflict,
            "not complete",
        ),
        (|state| state.wrong_serial = true, ErrorKind::IdentityMismatch, "wrong"),
        (|state| state.leads_elsewhere = Some("/dev/sdq".into()), ErrorKind::IdentityMismatch, "/dev/sdq"),
        (|state| state.volumes.get_mut(&volume_id()).unwrap().encrypted = true, ErrorKind::Unsupported, "encrypted"),
    ];
    for (change, kind, word) in changes {
        let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
        attached_by_hand(&mut world.state.lock().unwrap());
        change(&mut world.state.lock().unwrap());
        let agent = start(&world, dir.path()).await;
        let now = || {
            let state = world.state.lock().unwrap();
            (state.guests.clone(), state.attachments.clone())
        };
        let before = now();
        let error = agent.adopt("data", "guest-1").await.unwrap_err();
        assert!(error.kind == kind && error.message.contains(word), "{error:?}");
        assert_eq!(agent.attachments(), []);
        assert_eq!(now(), before);
    }
}
