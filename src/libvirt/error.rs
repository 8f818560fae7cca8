//! What can go wrong between Bowline and libvirt.

use crate::model::{ErrorKind, GuestUuid, VolumeId};
use std::{fmt, path::PathBuf};
use uuid::Uuid;
use virt::error::{ErrorNumber, ErrorNumberEnum};

/// An error of this subsystem.
#[derive(Debug, thiserror::Error)]
pub enum LibvirtError {
    /// The settings make no sense.
    #[error("libvirt setting {setting}: {problem}")]
    Config {
        /// The setting's name.
        setting: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A cephx key that is no cephx key.
    #[error("the key for secret {uuid} is not base64, as every cephx key is")]
    NotBase64 {
        /// The secret.
        uuid: Uuid,
    },
    /// The event loop could not be started.
    #[error("cannot start libvirt's event loop")]
    EventLoop(#[source] std::io::Error),
    /// No connection.
    #[error("cannot connect to libvirt at {uri}; is its daemon running? (systemctl start libvirtd)")]
    Connect {
        /// Connection URI.
        uri: String,
        /// libvirt's word.
        #[source]
        source: LibvirtMessage,
    },
    /// No connection, and no answer either.
    #[error("libvirt at {uri} accepts no connection within {timeout_s} s; is its daemon hung? (systemctl restart libvirtd)")]
    ConnectTimeout {
        /// Connection URI.
        uri: String,
        /// How long it was waited for.
        timeout_s: u64,
    },
    /// The connection broke during a call; whether the call had an effect is not known.
    #[error("the connection to libvirt broke while trying to {operation}")]
    ConnectionLost {
        /// What was being done.
        operation: String,
        /// libvirt's word.
        #[source]
        source: LibvirtMessage,
    },
    /// A call did not come back in time; it may still take effect.
    #[error("libvirt did not {operation} within {timeout_s} s (calls it has not answered: {stuck_calls})")]
    CallTimeout {
        /// What was being done.
        operation: String,
        /// How long it was waited for.
        timeout_s: u64,
        /// Calls under way, this one included.
        stuck_calls: usize,
    },
    /// libvirt answered a call with an error.
    #[error("libvirt could not {operation}")]
    Call {
        /// What was being done.
        operation: String,
        /// libvirt's word.
        #[source]
        source: LibvirtMessage,
    },
    /// No such guest.
    #[error("no guest {guest:?} on this host (virsh list --all shows them)")]
    GuestNotFound {
        /// Name or UUID as it was asked for.
        guest: String,
    },
    /// What a guest is to be defined by makes no sense.
    #[error("guest {guest} cannot be defined by that: {problem}")]
    Definition {
        /// Name as it was asked for.
        guest: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There is a guest of that name or UUID.
    #[error("guest {guest} is defined already: boot it as it is, or give another name (and no <uuid>)")]
    Defined {
        /// Name or UUID.
        guest: String,
    },
    /// A disk is another by now.
    #[error(
        "disk {target} of guest {guest} is not {} any more: somebody has put a snapshot over it, or another in its place (virsh \
         domblklist); take it back (virsh blockcommit --active --pivot)", path.display()
    )]
    DiskOtherwise {
        /// Which guest.
        guest: GuestUuid,
        /// Its disk.
        target: String,
        /// What it should be.
        path: PathBuf,
    },
    /// libvirt has saved the guest's memory, which goes with its disks as they are.
    #[error(
        "guest {guest} was saved with its memory (virsh managedsave), which must not meet disks that have changed: start it (virsh start), \
         or give its memory up (virsh managedsave-remove)"
    )]
    ManagedSave {
        /// Which guest.
        guest: GuestUuid,
    },
    /// The guest runs, and not from its rescue disk.
    #[error("guest {guest} runs from its own disks: somebody else started it")]
    RunsOtherwise {
        /// Which guest.
        guest: GuestUuid,
    },
    /// The guest has the volume already, from elsewhere.
    #[error("guest {guest} already has volume {volume} as {target}, but from {found} instead of {wanted}; detach it first")]
    OtherSource {
        /// Which guest.
        guest: GuestUuid,
        /// Which volume.
        volume: VolumeId,
        /// The disk's target name.
        target: String,
        /// The source it has.
        found: String,
        /// The source it should get.
        wanted: String,
    },
    /// libvirt took the namespace for a part of the image's name.
    #[error(
        "this libvirt cannot open RBD image {image}: it knows no RADOS namespaces; use a newer libvirt, or a pool without namespaces"
    )]
    NoRbdNamespaces {
        /// `POOL/NAMESPACE/IMAGE`.
        image: String,
        /// libvirt's word.
        #[source]
        source: LibvirtMessage,
    },
    /// The disk cannot have the place in the boot order that was asked for.
    #[error("the disk cannot be number {order} in the boot order of guest {guest}: {problem}")]
    BootOrder {
        /// Which guest.
        guest: GuestUuid,
        /// The place.
        order: u32,
        /// Why not, and what to do.
        problem: &'static str,
    },
    /// QEMU cannot decrypt a volume of this kind.
    #[error(
        "QEMU cannot decrypt {version} on this kind of disk, only LUKS1 (LUKS2 on RBD alone): retype the volume to encryption provider luks"
    )]
    NoLuks2 {
        /// As people write it.
        version: &'static str,
    },
    /// The key does not open the volume.
    #[error("the key from the key manager does not open volume {volume}")]
    WrongKey {
        /// Which volume.
        volume: VolumeId,
        /// libvirt's word.
        #[source]
        source: LibvirtMessage,
    },
    /// QEMU found no LUKS header that it can read.
    #[error(
        "volume {volume} should be encrypted, but has no LUKS header that QEMU can read; it was left as it is, since formatting would \
         destroy what is there: if nothing is, format it by hand with its key, else correct its volume type"
    )]
    NotLuks {
        /// Which volume.
        volume: VolumeId,
        /// libvirt's word.
        #[source]
        source: LibvirtMessage,
    },
    /// The guest said no.
    #[error("guest {guest} refused to let go of disk {target} (volume {volume}); unmount it in the guest, then detach again")]
    GuestRefused {
        /// Which guest.
        guest: GuestUuid,
        /// Which volume.
        volume: VolumeId,
        /// The disk's target name.
        target: String,
    },
    /// The guest said nothing.
    #[error(
        "guest {guest} did not let go of disk {target} (volume {volume}) within {timeout_s} s, asked {requests} times; \
         it may be hung, still booting or without PCI hot-plug: look at its console, then detach again or shut it off"
    )]
    GuestIgnored {
        /// Which guest.
        guest: GuestUuid,
        /// Which volume.
        volume: VolumeId,
        /// The disk's target name.
        target: String,
        /// How long it was waited for.
        timeout_s: u64,
        /// How often the guest was asked.
        requests: u32,
    },
    /// The guest goes on running.
    #[error(
        "guest {guest} did not shut down within {timeout_s} s (libvirt.shutdown_timeout_s), asked {requests} times; it may ignore the \
         power button, be hung or still booting: look at its console and stop it again, or cut its power (bowline stop --force)"
    )]
    StaysOn {
        /// Which guest.
        guest: GuestUuid,
        /// How long it was waited for.
        timeout_s: u64,
        /// How often the guest was asked.
        requests: u32,
    },
    /// libvirt could not be asked any more before the guest had let go.
    #[error("libvirt was not reachable to see whether guest {guest} let go of volume {volume} within {timeout_s} s")]
    LostSight {
        /// Which guest.
        guest: GuestUuid,
        /// Which volume.
        volume: VolumeId,
        /// How long it was waited for.
        timeout_s: u64,
        /// Why not.
        #[source]
        source: Box<LibvirtError>,
    },
    /// A running guest's disk could not be copied.
    #[error("the copy of a disk of guest {guest} failed: {problem}")]
    Backup {
        /// Which guest.
        guest: GuestUuid,
        /// QEMU's words, or what happened.
        problem: String,
    },
    /// A running guest's disk could not take in the image below it.
    #[error(
        "the job that takes the image of disk {target} of guest {guest} in ended before its end: /var/log/libvirt/qemu tells why"
    )]
    Pull {
        /// Which guest.
        guest: GuestUuid,
        /// Target name.
        target: String,
    },
    /// The thread of a call died.
    #[error("internal error: trying to {operation} ended without an answer")]
    Broken {
        /// What was being done.
        operation: String,
    },
    /// The domain XML cannot be read.
    #[error("libvirt's XML of a domain cannot be read: {problem}")]
    DomainXml {
        /// What is wrong with it.
        problem: String,
    },
    /// The disk cannot be told to libvirt.
    #[error("cannot describe a disk to libvirt: {problem}")]
    DiskXml {
        /// What is wrong with it.
        problem: String,
    },
}

impl LibvirtError {
    /// It says nothing of the guest, and may be over in a moment.
    pub(super) const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. } | Self::ConnectTimeout { .. } | Self::ConnectionLost { .. } | Self::CallTimeout { .. }
        )
    }

    /// The stable kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config { .. } | Self::DiskXml { .. } | Self::NotBase64 { .. } | Self::Definition { .. } => {
                ErrorKind::InvalidInput
            }
            Self::Connect { source, .. } => match source.kind() {
                kind @ (ErrorKind::PermissionDenied | ErrorKind::AuthenticationFailed) => kind,
                _ => ErrorKind::Unavailable,
            },
            Self::ConnectTimeout { .. } | Self::ConnectionLost { .. } | Self::LostSight { .. } => ErrorKind::Unavailable,
            Self::CallTimeout { .. } => ErrorKind::Timeout,
            Self::Call { source, .. } => source.kind(),
            Self::NoRbdNamespaces { .. } | Self::NoLuks2 { .. } => ErrorKind::Unsupported,
            Self::WrongKey { .. } => ErrorKind::AuthenticationFailed,
            Self::GuestNotFound { .. } => ErrorKind::NotFound,
            Self::OtherSource { .. }
            | Self::BootOrder { .. }
            | Self::NotLuks { .. }
            | Self::Defined { .. }
            | Self::RunsOtherwise { .. }
            | Self::DiskOtherwise { .. }
            | Self::ManagedSave { .. } => ErrorKind::Conflict,
            Self::GuestRefused { .. } | Self::GuestIgnored { .. } | Self::StaysOn { .. } => ErrorKind::GuestRefused,
            Self::Backup { .. } | Self::Pull { .. } | Self::EventLoop(_) | Self::Broken { .. } | Self::DomainXml { .. } => {
                ErrorKind::Internal
            }
        }
    }
}

/// An error as libvirt words it, with its number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LibvirtMessage {
    code: ErrorNumberEnum,
    message: String,
}

impl LibvirtMessage {
    /// The stable kind behind libvirt's number.
    pub fn kind(&self) -> ErrorKind {
        let Some(code) = self.code.known() else { return ErrorKind::Internal };
        if code == ErrorNumber::InternalError {
            return self.kind_by_words();
        }
        match code {
            ErrorNumber::NoDomain | ErrorNumber::NoSecret | ErrorNumber::DeviceMissing => ErrorKind::NotFound,
            ErrorNumber::OperationInvalid | ErrorNumber::OperationFailed | ErrorNumber::ResourceBusy => ErrorKind::Conflict,
            ErrorNumber::OperationTimeout => ErrorKind::Timeout,
            ErrorNumber::OperationDenied | ErrorNumber::AccessDenied => ErrorKind::PermissionDenied,
            ErrorNumber::AuthFailed | ErrorNumber::AuthCancelled | ErrorNumber::AuthUnavailable => {
                ErrorKind::AuthenticationFailed
            }
            ErrorNumber::NoSupport | ErrorNumber::ConfigUnsupported | ErrorNumber::OperationUnsupported => {
                ErrorKind::Unsupported
            }
            ErrorNumber::XmlError | ErrorNumber::XmlDetail | ErrorNumber::XmlInvalidSchema | ErrorNumber::InvalidArg => {
                ErrorKind::InvalidInput
            }
            ErrorNumber::NoConnect | ErrorNumber::Rpc | ErrorNumber::SystemError => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        }
    }

    /// What QEMU and others below libvirt say comes under one number, so only the words tell.
    fn kind_by_words(&self) -> ErrorKind {
        let says = |words: &[&str]| words.iter().any(|words| self.message.contains(words));
        // The first two are of QEMU's iSCSI client, the third of its RBD client.
        if says(&["Authentication failure", "Authorization failure", "error connecting: Operation not permitted"]) {
            ErrorKind::AuthenticationFailed
        } else if says(&["iSCSI: Failed to connect"]) {
            ErrorKind::Unavailable
        } else if says(&["already defined for use", "No more available PCI slots"]) {
            ErrorKind::Conflict
        } else {
            ErrorKind::Internal
        }
    }

    pub(super) fn is(&self, code: ErrorNumber) -> bool {
        self.code.is(code)
    }

    /// There is no such device, or no running guest to have it. For an alias that no device has, libvirt 9.0 has only its
    /// general number, so the words have to do.
    pub(super) fn says_absent(&self) -> bool {
        [ErrorNumber::NoDomain, ErrorNumber::DeviceMissing, ErrorNumber::OperationInvalid].iter().any(|code| self.is(*code))
            || self.message.contains("no device found with alias")
    }

    /// QEMU's RBD client found no image of this name.
    pub(super) fn says_no_image(&self, name: &str) -> bool {
        self.message.contains(&format!("error reading header from {name}: No such file"))
    }

    /// QEMU's LUKS driver, or its RBD client's, could open no keyslot with the passphrase.
    pub(super) fn says_wrong_passphrase(&self) -> bool {
        ["Invalid password, cannot unlock any keyslot", "encryption passphrase is incorrect"]
            .iter()
            .any(|words| self.message.contains(words))
    }

    /// QEMU's LUKS driver found no header, or one that makes no sense to it.
    pub(super) fn says_not_luks(&self) -> bool {
        ["Volume is not in LUKS format", "LUKS version", "LUKS header"].iter().any(|words| self.message.contains(words))
    }

    /// libvirt tells no guest of the size of a disk that it may only read.
    pub(super) fn says_read_only(&self) -> bool {
        self.is(ErrorNumber::OperationUnsupported) && self.message.contains("readonly disk")
    }

    /// QEMU has been asked already and still waits for the guest. libvirt hands QEMU's sentence on under a general
    /// number, so the words have to do; Nova reads the same ones.
    pub(super) fn unplug_underway(&self) -> bool {
        self.message.contains("already in the process of unplug")
    }
}

impl From<virt::error::Error> for LibvirtMessage {
    fn from(error: virt::error::Error) -> Self {
        Self { code: error.code(), message: error.message().trim_end().to_owned() }
    }
}

/// Says what was being done, for errors that name it.
pub(super) fn failed(operation: impl fmt::Display) -> impl FnOnce(virt::error::Error) -> LibvirtError {
    move |error| LibvirtError::Call { operation: operation.to_string(), source: error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(code: ErrorNumber, message: &str) -> LibvirtMessage {
        LibvirtMessage { code: code.into(), message: message.to_owned() }
    }

    #[test]
    fn what_qemu_says_of_a_target_gets_a_kind() {
        let login = "unable to execute QEMU command 'blockdev-add': iSCSI: Failed to connect to LUN : Failed to log in to \
                     target. Status: ";
        let kind = |status: &str| message(ErrorNumber::InternalError, &format!("internal error: {login}{status}")).kind();
        assert_eq!(kind("Authentication failure(513)"), ErrorKind::AuthenticationFailed);
        assert_eq!(kind("Target not found(515)"), ErrorKind::Unavailable);
        let rbd = "internal error: unable to execute QEMU command 'blockdev-add': error connecting: Operation not permitted";
        assert_eq!(message(ErrorNumber::InternalError, rbd).kind(), ErrorKind::AuthenticationFailed);
    }

    #[test]
    fn a_pending_unplug_is_no_failure() {
        let words =
            "internal error: unable to execute QEMU command 'device_del': Device ua-x is already in the process of unplug";
        assert!(message(ErrorNumber::InternalError, words).unplug_underway());
        assert!(!message(ErrorNumber::InternalError, "internal error: other").unplug_underway());
    }

    #[test]
    fn an_error_and_its_cause_are_told_apart() {
        let error = LibvirtError::Connect {
            uri: "qemu:///system".to_owned(),
            source: message(ErrorNumber::SystemError, "Failed to connect socket"),
        };
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(cause, "Failed to connect socket");
        assert!(error.to_string().contains("qemu:///system") && !error.to_string().contains(&cause), "{error}");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
}
