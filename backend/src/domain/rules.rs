//! Who may do what in which state. Called inside the writer's transaction, so that what they saw is what changes.

use uuid::Uuid;

use super::attachment::{Attachment, Connector};
use super::refusal::Refusal;
use super::snapshot::Snapshot;
use super::statuses::{AttachMode, AttachStatus, SnapshotStatus, VolumeStatus};
use super::volume::Volume;

/// Whether a new attachment may take hold of the volume, for this guest. One that a guest has may be reserved for the same guest again: it
/// moves to another host, or its disk is made anew, and nobody else must get the volume in between.
pub fn reserve(volume: &Volume, attachments: &[Attachment], instance_id: Option<Uuid>) -> Result<(), Refusal> {
    use VolumeStatus::*;
    let shared = volume.multiattach && matches!(volume.status, Reserved | Attaching | InUse);
    let own = matches!(volume.status, Reserved | InUse)
        && instance_id.is_some()
        && attachments.iter().any(|attachment| attachment.instance_id == instance_id);
    if volume.status == Available || shared || own {
        Ok(())
    } else {
        Err(Refusal::NotReservable { volume_id: volume.id, status: volume.status })
    }
}

/// What a host may do with the volume, whatever it asks for.
pub fn mode_of(volume: &Volume, asked: AttachMode) -> AttachMode {
    if volume.readonly { AttachMode::Ro } else { asked }
}

/// Whether an attachment may be taken from its host (CVE-2023-2088). A guest's host that has been let in must let go before:
/// its kernel would keep a device that may show another volume's bytes tomorrow. Whether it has, only the service that runs the
/// guest knows, so only a service may say so. Where no guest is named, or no host was ever let in, nobody else can be harmed.
pub fn let_go(attachment: &Attachment, by_service: bool) -> Result<(), Refusal> {
    match attachment.instance_id {
        Some(instance) if attachment.connector.is_some() && !by_service => Err(Refusal::Conflict(format!(
            "ConflictNovaUsingAttachment: Detach volume from instance {instance} using the Compute API"
        ))),
        _ => Ok(()),
    }
}

/// Whether the volume may be deleted.
pub fn delete_volume(volume: &Volume, attachments: &[Attachment], snapshots: i64) -> Result<(), Refusal> {
    let idle = attachments.is_empty() && snapshots == 0 && !volume.is_migrating();
    if idle && volume.status.may_become(VolumeStatus::Deleting) { Ok(()) } else { Err(Refusal::NotDeletable) }
}

/// Whether the volume may be moved to another place. Its bytes are copied, so nobody may be writing to them, and snapshots, which share
/// them, would not come along.
pub fn migrate(volume: &Volume, attachments: &[Attachment], snapshots: i64) -> Result<(), Refusal> {
    let at_rest = volume.status == VolumeStatus::Available && attachments.is_empty();
    if at_rest && snapshots == 0 && !volume.is_migrating() && volume.group_id.is_none() {
        return Ok(());
    }
    // The field's words, but that it moves volumes in use by the help of the service that runs the guest.
    Err(Refusal::Invalid(format!(
        "Invalid volume: Volume {} status must be available, must not be attached, be migrating, have snapshots, be replicated, be part \
         of a group and destination host/cluster must be different than the current one: it is {}, with {} attachments and {snapshots} \
         snapshots.",
        volume.id,
        volume.status,
        attachments.len()
    )))
}

/// Whether the volume may be extended to this size. `attached`: the client knows that volumes in use can be.
pub fn extend(volume: &Volume, asked_gib: u64, attached: bool) -> Result<(), Refusal> {
    let fits = volume.status == VolumeStatus::Available || (attached && volume.status == VolumeStatus::InUse);
    if !fits {
        let wanted = if attached { "available or in-use" } else { "available" };
        return Err(Refusal::NotExtendable { volume_id: volume.id, wanted, status: volume.status });
    }
    if asked_gib <= volume.size_gib {
        return Err(Refusal::NotLarger { size_gib: volume.size_gib, asked_gib });
    }
    Ok(())
}

/// Whether a snapshot may be made of the volume; `force` also while it is in use.
pub fn snapshot(volume: &Volume, force: bool) -> Result<(), Refusal> {
    use VolumeStatus::*;
    match volume.status {
        Available => Ok(()),
        InUse if force => Ok(()),
        status => Err(Refusal::NotSnapshotable { volume_id: volume.id, status }),
    }
}

/// Whether the volume may be read into an image: nobody may be writing to it meanwhile.
pub fn upload(volume: &Volume) -> Result<(), Refusal> {
    match volume.status {
        VolumeStatus::Available => Ok(()),
        status => Err(Refusal::NotSnapshotable { volume_id: volume.id, status }),
    }
}

/// Whether an image may be written over what the volume has: no host may have it, and where it is reserved, the asker has to say that it is
/// for itself. `copies_begun`: snapshots and clones of it that are not made yet, and would have bytes of the image.
pub fn reimage(volume: &Volume, attachments: &[Attachment], copies_begun: i64, reserved: bool) -> Result<(), Refusal> {
    // By the attachments, for a volume may be in `error` while a guest has it.
    let free = |one: &Attachment| one.status == AttachStatus::Reserved && one.connector.is_none();
    match volume.status {
        VolumeStatus::Available | VolumeStatus::Error if !volume.host.is_empty() => {}
        VolumeStatus::Reserved if reserved => {}
        status => {
            let allowed = if reserved { "available, error or reserved" } else { "available or error" };
            let text = format!(
                "Invalid volume: Volume {} status must be {allowed}, and it must have been made, but current status is: {status}.",
                volume.id
            );
            return Err(Refusal::Invalid(text));
        }
    }
    let why = match attachments {
        [one] if free(one) && !reserved => "is reserved, so the request must say reimage_reserved",
        [one] if !free(one) => "is attached to a host, or is just being attached or detached",
        [_, _, ..] => "has several attachments",
        _ if copies_begun > 0 => "has snapshots or clones that are still being made",
        _ => return Ok(()),
    };
    Err(Refusal::Invalid(format!("Invalid volume: Volume {} {why}: an image cannot be written over it.", volume.id)))
}

/// Whether a volume's bytes are such that a host may be given them.
pub fn give_to_host(volume: &Volume) -> Result<(), Refusal> {
    match volume.status {
        // What an image was half written over is no disk, and one that is being written is not yet.
        VolumeStatus::Error | VolumeStatus::Downloading => Err(Refusal::Invalid(format!(
            "Invalid volume: Volume {} status must not be error or downloading to give it to a host, but current status is: {}.",
            volume.id, volume.status
        ))),
        _ => Ok(()),
    }
}

/// Whether the snapshot may be deleted.
pub fn delete_snapshot(snapshot: &Snapshot) -> Result<(), Refusal> {
    use SnapshotStatus::*;
    match snapshot.status {
        Available | Error | ErrorDeleting => Ok(()),
        _ => Err(Refusal::SnapshotNotDeletable),
    }
}

/// The size of a volume made from another or from a snapshot: at least its source's, which is also what it is when nobody says.
pub fn size_from_source(source_gib: u64, asked_gib: Option<u64>, source: &'static str) -> Result<u64, Refusal> {
    match asked_gib {
        Some(asked) if asked < source_gib => {
            Err(Refusal::SmallerThanSource { asked_gib: asked, source_gib, source_kind: source })
        }
        Some(asked) => Ok(asked),
        None => Ok(source_gib),
    }
}

/// What an update with a connector means for an attachment.
#[derive(Debug, PartialEq, Eq)]
pub enum ConnectorUpdate {
    /// The same host asks again: it gets the same answer.
    Unchanged,
    /// A host is named, for the first time or in place of one that never finished.
    Replace,
}

/// Whether an attachment may be given this connector.
pub fn update_connector(attachment: &Attachment, connector: &Connector) -> Result<ConnectorUpdate, Refusal> {
    let same = attachment.connector.as_ref().is_some_and(|known| known.is_same_host(connector));
    match attachment.status {
        AttachStatus::Detaching => Err(Refusal::AttachmentGoing(attachment.id)),
        _ if same => Ok(ConnectorUpdate::Unchanged),
        AttachStatus::Attached => Err(Refusal::AttachedElsewhere(attachment.id)),
        AttachStatus::Reserved | AttachStatus::Attaching => Ok(ConnectorUpdate::Replace),
    }
}

/// Whether a host may say that it has connected. Saying it twice is allowed.
pub fn complete(attachment: &Attachment) -> Result<(), Refusal> {
    match attachment.status {
        AttachStatus::Attaching | AttachStatus::Attached => Ok(()),
        AttachStatus::Reserved => Err(Refusal::NothingToComplete(attachment.id)),
        AttachStatus::Detaching => Err(Refusal::AttachmentGoing(attachment.id)),
    }
}

/// What a volume is, given the attachments that hold it: the most advanced of them decides, and while one leaves
/// and none other is attached, the volume is detaching.
pub fn status_held_by(attachments: &[Attachment]) -> VolumeStatus {
    let any = |status| attachments.iter().any(|attachment| attachment.status == status);
    if any(AttachStatus::Attached) {
        VolumeStatus::InUse
    } else if any(AttachStatus::Detaching) {
        VolumeStatus::Detaching
    } else if any(AttachStatus::Attaching) {
        VolumeStatus::Attaching
    } else if any(AttachStatus::Reserved) {
        VolumeStatus::Reserved
    } else {
        VolumeStatus::Available
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(status: VolumeStatus, multiattach: bool) -> Volume {
        Volume {
            id: Uuid::nil(),
            seq: 1,
            name: None,
            description: None,
            size_gib: 1,
            status,
            multiattach,
            availability_zone: "nova".into(),
            metadata: Default::default(),
            created_at_us: 0,
            updated_at_us: None,
            project_id: "p".into(),
            user_id: "u".into(),
            host: "here@files#files".into(),
            volume_type_id: None,
            volume_type: None,
            bootable: false,
            readonly: false,
            encryption_key_id: None,
            image_metadata: None,
            snapshot_id: None,
            source_volume_id: None,
            image_id: None,
            backup_id: None,
            group_id: None,
            migration_status: None,
            name_id: None,
            provider: None,
            consumes_quota: true,
        }
    }

    fn attachment(status: AttachStatus) -> Attachment {
        Attachment {
            id: Uuid::nil(),
            volume_id: Uuid::nil(),
            instance_id: None,
            status,
            mode: AttachMode::Rw,
            project_id: "p".into(),
            connector: None,
            connection: None,
            chap: None,
            created_at_us: 0,
            attached_at_us: None,
            lease: None,
        }
    }

    #[test]
    fn only_an_available_volume_is_reserved_unless_it_may_be_shared() {
        use VolumeStatus::*;
        for status in VolumeStatus::ALL.iter().copied() {
            assert_eq!(reserve(&volume(status, false), &[], None).is_ok(), status == Available, "{status}");
            let shareable = matches!(status, Available | Reserved | Attaching | InUse);
            assert_eq!(reserve(&volume(status, true), &[], None).is_ok(), shareable, "{status}, multiattach");
            let guest = Some(Uuid::from_u128(1));
            let held = [Attachment { instance_id: guest, ..attachment(AttachStatus::Attached) }];
            let again = reserve(&volume(status, false), &held, guest);
            assert_eq!(again.is_ok(), matches!(status, Available | Reserved | InUse), "{status}, by its own guest");
            for other in [None, Some(Uuid::from_u128(2))] {
                assert_eq!(
                    reserve(&volume(status, false), &held, other).is_ok(),
                    status == Available,
                    "{status}, by {other:?}"
                );
            }
        }
    }

    #[test]
    fn a_volume_is_deleted_from_rest_and_never_while_held() {
        use VolumeStatus::*;
        for status in VolumeStatus::ALL.iter().copied() {
            let at_rest = matches!(status, Available | Error | ErrorDeleting | ErrorExtending | ErrorRestoring);
            assert_eq!(delete_volume(&volume(status, false), &[], 0).is_ok(), at_rest, "{status}");
            assert!(delete_volume(&volume(status, false), &[attachment(AttachStatus::Reserved)], 0).is_err());
            assert!(delete_volume(&volume(status, false), &[], 1).is_err(), "a snapshot lives on it");
        }
    }

    #[test]
    fn a_volume_is_extended_from_rest_or_from_use_where_the_client_knows_and_only_to_more() {
        use VolumeStatus::*;
        for status in VolumeStatus::ALL.iter().copied() {
            assert_eq!(extend(&volume(status, false), 2, true).is_ok(), matches!(status, Available | InUse), "{status}");
            assert_eq!(extend(&volume(status, false), 2, false).is_ok(), status == Available, "{status}");
            assert!(extend(&volume(status, false), 1, true).is_err());
        }
    }

    #[test]
    fn whatever_its_attachments_say_a_volume_may_get_there_from_any_held_state() {
        use VolumeStatus::*;
        let held = [Reserved, Attaching, InUse, Detaching];
        for from in held {
            for to in [Available, Reserved, Attaching, InUse, Detaching] {
                let backwards = matches!((from, to), (Detaching, Detaching));
                assert!(from == to || from.may_become(to) || backwards, "{from} -> {to}");
            }
        }
        assert!(!Creating.may_become(InUse) && !Deleting.may_become(Available) && !Error.may_become(Available));
    }

    #[test]
    fn the_most_advanced_attachment_decides() {
        use AttachStatus::*;
        let of = |statuses: &[AttachStatus]| status_held_by(&statuses.iter().map(|s| attachment(*s)).collect::<Vec<_>>());
        assert_eq!(of(&[]), VolumeStatus::Available);
        assert_eq!(of(&[Reserved]), VolumeStatus::Reserved);
        assert_eq!(of(&[Reserved, Attaching]), VolumeStatus::Attaching);
        assert_eq!(of(&[Attaching, Attached, Detaching]), VolumeStatus::InUse);
        assert_eq!(of(&[Detaching]), VolumeStatus::Detaching);
    }

    #[test]
    fn a_guest_s_host_must_let_go_first_and_only_a_service_can_say_that_it_has() {
        let properties = [("initiator".to_owned(), "iqn.x:a".into())].into_iter().collect();
        let connector = Connector::from_properties(properties).unwrap();
        for (guest, host, by_service, allowed) in
            [(true, true, false, false), (true, true, true, true), (true, false, false, true), (false, true, false, true)]
        {
            let mut one = attachment(AttachStatus::Attached);
            one.instance_id = guest.then(Uuid::new_v4);
            one.connector = host.then(|| connector.clone());
            assert_eq!(let_go(&one, by_service).is_ok(), allowed, "guest {guest}, host {host}, service {by_service}");
        }
    }

    #[test]
    fn completing_needs_a_host_and_may_be_repeated() {
        assert!(complete(&attachment(AttachStatus::Reserved)).is_err());
        assert!(complete(&attachment(AttachStatus::Attaching)).is_ok());
        assert!(complete(&attachment(AttachStatus::Attached)).is_ok());
        assert!(complete(&attachment(AttachStatus::Detaching)).is_err());
    }
}
