//! Makes this host see that a volume was extended: each path's disk, then the map over them.
//!
//! ```text
//! every path up and the journalled device, and its target says so too, and that it is large enough?
//!    -> rescan each -> still the device, all the same, and large enough? -> resize the map -> as large as they?
//! ```
//! A map over disks of unequal size is a guest that reads past the end of one of them: so a path that is down is an error, not
//! something to go on without.

use super::{
    KernelInitiator, device,
    multipath::{MultipathError, maps},
    sessions::Session,
};
use crate::{
    connectors::{ConnectorError, udev, udev::Waited},
    model::{BlockDevice, DeviceIdentity, GIB, IscsiPath, VolumeId},
};
use futures_util::future::try_join_all;
use std::{fs, time::Duration};

impl KernelInitiator {
    /// Returns the size that every layer has then, bytes.
    pub(super) async fn grow(
        &self,
        volume: VolumeId,
        block: &BlockDevice,
        identity: &DeviceIdentity,
        size_gib: u64,
    ) -> Result<u64, ConnectorError> {
        let limit_s = self.config.device_timeout_s;
        let wanted = size_gib.saturating_mul(GIB);
        let mut events = self.monitor.subscribe();
        let mut units = Vec::new();
        for path in &block.paths {
            let session = self.session(path)?.ok_or(ConnectorError::NotConnected { volume })?;
            if !session.is_up() {
                return Err(ConnectorError::SessionDown { path: path.clone(), state: session.state });
            }
            self.known_size(volume, path, &session, identity)?;
            units.push((session, path));
        }
        // Before any is touched.
        let sizes =
            units.iter().map(|(session, path)| self.must_answer(volume, path, session, identity, size_gib)).collect::<Vec<_>>();
        let sizes = try_join_all(sizes).await?;
        for ((session, path), now_bytes) in units.iter().zip(sizes) {
            if now_bytes == Some(self.known_size(volume, path, session, identity)?) {
                continue;
            }
            let address = session.address(path.lun);
            let file = session.lun_folder(path.lun).join("rescan");
            device::with_deadline(format!("the rescan of {address}"), limit_s, move || {
                fs::write(&file, "1").map_err(ConnectorError::system(format!("write {}", file.display())))
            })
            .await?;
        }
        let deadline = udev::deadline(Duration::from_secs(limit_s));
        let disks = loop {
            // The rescan has read the pages anew, too.
            let sizes = units.iter().map(|(session, path)| self.known_size(volume, path, session, identity));
            let sizes: Vec<u64> = sizes.collect::<Result<_, _>>()?;
            let (smallest, largest) = (sizes.iter().min().copied().unwrap_or(0), sizes.iter().max().copied().unwrap_or(0));
            if smallest == largest && smallest >= wanted {
                break smallest;
            }
            // The kernel has asked the target by now; but some tell the new size a moment later, and the kernel tells it by an event.
            if let Waited::TimedOut = events.next(deadline).await {
                return Err(ConnectorError::NotGrown { volume, smallest, largest, wanted });
            }
        };
        if let Some(map) = &block.multipath {
            self.grow_map(volume, &map.wwid, identity, disks).await?;
        }
        Ok(disks)
    }

    /// The path's size by the kernel, bytes; an error where it is not the volume's device.
    fn known_size(
        &self,
        volume: VolumeId,
        path: &IscsiPath,
        session: &Session,
        identity: &DeviceIdentity,
    ) -> Result<u64, ConnectorError> {
        let found = device::observe(session, path.lun).ok_or(ConnectorError::NotConnected { volume })?;
        if found.identity != *identity {
            return Err(ConnectorError::NotTheVolume {
                volume,
                address: session.address(path.lun),
                expected: Box::new(identity.clone()),
                found: Box::new(found.identity),
            });
        }
        Ok(found.size_bytes)
    }

    async fn grow_map(
        &self,
        volume: VolumeId,
        wwid: &str,
        identity: &DeviceIdentity,
        size_bytes: u64,
    ) -> Result<(), ConnectorError> {
        let map = maps::find(&self.sysfs, wwid).ok_or(ConnectorError::NotConnected { volume })?;
        self.must_be_of(volume, &map, identity)?;
        let deadline = udev::deadline(Duration::from_secs(self.config.device_timeout_s));
        let mut events = self.monitor.subscribe();
        if map.size_bytes() != Some(size_bytes) {
            // Refused also where it has just done so by itself: what counts is the size.
            self.multipathd.resize_map(&map.kernel_name).await?;
        }
        while map.size_bytes() != Some(size_bytes) {
            if let Waited::TimedOut = events.next(deadline).await {
                let found = map.size_bytes().unwrap_or(0);
                return Err(MultipathError::NotResized { map: map.kernel_name, expected: size_bytes, found }.into());
            }
        }
        Ok(())
    }
}
