//! Takes a volume off this host again.
//!
//! ```text
//!  ours? identity as journalled? -> flush -> remove own name -> delete device -> gone from sysfs
//!     -> any unit left on the session? --no, and the record is ours--> logout (the one process) -> remove record
//! ```
//! Each part is skipped when it is done already, so it can be run again after any crash.

use super::{KernelInitiator, device, login, node_record::Owner, scan, sessions, sessions::Session};
use crate::{
    connectors::{ConnectorError, Disconnected, reach},
    model::{DeviceIdentity, IscsiPath, VolumeId},
};

/// Why a volume is taken off the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// A guest had it: whatever is cached is flushed first, and anything unexpected is an error.
    Detach,
    /// A connect failed just now, so nobody has written to it: only what it surely made is removed.
    Unwind,
    /// The same, after a crash: a login may even be under way in iscsid.
    Undo,
}

impl KernelInitiator {
    /// Disconnects every path. `expected` is what the device must still be.
    pub(super) async fn disconnect(
        &self,
        volume: VolumeId,
        paths: &[IscsiPath],
        expected: Option<&DeviceIdentity>,
        reason: Reason,
    ) -> Result<Disconnected, ConnectorError> {
        let mut outcome = Disconnected::Unchanged;
        for path in paths {
            let _guard = self.locks.lock(&path.iqn).await;
            if self.release(volume, path, expected, reason).await? == Disconnected::Changed {
                outcome = Disconnected::Changed;
            }
        }
        // Only now, with every path gone: with the claim a cut disconnect knows its device again.
        if self.names.forget(volume).map_err(ConnectorError::system("remove the volume's own link"))? {
            outcome = Disconnected::Changed;
        }
        Ok(outcome)
    }

    /// Releases what the volume has on one path; the target's lock is held.
    pub(super) async fn release(
        &self,
        volume: VolumeId,
        path: &IscsiPath,
        expected: Option<&DeviceIdentity>,
        reason: Reason,
    ) -> Result<Disconnected, ConnectorError> {
        let mut changed = false;
        let session = match self.session(path)? {
            None if reason == Reason::Undo && self.owner(path)? == Owner::Bowline => self.finish_login(path).await?,
            found => found,
        };
        if let Some(session) = session {
            self.refuse_changed_lun(volume, path, &session, expected, reason).await?;
            if session.lun_folder(path.lun).exists() && self.may_remove(volume, path, &session, expected, reason)? {
                self.remove_device(volume, path, &session, reason).await?;
                changed = true;
            }
            changed |= self.log_out_if_unused(path, &session).await?;
        } else {
            changed |= self.remove_record(path)?;
        }
        Ok(if changed { Disconnected::Changed } else { Disconnected::Unchanged })
    }

    /// A record without a session, after a crash: iscsid may still be at the login it was asked for, and a session that
    /// appears after its record was removed would stay for ever. iscsid logs in to one target once, so asking again tells how it ended.
    async fn finish_login(&self, path: &IscsiPath) -> Result<Option<Session>, ConnectorError> {
        if reach::portal(path, self.config.login_timeout_s).await.is_err() {
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
            _ if reason != Reason::Detach => Ok(false),
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
        self.names.remove_link(volume).map_err(ConnectorError::system("remove the volume's own link"))?;
        let mut events = self.monitor.subscribe();
        let folder = session.lun_folder(path.lun);
        device::with_deadline(format!("deleting SCSI device {address}"), limit_s, move || device::delete(&folder)).await?;
        scan::wait_gone(&mut events, session, path.lun, limit_s).await
    }

    /// Logs out unless somebody else's unit is on the session, or the session is somebody else's.
    async fn log_out_if_unused(&self, path: &IscsiPath, session: &Session) -> Result<bool, ConnectorError> {
        let units = session.units().map_err(ConnectorError::system("list the LUNs of the session"))?;
        if !units.is_empty() || self.owner(path)? != Owner::Bowline {
            return Ok(false);
        }
        login::logout(path, session.id, self.config.logout_timeout_s).await?;
        if sessions::exists(&self.sysfs, session.id) {
            let what = format!("the logout of session {} to {path}", session.id);
            return Err(ConnectorError::KernelTimeout { what, waited_s: self.config.logout_timeout_s });
        }
        self.remove_record(path)?;
        Ok(true)
    }

    fn remove_record(&self, path: &IscsiPath) -> Result<bool, ConnectorError> {
        self.records.remove(path).map_err(ConnectorError::system(format!("remove the node record of {path}")))
    }
}
