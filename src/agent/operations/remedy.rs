//! What an operator is told to do about a failure, by its kind and the step it struck.

use crate::agent::journal::{OperationRecord, Step};
use crate::model::ErrorKind;

/// One sentence; empty when there is nothing to be done but to read the error. `protocol`: the service's word, once it is known.
pub(super) fn of(kind: ErrorKind, step: Step, protocol: Option<&str>) -> String {
    let text = match (kind, step) {
        (ErrorKind::AuthenticationFailed, Step::ConnectVolume | Step::VerifyDevice) => {
            "the storage refused the credentials: check its accounts, and what the volume service and this host have of them"
        }
        (ErrorKind::AuthenticationFailed, Step::AttachDisk) => {
            "check what the storage, the volume service and the key manager have of this volume's credentials and key"
        }
        (ErrorKind::AuthenticationFailed, _) => "check the credentials in clouds.yaml",
        (ErrorKind::PermissionDenied, _) => "the agent's user lacks the role for this in the volume service",
        (
            ErrorKind::Unavailable | ErrorKind::Timeout,
            Step::CreateAttachment
            | Step::UpdateAttachment
            | Step::CompleteAttachment
            | Step::DeleteAttachment
            | Step::ExtendVolume
            | Step::RequestReimage
            | Step::ReimageVolume,
        ) => "check that the volume service is up and reachable from this host",
        (ErrorKind::Internal, Step::ExtendVolume) => "the volume service's log tells why it could not extend the volume",
        (ErrorKind::Unsupported, Step::GrowDevice | Step::ResizeDisk) => {
            "the guest sees the new size once the volume is detached and attached again"
        }
        (ErrorKind::IdentityMismatch, Step::GrowDevice) => {
            "the device is not the one that was attached and was left alone: find out who replaced it"
        }
        (_, Step::GrowDevice) => {
            "the service has extended the volume, which cannot be taken back; it is tried again by itself: check that the target \
             shows the new size"
        }
        (_, Step::ResizeDisk) => {
            "the device of this host has the new size and only the guest does not know; it is tried again by itself: virsh \
             domblkinfo tells what the guest has"
        }
        (ErrorKind::Unavailable | ErrorKind::Timeout, Step::ConnectVolume | Step::VerifyDevice) => match protocol {
            Some("nfs") => "check that the NFS server is up, exports this volume's share, and is reachable from this host",
            Some("rbd") => "check that the Ceph cluster is up (ceph -s), and that its monitors are reachable from this host",
            _ => "check that the storage target is up, exports this volume, and is reachable from this host",
        },
        (ErrorKind::Unavailable | ErrorKind::Timeout, Step::DisconnectVolume) => {
            "check that the volume's storage is up: what the guest wrote last must reach it before the device can go"
        }
        (ErrorKind::Conflict, Step::DisconnectVolume | Step::ConnectVolume) => match protocol {
            Some("nfs") => "something on this host uses the mount: fuser -vm shows what; end that, and it goes on by itself",
            Some("rbd") => {
                "something has the image open: rbd status and, on this host, rbd device list, lsblk and fuser show what; end \
                     that, and it goes on by itself"
            }
            _ => {
                "something on this host uses the device: lsblk, fuser and dmsetup ls show what; end that, and it goes on by itself"
            }
        },
        (ErrorKind::Unsupported, Step::DisconnectVolume | Step::ConnectVolume) => match protocol {
            Some("nfs") => "this host lacks what NFS needs, bowline doctor tells what (nfs-common, kernel module nfs)",
            Some("rbd") => "this host lacks what RBD needs, bowline doctor tells what (ceph-common, kernel module rbd)",
            Some("iscsi") => {
                "this host lacks what iSCSI needs, bowline doctor tells what (open-iscsi, kernel module iscsi_tcp)"
            }
            _ => "this host lacks what the volume is connected with: bowline doctor tells what",
        },
        (ErrorKind::Conflict, Step::DeleteAttachment) => {
            "see what the volume service has of the attachment (openstack volume attachment show); it is tried again by itself"
        }
        (ErrorKind::Internal, Step::DisconnectVolume | Step::DeleteAttachment | Step::DetachDisk) => {
            "the log of the agent has the whole story: journalctl -u bowlined; it is tried again by itself"
        }
        (ErrorKind::GuestRefused | ErrorKind::Timeout, Step::DetachDisk) => {
            "unmount the disk in the guest, then detach again; a guest that is shut off lets go at once"
        }
        (ErrorKind::Unavailable | ErrorKind::Timeout, Step::AttachDisk | Step::DetachDisk) => {
            "check that libvirtd is running: systemctl status libvirtd"
        }
        (ErrorKind::IdentityMismatch, Step::DisconnectVolume | Step::AttachDisk) => {
            "the device is not the one that was attached and was left alone: find out who replaced it before you remove it"
        }
        (ErrorKind::IdentityMismatch, Step::MakeDisks | Step::FetchImage) => {
            "the image service or the way to it changed the bytes: check the image (openstack image show), and upload it again"
        }
        (ErrorKind::IdentityMismatch, _) => {
            "the storage exports something else under this volume's address: check the backend before you try again"
        }
        (ErrorKind::InvalidInput, Step::MakeDisks) => "look into the image before you use it anywhere; it may be out for harm",
        (ErrorKind::Unavailable | ErrorKind::Timeout, Step::MakeDisks) => {
            "check that the image service is up and reachable from this host; what came of the image is kept for the next try. Where the \
             host's own storage is slow, images.download_timeout_s gives it longer to copy or to zero a disk"
        }
        (ErrorKind::Unavailable | ErrorKind::Timeout, Step::CreateVolumes | Step::DeleteVolumes) => {
            "check that the volume service is up and reachable from this host"
        }
        (ErrorKind::Internal, Step::CreateVolumes) => "the volume service's log tells why it could not make the volume",
        (_, Step::ReimageVolume) => {
            "the volume service's log tells why it could not write the image; it is tried again by itself. To have another image instead: \
             bowline abandon OPERATION, and then bowline rebuild GUEST --image IMAGE"
        }
        (_, Step::GiveDisks | Step::DetachVolumes) => {
            "the volume's own operation has the whole story: bowline operations --all"
        }
        (ErrorKind::Unavailable | ErrorKind::Timeout, Step::ConnectVolumes) => {
            "check that the volume's storage and the volume service are up and reachable from this host"
        }
        (ErrorKind::Conflict, Step::ConnectVolumes) => "wait for the volume's operation: bowline operations shows it",
        (ErrorKind::Conflict, Step::CaptureDisk) => {
            "another job copies or moves this guest's disks (virsh domjobinfo), or something has the disk open: ask again when it has ended"
        }
        (ErrorKind::Timeout, Step::SnapshotVolumes) => {
            "give it more time (guest.freeze_timeout_s), or take it without freezing (--no-freeze), or with the guest off"
        }
        (ErrorKind::Internal, Step::CaptureDisk) => {
            "see that the file system of images.dir has room for the disk; the log of the agent has the whole story: journalctl -u bowlined"
        }
        (ErrorKind::Unavailable | ErrorKind::Timeout, Step::UploadImage | Step::RegisterImage | Step::FetchImage) => {
            "check that the image service is up and reachable from this host"
        }
        (ErrorKind::NotFound, Step::FetchImage) => {
            "the image was deleted, and its guest has not all of it: stop the guest and bowline rebuild GUEST --image IMAGE, or bowline \
             delete GUEST; while it runs, save what is on its other disks"
        }
        (ErrorKind::Conflict, Step::CompleteDisks) => "do as the message says; it is tried again by itself",
        (_, Step::CompleteDisks) => "the guest's log has QEMU's own words (/var/log/libvirt/qemu); it is tried again by itself",
        (ErrorKind::InvalidInput, Step::DefineGuest) => "virt-xml-validate FILE domain tells where the XML is wrong",
        (ErrorKind::Internal, Step::StartGuest | Step::StartRescue) => {
            "the guest's log has QEMU's own words: /var/log/libvirt/qemu"
        }
        _ => "",
    };
    text.to_owned()
}

/// What is left behind while a step cannot be done or undone.
pub(super) fn left_behind(step: Step, record: &OperationRecord) -> String {
    let (volume, guest) = (record.task.volume(), record.task.guest_name());
    match step {
        Step::AttachDisk | Step::DetachDisk => format!("guest {guest} may still have the disk of volume {volume}"),
        Step::ConnectVolume | Step::DisconnectVolume => format!("this host is still connected to volume {volume}"),
        Step::CreateAttachment | Step::DeleteAttachment => match record.facts.attachment {
            Some(attachment) => format!("the volume service still has attachment {attachment} of volume {volume}"),
            None => format!("the volume service may still hold volume {volume} for guest {guest}"),
        },
        Step::ExtendVolume => format!("the volume service may still be extending volume {volume}"),
        Step::GrowDevice => format!("the volume service has extended volume {volume}, and this host does not see it yet"),
        Step::ResizeDisk => format!("this host sees the new size of volume {volume}, and guest {guest} does not yet"),
        Step::DefineGuest | Step::UndefineGuest => format!("guest {guest} may still be defined, as its boot defined it"),
        Step::MakeDisks | Step::RemoveDisks => format!("this host still has ephemeral disks of guest {guest}"),
        Step::CreateVolumes | Step::DeleteVolumes => format!("the volume service still has volumes of guest {guest}"),
        Step::DetachVolumes => format!("guest {guest} may still have volumes attached"),
        Step::GiveDisks => format!("guest {guest} may still have disks of the boot, and volumes attached"),
        Step::ReplaceRoot => format!("the definition of guest {guest} may have no root disk, or the new one"),
        Step::RequestReimage | Step::ReimageVolume => {
            format!("volume {volume}, the root disk of guest {guest}, may be half written over, and the guest has not got it")
        }
        Step::UndefineDisks => format!("the definition of guest {guest} may still have ephemeral disks"),
        Step::StartGuest | Step::StartRescue | Step::StopGuest | Step::ShutDownGuest => format!("guest {guest} may still run"),
        Step::ConnectVolumes => format!("volumes of guest {guest} are not connected"),
        Step::CaptureDisk => {
            format!("guest {guest} may be frozen, and this host may still have what was caught of its disk")
        }
        Step::RemoveCapture => format!("this host still has what was caught of a disk of guest {guest}"),
        Step::SnapshotVolumes => {
            format!("guest {guest} may be frozen, and the volume service may have snapshots of its volumes")
        }
        Step::FetchImage | Step::CompleteDisks => format!("disks of guest {guest} are not filled yet"),
        Step::UploadImage | Step::RegisterImage => "the image service may have the image that was not finished".to_owned(),
        Step::UpdateAttachment | Step::VerifyDevice | Step::CompleteAttachment => {
            format!("volume {volume} is in an unclear state")
        }
    }
}

/// How an operator takes away by hand what an abandoned operation left at a step.
pub(super) fn by_hand(step: Step, record: &OperationRecord) -> Option<String> {
    let protocol = record.facts.protocol.as_deref();
    let (volume, guest) = (record.task.volume(), record.task.guest_name());
    match step {
        Step::AttachDisk | Step::DetachDisk => {
            let target = record.facts.target.as_deref().unwrap_or("TARGET");
            Some(format!("virsh detach-disk {guest} {target} --live --config takes the disk from the guest"))
        }
        Step::ConnectVolume | Step::DisconnectVolume => Some(match &record.facts.device {
            Some(device) => match device.host_path() {
                Some(path) => {
                    let end = match protocol {
                        Some("nfs") => "unmount its share if no other guest uses it",
                        Some("rbd") => "rbd device unmap it",
                        _ => "log out of its target if no other guest uses that",
                    };
                    format!("see that nothing uses {}, and {end}", path.display())
                }
                None => "QEMU's connection ended with the guest's disk".to_owned(),
            },
            None => {
                let look = match protocol {
                    Some("nfs") => "findmnt",
                    Some("rbd") => "rbd device list",
                    Some("iscsi") => "iscsiadm -m session",
                    _ => "iscsiadm -m session, findmnt, rbd device list",
                };
                format!("see whether anything of volume {volume} is connected: {look}")
            }
        }),
        Step::CreateAttachment | Step::DeleteAttachment => Some(match record.facts.attachment {
            Some(attachment) => format!("openstack volume attachment delete {attachment} frees the volume in the service"),
            None => format!("openstack volume attachment list --volume-id {volume} tells whether one is left"),
        }),
        Step::GrowDevice | Step::ResizeDisk => {
            Some("detach the volume and attach it again: the guest then sees the new size".to_owned())
        }
        Step::DefineGuest | Step::UndefineGuest => Some(format!("virsh undefine {guest} takes its definition away")),
        Step::MakeDisks | Step::RemoveDisks => {
            let uuid = record.task.guest();
            Some(format!(
                "remove the folder of guest {uuid} below disks in the folder of images.dir; on LVM, lvs --select lv_tags=bowline.ephemeral shows \
                 its disks, bowline-{uuid}-..., and lvremove removes each; on RBD, rbd ls of images.rbd_pool does, and rbd rm"
            ))
        }
        Step::CreateVolumes | Step::DeleteVolumes => {
            Some(format!("openstack volume list shows them: their names begin with {guest}-"))
        }
        Step::GiveDisks | Step::DetachVolumes => Some("bowline list shows them, bowline detach takes each away".to_owned()),
        Step::UndefineDisks | Step::ReplaceRoot => {
            Some(format!("virsh detach-disk {guest} TARGET --config takes each disk out, virsh domblklist {guest} shows them"))
        }
        Step::RequestReimage | Step::ReimageVolume => Some(format!(
            "bowline rebuild {guest} --image IMAGE writes an image over volume {volume} and gives it to the guest"
        )),
        Step::CaptureDisk => Some(format!(
            "virsh domfsthaw {guest} thaws it; virsh domjobabort {guest} ends the copy; remove its file below snapshots in the folder of images.dir"
        )),
        Step::RemoveCapture => Some("remove its file below snapshots in the folder of images.dir".to_owned()),
        Step::SnapshotVolumes => Some(format!(
            "virsh domfsthaw {guest} thaws it; openstack volume snapshot list shows them: their names begin with 'snapshot for'"
        )),
        Step::UploadImage | Step::RegisterImage => Some(match &record.task {
            crate::agent::journal::Task::Snapshot(task) => format!("openstack image delete {}", task.image.id),
            _ => "openstack image list shows it".to_owned(),
        }),
        Step::StartGuest | Step::StartRescue | Step::StopGuest | Step::ShutDownGuest => {
            Some(format!("virsh destroy {guest} stops it"))
        }
        Step::FetchImage | Step::CompleteDisks => Some(format!(
            "guest {guest} reads of what is here, and is not resumed when it reads of anything else; once it is stopped, bowline start {guest} \
             goes on filling its disks, and bowline rebuild {guest} --image IMAGE, or bowline delete {guest}, does without"
        )),
        Step::ConnectVolumes | Step::ExtendVolume | Step::UpdateAttachment | Step::VerifyDevice | Step::CompleteAttachment => {
            None
        }
    }
}
