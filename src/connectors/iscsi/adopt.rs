//! Takes over what somebody else connected: a guest has it, so it is found from there, and only what lies at the paths that the
//! volume service names is taken for the volume.
//!
//! Nothing is logged in, scanned or moved. What becomes of it: the volume gets its own name and claims, by which a later disconnect
//! knows the disks. The session stays somebody else's, and is never ended.

use super::{
    Iscsi, KernelInitiator, device,
    multipath::maps::{self, Map},
};
use crate::{
    connectors::ConnectorError,
    model::{BlockDevice, ConnectedDevice, IscsiConnection, IscsiNetworkDevice, IscsiPath, MultipathMap, VolumeId},
};
use std::{fs, path::Path};

impl Iscsi {
    /// `given`: the source of the guest's disk, a path or `iscsi:<target>/<LUN> at <portal>`.
    pub(in crate::connectors) async fn adopt(
        &self,
        volume: VolumeId,
        connection: &IscsiConnection,
        given: &str,
    ) -> Result<ConnectedDevice, ConnectorError> {
        Self::check(connection)?;
        if given.starts_with('/') {
            return self.kernel()?.adopt(volume, &connection.paths, given).await.map(ConnectedDevice::Block);
        }
        let source = |path: &IscsiPath| format!("iscsi:{}/{} at {}", path.iqn, path.lun, path.portal);
        let path = connection.paths.iter().find(|path| source(path) == given);
        let path = path.ok_or_else(|| ConnectorError::NotGiven { volume, given: given.to_owned() })?;
        Ok(ConnectedDevice::IscsiNetwork(IscsiNetworkDevice {
            path: path.clone(),
            initiator: self.initiator_name()?,
            chap_username: connection.chap.as_ref().map(|chap| chap.username.clone()),
        }))
    }

    pub(in crate::connectors) fn disown(&self, volume: VolumeId) -> Result<(), ConnectorError> {
        let Some(kernel) = &self.kernel else { return Ok(()) };
        kernel.names.forget(volume).map(drop).map_err(ConnectorError::system("remove the volume's own name"))
    }
}

impl KernelInitiator {
    async fn adopt(&self, volume: VolumeId, paths: &[IscsiPath], given: &str) -> Result<BlockDevice, ConnectorError> {
        let _turn = self.lock_volume(volume).await;
        let not_given = || ConnectorError::NotGiven { volume, given: given.to_owned() };
        let node = fs::canonicalize(given).map_err(ConnectorError::system(format!("find what {given} is")))?;
        let name = node.strip_prefix("/dev").ok().and_then(Path::to_str).ok_or_else(not_given)?.to_owned();
        let mut disks: Vec<(IscsiPath, String)> = vec![];
        for path in paths {
            let disk = self.session(path)?.and_then(|session| session.disk(path.lun));
            if let Some(disk) = disk.as_deref().and_then(device::kernel_name) {
                disks.push((path.clone(), disk.to_owned()));
            }
        }
        let map = disks.iter().find_map(|(_, disk)| maps::over(&self.sysfs, disk));
        let found = match map {
            None => disks.into_iter().filter(|(_, disk)| *disk == name).collect::<Vec<_>>(),
            Some(ref map) if map.kernel_name == name && holds_only(map, &disks) => disks,
            Some(_) => vec![],
        };
        // Another guest may have the volume by Bowline: then it must be by the same device.
        if found.is_empty() || self.names.linked(volume).is_some_and(|linked| linked != name) {
            return Err(not_given());
        }
        for (path, _) in &found {
            self.names.claim(volume, path).map_err(ConnectorError::system("write the claim of the LUN"))?;
        }
        let path = self.names.set_link(volume, &name).map_err(ConnectorError::system("make the volume's own link"))?;
        Ok(BlockDevice {
            path,
            kernel_name: name,
            paths: found.into_iter().map(|(path, _)| path).collect(),
            multipath: map.map(|map| MultipathMap { wwid: map.wwid }),
        })
    }
}

/// What a map holds beside the volume's disks is written to as they are.
fn holds_only(map: &Map, disks: &[(IscsiPath, String)]) -> bool {
    map.disks().iter().all(|held| disks.iter().any(|(_, disk)| disk == held))
}
