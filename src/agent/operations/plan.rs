//! Planning: a pure function of what was asked and of what is now. It decides what the steps are and refuses what cannot
//! end well; it touches nothing.

use super::{boot, fill, ports::GuestFacts, snapshot};
use crate::agent::api::{ApiError, AttachRequest, Plan, PlannedStep};
use crate::agent::journal::{AttachTask, AttachmentRecord, DetachTask, ExtendTask, Step, Task};
use crate::model::{AttachmentId, DiskBus, ErrorKind, GIB, Volume, VolumeId};

/// The steps of an attach, in order.
pub(super) const ATTACH: [Step; 6] = [
    Step::CreateAttachment,
    Step::UpdateAttachment,
    Step::ConnectVolume,
    Step::VerifyDevice,
    Step::AttachDisk,
    Step::CompleteAttachment,
];

/// The steps of a detach, in order. The attachment goes last: until then the service keeps the volume for this host, and
/// cannot hand its LUN to anyone else (CVE-2023-2088).
pub(super) const DETACH: [Step; 3] = [Step::DetachDisk, Step::DisconnectVolume, Step::DeleteAttachment];

/// The steps of an extend, in order. The first is left out where the service has extended the volume already, the others where
/// no guest of this host has it.
pub(super) const EXTEND: [Step; 3] = [Step::ExtendVolume, Step::GrowDevice, Step::ResizeDisk];

/// The steps of a task.
pub(super) fn steps(task: &Task) -> Vec<Step> {
    match task {
        Task::Attach(_) => ATTACH.to_vec(),
        Task::Detach(_) => DETACH.to_vec(),
        Task::Extend(task) => EXTEND
            .into_iter()
            .filter(|step| if *step == Step::ExtendVolume { task.ask_service } else { !task.guests.is_empty() })
            .collect(),
        Task::Boot(task) => boot::boot_steps(task),
        Task::Delete(task) => boot::delete_steps(task),
        Task::Rebuild(_) => boot::REBUILD.to_vec(),
        Task::Reimage(_) => boot::REIMAGE.to_vec(),
        Task::Rescue(task) => boot::rescue_steps(task).to_vec(),
        Task::Unrescue(task) => boot::unrescue_steps(task).to_vec(),
        Task::Start(_) => boot::START.to_vec(),
        Task::Stop(task) => vec![boot::stop_step(task)],
        Task::Snapshot(task) => snapshot::snapshot_steps(task),
        Task::Fill(_) => fill::FILL.to_vec(),
    }
}

/// A volume that is reserved by the attach's own attachment is as free to it as one that is available.
pub(super) fn own_reservation(volume: &mut Volume, reservation: Option<AttachmentId>) {
    if reservation.is_some() && volume.status == "reserved" {
        "available".clone_into(&mut volume.status);
    }
}

/// Plans an attach.
pub(super) fn plan_attach(
    request: &AttachRequest,
    volume: &Volume,
    guest: &GuestFacts,
    attached: Option<&AttachmentRecord>,
    default_bus: DiskBus,
) -> Result<AttachTask, ApiError> {
    let conflict = |message: String| Err(ApiError::new(ErrorKind::Conflict, message));
    if let Some(record) = attached {
        return conflict(format!("volume {} is already attached to guest {} as {}", volume.id, guest.name, record.target));
    }
    if let Some(disk) = guest.disk(volume.id) {
        return conflict(format!(
            "guest {} has volume {} as {} already, but Bowline did not attach it: detach it with what attached it first",
            guest.name, volume.id, disk.target
        ));
    }
    let free = volume.status == "available" || (volume.multiattach && volume.status == "in-use");
    if !free {
        let users: Vec<String> = volume
            .attachments
            .iter()
            .map(|user| match (&user.guest, &user.host) {
                (Some(guest), Some(host)) => format!("guest {guest} on host {host}"),
                (Some(guest), None) => format!("guest {guest}"),
                (None, Some(host)) => format!("host {host}"),
                (None, None) => format!("attachment {}", user.attachment),
            })
            .collect();
        let whose = if users.is_empty() { String::new() } else { format!(" by {}", users.join(", ")) };
        return conflict(format!(
            "volume {} is {}{whose}: only a volume that is available can be attached",
            volume.id, volume.status
        ));
    }
    let bus = request.bus.unwrap_or(default_bus);
    if let Some(target) = &request.target {
        check_target(target, bus)?;
        if guest.disks.iter().any(|disk| disk.target == *target) {
            return conflict(format!("guest {} has a disk {target} already; leave the target out for a free one", guest.name));
        }
    }
    Ok(AttachTask {
        volume: volume.id,
        guest: guest.uuid,
        guest_name: guest.name.clone(),
        size_gib: volume.size_gib,
        bus,
        target: request.target.clone(),
        read_only: request.read_only,
        multiattach: volume.multiattach,
        others: volume.attachments.iter().map(|user| user.attachment).collect(),
        encrypted: volume.encrypted,
        wishes: request.wishes.clone(),
        reservation: None,
        by_hand: true,
    })
}

fn check_target(target: &str, bus: DiskBus) -> Result<(), ApiError> {
    let prefix = bus.target_prefix();
    let letters = target.strip_prefix(prefix).unwrap_or_default();
    if !letters.is_empty() && letters.len() <= 3 && letters.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorKind::InvalidInput,
        format!("target {target:?} is not a disk of bus {bus}: expected {prefix} and up to three letters, such as {prefix}b"),
    ))
}

/// Plans a detach. `attached`: what the journal has of this volume and guest.
pub(super) fn plan_detach(volume: VolumeId, guest: &GuestFacts, attached: Option<&AttachmentRecord>) -> Result<Task, ApiError> {
    if attached.is_none() {
        let message = match guest.disk(volume) {
            Some(disk) => format!(
                "guest {} has volume {} as {}, but Bowline did not attach it: detach it with what attached it",
                guest.name, volume, disk.target
            ),
            None => format!("volume {} is not attached to guest {} by this host's Bowline", volume, guest.name),
        };
        return Err(ApiError::new(ErrorKind::NotFound, message));
    }
    Ok(Task::Detach(DetachTask { volume, guest: guest.uuid, guest_name: guest.name.clone() }))
}

/// Plans an extend. `attached`: what guests of this host have of the volume.
pub(super) fn plan_extend(size_gib: u64, volume: &Volume, attached: &[AttachmentRecord]) -> Result<Task, ApiError> {
    let refuse = |kind, message: String| Err(ApiError::new(kind, message));
    let (id, now_gib) = (volume.id, volume.size_gib);
    if size_gib < now_gib {
        let message = format!("volume {id} has {now_gib} GiB: it can be extended, never shrunk to {size_gib} GiB");
        return refuse(ErrorKind::InvalidInput, message);
    }
    let ask_service = size_gib > now_gib;
    if !ask_service && attached.iter().all(|record| record.observed.size_bytes / GIB >= size_gib) {
        return refuse(ErrorKind::Conflict, format!("volume {id} has {now_gib} GiB already"));
    }
    // One that is being extended by somebody else is waited for.
    if ask_service && !matches!(volume.status.as_str(), "available" | "in-use" | "extending") {
        let message = format!("volume {id} is {}: only one that is available or in-use can be extended", volume.status);
        return refuse(ErrorKind::Conflict, message);
    }
    if volume.encrypted && !attached.is_empty() {
        let message = format!("volume {id} is encrypted: this version cannot tell its guests of a new size; detach it first");
        return refuse(ErrorKind::Unsupported, message);
    }
    Ok(Task::Extend(extend_task(id, size_gib, ask_service, attached)))
}

/// The task of an extend for those who have the volume now.
pub(super) fn extend_task(volume: VolumeId, size_gib: u64, ask_service: bool, attached: &[AttachmentRecord]) -> ExtendTask {
    let names: Vec<_> = attached.iter().map(|record| record.guest_name.as_str()).collect();
    ExtendTask {
        volume,
        size_gib,
        ask_service,
        guests: attached.iter().map(|record| record.guest).collect(),
        guest_names: names.join(", "),
    }
}

/// A plan in words.
pub(super) fn describe(task: &Task) -> Plan {
    let steps = steps(task)
        .into_iter()
        .map(|step| PlannedStep { name: step.name().to_owned(), description: describe_step(step, task) })
        .collect();
    Plan {
        kind: task.kind().to_owned(),
        volume: task.volume(),
        guest: task.guest(),
        guest_name: task.guest_name().to_owned(),
        steps,
    }
}

fn describe_step(step: Step, task: &Task) -> String {
    let (volume, guest) = (task.volume(), task.guest_name());
    match step {
        Step::CreateAttachment => format!("reserve volume {volume} for guest {guest} in the volume service"),
        Step::UpdateAttachment => "tell the volume service who connects, and learn from it how".to_owned(),
        Step::ConnectVolume => "connect this host to the volume's storage, and bring in just this volume".to_owned(),
        Step::VerifyDevice => match task {
            Task::Attach(task) => {
                format!("prove by its identity and size ({} GiB) that the device is the volume", task.size_gib)
            }
            _ => "prove that the device is the volume".to_owned(),
        },
        Step::AttachDisk => match task {
            Task::Attach(AttachTask { bus, target: Some(target), .. }) => {
                format!("hot-plug it into guest {guest} as {target} on bus {bus}")
            }
            Task::Attach(AttachTask { bus, .. }) => format!("hot-plug it into guest {guest} on bus {bus}, first free target"),
            _ => format!("hot-plug it into guest {guest}"),
        },
        Step::CompleteAttachment => "tell the volume service that the volume is in use".to_owned(),
        Step::DetachDisk => format!("ask guest {guest} to let the disk go, and wait until it has"),
        Step::DisconnectVolume => {
            "flush and remove the device; end the connection to its storage if nothing else uses it".to_owned()
        }
        Step::DeleteAttachment => format!("tell the volume service that volume {volume} is free"),
        Step::ExtendVolume => match task {
            Task::Extend(task) => format!(
                "ask the volume service to extend volume {volume} to {} GiB, which can never be taken back, and wait for it",
                task.size_gib
            ),
            _ => format!("ask the volume service to extend volume {volume}"),
        },
        Step::GrowDevice => "have each layer of this host see the new size, and check that all agree".to_owned(),
        Step::ResizeDisk => format!("tell what runs of guest {guest} of the new size, and read it back"),
        Step::DefineGuest
        | Step::MakeDisks
        | Step::CreateVolumes
        | Step::GiveDisks
        | Step::StartGuest
        | Step::StartRescue
        | Step::StopGuest
        | Step::DetachVolumes
        | Step::UndefineDisks
        | Step::DeleteVolumes
        | Step::RemoveDisks
        | Step::UndefineGuest
        | Step::ReplaceRoot
        | Step::RequestReimage
        | Step::ReimageVolume
        | Step::ConnectVolumes
        | Step::ShutDownGuest => boot::describe(step, task),
        Step::CaptureDisk | Step::UploadImage | Step::RemoveCapture | Step::SnapshotVolumes | Step::RegisterImage => match task
        {
            Task::Snapshot(task) => snapshot::describe(step, task),
            _ => step.name().to_owned(),
        },
        Step::FetchImage | Step::CompleteDisks => fill::describe(step, guest),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ports::GuestDiskFacts;
    use super::*;
    use crate::model::{AttachmentId, DiskWishes, GuestUuid, VolumeAttachment};
    use uuid::Uuid;

    fn volume(status: &str) -> Volume {
        Volume {
            id: VolumeId(Uuid::from_u128(1)),
            name: "v".into(),
            size_gib: 1,
            status: status.into(),
            multiattach: false,
            bootable: false,
            encrypted: false,
            volume_type: None,
            created_at: String::new(),
            attachments: vec![],
        }
    }

    fn guest() -> GuestFacts {
        GuestFacts {
            uuid: GuestUuid(Uuid::from_u128(2)),
            name: "g".into(),
            active: true,
            run: None,
            persistent: true,
            memory_mib: Some(96),
            disks: vec![],
        }
    }

    fn request(target: Option<&str>) -> AttachRequest {
        let target = target.map(Into::into);
        AttachRequest {
            volume: "v".into(),
            guest: "g".into(),
            bus: None,
            target,
            read_only: false,
            wishes: DiskWishes::default(),
        }
    }

    fn refusal(volume: &Volume, guest: &GuestFacts, request: &AttachRequest) -> ApiError {
        plan_attach(request, volume, guest, None, DiskBus::Virtio).unwrap_err()
    }

    #[test]
    fn an_available_volume_is_planned_in_six_steps_with_the_attachment_completed_last() {
        let task = plan_attach(&request(None), &volume("available"), &guest(), None, DiskBus::Virtio).unwrap();
        let plan = describe(&Task::Attach(task));
        let names: Vec<_> = plan.steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(
            names,
            ["CreateAttachment", "UpdateAttachment", "ConnectVolume", "VerifyDevice", "AttachDisk", "CompleteAttachment"]
        );
    }

    #[test]
    fn a_volume_in_use_elsewhere_is_refused_with_its_user() {
        let mut volume = volume("in-use");
        volume.attachments = vec![VolumeAttachment {
            attachment: AttachmentId(Uuid::nil()),
            guest: Some(GuestUuid(Uuid::from_u128(7))),
            host: Some("other".into()),
        }];
        let error = refusal(&volume, &guest(), &request(None));
        assert_eq!(error.kind, ErrorKind::Conflict);
        assert!(error.message.contains("in-use") && error.message.contains("on host other"), "{error}");
        volume.multiattach = true;
        assert!(plan_attach(&request(None), &volume, &guest(), None, DiskBus::Virtio).is_ok());
    }

    #[test]
    fn every_other_status_is_refused() {
        for status in
            ["creating", "reserved", "attaching", "detaching", "error", "deleting", "maintenance", "awaiting-transfer"]
        {
            assert_eq!(refusal(&volume(status), &guest(), &request(None)).kind, ErrorKind::Conflict, "{status}");
        }
    }

    #[test]
    fn targets_that_are_taken_or_make_no_sense_are_refused() {
        let mut guest = guest();
        guest.disks.push(GuestDiskFacts { target: "vdb".into(), volume: None, live: true, defined: true });
        assert_eq!(refusal(&volume("available"), &guest, &request(Some("vdb"))).kind, ErrorKind::Conflict);
        for target in ["sdb", "vd", "vd1", "vdabcd", "../x", "vdB"] {
            let error = refusal(&volume("available"), &guest, &request(Some(target)));
            assert_eq!(error.kind, ErrorKind::InvalidInput, "{target}");
        }
    }

    #[test]
    fn a_disk_that_somebody_else_attached_is_left_alone() {
        let mut guest = guest();
        let volume = volume("available");
        guest.disks.push(GuestDiskFacts { target: "vdc".into(), volume: Some(volume.id), live: true, defined: true });
        assert_eq!(refusal(&volume, &guest, &request(None)).kind, ErrorKind::Conflict);
        let error = plan_detach(volume.id, &guest, None).unwrap_err();
        assert!(error.message.contains("Bowline did not attach it"), "{error}");
    }

    #[test]
    fn what_cannot_be_extended_is_refused_and_nobody_is_asked_for_what_is_so() {
        let mut volume = volume("available");
        volume.size_gib = 5;
        for (size_gib, kind) in [(4, ErrorKind::InvalidInput), (0, ErrorKind::InvalidInput), (5, ErrorKind::Conflict)] {
            assert_eq!(plan_extend(size_gib, &volume, &[]).unwrap_err().kind, kind, "{size_gib}");
        }
        assert_eq!(steps(&plan_extend(6, &volume, &[]).unwrap()), [Step::ExtendVolume]);
        volume.status = "error".into();
        assert_eq!(plan_extend(6, &volume, &[]).unwrap_err().kind, ErrorKind::Conflict);
    }

    #[test]
    fn a_detach_deletes_the_attachment_only_after_the_guest_and_the_device_are_done() {
        assert_eq!(DETACH, [Step::DetachDisk, Step::DisconnectVolume, Step::DeleteAttachment]);
    }
}
