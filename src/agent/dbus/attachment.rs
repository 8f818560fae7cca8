//! `org.bowline.Attachment1`: a volume that a guest of this host has.

use super::operation::epoch_us;
use crate::agent::api::{AttachmentView, FaultView};
use std::collections::HashMap;
use tokio::sync::watch;
use zbus::{Variant, interface};

/// The object. It shows what was last published.
pub struct Attachment {
    view: watch::Receiver<AttachmentView>,
}

impl Attachment {
    /// An object that shows whatever `view` holds.
    pub const fn new(view: watch::Receiver<AttachmentView>) -> Self {
        Self { view }
    }

    fn read<T>(&self, part: impl FnOnce(&AttachmentView) -> T) -> T {
        part(&self.view.borrow())
    }
}

/// A volume that a guest of this host has through the agent. It is detached with Manager1.Detach.
#[interface(name = "org.bowline.Attachment1")]
impl Attachment {
    /// UUID of the attachment in the volume service.
    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> String {
        self.read(|view| view.id.to_string())
    }

    /// UUID of the volume.
    #[zbus(property(emits_changed_signal = "const"))]
    fn volume(&self) -> String {
        self.read(|view| view.volume.to_string())
    }

    /// UUID of the guest.
    #[zbus(property(emits_changed_signal = "const"))]
    fn guest(&self) -> String {
        self.read(|view| view.guest.to_string())
    }

    /// The guest's name when it was attached.
    #[zbus(property(emits_changed_signal = "const"))]
    fn guest_name(&self) -> String {
        self.read(|view| view.guest_name.clone())
    }

    /// When it was attached, microseconds since 1970-01-01 UTC.
    #[zbus(property(emits_changed_signal = "const"))]
    fn attached_at(&self) -> u64 {
        self.read(|view| epoch_us(view.attached_at))
    }

    /// Name of the disk in the guest's definition, such as "vdb".
    #[zbus(property)]
    fn target(&self) -> String {
        self.read(|view| view.target.clone())
    }

    /// Transport, such as "iscsi".
    #[zbus(property)]
    fn protocol(&self) -> String {
        self.read(|view| view.protocol.clone())
    }

    /// Who is the initiator: "kernel" or "qemu".
    #[zbus(property)]
    fn initiator(&self) -> String {
        self.read(|view| view.initiator.clone())
    }

    /// Block device of this host; empty where QEMU is the initiator.
    #[zbus(property)]
    fn device(&self) -> String {
        self.read(|view| view.device.clone())
    }

    /// Unit serial number the device gave (SCSI page 0x80); empty when it gave none.
    #[zbus(property)]
    fn serial(&self) -> String {
        self.read(|view| view.identity.serial.clone().unwrap_or_default())
    }

    /// Designators the device gave (SCSI page 0x83), as "naa.…", "eui.…", "t10.…" or "name.…".
    #[zbus(property)]
    fn wwids(&self) -> Vec<String> {
        self.read(|view| view.identity.wwids.clone())
    }

    /// Capacity in bytes, as read from the device.
    #[zbus(property)]
    fn size_bytes(&self) -> u64 {
        self.read(|view| view.size_bytes)
    }

    /// What the disk is for, as the request named it; empty if it did not.
    #[zbus(property(emits_changed_signal = "const"))]
    fn tag(&self) -> String {
        self.read(|view| view.tag.clone())
    }

    /// How QEMU decrypts the volume: "luks" or "luks2"; empty where it is not encrypted.
    #[zbus(property(emits_changed_signal = "const"))]
    fn encryption(&self) -> String {
        self.read(|view| view.encryption.clone())
    }

    /// How its ways to its storage are doing: "healthy"; "degraded", when I/O gets through but not all is as it was
    /// connected; "lost", when nothing does; or "unknown" until it was first looked at.
    #[zbus(property)]
    fn health(&self) -> String {
        self.read(|view| view.health.state.as_str().to_owned())
    }

    /// Since when its health is what it is, microseconds since 1970-01-01 UTC; 0 while unknown.
    #[zbus(property)]
    fn health_since(&self) -> u64 {
        self.read(|view| epoch_us(view.health.since))
    }

    /// What is wrong: for each broken part, such as a path or a mount, its name, the problem, and since when it is
    /// broken, microseconds since 1970-01-01 UTC.
    #[zbus(property)]
    fn faults(&self) -> Vec<WireFault> {
        self.read(faults)
    }
}

/// A fault on the wire: part, problem, since when.
type WireFault = (String, String, u64);

fn faults(view: &AttachmentView) -> Vec<WireFault> {
    let fault = |fault: &FaultView| (fault.part.clone(), fault.problem.clone(), epoch_us(fault.since));
    view.health.faults.iter().map(fault).collect()
}

/// The properties that differ, by name.
pub fn changes(old: &AttachmentView, new: &AttachmentView) -> HashMap<&'static str, Variant<'static>> {
    let mut changed = HashMap::new();
    let mut compare = |name: &'static str, differs: bool, value: Variant<'static>| {
        if differs {
            changed.insert(name, value);
        }
    };
    compare("Target", old.target != new.target, new.target.clone().into());
    compare("Protocol", old.protocol != new.protocol, new.protocol.clone().into());
    compare("Initiator", old.initiator != new.initiator, new.initiator.clone().into());
    compare("Device", old.device != new.device, new.device.clone().into());
    compare("Serial", old.identity.serial != new.identity.serial, new.identity.serial.clone().unwrap_or_default().into());
    compare("Wwids", old.identity.wwids != new.identity.wwids, new.identity.wwids.clone().into());
    compare("Health", old.health.state != new.health.state, new.health.state.as_str().into());
    compare("HealthSince", old.health.since != new.health.since, epoch_us(new.health.since).into());
    compare("Faults", old.health.faults != new.health.faults, faults(new).into());
    compare("SizeBytes", old.size_bytes != new.size_bytes, new.size_bytes.into());
    changed
}
