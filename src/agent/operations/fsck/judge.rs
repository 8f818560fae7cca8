//! From what everybody said to what differs. Pure.

use super::{Cure, Judged};
use crate::agent::api::OperationState;
use crate::agent::journal::{AttachmentRecord, BootRecord, OperationRecord};
use crate::agent::operations::ports::{GuestFacts, PortError, Presence};
use crate::model::{AttachmentStatus, AttachmentSummary, BootedDisk, Difference, ErrorKind, Mending, OwnName, VolumeId};
use std::collections::HashSet;
use uuid::Uuid;

/// About whom a difference is: the volume, where there is one, and the guest's name.
type About<'a> = (Option<VolumeId>, &'a str);

impl Judged {
    pub(super) fn new(
        area: &str,
        (volume, guest): About<'_>,
        found: String,
        meaning: &str,
        remedy: String,
        cure: Cure,
    ) -> Self {
        let (area, guest, meaning) = (area.to_owned(), guest.to_owned(), meaning.to_owned());
        // What becomes of it is known once the cure was tried.
        let mending = Mending::ByHand;
        Self { difference: Difference { area, volume, guest, found, meaning, remedy, mending }, cure }
    }

    pub(super) fn about_guest(mut self, name: &str) -> Self {
        name.clone_into(&mut self.difference.guest);
        self
    }
}

/// What was said of one attachment.
pub(super) struct Sayings {
    /// By libvirt.
    pub(super) guest: Result<GuestFacts, PortError>,
    /// By this host.
    pub(super) presence: Result<Presence, PortError>,
    /// By the volume service: all attachments of the volume.
    pub(super) service: Result<Vec<AttachmentSummary>, PortError>,
}

/// Where an attachment is not what the journal says.
pub(super) fn attachment(record: &AttachmentRecord, said: &Sayings) -> Vec<Judged> {
    let about = |area: &str, found: String, meaning: &str, remedy: String, cure: Cure| {
        Judged::new(area, (Some(record.volume), &record.guest_name), found, meaning, remedy, cure)
    };
    let unknown = |area: &str, error: &PortError| {
        about(
            area,
            format!("not known: {error}"),
            "it could not be looked at",
            "look again once it answers".to_owned(),
            Cure::None,
        )
    };
    let detach = || format!("bowline detach {} {}", record.volume, record.guest);
    let mut found = vec![];
    match &said.guest {
        Err(error) if error.kind == ErrorKind::NotFound => found.push(about(
            "guest",
            "the guest is not defined any more".to_owned(),
            "the volume stays attached for nobody",
            detach(),
            Cure::None,
        )),
        Err(error) => found.push(unknown("guest", error)),
        Ok(guest) => match guest.disk(record.volume) {
            None => found.push(about(
                "guest",
                "the guest has no disk of the volume".to_owned(),
                "somebody took the disk away by other means; device and attachment are still held",
                detach(),
                Cure::None,
            )),
            Some(disk) if guest.active && !disk.live => found.push(about(
                "guest",
                "the running guest has not the disk, only its definition has".to_owned(),
                "the guest does not see the volume before it is started anew",
                "shut the guest down and start it, or detach the volume".to_owned(),
                Cure::None,
            )),
            Some(disk) if guest.persistent && !disk.defined => found.push(about(
                "guest",
                "the running guest has the disk, but its definition has not".to_owned(),
                "the guest loses the disk when it is started anew",
                "detach the volume and attach it again".to_owned(),
                Cure::None,
            )),
            Some(_) => {}
        },
    }
    match &said.presence {
        Ok(Presence::Present) => {}
        Ok(Presence::Absent) => found.push(about(
            "host",
            "this host has not the device any more".to_owned(),
            "the guest's I/O fails, or it cannot be started",
            "bowline fsck --repair connects it again".to_owned(),
            Cure::Reconnect(Box::new(record.clone())),
        )),
        Ok(Presence::Foreign) => found.push(about(
            "host",
            "another device is in the place of the volume's".to_owned(),
            "the guest may be reading and writing what is not its volume",
            "stop the guest, then find out who reused the LUN, the file or the image's name: bowline show tells the identity"
                .to_owned(),
            Cure::None,
        )),
        Err(error) => found.push(unknown("host", error)),
    }
    let summaries = match &said.service {
        Ok(summaries) => summaries.as_slice(),
        Err(error) => {
            found.push(unknown("service", error));
            return found;
        }
    };
    match summaries.iter().find(|summary| summary.id == record.id) {
        None => found.push(about(
            "service",
            format!("the service has no attachment {} any more", record.id),
            "the service may give the volume to somebody else while the guest writes to it",
            detach(),
            Cure::None,
        )),
        Some(summary) if summary.status != AttachmentStatus::Attached => found.push(about(
            "service",
            format!("attachment {} is {:?} in the service", record.id, summary.status).to_lowercase(),
            "the service does not show the volume as in use",
            "bowline fsck --repair completes it".to_owned(),
            Cure::Complete(record.id),
        )),
        Some(_) => {}
    }
    for other in summaries.iter().filter(|summary| summary.id != record.id && summary.guest == Some(record.guest)) {
        found.push(about(
            "service",
            format!("the service has a second attachment of the volume for the guest, {}", other.id),
            "it is a left-over: the volume stays in use after a detach",
            format!("openstack --os-volume-api-version 3.27 volume attachment delete {}", other.id),
            Cure::None,
        ));
    }
    found
}

/// Somebody who is asked for all that there is says nothing.
pub(super) fn silent(area: &str, error: &PortError) -> Judged {
    let found = format!("not known: {error}");
    let meaning = "what is left over there, or somebody else's, could not be looked for";
    Judged::new(area, (None, ""), found, meaning, "look again once it answers".to_owned(), Cure::None)
}

/// An attachment of the service's, for a guest of this host that has not got the volume.
pub(super) fn left_attachment(attachment: &AttachmentSummary, guest: &str) -> Judged {
    let AttachmentSummary { id, volume, status, .. } = attachment;
    let found = format!("the service has attachment {id} ({status:?}) for the guest, which has no disk of the volume");
    let meaning = "it keeps the volume from everybody; whoever made it never finished, or never took it back";
    let remedy = format!(
        "see that nobody is at it (Nova may be), then openstack --os-volume-api-version 3.27 volume attachment delete {id}"
    );
    Judged::new("service", (Some(*volume), guest), found, meaning, remedy, Cure::None)
}

/// Names of Bowline's own that belong to nothing.
pub(super) fn name(name: &OwnName, known: &HashSet<VolumeId>) -> Option<Judged> {
    if known.contains(&name.volume) {
        return None;
    }
    let (meaning, remedy, cure) = if name.leads_nowhere {
        ("it holds nothing", "bowline fsck --repair removes it".to_owned(), Cure::ForgetName(name.volume))
    } else {
        (
            "this host may still have the volume's device or mount, which nobody looks after",
            format!(
                "see that nothing has it open (lsblk, findmnt, iscsiadm -m session), take it away, then remove {}",
                name.path.display()
            ),
            Cure::None,
        )
    };
    let found = format!("{} is there, though the volume is attached to no guest: {}", name.path.display(), name.what);
    Some(Judged::new("host", (Some(name.volume), ""), found, meaning, remedy, cure))
}

/// Disks of volumes that the journal does not know.
pub(super) fn foreign_disks(guest: &GuestFacts, known: &HashSet<VolumeId>) -> Vec<Judged> {
    let others = guest.disks.iter().filter_map(|disk| Some((disk, disk.volume?))).filter(|(_, volume)| !known.contains(volume));
    others
        .map(|(disk, volume)| {
            let found = format!("the guest has the volume as {}, and the journal does not know it", disk.target);
            let meaning = "Nova, another tool or a hand attached it";
            let remedy = format!("whoever attached it takes it away, or bowline adopt {volume} {} takes it over", guest.name);
            Judged::new("guest", (Some(volume), &guest.name), found, meaning, remedy, Cure::Foreign)
        })
        .collect()
}

/// A secret of Bowline's that no attachment and no operation has.
pub(super) fn secret(secret: Uuid) -> Judged {
    let found = format!("libvirt holds secret {secret} of Bowline's, which nothing uses");
    let meaning = "a password or key lies in libvirtd's memory for longer than it is needed";
    let remedy = "bowline fsck --repair makes libvirt forget it".to_owned();
    Judged::new("libvirt", (None, ""), found, meaning, remedy, Cure::ForgetSecret(secret))
}

/// Operations that wait for a person.
pub(super) fn operation(record: &OperationRecord) -> Option<Judged> {
    if record.state != OperationState::Stuck {
        return None;
    }
    let (cause, remedy) = match &record.failure {
        Some(failure) => (failure.message.as_str(), failure.remedy.clone()),
        None => ("", String::new()),
    };
    let about = (Some(record.task.volume()), record.task.guest_name());
    let found = format!("{} {} is stuck: {cause}", record.task.kind(), record.id);
    let meaning = "it is tried on by itself; the volume waits for it";
    Some(Judged::new("operation", about, found, meaning, remedy, Cure::None))
}

/// Disks of a guest that libvirt does not know any more. Its volumes are told with their attachments.
pub(super) fn booted(record: &BootRecord, guests: &[GuestFacts]) -> Option<Judged> {
    let targets: Vec<_> = record
        .disks
        .iter()
        .filter_map(|disk| match disk {
            BootedDisk::Local(disk) => Some(disk.target.as_str()),
            BootedDisk::Volume { .. } => None,
        })
        .collect();
    if targets.is_empty() || guests.iter().any(|guest| guest.uuid == record.guest) {
        return None;
    }
    let found =
        format!("the guest is not defined any more, and this host still has its ephemeral disks {}", targets.join(", "));
    let meaning = "nobody has said that they are not needed any more, so they stay and take room";
    let remedy = format!("bowline delete {} deletes them, with its volumes that go with it", record.guest);
    Some(Judged::new("host", (None, &record.guest_name), found, meaning, remedy, Cure::None))
}
