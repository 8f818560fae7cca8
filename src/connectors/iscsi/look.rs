//! What there is of a connected volume now, over all of its paths.
//!
//! Who a device is, each path's target is asked (`fresh`): the kernel's copy is as old as the device. How large it is, the kernel is
//! asked, and of several paths their map, for that is what a guest gets.

use super::{
    Iscsi, KernelInitiator,
    fresh::SHORT_S,
    multipath::{MultipathError, maps},
};
use crate::{
    connectors::{ConnectorError, DeviceState},
    model::{BlockDevice, DeviceIdentity, IscsiConnection, IscsiPath, ObservedIdentity, VolumeId},
};
use futures_util::future::join_all;

/// What there is of a device now.
#[derive(Debug)]
struct Seen {
    /// Who it is and, of a map, how large the map is.
    observed: ObservedIdentity,
    /// The path it was asked over.
    path: IscsiPath,
    /// `dm-N`, where there is a map.
    map: Option<String>,
}

impl Iscsi {
    pub(in crate::connectors) async fn observe_block(
        &self,
        volume: VolumeId,
        device: &BlockDevice,
        connection: Option<&IscsiConnection>,
    ) -> Result<Option<ObservedIdentity>, ConnectorError> {
        match &self.kernel {
            Some(kernel) => kernel.observe(volume, device, connection).await,
            None => Ok(None),
        }
    }

    pub(in crate::connectors) async fn state(
        &self,
        volume: VolumeId,
        device: &BlockDevice,
        identity: Option<&DeviceIdentity>,
    ) -> Result<DeviceState, ConnectorError> {
        let Some(kernel) = &self.kernel else { return Ok(DeviceState::Absent) };
        let Some(Seen { observed, path, map }) = kernel.look(device).await? else { return Ok(DeviceState::Absent) };
        let is_it = match (identity, kernel.session(&path)?) {
            (Some(identity), _) => observed.identity == *identity,
            (None, Some(session)) => kernel.is_ours(volume, &path, &session),
            (None, None) => false,
        };
        if !is_it {
            return Ok(DeviceState::Foreign { observed });
        }
        // Its disks are there, but what the guest's disk is named after is not, or is another map by now.
        if device.multipath.is_some() && (map.is_none() || map != kernel.names.linked(volume)) {
            return Ok(DeviceState::Absent);
        }
        Ok(DeviceState::Present { observed })
    }
}

impl KernelInitiator {
    /// Asks the target of every path, side by side. One that does not answer is passed over where there are others; one behind which
    /// another volume is by now is not.
    async fn observe(
        &self,
        volume: VolumeId,
        device: &BlockDevice,
        connection: Option<&IscsiConnection>,
    ) -> Result<Option<ObservedIdentity>, ConnectorError> {
        let chap = connection.and_then(|connection| connection.chap.as_ref());
        let timeout_s = if device.multipath.is_some() { SHORT_S } else { self.config.login_timeout_s };
        let answers = join_all(device.paths.iter().map(|path| async move {
            let observed = match self.session(path)? {
                Some(session) => self.observe_fresh(path, &session, chap, timeout_s).await?,
                None => None,
            };
            Ok::<_, ConnectorError>(observed.map(|observed| (path, observed)))
        }))
        .await;
        let (mut seen, mut silent): (Option<ObservedIdentity>, _) = (None, None);
        for answer in answers {
            match (answer, &seen) {
                (Ok(None), _) => {}
                (Ok(Some((_, observed))), None) => seen = Some(observed),
                (Ok(Some((_, observed))), Some(first)) if first.identity == observed.identity => {}
                (Ok(Some((path, observed))), Some(first)) => {
                    let (path, expected, found) = (path.clone(), Box::new(first.identity.clone()), Box::new(observed.identity));
                    return Err(MultipathError::PathsDisagree { volume, path, expected, found }.into());
                }
                (Err(error @ ConnectorError::LunChanged { .. }), _) => return Err(error),
                (Err(error), _) => {
                    silent.get_or_insert(error);
                }
            }
        }
        match (seen, silent) {
            (None, Some(error)) => Err(error),
            (seen, _) => Ok(seen.map(|observed| self.with_size_of_map(device, observed))),
        }
    }

    fn with_size_of_map(&self, device: &BlockDevice, mut observed: ObservedIdentity) -> ObservedIdentity {
        let map = device.multipath.as_ref().and_then(|map| maps::find(&self.sysfs, &map.wwid));
        if let Some(size_bytes) = map.as_ref().and_then(maps::Map::size_bytes) {
            observed.size_bytes = size_bytes;
        }
        observed
    }

    /// The first disk at the device's paths, and its map. Of a map's disks, one that is another device than the rest is who it is.
    async fn look(&self, device: &BlockDevice) -> Result<Option<Seen>, ConnectorError> {
        let map = device.multipath.as_ref().and_then(|map| maps::find(&self.sysfs, &map.wwid)).map(|map| map.kernel_name);
        let answers = join_all(device.paths.iter().map(|path| async move {
            let observed = match self.session(path)? {
                Some(session) => self.observe_if_answered(path, &session).await,
                None => None,
            };
            Ok::<_, ConnectorError>(observed.map(|observed| (path, observed)))
        }))
        .await;
        let mut seen: Option<Seen> = None;
        for answer in answers {
            let Some((path, observed)) = answer? else { continue };
            if seen.as_ref().is_some_and(|first| first.observed.identity == observed.identity) {
                continue;
            }
            let observed = self.with_size_of_map(device, observed);
            let is_second = seen.replace(Seen { observed, path: path.clone(), map: map.clone() }).is_some();
            if is_second {
                break;
            }
        }
        Ok(seen)
    }
}
