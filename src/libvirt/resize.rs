//! Telling a running guest that a disk has grown.
//!
//! QEMU reads the capacity of a device once. `virDomainBlockResize` makes it look again: for a block device or a LUN it changes
//! nothing of the storage and refuses more than is there, for a file it would. So it is asked only for the size that the device
//! was seen to have, and what the guest is given then is read back.

use super::{
    connection::{Call, Connection},
    error::{LibvirtError, failed},
    guest::{self, Sides},
};
use crate::model::{GuestUuid, VolumeId};
use std::sync::Arc;
use virt::{connect::Connect, sys};

/// What a guest was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resized {
    /// It is given this size now, bytes.
    Seen(u64),
    /// No running guest has the disk: whoever starts it sees the size of the device.
    NobodyToTell,
    /// The guest may only read the disk, and libvirt tells no such guest: it sees the size when it is started, or given the disk,
    /// again.
    ReadOnly,
}

/// Tells the guest.
pub(super) async fn resize(
    connection: &Arc<Connection>,
    guest: GuestUuid,
    volume: VolumeId,
    size_bytes: u64,
) -> Result<Resized, LibvirtError> {
    let operation = format!("tell guest {guest} that volume {volume} has {size_bytes} bytes");
    // The call may wait for the guest's storage, as a hot-plug may.
    let call = Call::new(operation, Some(guest), connection.config.attach_timeout_s);
    let told = call.operation.clone();
    // Asked for the same size twice, QEMU does nothing: a call whose answer was lost is made again.
    connection.read(call, move |connect| tell(connect, guest, volume, size_bytes, &told)).await
}

fn tell(
    connect: &Connect,
    guest: GuestUuid,
    volume: VolumeId,
    size_bytes: u64,
    operation: &str,
) -> Result<Resized, LibvirtError> {
    let Some(domain) = guest::by_uuid(connect, guest)? else { return Ok(Resized::NobodyToTell) };
    let Some(live) = Sides::read(&domain)?.live else { return Ok(Resized::NobodyToTell) };
    let Some(disk) = live.disk_of(volume) else { return Ok(Resized::NobodyToTell) };
    let capacity = |what: &str| {
        let operation = format!("{what} the size of disk {} of guest {guest}", disk.target);
        domain.block_info(&disk.target, 0).map(|info| info.capacity).map_err(failed(operation))
    };
    if capacity("read")? == size_bytes {
        return Ok(Resized::Seen(size_bytes));
    }
    match domain.block_resize(&disk.target, size_bytes, sys::VIR_DOMAIN_BLOCK_RESIZE_BYTES).map_err(failed(operation)) {
        Err(LibvirtError::Call { source, .. }) if source.says_read_only() => Ok(Resized::ReadOnly),
        told => told.and_then(|()| capacity("read back")).map(Resized::Seen),
    }
}
