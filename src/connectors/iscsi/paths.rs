//! Brings a volume to this host over all of its paths at once.
//!
//! ```text
//! each path, side by side: connect_path ---disk---> collect: all, or a grace after the first ---> join -> map -> own name
//!                                 \                                                     |
//!                                  +--too late for it--> is it the same device? <--verdict
//!                                                         yes: multipathd adds it to the map     no: taken back
//! ```
//! One path that works is enough. A path that is down costs the others no more than the grace; if its login comes to an end
//! later, it joins the map or is taken back, under its own lock, so that a detach meanwhile waits for it and finds it. Once anything
//! else was begun with the volume it is left to that (`turn`).
//!
//! Before disks are put together they must say that they are the same device. multipathd goes by the WWID alone, which two arrays
//! of one make, or two of one configuration, may both give.

use super::{
    KernelInitiator, PATH_GRACE,
    connect::FoundDisk,
    device,
    multipath::{
        MultipathError,
        maps::{self, Map},
    },
    turn::{End, Verdict, Word},
};
use crate::{
    connectors::{ConnectorError, udev},
    model::{BlockDevice, DeviceIdentity, IscsiConnection, MultipathMap, VolumeId},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout_at,
};

/// What one path came to.
type Outcome = Result<FoundDisk, ConnectorError>;

impl KernelInitiator {
    /// Connects over every path, and puts them together. A second call, or one after paths were lost, brings what is missing.
    /// `expected`: who the device must be, where that is known.
    pub(super) async fn connect_all(
        self: &Arc<Self>,
        volume: VolumeId,
        connection: &IscsiConnection,
        expected: Option<&DeviceIdentity>,
    ) -> Result<BlockDevice, ConnectorError> {
        self.multipathd.must_run().await?;
        let _turn = self.lock_volume(volume).await;
        let before = maps::all(&self.sysfs);
        let verdict = Verdict::default();
        self.latest.set(volume, Some(&verdict));
        let _word = Word(verdict.clone());
        let (sender, mut outcomes) = unbounded_channel();
        for path in &connection.paths {
            let (this, path, chap) = (self.clone(), path.clone(), connection.chap.clone());
            let (verdict, sender) = (verdict.clone(), sender.clone());
            tokio::spawn(async move {
                let outcome = this.connect_path(volume, &path, chap.as_ref(), || verdict.end().is_some()).await;
                if let Err(late) = sender.send(outcome) {
                    let _turn = this.lock_volume(volume).await;
                    match late.0 {
                        outcome if this.latest.is(volume, &verdict) => this.settle_late(volume, outcome, &verdict).await,
                        Ok(found) => this.take_back_if_gone(volume, found).await,
                        Err(_) => {}
                    }
                }
            });
        }
        drop(sender);
        let (found, first_error) = collect(volume, &mut outcomes).await;
        let device = match first_error {
            Some(error) if found.is_empty() => Err(error),
            _ => self.join(volume, connection, expected, &before, found).await,
        };
        verdict.set(match &device {
            // A map that is there and whose disks cannot be read just now says nothing about a path that comes late.
            Ok(device) => self.identity_of(device).map_or(End::Abandoned, End::Joined),
            Err(_) => End::Failed,
        });
        outcomes.close();
        while let Ok(outcome) = outcomes.try_recv() {
            self.settle_late(volume, outcome, &verdict).await;
        }
        device
    }

    /// A path that came to its end after the others were put together, or given up.
    async fn settle_late(&self, volume: VolumeId, outcome: Outcome, verdict: &Verdict) {
        let found = match outcome {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%volume, error = &error as &dyn std::error::Error, "this path does not work");
                return;
            }
        };
        let wanted = match verdict.end() {
            Some(End::Joined(identity)) => Some(identity),
            // Without a verdict, or one to go by, nothing is taken away: the claim leads whoever does to it.
            Some(End::Abandoned) | None => return,
            Some(End::Failed) => None,
        };
        if wanted.is_some() && wanted == found.observed.as_ref().map(|observed| &observed.identity) {
            tracing::info!(%volume, path = %found.path, "a late path joins the others");
            if let Err(error) = self.multipathd.add_path(&found.name).await {
                tracing::warn!(%volume, error = &error as &dyn std::error::Error, "multipathd was not told of it");
            }
        } else {
            tracing::warn!(%volume, path = %found.path, "a late path is not wanted any more, or leads elsewhere: it is taken back");
            self.unwind_found(volume, &[found]).await;
        }
    }

    /// A path that came after something else was begun with the volume: another connect has joined it to its own, and a disconnect has
    /// either found it or, of a path that nobody wrote down, been too early.
    async fn take_back_if_gone(&self, volume: VolumeId, found: FoundDisk) {
        if !found.is_new || self.names.linked(volume).is_some() || maps::over(&self.sysfs, &found.name).is_some() {
            return;
        }
        if device::observe_disk(&self.sysfs, &found.name) != found.observed {
            return;
        }
        tracing::warn!(%volume, path = %found.path, "a path came after the volume was taken off this host: it is taken back");
        // The disconnect has forgotten whose it is; without this it would be a stranger's.
        match self.names.claim(volume, &found.path) {
            Ok(()) => self.unwind_found(volume, &[found]).await,
            Err(error) => tracing::warn!(%volume, %error, "it cannot be claimed again, and stays"),
        }
    }

    /// Puts disks together and gives the map the volume's own name. On failure what `found` has brought is taken back.
    pub(super) async fn join(
        &self,
        volume: VolumeId,
        connection: &IscsiConnection,
        expected: Option<&DeviceIdentity>,
        before: &[Map],
        found: Vec<FoundDisk>,
    ) -> Result<BlockDevice, ConnectorError> {
        let (found, odd) = match sort_out(volume, connection, expected, found) {
            Ok(sorted) => sorted,
            Err(refused) => {
                let (error, found) = *refused;
                self.unwind_found(volume, &found).await;
                return Err(error);
            }
        };
        for (disk, error) in odd {
            tracing::error!(%volume, path = %disk.path, error = &error as &dyn std::error::Error, "this path is not used");
            self.unwind_found(volume, &[disk]).await;
        }
        match self.map_and_name(volume, before, &found).await {
            Ok((link, map)) => {
                if found.len() < connection.paths.len() {
                    tracing::warn!(%volume, working = found.len(), named = connection.paths.len(), "connected over fewer paths than there are");
                }
                Ok(BlockDevice {
                    path: link,
                    kernel_name: map.kernel_name,
                    paths: connection.paths.clone(),
                    multipath: Some(MultipathMap { wwid: map.wwid }),
                })
            }
            Err(error) => {
                self.unwind_found(volume, &found).await;
                Err(error)
            }
        }
    }

    async fn map_and_name(
        &self,
        volume: VolumeId,
        before: &[Map],
        found: &[FoundDisk],
    ) -> Result<(std::path::PathBuf, Map), ConnectorError> {
        let disks: Vec<String> = found.iter().map(|disk| disk.name.clone()).collect();
        let map = self.map_over(&disks).await?;
        // A map that was there, over none of the disks that were: somebody made it in an earlier life, and may have it open.
        let is_old = before.contains(&map) && found.iter().all(|disk| disk.is_new);
        if is_old && self.names.linked(volume).as_ref() != Some(&map.kernel_name) {
            return Err(MultipathError::StaleMap { volume, map: map.kernel_name, wwid: map.wwid }.into());
        }
        if let Some(identity) = found.first().and_then(|disk| disk.observed.as_ref()).map(|observed| &observed.identity) {
            self.must_be_of(volume, &map, identity)?;
        }
        let link =
            self.names.set_link(volume, &map.kernel_name).map_err(ConnectorError::system("make the volume's own link"))?;
        Ok((link, map))
    }
}

/// Every path's outcome, or those that came within the grace after the first disk. Returns the first error too.
async fn collect(volume: VolumeId, outcomes: &mut UnboundedReceiver<Outcome>) -> (Vec<FoundDisk>, Option<ConnectorError>) {
    // Each path has deadlines of its own: this one is beyond them all.
    const FOR_EVER: Duration = Duration::from_secs(24 * 3600);
    let (mut found, mut first_error) = (Vec::new(), None);
    let mut deadline = udev::deadline(FOR_EVER);
    while let Ok(Some(outcome)) = timeout_at(deadline, outcomes.recv()).await {
        match outcome {
            Ok(disk) => {
                if found.is_empty() {
                    deadline = udev::deadline(PATH_GRACE);
                }
                found.push(disk);
            }
            Err(error) => {
                tracing::warn!(%volume, error = &error as &dyn std::error::Error, "this path does not work");
                first_error.get_or_insert(error);
            }
        }
    }
    (found, first_error)
}

type Sorted = (Vec<FoundDisk>, Vec<(FoundDisk, ConnectorError)>);

/// Parts the disks that are the volume from those that are not. Where nobody says who it is, all must agree.
fn sort_out(
    volume: VolumeId,
    connection: &IscsiConnection,
    expected: Option<&DeviceIdentity>,
    found: Vec<FoundDisk>,
) -> Result<Sorted, Box<(ConnectorError, Vec<FoundDisk>)>> {
    let (mut fitting, mut odd): Sorted = (Vec::new(), Vec::new());
    // Where the service vouches for a serial, the first that has it is who the others must be.
    let has_serial = |identity: &DeviceIdentity| connection.serial.is_none() || identity.serial == connection.serial;
    let mut wanted = expected.cloned();
    for disk in found {
        let identity = disk.observed.as_ref().map(|observed| observed.identity.clone());
        let Some(identity) = identity.filter(|identity| !identity.is_empty()) else {
            let path = disk.path.clone();
            odd.push((disk, MultipathError::Anonymous { path }.into()));
            continue;
        };
        if wanted.is_none() && has_serial(&identity) {
            wanted = Some(identity.clone());
        }
        if wanted.as_ref() == Some(&identity) {
            fitting.push(disk);
            continue;
        }
        let expected =
            wanted.clone().unwrap_or_else(|| DeviceIdentity { serial: connection.serial.clone(), wwids: Vec::new() });
        let (path, found) = (disk.path.clone(), Box::new(identity));
        odd.push((disk, MultipathError::PathsDisagree { volume, path, expected: Box::new(expected), found }.into()));
    }
    let is_known = expected.is_some() || connection.serial.is_some();
    if fitting.is_empty() || (!is_known && !odd.is_empty()) {
        let error =
            odd.pop().map_or_else(|| (ConnectorError::NotConnected { volume }, None), |(disk, error)| (error, Some(disk)));
        let all = fitting.into_iter().chain(odd.into_iter().map(|(disk, _)| disk)).chain(error.1).collect();
        return Err(Box::new((error.0, all)));
    }
    Ok((fitting, odd))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{IscsiPath, ObservedIdentity};

    fn volume() -> VolumeId {
        "94333fbd-2aab-4a5a-befd-e30c2f7377fd".parse().unwrap()
    }

    fn identity(serial: &str) -> DeviceIdentity {
        DeviceIdentity { serial: Some(serial.into()), wwids: vec!["naa.6000".into()] }
    }

    fn disk(name: &str, serial: &str) -> FoundDisk {
        FoundDisk {
            path: IscsiPath { portal: "10.0.0.1".parse().unwrap(), iqn: format!("iqn.{name}"), lun: 1 },
            name: name.into(),
            observed: Some(ObservedIdentity { identity: identity(serial), size_bytes: 1 << 30 }),
            is_new: true,
        }
    }

    fn info(serial: Option<&str>) -> IscsiConnection {
        IscsiConnection {
            paths: vec![],
            discovery: None,
            chap: None,
            read_only: false,
            discard: false,
            encrypted: false,
            serial: serial.map(str::to_owned),
        }
    }

    fn names(disks: &[FoundDisk]) -> Vec<&str> {
        disks.iter().map(|disk| disk.name.as_str()).collect()
    }

    #[test]
    fn paths_to_one_device_go_together() {
        let (fitting, odd) = sort_out(volume(), &info(None), None, vec![disk("sda", "a"), disk("sdb", "a")]).unwrap();
        assert_eq!((names(&fitting), odd.len()), (vec!["sda", "sdb"], 0));
    }

    #[test]
    fn two_arrays_with_the_same_wwid_and_lun_are_not_mixed() {
        let (error, all) = *sort_out(volume(), &info(None), None, vec![disk("sda", "a"), disk("sdb", "b")]).unwrap_err();
        assert_eq!(error.kind(), crate::model::ErrorKind::IdentityMismatch, "{error}");
        assert_eq!(all.len(), 2, "both are taken back");
    }

    #[test]
    fn where_the_right_one_is_known_only_the_other_is_left_out() {
        for (connection, expected) in [(info(Some("b")), None), (info(None), Some(identity("b")))] {
            let found = vec![disk("sda", "a"), disk("sdb", "b")];
            let (fitting, odd) = sort_out(volume(), &connection, expected.as_ref(), found).unwrap();
            assert_eq!((names(&fitting), odd.len()), (vec!["sdb"], 1));
        }
        let (error, _) = *sort_out(volume(), &info(Some("c")), None, vec![disk("sda", "a")]).unwrap_err();
        assert!(error.to_string().contains("\"c\""), "{error}");
    }

    #[test]
    fn a_disk_that_says_nothing_of_itself_is_not_put_together_with_others() {
        let mut silent = disk("sdb", "a");
        silent.observed = None;
        let (error, _) = *sort_out(volume(), &info(None), None, vec![disk("sda", "a"), silent]).unwrap_err();
        assert!(error.to_string().contains("iqn.sdb"), "{error}");
    }
}
