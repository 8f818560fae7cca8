//! Takes a volume off this host again.
//!
//! ```text
//!  a map over it? --yes--> every disk of it as journalled? -> flush the map -> remove own name -> remove the map --+
//!        |no                                                                                                        |
//!        v                                                                       each path, side by side            v
//!  ours? identity as journalled? -> flush -> remove own name -> delete device -> gone from sysfs  <--(without a flush)
//!     ->(lock)-> any unit or user left on the session? --no, and the record is ours--> logout (the one process) -> remove record
//! ```
//! What is done follows what there is and what was journalled, never the settings: they may have changed since the connect.
//! Each part is skipped when it is done already, so it can be run again after any crash.

use super::{
    KernelInitiator, device, login,
    multipath::{
        maps::{self, Map},
        members::Member,
    },
    node_record::Owner,
    scan, sessions,
    sessions::Session,
};
use crate::{
    connectors::{ConnectorError, Disconnected},
    model::{DeviceIdentity, IscsiPath, VolumeId},
};
use futures_util::future::{join_all, try_join_all};

/// Why a volume is taken off the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// A guest had it: whatever is cached is flushed first, and anything unexpected is an error.
    Detach,
    /// A connect failed just now, so nobody has written to it: only what it surely made is removed.
    Unwind,
    /// The same, after a crash: a login may even be under way in iscsid.
    Undo,
    /// As [`Self::Detach`], but the map over this path is flushed and gone: the path itself may be dead.
    Flushed,
}

impl KernelInitiator {
    /// Disconnects every path, and the map over them. `wwid`: the journalled map's; `expected`: what the device must still be.
    pub(super) async fn disconnect(
        &self,
        volume: VolumeId,
        paths: &[IscsiPath],
        wwid: Option<&str>,
        expected: Option<&DeviceIdentity>,
        reason: Reason,
    ) -> Result<Disconnected, ConnectorError> {
        let _turn = self.lock_volume(volume).await;
        self.latest.set(volume, None);
        let paths = &self.with_claimed(volume, paths)?;
        for path in paths {
            // A connect may have left a slow login to its own end: what it brings must be seen here.
            drop(self.lock_lun(path).await);
        }
        let is_flushed = wwid.is_some_and(|wwid| self.was_flushed(volume, wwid));
        let was_mapped = self.dismantle(volume, paths, wwid, expected, reason).await?;
        let reason = if (was_mapped || is_flushed) && reason == Reason::Detach { Reason::Flushed } else { reason };
        let released = join_all(paths.iter().map(|path| async move {
            let _turn = self.lock_lun(path).await;
            self.release(volume, path, expected, reason).await
        }));
        let mut outcome = if was_mapped { Disconnected::Changed } else { Disconnected::Unchanged };
        // A path that cannot be taken off keeps none of the others.
        for released in released.await {
            if released? == Disconnected::Changed {
                outcome = Disconnected::Changed;
            }
        }
        // Only now, with every path gone: with the claim a cut disconnect knows its device again.
        if self.names.forget(volume).map_err(ConnectorError::system("remove the volume's own link"))? {
            outcome = Disconnected::Changed;
        }
        Ok(outcome)
    }

    /// Whether an earlier disconnect has flushed the journalled map and got as far as to remove it: its own name goes in between.
    fn was_flushed(&self, volume: VolumeId, wwid: &str) -> bool {
        self.names.linked(volume).is_none() && maps::find(&self.sysfs, wwid).is_none()
    }

    /// The paths, and those that were claimed for the volume and are written down nowhere else, such as one that a repair brought.
    fn with_claimed(&self, volume: VolumeId, paths: &[IscsiPath]) -> Result<Vec<IscsiPath>, ConnectorError> {
        let claims = self.names.claims(volume).map_err(ConnectorError::system("read the claims of the volume"))?;
        let mut all = paths.to_vec();
        for path in claims.iter().filter_map(|claim| IscsiPath::parse(claim)) {
            if !all.contains(&path) {
                all.push(path);
            }
        }
        Ok(all)
    }

    /// Takes the maps over the volume's disks off the host. Whether there was one.
    pub(super) async fn dismantle(
        &self,
        volume: VolumeId,
        paths: &[IscsiPath],
        wwid: Option<&str>,
        expected: Option<&DeviceIdentity>,
        reason: Reason,
    ) -> Result<bool, ConnectorError> {
        let disks = self.own_disks(volume, paths, expected)?;
        let mut maps: Vec<Map> = wwid.and_then(|wwid| maps::find(&self.sysfs, wwid)).into_iter().collect();
        for map in disks.iter().filter_map(|disk| maps::over(&self.sysfs, disk)) {
            if !maps.contains(&map) {
                maps.push(map);
            }
        }
        let mut was_mapped = false;
        for map in maps {
            // The name is given last of all: a map that has it was a connect's that came to its end, and may be under a guest.
            if reason == Reason::Unwind && self.names.linked(volume).as_ref() == Some(&map.kernel_name) {
                continue;
            }
            let held = Member::of(&self.sysfs, &map);
            match expected {
                Some(expected) => self.must_be_of(volume, &map, expected)?,
                // Without a proof, a map that holds anything else is left to whoever it is of; only our disks leave it.
                None if held.iter().any(|disk| !disks.contains(&disk.name)) => continue,
                None => {}
            }
            self.must_be_free(&map)?;
            if reason == Reason::Detach {
                self.refuse_changed_luns(volume, paths, expected).await?;
                self.flush_map(volume, &map).await?;
            }
            if reason != Reason::Unwind {
                self.claim_present(volume, paths, &disks)?;
                self.names.remove_link(volume).map_err(ConnectorError::system("remove the volume's own link"))?;
            }
            self.remove_map(&map).await?;
            was_mapped = true;
            self.forget_disks(&held, &disks, expected).await?;
        }
        Ok(was_mapped)
    }

    /// The disks at the volume's paths that are proved, or known, to be its own.
    fn own_disks(
        &self,
        volume: VolumeId,
        paths: &[IscsiPath],
        expected: Option<&DeviceIdentity>,
    ) -> Result<Vec<String>, ConnectorError> {
        let mut disks = Vec::new();
        for path in paths {
            if let Some(session) = self.session(path)?
                && let Some(disk) = session.disk(path.lun)
                && let Some(name) = device::kernel_name(&disk)
            {
                let is_it = match (expected, device::observe(&session, path.lun)) {
                    (Some(expected), Some(found)) => found.identity == *expected,
                    _ => self.is_ours(volume, path, &session),
                };
                if is_it {
                    disks.push(name.to_owned());
                }
            }
        }
        Ok(disks)
    }

    /// With the link gone, the claims go on saying whose the disks are.
    fn claim_present(&self, volume: VolumeId, paths: &[IscsiPath], disks: &[String]) -> Result<(), ConnectorError> {
        for path in paths {
            if let Some(disk) = self.session(path)?.and_then(|session| session.disk(path.lun))
                && device::kernel_name(&disk).is_some_and(|name| disks.iter().any(|own| own == name))
            {
                self.names.claim(volume, path).map_err(ConnectorError::system("write the claim of the LUN"))?;
            }
        }
        Ok(())
    }

    /// Keeps multipathd from making the map again of disks that are about to go, and takes away those that were in it by paths
    /// nobody journalled, such as a portal that was named once: they were proved to be the volume too.
    async fn forget_disks(
        &self,
        held: &[Member],
        own: &[String],
        expected: Option<&DeviceIdentity>,
    ) -> Result<(), ConnectorError> {
        let others: Vec<&Member> = held.iter().filter(|disk| !own.contains(&disk.name)).collect();
        // A disk that never got into the map is one of its WWID too.
        for disk in own.iter().chain(others.iter().map(|disk| &disk.name)) {
            if let Err(error) = self.multipathd.remove_path(disk).await {
                tracing::debug!(disk, %error, "multipathd was not told that the disk goes");
            }
        }
        for disk in others {
            // The flush and the map's removal have taken their time: a name of before may be anything by now.
            if !disk.is_still(expected) {
                tracing::warn!(disk = disk.name, "a disk that was in the map is another one by now, or in use: it is left");
                continue;
            }
            let unit = disk.unit.clone();
            let what = format!("deleting {}", disk.name);
            device::with_deadline(what, self.config.device_timeout_s, move || device::delete(&unit)).await?;
        }
        Ok(())
    }

    /// As [`Self::refuse_changed_lun`], of every path side by side: what is written to a map goes over any of them.
    async fn refuse_changed_luns(
        &self,
        volume: VolumeId,
        paths: &[IscsiPath],
        expected: Option<&DeviceIdentity>,
    ) -> Result<(), ConnectorError> {
        try_join_all(paths.iter().map(|path| async move {
            match self.session(path)? {
                Some(session) => self.refuse_changed_lun(volume, path, &session, expected, Reason::Detach).await,
                None => Ok(()),
            }
        }))
        .await
        .map(drop)
    }

    /// Releases what the volume has on one path; the turn on its LUN is held.
    pub(super) async fn release(
        &self,
        volume: VolumeId,
        path: &IscsiPath,
        expected: Option<&DeviceIdentity>,
        reason: Reason,
    ) -> Result<Disconnected, ConnectorError> {
        let mut changed = false;
        let session = {
            let _turn = self.lock_session(path).await;
            match self.session(path)? {
                None if reason == Reason::Undo && self.owner(path)? == Owner::Bowline => self.finish_login(path).await?,
                found => found,
            }
        };
        if let Some(session) = session {
            self.refuse_changed_lun(volume, path, &session, expected, reason).await?;
            if session.lun_folder(path.lun).exists() && self.may_remove(volume, path, &session, expected, reason)? {
                self.remove_device(volume, path, &session, reason).await?;
                changed = true;
            }
        }
        changed |= self.leave_session(path).await?;
        Ok(if changed { Disconnected::Changed } else { Disconnected::Unchanged })
    }

    /// A record without a session, after a crash: iscsid may still be at the login it was asked for, and a session that
    /// appears after its record was removed would stay for ever. iscsid logs in to one target once, so asking again tells how it ended.
    async fn finish_login(&self, path: &IscsiPath) -> Result<Option<Session>, ConnectorError> {
        if self.knock(path).await.is_err() {
            return Ok(None);
        }
        match login::login(path, self.config.login_timeout_s).await {
            Ok(()) => match self.session(path)? {
                Some(session) => Ok(Some(session)),
                // "Exists already", but not in the kernel yet.
                None => Err(ConnectorError::LoginUnderWay { path: path.clone() }),
            },
            Err(ConnectorError::LoginRefused { .. } | ConnectorError::Iscsiadm { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Decides whether the device that sits at the LUN now is the volume's to remove.
    ///
    /// A device of the volume that is left out would later be somebody else's volume in this guest's hands (CVE-2023-2088),
    /// and one removed by mistake would be somebody else's loss. So a detach that finds anything but its own device fails.
    fn may_remove(
        &self,
        volume: VolumeId,
        path: &IscsiPath,
        session: &Session,
        expected: Option<&DeviceIdentity>,
        reason: Reason,
    ) -> Result<bool, ConnectorError> {
        let is_ours = self.is_ours(volume, path, session);
        let address = session.address(path.lun);
        match (expected, device::observe(session, path.lun)) {
            (Some(expected), Some(found)) if found.identity == *expected => Ok(true),
            (Some(expected), Some(found)) => Err(ConnectorError::NotTheVolume {
                volume,
                address,
                expected: Box::new(expected.clone()),
                found: Box::new(found.identity),
            }),
            _ if is_ours => Ok(true),
            _ if !matches!(reason, Reason::Detach | Reason::Flushed) => Ok(false),
            _ => Err(ConnectorError::ForeignDevice { volume, address }),
        }
    }

    async fn remove_device(
        &self,
        volume: VolumeId,
        path: &IscsiPath,
        session: &Session,
        reason: Reason,
    ) -> Result<(), ConnectorError> {
        let address = session.address(path.lun);
        let disk = session.disk(path.lun);
        let limit_s = self.config.device_timeout_s;
        if let Some(name) =
            disk.as_deref().and_then(device::kernel_name).filter(|_| reason == Reason::Detach).map(str::to_owned)
        {
            device::with_deadline(format!("flushing /dev/{name}"), limit_s, move || device::flush(&name)).await?;
        }
        // The claim goes on saying whose the device is until it is gone.
        self.names.claim(volume, path).map_err(ConnectorError::system("write the claim of the LUN"))?;
        // A path that is taken back keeps the name of a volume that is there over others.
        if reason != Reason::Unwind || disk.as_deref().and_then(device::kernel_name) == self.names.linked(volume).as_deref() {
            self.names.remove_link(volume).map_err(ConnectorError::system("remove the volume's own link"))?;
        }
        let mut events = self.monitor.subscribe();
        let folder = session.lun_folder(path.lun);
        device::with_deadline(format!("deleting SCSI device {address}"), limit_s, move || device::delete(&folder)).await?;
        scan::wait_gone(&mut events, session, path.lun, limit_s).await
    }

    /// Logs out and removes the record, unless somebody else's unit is on the session or about to be, or the session is somebody
    /// else's. Whoever is about to use it and comes to nothing leaves it in its turn.
    async fn leave_session(&self, path: &IscsiPath) -> Result<bool, ConnectorError> {
        let _turn = self.lock_session(path).await;
        if self.users.any(&sessions::name(path)) {
            return Ok(false);
        }
        // Only now: it may have been logged out, and in again, since the device was removed.
        let Some(session) = self.session(path)? else { return self.remove_record(path).await };
        let units = session.units().map_err(ConnectorError::system("list the LUNs of the session"))?;
        if !units.is_empty() || self.owner(path)? != Owner::Bowline {
            return Ok(false);
        }
        login::logout(path, session.id, self.config.logout_timeout_s).await?;
        if sessions::exists(&self.sysfs, session.id) {
            let what = format!("the logout of session {} to {path}", session.id);
            return Err(ConnectorError::KernelTimeout { what, waited_s: self.config.logout_timeout_s });
        }
        self.remove_record(path).await?;
        Ok(true)
    }

    async fn remove_record(&self, path: &IscsiPath) -> Result<bool, ConnectorError> {
        // The target's folder is shared by its portals.
        let _guard = self.locks.lock(&path.iqn).await;
        self.records.remove(path).map_err(ConnectorError::system(format!("remove the node record of {path}")))
    }
}
