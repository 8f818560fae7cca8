//! Brings a volume to this host through the kernel's initiator.
//!
//! ```text
//!  portal answers? -> session there? --no--> record ours or none? -> write record -> login (the one process)
//!                          |yes                    |no: ForeignRecord                    |
//!                          +---------------------------+--------------------------------+
//!                                                      v
//!                       LUN in sysfs? --yes, not ours--> ForeignDevice
//!                          |no -> claim -> scan     |yes, ours (a second connect)
//!                          +------------------------+-> wait for udev -> own name -> done
//! ```
//! Any failure is unwound at once, under the same lock, by the code that disconnects; but only what this call made. A device
//! that was there before may be under a guest.

use super::{KernelInitiator, device, disconnect::Reason, login, node_record::Owner, scan, sessions, sessions::Session};
use crate::{
    connectors::{ConnectorError, reach},
    model::{BlockDevice, ChapCredentials, IscsiPath, VolumeId},
};
use std::time::Instant;

/// What a connect has changed so far.
#[derive(Debug, Default)]
struct Made {
    /// It asked for a login: the session, or at least the record, is its own.
    login: bool,
    /// The LUN was absent, and it asked for a scan.
    scan: bool,
}

impl KernelInitiator {
    /// Connects over the first path that works. A second call finds the first one's device.
    pub(super) async fn connect(
        &self,
        volume: VolumeId,
        paths: &[IscsiPath],
        chap: Option<&ChapCredentials>,
    ) -> Result<BlockDevice, ConnectorError> {
        let mut last = None;
        for path in self.in_order(volume, paths)? {
            match self.connect_path(volume, path, chap).await {
                Ok(device) => return Ok(device),
                Err(error) if error.is_about_this_path() => {
                    tracing::warn!(%volume, %path, error = &error as &dyn std::error::Error, "this path does not work");
                    last.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| ConnectorError::BadConnectionInfo { why: "it names no path".to_owned() }))
    }

    async fn connect_path(
        &self,
        volume: VolumeId,
        path: &IscsiPath,
        chap: Option<&ChapCredentials>,
    ) -> Result<BlockDevice, ConnectorError> {
        let _guard = self.locks.lock(&path.iqn).await;
        let mut made = Made::default();
        let result = self.login_and_scan(volume, path, chap, &mut made).await;
        if result.is_err()
            && (made.login || made.scan)
            && let Err(error) = self.unwind(volume, path).await
        {
            // The first error tells why; whoever called undoes the step again and reports what stays.
            tracing::warn!(%volume, %path, error = &error as &dyn std::error::Error, "the failed connect could not be unwound");
        }
        result
    }

    async fn unwind(&self, volume: VolumeId, path: &IscsiPath) -> Result<(), ConnectorError> {
        self.release(volume, path, None, Reason::Unwind).await?;
        self.names.unclaim(volume, path).map_err(ConnectorError::system("remove the claim of the LUN"))
    }

    /// The paths in the service's order, but the one that has the volume's device already comes first: connected over
    /// the second path once, it stays there.
    fn in_order<'a>(&self, volume: VolumeId, paths: &'a [IscsiPath]) -> Result<Vec<&'a IscsiPath>, ConnectorError> {
        let mut ordered = Vec::with_capacity(paths.len());
        for path in paths {
            match self.session(path)? {
                Some(session) if session.disk(path.lun).is_some() && self.is_ours(volume, path, &session) => {
                    ordered.insert(0, path);
                }
                _ => ordered.push(path),
            }
        }
        Ok(ordered)
    }

    async fn login_and_scan(
        &self,
        volume: VolumeId,
        path: &IscsiPath,
        chap: Option<&ChapCredentials>,
        made: &mut Made,
    ) -> Result<BlockDevice, ConnectorError> {
        let begun = Instant::now();
        let session = match self.session(path)? {
            Some(session) => session,
            None => self.log_in(path, chap, made).await?,
        };
        if !session.is_up() {
            return Err(ConnectorError::SessionDown { path: path.clone(), state: session.state });
        }
        let login_ms = begun.elapsed().as_millis();
        if !session.lun_folder(path.lun).exists() {
            self.names.claim(volume, path).map_err(ConnectorError::system("write the claim of the LUN"))?;
            made.scan = true;
        } else if !self.is_ours(volume, path, &session) {
            return Err(ConnectorError::ForeignDevice { volume, address: session.address(path.lun) });
        }
        let disk = scan::find_disk(&self.sysfs, &self.monitor, &session, path, self.config.device_timeout_s).await?;
        let kernel_name = device::kernel_name(&disk).unwrap_or_default().to_owned();
        let link = self.names.set_link(volume, &kernel_name).map_err(ConnectorError::system("make the volume's own link"))?;
        let total_ms = begun.elapsed().as_millis();
        tracing::debug!(%volume, %path, kernel_name, login_ms, scan_ms = total_ms - login_ms, "connected");
        Ok(BlockDevice { path: link, kernel_name, paths: vec![path.clone()], multipath: None })
    }

    async fn log_in(
        &self,
        path: &IscsiPath,
        chap: Option<&ChapCredentials>,
        made: &mut Made,
    ) -> Result<Session, ConnectorError> {
        // iscsid retries a refused connection until its timeout and then calls it a time-out: ask first, and tell it apart.
        reach::portal(path, self.config.login_timeout_s).await?;
        if let Owner::Other(file) = self.owner(path)? {
            return Err(ConnectorError::ForeignRecord { file });
        }
        made.login = true;
        self.records.write(path, chap).map_err(ConnectorError::system(format!("write the node record of {path}")))?;
        login::login(path, self.config.login_timeout_s).await?;
        self.session(path)?.ok_or_else(|| ConnectorError::SessionDown { path: path.clone(), state: "missing".to_owned() })
    }

    /// The session of the path, as it is now.
    pub(super) fn session(&self, path: &IscsiPath) -> Result<Option<Session>, ConnectorError> {
        sessions::find(&self.sysfs, path).map_err(ConnectorError::system("read the iSCSI sessions in sysfs"))
    }

    /// Whose node record the path has.
    pub(super) fn owner(&self, path: &IscsiPath) -> Result<Owner, ConnectorError> {
        self.records.owner(path).map_err(ConnectorError::system(format!("read the node record of {path}")))
    }

    /// Whether Bowline made the LUN's device, and for this volume.
    pub(super) fn is_ours(&self, volume: VolumeId, path: &IscsiPath, session: &Session) -> bool {
        let linked = self.names.linked(volume);
        let linked_here =
            linked.is_some_and(|linked| session.disk(path.lun).is_some_and(|disk| device::kernel_name(&disk) == Some(&linked)));
        linked_here || self.names.is_claimed(volume, path)
    }
}
