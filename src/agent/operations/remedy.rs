//! What an operator is told to do about a failure, by its kind and the step it struck.

use crate::agent::journal::{OperationRecord, Step};
use crate::model::ErrorKind;

/// One sentence; empty when there is nothing to be done but to read the error.
pub(super) fn of(kind: ErrorKind, step: Step) -> String {
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
            Step::CreateAttachment | Step::UpdateAttachment | Step::CompleteAttachment | Step::DeleteAttachment,
        ) => "check that the volume service is up and reachable from this host",
        (ErrorKind::Unavailable | ErrorKind::Timeout, Step::ConnectVolume | Step::VerifyDevice) => {
            "check that the storage target is up, exports this volume, and is reachable from this host"
        }
        (ErrorKind::Unavailable | ErrorKind::Timeout, Step::DisconnectVolume) => {
            "check that the storage target is up: what the guest wrote last must reach it before the device can go"
        }
        (ErrorKind::Conflict, Step::DisconnectVolume | Step::ConnectVolume) => {
            "something on this host uses the device: lsblk, fuser and dmsetup ls show what; end that, and it goes on by itself"
        }
        (ErrorKind::Unsupported, Step::DisconnectVolume | Step::ConnectVolume) => {
            "this host lacks what the volume was connected with: install it again (open-iscsi, kernel module iscsi_tcp)"
        }
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
        (ErrorKind::IdentityMismatch, _) => {
            "the storage exports something else under this volume's address: check the backend before you try again"
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
        Step::UpdateAttachment | Step::VerifyDevice | Step::CompleteAttachment => {
            format!("volume {volume} is in an unclear state")
        }
    }
}
