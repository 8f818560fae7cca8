//! What a LUN is now, asked of its target, beside what the kernel remembers of its device.
//!
//! The kernel reads a LUN's identity when it finds the device, and keeps that for as long as the device is there. A target may put
//! another volume behind the same number meanwhile; reads and writes then go to that one, while sysfs still shows the first. The
//! kernel's own `rescan` reads the pages again, but a target that does not answer at that moment makes it set the disk's size to
//! zero under its guest. So the target is asked on a session of its own (`probe`), as the same initiator: it sees the same LUNs.

use super::{KernelInitiator, device, disconnect::Reason, probe, sessions::Session};
use crate::{
    connectors::ConnectorError,
    model::{ChapCredentials, DeviceIdentity, ErrorKind, GIB, IscsiPath, ObservedIdentity, VolumeId},
};

/// How long a target may take to answer where its answer only adds to what is known, seconds.
pub(super) const SHORT_S: u64 = 5;

impl KernelInitiator {
    /// Asks the target of `path` with these credentials, or those of the record that Bowline wrote for it.
    async fn ask_target(
        &self,
        path: &IscsiPath,
        chap: Option<&ChapCredentials>,
        timeout_s: u64,
    ) -> Result<ObservedIdentity, ConnectorError> {
        let recorded = match chap {
            Some(_) => None,
            None => {
                self.records.credentials(path).map_err(ConnectorError::system(format!("read the node record of {path}")))?
            }
        };
        let initiator = self.initiator_name()?;
        let login = probe::Login {
            initiator: &initiator,
            chap: chap.or(recorded.as_ref()),
            target_chap: self.records.accounts().of_target(&path.iqn),
        };
        probe::identify(path, login, timeout_s).await.map_err(|source| ConnectorError::Probe { path: path.clone(), source })
    }

    /// Why a login failed: `iscsiadm` has one code for a target that does not prove itself and for much else, so where it says no more
    /// than that it failed, the target is asked.
    pub(super) async fn told_better(
        &self,
        path: &IscsiPath,
        chap: Option<&ChapCredentials>,
        error: ConnectorError,
    ) -> ConnectorError {
        if !matches!(error, ConnectorError::Iscsiadm { .. }) {
            return error;
        }
        match self.ask_target(path, chap, SHORT_S).await {
            Err(better) if better.kind() == ErrorKind::AuthenticationFailed => better,
            _ => error,
        }
    }

    /// Identity by the target, size by the kernel, which is what a guest gets; an error where the two are not of one LUN. `None`
    /// without a device. Where the target does not answer, the kernel's word alone.
    pub(super) async fn observe_fresh(
        &self,
        path: &IscsiPath,
        session: &Session,
        chap: Option<&ChapCredentials>,
        timeout_s: u64,
    ) -> Result<Option<ObservedIdentity>, ConnectorError> {
        let Some(known) = device::observe(session, path.lun) else { return Ok(None) };
        if known.identity.is_empty() {
            return Ok(Some(known));
        }
        let now = match self.ask_target(path, chap, timeout_s).await {
            Ok(now) => now,
            // A target may refuse a second session or its credentials be somebody else's: the LUN was absent before the scan, or its
            // device is one that Bowline made, so the kernel's word stands.
            Err(error) => {
                tracing::warn!(%path, error = &error as &dyn std::error::Error, "the target does not confirm what the kernel says");
                return Ok(Some(known));
            }
        };
        if now.identity != known.identity {
            return Err(ConnectorError::LunChanged {
                address: session.address(path.lun),
                kernel: Box::new(known.identity),
                target: Box::new(now.identity),
            });
        }
        tracing::debug!(%path, "the target confirms what the kernel says");
        Ok(Some(known))
    }

    /// Refuses to let the kernel look at the LUN again unless its target answers, with the device that is meant and in the size that
    /// is wanted: a `rescan` that is not answered takes the disk away from its guest, and another LUN's answer would pass for its own.
    /// Returns the size by the target, bytes; `None` where it answers and does not let a second session in.
    pub(super) async fn must_answer(
        &self,
        volume: VolumeId,
        path: &IscsiPath,
        session: &Session,
        expected: &DeviceIdentity,
        wanted_gib: u64,
    ) -> Result<Option<u64>, ConnectorError> {
        let now = match self.ask_target(path, None, self.config.login_timeout_s).await {
            Ok(now) => now,
            Err(ConnectorError::Probe { path, source }) if source.is_refusal() => {
                tracing::warn!(%path, error = &source as &dyn std::error::Error, "the target does not tell its size before the rescan");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if now.identity != *expected {
            return Err(ConnectorError::NotTheVolume {
                volume,
                address: session.address(path.lun),
                expected: Box::new(expected.clone()),
                found: Box::new(now.identity),
            });
        }
        if now.size_bytes / GIB < wanted_gib {
            let found_bytes = now.size_bytes;
            return Err(ConnectorError::StillSmall { volume, path: path.clone(), found_bytes, wanted_gib });
        }
        Ok(Some(now.size_bytes))
    }

    /// What the LUN is now for somebody who can do with the kernel's word: a target that does not answer proves nothing.
    pub(super) async fn observe_if_answered(&self, path: &IscsiPath, session: &Session) -> Option<ObservedIdentity> {
        let known = device::observe(session, path.lun)?;
        if !session.is_up() {
            return Some(known);
        }
        match self.ask_target(path, None, SHORT_S).await {
            Ok(now) => Some(ObservedIdentity { identity: now.identity, size_bytes: known.size_bytes }),
            Err(error) => {
                tracing::debug!(%path, error = &error as &dyn std::error::Error, "the target does not tell what the LUN is now");
                Some(known)
            }
        }
    }

    /// Refuses to flush and remove a device behind which another volume is by now: what the host still holds back of the
    /// first would go to that one.
    pub(super) async fn refuse_changed_lun(
        &self,
        volume: VolumeId,
        path: &IscsiPath,
        session: &Session,
        expected: Option<&DeviceIdentity>,
        reason: Reason,
    ) -> Result<(), ConnectorError> {
        let (Some(expected), Reason::Detach) = (expected, reason) else { return Ok(()) };
        match self.observe_if_answered(path, session).await {
            Some(found) if found.identity != *expected => Err(ConnectorError::NotTheVolume {
                volume,
                address: session.address(path.lun),
                expected: Box::new(expected.clone()),
                found: Box::new(found.identity),
            }),
            _ => Ok(()),
        }
    }
}
