//! What operations need of the world, as four small traits.
//!
//! The real parts are put behind them in [`super::adapters`]; tests put simulated ones there, which can fail, hang and
//! forget at any call.

use crate::model::{
    Attachment, AttachmentId, AttachmentSummary, ConnectIntent, ConnectedDevice, ConnectionInfo, ConnectorProperties,
    DeviceIdentity, DiskBus, DiskSpec, ErrorKind, FolderRoom, GroupRoom, GuestDefinition, GuestRun, GuestUuid, Health, Image,
    ImageId, LocalDisk, LocalDiskPlan, NewGuest, NewImage, NewVolume, ObservedIdentity, OwnName, Secret, SecretKind,
    SnapshotId, Stored, Volume, VolumeEncryption, VolumeId, VolumeSnapshot,
};
use async_trait::async_trait;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use uuid::Uuid;

/// A part could not do what it was asked, in words an operator can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PortError {
    /// Kind.
    pub kind: ErrorKind,
    /// The whole chain of causes, in one line.
    pub message: String,
    /// The peer may have done it all the same: its answer was lost.
    pub outcome_unknown: bool,
}

impl PortError {
    /// Makes one whose outcome is known: nothing was done.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), outcome_unknown: false }
    }

    /// The peer was away or slow: trying again later may help.
    pub fn is_passing(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Timeout)
    }
}

/// The result of asking a part.
pub type PortResult<T> = Result<T, PortError>;

/// Told of work under way: what is done, and what there is in all.
pub type Told = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// The volume service.
#[async_trait]
pub trait VolumeServicePort: Send + Sync {
    /// A volume by id.
    async fn volume(&self, id: VolumeId) -> PortResult<Volume>;
    /// A volume by id or unique name.
    async fn find_volume(&self, name_or_id: &str) -> PortResult<Volume>;
    /// A snapshot by id or unique name.
    async fn find_snapshot(&self, name_or_id: &str) -> PortResult<VolumeSnapshot>;
    /// All volumes.
    async fn volumes(&self) -> PortResult<Vec<Volume>>;
    /// Asks for a new volume; it may not be available yet.
    async fn create_volume(&self, volume: &NewVolume) -> PortResult<Volume>;
    /// Waits until it is available.
    async fn wait_available(&self, id: VolumeId, deadline: Duration) -> PortResult<Volume>;
    /// Asks for a larger volume; it may not be so yet.
    async fn extend_volume(&self, id: VolumeId, size_gib: u64) -> PortResult<()>;
    /// Waits until it is not being extended any more; its size tells what became of it.
    async fn wait_extended(&self, id: VolumeId, deadline: Duration) -> PortResult<Volume>;
    /// A volume by id, of a service that can write an image over it: one that cannot is `Unsupported`.
    async fn volume_to_reimage(&self, id: VolumeId) -> PortResult<Volume>;
    /// Asks that an image is written over what a volume has, which must be reserved; it may not be written yet.
    async fn reimage_volume(&self, id: VolumeId, image: ImageId) -> PortResult<()>;
    /// Waits until none is being written over it any more. One that ended in an error is one.
    async fn wait_reimaged(&self, id: VolumeId, deadline: Duration) -> PortResult<()>;
    /// Asks to delete it; it may not be gone yet.
    async fn delete_volume(&self, id: VolumeId) -> PortResult<()>;
    /// Waits until it is gone.
    async fn wait_gone(&self, id: VolumeId, deadline: Duration) -> PortResult<()>;
    /// Reserves a volume for a guest.
    async fn create_attachment(&self, volume: VolumeId, guest: GuestUuid, read_only: bool) -> PortResult<Attachment>;
    /// Tells who connects; the answer says how.
    async fn update_attachment(&self, id: AttachmentId, connector: &ConnectorProperties) -> PortResult<Attachment>;
    /// One attachment.
    async fn attachment(&self, id: AttachmentId) -> PortResult<Attachment>;
    /// All attachments of a volume.
    async fn attachments(&self, volume: VolumeId) -> PortResult<Vec<AttachmentSummary>>;
    /// Marks it as in use. Twice is fine.
    async fn complete_attachment(&self, id: AttachmentId) -> PortResult<()>;
    /// Deletes it. One that is gone is fine.
    async fn delete_attachment(&self, id: AttachmentId) -> PortResult<()>;
    /// How a volume is encrypted, if this host has to decrypt it.
    async fn encryption(&self, volume: VolumeId) -> PortResult<Option<VolumeEncryption>>;
    /// The passphrase that a key of the key manager makes.
    async fn passphrase(&self, key: Uuid) -> PortResult<Secret>;

    /// All snapshots.
    async fn snapshots(&self) -> PortResult<Vec<VolumeSnapshot>>;
    /// Takes a snapshot of a volume, in use or not; it may not be available yet.
    async fn create_snapshot(&self, volume: VolumeId, name: &str) -> PortResult<VolumeSnapshot>;
    /// Waits until it is available.
    async fn wait_snapshot_available(&self, id: SnapshotId, deadline: Duration) -> PortResult<()>;
    /// Deletes it, and waits until it is gone. One that is gone is fine.
    async fn delete_snapshot(&self, id: SnapshotId, deadline: Duration) -> PortResult<()>;

    /// Whether the service can be asked at all, for whoever examines the host.
    async fn examine(&self) -> PortResult<ServiceFacts>;
}

/// The connectors of this host. Every call can be made twice.
#[async_trait]
pub trait ConnectorPort: Send + Sync {
    /// What the volume service is told of this host.
    async fn properties(&self) -> PortResult<ConnectorProperties>;
    /// Fills in what the connection info leaves to be found out. No effect on this host; a second time it does nothing.
    async fn settle(&self, info: &mut ConnectionInfo) -> PortResult<()>;
    /// What a connect would do. No effect.
    async fn intent(&self, info: &ConnectionInfo) -> PortResult<ConnectIntent>;
    /// Connects.
    async fn connect(&self, volume: VolumeId, info: &ConnectionInfo) -> PortResult<ConnectedDevice>;
    /// Takes over what somebody else connected and gave a guest as `given`; refuses what is not where the info says.
    async fn adopt(&self, volume: VolumeId, info: &ConnectionInfo, given: &str) -> PortResult<ConnectedDevice>;
    /// Takes back what [`ConnectorPort::adopt`] wrote down of a volume that nobody has by this agent.
    async fn disown(&self, volume: VolumeId) -> PortResult<()>;
    /// The password or key that libvirt must hold for QEMU, and as what. None where QEMU needs none of ours.
    async fn disk_secret(&self, info: &ConnectionInfo) -> PortResult<Option<(SecretKind, Secret)>>;
    /// Reads identity and size from the device itself.
    async fn observe(&self, volume: VolumeId, device: &ConnectedDevice, info: &ConnectionInfo) -> PortResult<ObservedIdentity>;
    /// The first bytes of the device; none where QEMU opens it.
    async fn head(&self, device: &ConnectedDevice, bytes: usize) -> PortResult<Option<Vec<u8>>>;
    /// Flushes and removes the device; refuses one that is not `identity`.
    async fn disconnect(&self, volume: VolumeId, device: &ConnectedDevice, identity: Option<&DeviceIdentity>)
    -> PortResult<()>;
    /// What the host has of the device, and whether its storage still says that it is that.
    async fn presence(&self, volume: VolumeId, device: &ConnectedDevice, identity: &DeviceIdentity) -> PortResult<Presence>;
    /// Connects a device again that is absent, in the way it was connected before.
    async fn reconnect(&self, volume: VolumeId, info: &ConnectionInfo, before: &ConnectedDevice)
    -> PortResult<ConnectedDevice>;
    /// Makes every layer of this host see the size that the volume has now in the service, and checks that they agree.
    /// Returns the size in bytes.
    async fn grow(
        &self,
        volume: VolumeId,
        device: &ConnectedDevice,
        identity: &DeviceIdentity,
        info: &ConnectionInfo,
        size_gib: u64,
    ) -> PortResult<u64>;
    /// Undoes a connect of which only the intent is known, whatever it got to.
    async fn undo_connect(&self, volume: VolumeId, intent: &ConnectIntent) -> PortResult<()>;

    /// How the device's ways to its storage are doing. Changes nothing; the caller bounds it.
    async fn health(&self, volume: VolumeId, device: &ConnectedDevice, identity: &DeviceIdentity) -> PortResult<Health>;

    /// Ends as soon as a call ends that the kernel had held beyond its deadline: what failed for it may be tried again.
    async fn late_call_ended(&self) {
        std::future::pending().await
    }

    /// All names of Bowline's own on this host.
    async fn own_names(&self) -> PortResult<Vec<OwnName>>;
    /// Removes the volume's name where it leads nowhere.
    async fn forget_own_name(&self, volume: VolumeId) -> PortResult<()>;

    /// Whether [`ConnectorPort::repair`] knows anything to do for such a device.
    fn is_repairable(&self, device: &ConnectedDevice) -> bool {
        let _ = device;
        false
    }

    /// Mends what of the device's ways is broken and can be mended without harm, such as logging in again to a path that is
    /// missing. Returns the device as it is then. Called under the volume's lock.
    async fn repair(
        &self,
        volume: VolumeId,
        device: &ConnectedDevice,
        identity: &DeviceIdentity,
        info: &ConnectionInfo,
    ) -> PortResult<ConnectedDevice> {
        let _ = (volume, identity, info);
        Ok(device.clone())
    }
}

/// What the host has of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is there, and is the one that was journalled.
    Present,
    /// It is not there.
    Absent,
    /// Another one is in its place.
    Foreign,
}

/// The hypervisor of this host. Every call can be made twice.
#[async_trait]
pub trait HypervisorPort: Send + Sync {
    /// A guest by name or UUID.
    async fn guest(&self, name_or_uuid: &str) -> PortResult<GuestFacts>;
    /// What a guest has as the volume's disk, live and in its definition.
    async fn given(&self, guest: GuestUuid, volume: VolumeId) -> PortResult<Vec<GivenDisk>>;
    /// All guests of this host, running or not.
    async fn guests(&self) -> PortResult<Vec<GuestFacts>>;
    /// Of each of these words that a guest has in what it runs with, its definition or a snapshot, the name of such a guest.
    async fn mentions(&self, words: &[String]) -> PortResult<BTreeMap<String, String>>;
    /// Gives a disk to a guest, live and in its definition as far as it has them. Returns the target name it has there: the
    /// one asked for, or the one it had already.
    async fn attach_disk(&self, guest: GuestUuid, disk: &DiskSpec) -> PortResult<String>;
    /// Takes a volume's disk away; returns once the guest has let go.
    async fn detach_disk(&self, guest: GuestUuid, volume: VolumeId) -> PortResult<()>;
    /// Makes a running guest see the size of a volume's device. Returns the size that the guest is given now, bytes; `None`
    /// where no running guest has the disk, or it may only read it: then it cannot be told and sees the size the next time.
    async fn resize_disk(&self, guest: GuestUuid, volume: VolumeId, size_bytes: u64) -> PortResult<Option<u64>>;
    /// Holds a password or key for QEMU, in memory only. `whose`: for which volume or disk, in words.
    async fn define_secret(&self, secret: Uuid, kind: SecretKind, whose: &str, value: &Secret) -> PortResult<()>;
    /// Forgets it. One that is gone is fine.
    async fn undefine_secret(&self, secret: Uuid) -> PortResult<()>;

    /// Makes a definition of what is handed over. Touches nothing.
    async fn prepare_guest(&self, name: &str, definition: &GuestDefinition) -> PortResult<NewGuest>;
    /// Defines a guest. One that has its mark is fine.
    async fn define_guest(&self, new: &NewGuest) -> PortResult<()>;
    /// Stops and undefines the guest with this mark. One that is gone, or has not got it, is fine.
    async fn undefine_guest(&self, guest: GuestUuid, mark: Uuid) -> PortResult<()>;

    /// Puts an ephemeral disk into a guest's definition.
    async fn define_disk(&self, guest: GuestUuid, disk: &LocalDisk) -> PortResult<()>;
    /// Puts one there in the place of another of the same target name.
    async fn replace_disk(&self, guest: GuestUuid, former: &LocalDisk, disk: &LocalDisk) -> PortResult<()>;
    /// Takes it out again. One that is not there is fine.
    async fn undefine_disk(&self, guest: GuestUuid, disk: &LocalDisk) -> PortResult<()>;
    /// Starts a guest. One that runs is fine.
    async fn start_guest(&self, guest: GuestUuid) -> PortResult<()>;
    /// Starts a guest that is off from one more disk, its definition left as it is. One that runs from it is fine.
    async fn start_rescue(&self, guest: GuestUuid, disk: &LocalDisk) -> PortResult<()>;
    /// Ends a guest at once. One that is off or gone is fine.
    async fn stop_guest(&self, guest: GuestUuid) -> PortResult<()>;
    /// Refuses a guest whose memory was saved, which must not meet other disks than it knows. One that is gone is fine.
    async fn check_unsaved(&self, guest: GuestUuid) -> PortResult<()>;
    /// Asks a guest to shut down, and returns once it has. One that is off or gone is fine.
    async fn shut_down_guest(&self, guest: GuestUuid) -> PortResult<()>;
    /// The guests that are marked to be started with the host, running or not.
    async fn autostart_guests(&self) -> PortResult<Vec<GuestFacts>>;

    /// Has a running guest's disk take in all that is below it. `false`: the guest is off.
    async fn pull_disk(&self, guest: GuestUuid, disk: &LocalDisk, told: Told) -> PortResult<bool>;
    /// Lets a guest go on that was paused because I/O of one of these disks failed, and not for want of room; `true`: it was.
    async fn resume_after_io_error(&self, guest: GuestUuid, disks: &[LocalDisk]) -> PortResult<bool>;
    /// Pauses a running guest; `true`: it ran.
    async fn suspend_guest(&self, guest: GuestUuid) -> PortResult<bool>;

    /// Freezes a guest's filesystems. `false`: it is off, or no agent in it listens. Whatever comes of it, a thaw has to follow.
    async fn freeze(&self, guest: GuestUuid, limit: Duration) -> PortResult<bool>;
    /// Thaws them. A guest that is not frozen is fine.
    async fn thaw(&self, guest: GuestUuid) -> PortResult<()>;
    /// Begins to copy a running guest's disk into a file: as it is when this returns.
    async fn begin_backup(&self, guest: GuestUuid, target: &str, file: &Path) -> PortResult<Box<dyn BackupPort>>;
    /// Ends the copying into that file. Where there is none, that is fine.
    async fn abort_backup(&self, guest: GuestUuid, file: &Path) -> PortResult<()>;

    /// Whether the hypervisor can be asked at all, for whoever examines the host.
    async fn examine(&self) -> PortResult<HypervisorFacts>;
}

/// A copy of a guest's disk under way.
#[async_trait]
pub trait BackupPort: Send {
    /// Waits until all of it is copied.
    async fn wait(self: Box<Self>, limit: Duration, told: Told) -> PortResult<()>;
}

/// Images, and ephemeral disks of this host. Every call can be made twice.
#[async_trait]
pub trait BootSourcePort: Send + Sync {
    /// An image by id or unique name.
    async fn find_image(&self, name_or_id: &str) -> PortResult<Image>;
    /// Whether ephemeral disks are files, over which an image can come while the guest runs.
    fn makes_files(&self) -> bool;
    /// Makes an ephemeral disk; what an earlier try left of it is replaced. `told`: of the bytes of its image.
    async fn make_disk(&self, plan: &LocalDiskPlan, bus: DiskBus, told: Told) -> PortResult<LocalDisk>;
    /// Makes one over an image that comes while the guest runs; another, where there is nothing to wait for.
    async fn make_lazy_disk(&self, plan: &LocalDiskPlan, bus: DiskBus) -> PortResult<LocalDisk>;
    /// Serves the image of such a disk to it. One that is served, or needs none, is fine.
    async fn serve_disk(&self, guest: GuestUuid, disk: &LocalDisk) -> PortResult<()>;
    /// Whether a disk that was made is to be seen: a logical volume is not before its group is active, nor an RBD image before its cluster
    /// answers.
    async fn check_seen(&self, disk: &LocalDisk) -> PortResult<()>;
    /// The libvirt secret by which QEMU opens a disk, and the key that it is to hold; `None` where it needs none.
    async fn disk_key(&self, disk: &LocalDisk) -> PortResult<Option<(Uuid, Secret)>>;
    /// Whether disks can be made in the pool that the settings name; `None` where they name none.
    async fn examine_pool(&self) -> Option<PortResult<()>>;
    /// The news of its image.
    async fn fetching(&self, guest: GuestUuid, disk: &LocalDisk) -> PortResult<Box<dyn FetchPort>>;
    /// Puts such a disk of a guest that is off over the image, which is all here. Returns the disk as it is then.
    async fn rebase_disk(&self, guest: GuestUuid, disk: &LocalDisk) -> PortResult<LocalDisk>;
    /// Ends the serving of a disk, as it is now.
    async fn release_disk(&self, guest: GuestUuid, disk: &LocalDisk) -> PortResult<()>;
    /// Removes images that no disk has used for long.
    async fn remove_old_images(&self) -> PortResult<()>;
    /// Removes it. One that is not there is fine. `made`: the disk, if it is known to have been made.
    async fn remove_disk(&self, guest: GuestUuid, name: &str, made: Option<&LocalDisk>) -> PortResult<()>;

    /// The room for images, and for ephemeral disks that are files.
    async fn room(&self) -> PortResult<FolderRoom>;
    /// The volume group that ephemeral disks are made in, where they are.
    async fn group_room(&self) -> PortResult<Option<GroupRoom>>;

    /// What there is of ephemeral disks and of what is caught of them, store by store, whoever knows of it. `known`: disks that were made.
    async fn stored(&self, known: &[LocalDisk]) -> Vec<PortResult<Vec<Stored>>>;
    /// What of a disk that was made is not there any more.
    async fn missing(&self, disk: &LocalDisk) -> PortResult<Option<PathBuf>>;
    /// Takes away what nobody has; refuses what is not as it was told, or has a user.
    async fn remove_stored(&self, stored: &Stored) -> PortResult<()>;

    /// The file that a disk is caught in for an image.
    fn capture_path(&self, image: ImageId) -> PathBuf;
    /// The same, where nothing is now, whatever an earlier try left.
    async fn clear_capture(&self, image: ImageId) -> PortResult<PathBuf>;
    /// Catches the disk of a guest that is off.
    async fn capture_stopped(&self, disk: &LocalDisk, image: ImageId) -> PortResult<()>;
    /// The size of the disk that was caught, GiB.
    async fn captured_gib(&self, image: ImageId) -> PortResult<u64>;
    /// Removes what was caught. Where there is nothing, that is fine.
    async fn remove_capture(&self, image: ImageId) -> PortResult<()>;
    /// Makes an image's record. One that is there is fine.
    async fn create_image(&self, image: &NewImage) -> PortResult<()>;
    /// Gives what was caught to the image, and sees that it arrived.
    async fn upload_capture(&self, image: ImageId, told: Told) -> PortResult<()>;
    /// Ends the making of an image that has no bytes.
    async fn finish_image(&self, image: ImageId) -> PortResult<()>;
    /// Deletes an image. One that is not there is fine.
    async fn delete_image(&self, image: ImageId) -> PortResult<()>;
}

/// The news of an image that comes while a guest runs on it.
#[async_trait]
pub trait FetchPort: Send {
    /// How it is doing now, and then, each time, once that has changed.
    async fn next(&mut self) -> Fetched;
}

/// How such an image is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// It comes.
    Coming {
        /// Bytes that are here.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// It does not come now.
    Lost {
        /// Kind.
        kind: ErrorKind,
        /// Why, in words.
        problem: String,
    },
    /// All of it is here, and is what it should be.
    Whole,
    /// It is not.
    Damaged {
        /// What was found, in words.
        problem: String,
    },
    /// The disk was removed.
    Gone,
}

/// The volume service, as it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFacts {
    /// This host's clock minus the service's, seconds.
    pub skew_s: Option<i64>,
    /// Roles of the service user, where a Keystone tells.
    pub service_roles: Option<Vec<String>>,
    /// A service user is set up.
    pub has_service_user: bool,
    /// Tokens come from a Keystone.
    pub has_keystone: bool,
}

/// The hypervisor, as it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HypervisorFacts {
    /// libvirt's version: `major * 1_000_000 + minor * 1_000 + release`.
    pub version: u32,
    /// The hypervisor's own, the same way.
    pub hypervisor_version: u32,
    /// The secrets of Bowline's that it holds.
    pub secrets: Vec<Uuid>,
    /// Those of them whose value was never set.
    pub unset_secrets: Vec<Uuid>,
}

/// A guest as planning sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestFacts {
    /// UUID.
    pub uuid: GuestUuid,
    /// Name.
    pub name: String,
    /// Runs now.
    pub active: bool,
    /// As this.
    pub run: Option<GuestRun>,
    /// Has a definition that outlives it.
    pub persistent: bool,
    /// The memory that it may have, MiB, where that is known.
    pub memory_mib: Option<u64>,
    /// Its disks, live and defined, each once.
    pub disks: Vec<GuestDiskFacts>,
}

impl GuestFacts {
    /// The disk of a volume, if the guest has it.
    pub fn disk(&self, volume: VolumeId) -> Option<&GuestDiskFacts> {
        self.disks.iter().find(|disk| disk.volume == Some(volume))
    }

    /// The guest has the volume's disk everywhere it can have it: live if it runs, and in its definition if it has one.
    pub fn has_everywhere(&self, volume: VolumeId) -> bool {
        self.disk(volume).is_some_and(|disk| (disk.live || !self.active) && (disk.defined || !self.persistent))
    }

    /// The first target name of a bus that is free live, in the definition, and among `reserved`.
    pub fn free_target(&self, bus: DiskBus, reserved: &[String]) -> String {
        let prefix = bus.target_prefix();
        let taken = |name: &String| reserved.contains(name) || self.disks.iter().any(|disk| disk.target == *name);
        // The first name is left to the boot disk, which may be added later.
        let mut index = 1_u32;
        loop {
            let name = format!("{prefix}{}", letters(index));
            if !taken(&name) {
                return name;
            }
            index += 1;
        }
    }
}

/// `0` is `a`, `25` is `z`, `26` is `aa`: as the kernel and libvirt count disks.
fn letters(mut index: u32) -> String {
    let mut reversed = vec![];
    loop {
        reversed.push(char::from(b'a' + u8::try_from(index % 26).unwrap_or(0)));
        if index < 26 {
            break;
        }
        index = index / 26 - 1;
    }
    reversed.iter().rev().collect()
}

/// What a guest was given as a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenDisk {
    /// Target name.
    pub target: String,
    /// libvirt's word for the bus.
    pub bus: String,
    /// Where it leads: a path, or `protocol:name at host:port`.
    pub source: String,
}

/// A disk of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestDiskFacts {
    /// Target name.
    pub target: String,
    /// The volume, told by alias or serial.
    pub volume: Option<VolumeId>,
    /// The running guest has it.
    pub live: bool,
    /// The definition has it.
    pub defined: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_counted_as_the_kernel_does() {
        for (index, name) in [(0, "a"), (25, "z"), (26, "aa"), (51, "az"), (52, "ba"), (701, "zz"), (702, "aaa")] {
            assert_eq!(letters(index), name);
        }
    }

    #[test]
    fn a_free_target_skips_what_is_there_and_what_is_reserved() {
        let disk = |target: &str| GuestDiskFacts { target: target.into(), volume: None, live: true, defined: false };
        let guest = GuestFacts {
            uuid: GuestUuid(Uuid::nil()),
            name: "g".into(),
            active: true,
            run: None,
            persistent: true,
            memory_mib: None,
            disks: vec![disk("vda"), disk("vdb"), disk("sdb")],
        };
        assert_eq!(guest.free_target(DiskBus::Virtio, &["vdc".to_owned()]), "vdd");
        assert_eq!(guest.free_target(DiskBus::Scsi, &[]), "sdc");
    }
}
