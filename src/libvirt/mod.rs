//! Guests and their disks, through libvirt.
//!
//! [`Libvirt`] is a handle on one connection. It does not mind a daemon that is down: calls then say so, and the
//! connection is made anew as soon as the daemon is back. Everything here knows guests, disks and secrets, and nothing
//! of the journal, the queue or the volume service. No type of the `virt` crate leaves this folder.

mod attach;
mod attach_plan;
mod backup;
mod boot;
mod config;
mod connection;
mod detach;
mod disk_xml;
mod domain_xml;
mod error;
mod event_loop;
mod events;
mod ffi;
mod fill;
mod freeze;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod guest;
mod iothreads;
mod mentions;
mod new_guest;
mod resize;
mod rewrite;
#[cfg(test)]
mod samples;
mod secret;
mod shutdown;
mod template;
mod unplug;

pub use attach::Attached;
pub use backup::Backup;
pub use config::LibvirtConfig;
pub use detach::DetachProgress;
pub use error::{LibvirtError, LibvirtMessage};
pub use events::{GuestEvent, LifecycleChange};
pub use freeze::Frozen;
pub use guest::{Guest, GuestDisk};
pub use resize::Resized;
pub use secret::{SECRET_USAGE_PREFIX, SecretRecord, SecretUsage};

use crate::model::{DiskSpec, GuestDefinition, GuestUuid, LocalDisk, NewGuest, Secret, VolumeId};
use connection::{Call, Connection};
use error::failed;
use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};
use tokio::sync::broadcast;
use uuid::Uuid;
use virt::{error::ErrorNumber, sys};

/// Whether a request had anything to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was so already.
    Unchanged,
    /// It was done.
    Changed,
}

/// A handle on libvirt; clones share one connection.
#[derive(Clone)]
pub struct Libvirt {
    connection: Arc<Connection>,
}

impl Libvirt {
    /// Starts libvirt's event loop and a task that connects and stays connected. A daemon that is down is no failure.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// A setting that makes no sense, or a thread that cannot be started.
    pub fn start(config: LibvirtConfig) -> Result<Self, LibvirtError> {
        config.check()?;
        event_loop::start()?;
        let connection = Connection::new(config);
        tokio::spawn(connection::keep_connected(Arc::downgrade(&connection)));
        Ok(Self { connection })
    }

    /// What guests do, from now on. A listener that falls far behind is told so and must look for itself.
    pub fn events(&self) -> broadcast::Receiver<GuestEvent> {
        self.connection.events()
    }

    /// A guest by UUID or by name.
    ///
    /// # Errors
    /// [`LibvirtError::GuestNotFound`], or libvirt cannot be reached.
    pub async fn guest(&self, name_or_uuid: &str) -> Result<Guest, LibvirtError> {
        let name = name_or_uuid.to_owned();
        let call = self.call(format!("look up guest {name:?}"));
        self.connection.read(call, move |connect| Guest::read(&guest::find(connect, &name)?)).await
    }

    /// All guests of the host, running or not.
    ///
    /// # Errors
    /// libvirt cannot be reached or its answer cannot be read.
    pub async fn guests(&self) -> Result<Vec<Guest>, LibvirtError> {
        self.list(0).await
    }

    /// Of each of these words that a guest's definition, its state or a snapshot of it has, the name of such a guest.
    ///
    /// # Errors
    /// libvirt cannot be reached or its answer cannot be read.
    pub async fn mentions(&self, words: Vec<String>) -> Result<BTreeMap<String, String>, LibvirtError> {
        let call = self.call("look for who has a disk");
        self.connection.read(call, move |connect| mentions::mentions(connect, &words)).await
    }

    async fn list(&self, which: sys::virConnectListAllDomainsFlags) -> Result<Vec<Guest>, LibvirtError> {
        let list = move |connect: &virt::connect::Connect| {
            let mut guests = Vec::new();
            for domain in connect.list_all_domains(which).map_err(failed("list guests"))? {
                match Guest::read(&domain) {
                    // It went away since it was listed.
                    Err(LibvirtError::Call { source, .. }) if source.is(ErrorNumber::NoDomain) => {}
                    guest => guests.push(guest?),
                }
            }
            Ok(guests)
        };
        self.connection.read(self.call("list guests"), list).await
    }

    /// Attaches a disk: to the running guest if it runs, and to its persistent definition if it has one. A side that
    /// has the volume from the same source is left as it is; a failure leaves nothing behind.
    ///
    /// # Errors
    /// [`LibvirtError::OtherSource`] if the running guest has the volume from elsewhere; libvirt's refusals; a time
    /// limit, after which the disk may still appear.
    pub async fn attach_disk(&self, guest: GuestUuid, disk: &DiskSpec) -> Result<Attached, LibvirtError> {
        attach::attach(&self.connection, guest, disk).await
    }

    /// Detaches a volume's disk: the running guest lets go of it, asked again while it ignores that, and then the
    /// persistent definition forgets it. Lives through restarts of the daemon. A guest that is gone has let go.
    ///
    /// # Errors
    /// [`LibvirtError::GuestRefused`], [`LibvirtError::GuestIgnored`]; in both the guest still has the disk.
    /// [`LibvirtError::LostSight`]: not known.
    pub async fn detach_disk(
        &self,
        guest: GuestUuid,
        volume: VolumeId,
        progress: impl Fn(DetachProgress) + Send + Sync,
    ) -> Result<Outcome, LibvirtError> {
        detach::detach(&self.connection, guest, volume, &progress).await
    }

    /// Makes the running guest see that a volume's device has grown to this size, bytes.
    ///
    /// # Errors
    /// libvirt's and QEMU's refusals, as for a size that the device does not have.
    pub async fn resize_disk(&self, guest: GuestUuid, volume: VolumeId, size_bytes: u64) -> Result<Resized, LibvirtError> {
        resize::resize(&self.connection, guest, volume, size_bytes).await
    }

    /// Puts an ephemeral disk into the guest's definition. The same one again changes nothing.
    ///
    /// # Errors
    /// [`LibvirtError::GuestNotFound`]; libvirt's refusals, as when the target name is taken.
    pub async fn define_disk(&self, guest: GuestUuid, disk: &LocalDisk) -> Result<Outcome, LibvirtError> {
        boot::define_disk(&self.connection, guest, disk).await
    }

    /// Puts an ephemeral disk into the guest's definition in the place of `former`, which has the same target name.
    ///
    /// # Errors
    /// [`LibvirtError::GuestNotFound`]; libvirt's refusals, as when another disk has the target name.
    pub async fn replace_disk(&self, guest: GuestUuid, former: &LocalDisk, disk: &LocalDisk) -> Result<Outcome, LibvirtError> {
        boot::replace_disk(&self.connection, guest, former, disk).await
    }

    /// Takes an ephemeral disk out of the guest's definition. One that is not there is fine.
    ///
    /// # Errors
    /// libvirt cannot be reached or refuses.
    pub async fn undefine_disk(&self, guest: GuestUuid, disk: &LocalDisk) -> Result<Outcome, LibvirtError> {
        boot::undefine_disk(&self.connection, guest, disk).await
    }

    /// Makes a definition of what is handed over, with a UUID and a mark of its own. Touches nothing.
    ///
    /// # Errors
    /// [`LibvirtError::Definition`]; this host has no such machine.
    pub async fn prepare_guest(&self, name: &str, definition: &GuestDefinition) -> Result<NewGuest, LibvirtError> {
        new_guest::prepare(&self.connection, name, definition).await
    }

    /// Defines a guest. The same one again changes nothing.
    ///
    /// # Errors
    /// [`LibvirtError::Defined`]: another has its name or UUID. What libvirt's schema, or libvirt, refuses.
    pub async fn define_guest(&self, new: &NewGuest) -> Result<Outcome, LibvirtError> {
        new_guest::define(&self.connection, new).await
    }

    /// Stops and undefines the guest whose definition has this mark. One that is gone, or has not got it, is fine.
    ///
    /// # Errors
    /// libvirt cannot be reached or refuses.
    pub async fn undefine_guest(&self, guest: GuestUuid, mark: Uuid) -> Result<Outcome, LibvirtError> {
        new_guest::undefine(&self.connection, guest, mark).await
    }

    /// Starts a guest. One that runs is fine.
    ///
    /// # Errors
    /// [`LibvirtError::GuestNotFound`]; libvirt's and QEMU's refusals.
    pub async fn start_guest(&self, guest: GuestUuid) -> Result<Outcome, LibvirtError> {
        boot::start(&self.connection, guest).await
    }

    /// Starts a guest from one more disk, before all others, with its definition left as it is. One that runs from it is fine.
    ///
    /// # Errors
    /// [`LibvirtError::RunsOtherwise`], [`LibvirtError::GuestNotFound`]; libvirt's and QEMU's refusals.
    pub async fn start_rescue(&self, guest: GuestUuid, disk: &LocalDisk) -> Result<Outcome, LibvirtError> {
        boot::start_rescue(&self.connection, guest, disk).await
    }

    /// Refuses a guest whose memory libvirt has saved. One that is gone is fine.
    ///
    /// # Errors
    /// [`LibvirtError::ManagedSave`]: it has; libvirt cannot be reached or refuses.
    pub async fn check_unsaved(&self, guest: GuestUuid) -> Result<(), LibvirtError> {
        boot::check_unsaved(&self.connection, guest).await
    }

    /// Ends a guest at once. One that is off or gone is fine.
    ///
    /// # Errors
    /// libvirt cannot be reached or refuses.
    pub async fn stop_guest(&self, guest: GuestUuid) -> Result<Outcome, LibvirtError> {
        boot::stop(&self.connection, guest).await
    }

    /// Asks a guest to shut down, by its agent or else by its power button, again now and then, and returns once it is off. One that is
    /// off or gone is fine.
    ///
    /// # Errors
    /// [`LibvirtError::StaysOn`]: it runs on. libvirt cannot be reached or refuses.
    pub async fn shut_down_guest(&self, guest: GuestUuid) -> Result<Outcome, LibvirtError> {
        shutdown::shut_down(&self.connection, guest).await
    }

    /// The guests that are marked to be started with the host, running or not.
    ///
    /// # Errors
    /// libvirt cannot be reached or its answer cannot be read.
    pub async fn autostart_guests(&self) -> Result<Vec<Guest>, LibvirtError> {
        self.list(sys::VIR_CONNECT_LIST_DOMAINS_AUTOSTART).await
    }

    /// Freezes a guest's filesystems, if an agent in it listens. Whatever comes of it, [`Libvirt::thaw`] has to follow.
    ///
    /// # Errors
    /// The agent refuses or is silent for `limit`; libvirt cannot be reached.
    pub async fn freeze(&self, guest: GuestUuid, limit: Duration) -> Result<Frozen, LibvirtError> {
        freeze::freeze(&self.connection, guest, limit).await
    }

    /// Thaws them. A guest that is not frozen, is off, or has no agent any more, is fine.
    ///
    /// # Errors
    /// The agent refuses or is silent; libvirt cannot be reached.
    pub async fn thaw(&self, guest: GuestUuid) -> Result<Outcome, LibvirtError> {
        freeze::thaw(&self.connection, guest).await
    }

    /// Begins to copy a running guest's disk, as it is now, into a new qcow2 file.
    ///
    /// # Errors
    /// libvirt's and QEMU's refusals, as when another job runs.
    pub async fn begin_backup(&self, guest: GuestUuid, target: &str, file: &Path) -> Result<Backup, LibvirtError> {
        backup::begin(&self.connection, guest, target, file).await
    }

    /// Ends the copying into this file. Where there is none, that is fine.
    ///
    /// # Errors
    /// libvirt cannot be reached or refuses.
    pub async fn abort_backup(&self, guest: GuestUuid, file: &Path) -> Result<Outcome, LibvirtError> {
        backup::abort(&self.connection, guest, file.to_owned()).await
    }

    /// Has a running guest's disk take in the image below it, and waits until it has, however long that takes; `tell` hears bytes done, and in
    /// all. [`Outcome::Unchanged`]: the guest is off.
    ///
    /// # Errors
    /// [`LibvirtError::Pull`]: the job ended before its end; [`LibvirtError::DiskOtherwise`]: it is over another file; libvirt cannot be reached or refuses.
    pub async fn pull_disk(
        &self,
        guest: GuestUuid,
        disk: &LocalDisk,
        tell: impl Fn(u64, u64) + Send,
    ) -> Result<Outcome, LibvirtError> {
        fill::pull(&self.connection, guest, disk, tell).await
    }

    /// Lets a guest go on that QEMU paused for an I/O error where one of the disks with these target names has failed. Any other is left
    /// as it is, and so is one for whose disks the host has no room.
    ///
    /// # Errors
    /// libvirt cannot be reached or refuses.
    pub async fn resume_after_io_error(&self, guest: GuestUuid, targets: Vec<String>) -> Result<Outcome, LibvirtError> {
        fill::resume_after_io_error(&self.connection, guest, targets).await
    }

    /// Pauses a running guest.
    ///
    /// # Errors
    /// libvirt cannot be reached or refuses.
    pub async fn suspend_guest(&self, guest: GuestUuid) -> Result<Outcome, LibvirtError> {
        fill::suspend(&self.connection, guest).await
    }

    /// Defines a secret, ephemeral and private, and sets its value; the same UUID again sets the value anew.
    ///
    /// # Errors
    /// libvirt refuses, as when another secret has the same usage.
    pub async fn define_secret(&self, uuid: Uuid, usage: &SecretUsage, value: &Secret) -> Result<(), LibvirtError> {
        let (usage, value) = (usage.clone(), value.clone());
        let call = self.call(format!("define secret {uuid}"));
        self.connection.read(call, move |connect| secret::define(connect, uuid, &usage, &value)).await
    }

    /// Removes a secret; one that is not there is fine.
    ///
    /// # Errors
    /// libvirt cannot be reached or refuses.
    pub async fn undefine_secret(&self, uuid: Uuid) -> Result<Outcome, LibvirtError> {
        let call = self.call(format!("undefine secret {uuid}"));
        self.connection.read(call, move |connect| secret::undefine(connect, uuid)).await
    }

    /// The secrets whose usage begins with [`SECRET_USAGE_PREFIX`].
    ///
    /// # Errors
    /// libvirt cannot be reached.
    pub async fn secrets(&self) -> Result<Vec<SecretRecord>, LibvirtError> {
        self.connection.read(self.call("list secrets"), secret::list).await
    }

    /// libvirt's own version and the hypervisor's, each as `major * 1_000_000 + minor * 1_000 + release`.
    ///
    /// # Errors
    /// libvirt cannot be reached.
    pub async fn versions(&self) -> Result<(u32, u32), LibvirtError> {
        let ask = |connect: &virt::connect::Connect| {
            let libvirt = connect.lib_version().map_err(failed("read libvirt's version"))?;
            Ok((libvirt, connect.hyp_version().map_err(failed("read the hypervisor's version"))?))
        };
        self.connection.read(self.call("read versions"), ask).await
    }

    fn call(&self, operation: impl Into<String>) -> Call {
        Call::new(operation, None, self.connection.config.call_timeout_s)
    }
}

/// libvirt's own test driver has guests without a daemon; it runs in this process.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ErrorKind;

    fn libvirt(uri: &str) -> Libvirt {
        Libvirt::start(LibvirtConfig { uri: uri.to_owned(), ..LibvirtConfig::default() }).unwrap()
    }

    #[tokio::test]
    async fn a_guest_is_the_same_by_name_and_by_uuid() {
        let libvirt = libvirt("test:///default");
        let guest = libvirt.guest("test").await.unwrap();
        assert!(guest.active && guest.persistent, "{guest:?}");
        assert_eq!(libvirt.guest(&guest.uuid.to_string()).await.unwrap(), guest);
        assert!(libvirt.guests().await.unwrap().contains(&guest));
    }

    #[tokio::test]
    async fn an_unknown_guest_is_named() {
        let libvirt = libvirt("test:///default");
        for name in ["nobody", "", "no\0body", "0d1f2e3c-4b5a-4678-9abc-def012345678"] {
            let error = libvirt.guest(name).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
        }
    }

    #[tokio::test]
    async fn a_volume_that_no_guest_has_is_detached_already() {
        let libvirt = libvirt("test:///default");
        let guest = libvirt.guest("test").await.unwrap().uuid;
        assert_eq!(libvirt.detach_disk(guest, samples::volume(), |_| {}).await.unwrap(), Outcome::Unchanged);
        let unknown = "0d1f2e3c-4b5a-4678-9abc-def012345678".parse().unwrap();
        assert_eq!(libvirt.detach_disk(unknown, samples::volume(), |_| {}).await.unwrap(), Outcome::Unchanged);
    }

    #[tokio::test]
    async fn a_disk_that_libvirt_refuses_leaves_the_guest_as_it_was() {
        let libvirt = libvirt("test:///default");
        let before = libvirt.guest("test").await.unwrap();
        let error = libvirt.attach_disk(before.uuid, &samples::block_spec("/run/bowline/x")).await.unwrap_err();
        assert!(matches!(error, LibvirtError::Call { .. }), "{error}");
        assert_eq!(libvirt.guest("test").await.unwrap(), before);
    }

    #[tokio::test]
    async fn a_daemon_that_is_down_is_told_at_once() {
        let libvirt = libvirt("qemu+unix:///system?socket=/nonexistent/libvirt-sock");
        let error = libvirt.guests().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("systemctl start libvirtd"), "{error}");
    }

    #[tokio::test]
    async fn settings_that_make_no_sense_are_named() {
        let zero = LibvirtConfig { detach_request_interval_s: 0, ..LibvirtConfig::default() };
        let nul = LibvirtConfig { uri: "qemu:///\0".to_owned(), ..LibvirtConfig::default() };
        for (config, setting) in [(zero, "detach_request_interval_s"), (nul, "uri")] {
            let error = Libvirt::start(config).err().unwrap();
            assert!(error.to_string().contains(setting) && error.kind() == ErrorKind::InvalidInput, "{error}");
        }
    }
}
