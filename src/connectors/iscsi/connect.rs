//! Brings a volume to this host over one path, through the kernel's initiator.
//!
//! ```text
//!  session there? --no--> portal answers? ->(lock)-> record ours or none? -> write record -> login (the one process)
//!        |yes                                             |no: ForeignRecord                  |
//!        +-----------(lock)---------+---------------------------------------------------------+
//!                                   v
//!                    user of the session (unlock)
//!                                   v
//!                       LUN in sysfs? --yes, not ours--> ForeignDevice
//!                          |no -> claim -> scan     |yes, ours (a second connect)
//!                          +------------------------+-> wait for udev -> disk
//!
//!  one path: disk -> own name                 several: disks -> their map -> own name (`paths`)
//! ```
//! Any failure is unwound at once by the code that disconnects; but only what this call made. A device that was there before may
//! be under a guest. The lock in the picture is of one target at one portal, which is what a session and a record are made for: a portal
//! that is slow holds up nobody who uses another. It is not held for the scan, which takes as long as a LUN that never appears; meanwhile
//! the session has a user, for whose sake nobody logs it out. Around all of it is the turn on the LUN at that portal.

use super::{
    KernelInitiator, MultipathChoice, device,
    disconnect::Reason,
    login,
    multipath::{MultipathError, maps},
    node_record::Owner,
    scan, sessions,
    sessions::Session,
};
use crate::{
    connectors::{ConnectorError, reach},
    model::{BlockDevice, ChapCredentials, DeviceIdentity, IscsiConnection, IscsiPath, ObservedIdentity, VolumeId},
};
use futures_util::future::join_all;
use std::{collections::VecDeque, time::Instant};
use tokio::sync::OwnedMutexGuard;

/// What a connect has changed so far.
#[derive(Debug, Default)]
struct Made {
    /// It asked for a login: the session, or at least the record, is its own.
    login: bool,
    /// The LUN was absent, and it asked for a scan.
    scan: bool,
}

/// The disk that one path led to.
#[derive(Debug)]
pub(super) struct FoundDisk {
    /// The path.
    pub path: IscsiPath,
    /// Kernel name, `sdX`.
    pub name: String,
    /// What it says of itself.
    pub observed: Option<ObservedIdentity>,
    /// The LUN was absent, and this call has brought it.
    pub is_new: bool,
}

impl KernelInitiator {
    /// Connects over the first path that works. A second call finds the first one's device.
    pub(super) async fn connect_one(
        &self,
        volume: VolumeId,
        connection: &IscsiConnection,
        expected: Option<&DeviceIdentity>,
    ) -> Result<BlockDevice, ConnectorError> {
        let _turn = self.lock_volume(volume).await;
        self.latest.set(volume, None);
        let mut last = None;
        let before = maps::all(&self.sysfs);
        let mut left = VecDeque::from(self.in_order(volume, &connection.paths)?);
        while let Some(path) = left.pop_front() {
            match self.connect_path(volume, path, connection.chap.as_ref(), || false).await {
                Ok(found) if self.is_taken_by_multipath(&found.name).await => {
                    if self.config.multipath == MultipathChoice::Off {
                        let disk = found.name.clone();
                        self.unwind_found(volume, &[found]).await;
                        return Err(MultipathError::Claimed { disk }.into());
                    }
                    // multipathd makes a map of it whether or not it is asked to: then the map is what can be used.
                    return self.join(volume, connection, expected, &before, vec![found]).await;
                }
                Ok(found) => return self.name_disk(volume, found).await,
                Err(error) if error.is_about_this_path() => {
                    tracing::warn!(%volume, %path, error = &error as &dyn std::error::Error, "this path does not work");
                    left = self.worth_trying(&error, path, left).await;
                    last.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| ConnectorError::BadConnectionInfo { why: "it names no path".to_owned() }))
    }

    /// Which paths may do better than one that did not work. Each has deadlines of its own, and there may be many.
    async fn worth_trying<'a>(
        &self,
        error: &ConnectorError,
        tried: &IscsiPath,
        left: VecDeque<&'a IscsiPath>,
    ) -> VecDeque<&'a IscsiPath> {
        match error {
            // A target shows a LUN to this host, or does not: by whichever portal it is asked.
            ConnectorError::DeviceMissing { .. } => {
                left.into_iter().filter(|path| (&path.iqn, path.lun) != (&tried.iqn, tried.lun)).collect()
            }
            ConnectorError::PortalUnreachable { .. } => {
                let answers = join_all(left.iter().map(|path| async {
                    match self.session(path)? {
                        Some(_) => Ok(()),
                        None => self.knock(path).await,
                    }
                }))
                .await;
                left.into_iter().zip(answers).filter(|(_, answer)| answer.is_ok()).map(|(path, _)| path).collect()
            }
            _ => left,
        }
    }

    async fn is_taken_by_multipath(&self, disk: &str) -> bool {
        maps::over(&self.sysfs, disk).is_some() || (self.is_claimed_by_multipath(disk) && self.multipathd.runs().await)
    }

    /// Gives the volume's own name to its only disk.
    async fn name_disk(&self, volume: VolumeId, found: FoundDisk) -> Result<BlockDevice, ConnectorError> {
        match self.names.set_link(volume, &found.name) {
            Ok(link) => Ok(BlockDevice { path: link, kernel_name: found.name, paths: vec![found.path], multipath: None }),
            Err(error) => {
                self.unwind_found(volume, &[found]).await;
                Err(ConnectorError::system("make the volume's own link")(error))
            }
        }
    }

    /// Brings the disk of one path. `is_too_late` is asked once it is this call's turn on the LUN and its session.
    pub(super) async fn connect_path(
        &self,
        volume: VolumeId,
        path: &IscsiPath,
        chap: Option<&ChapCredentials>,
        is_too_late: impl Fn() -> bool,
    ) -> Result<FoundDisk, ConnectorError> {
        if self.session(path)?.is_none() {
            // iscsid retries a refused connection until its timeout and then calls it a time-out: ask first, and tell it apart.
            self.knock(path).await?;
        }
        let _turn = self.lock_lun(path).await;
        let mut made = Made::default();
        let result = self.login_and_scan(volume, path, chap, is_too_late, &mut made).await;
        if result.is_err()
            && (made.login || made.scan)
            && let Err(error) = self.unwind(volume, path).await
        {
            // The first error tells why; whoever called undoes the step again and reports what stays.
            tracing::warn!(%volume, %path, error = &error as &dyn std::error::Error, "the failed connect could not be unwound");
        }
        result
    }

    /// Whether the path's portal accepts connections. By another transport than TCP only the login itself tells.
    pub(super) async fn knock(&self, path: &IscsiPath) -> Result<(), ConnectorError> {
        if self.iface.is_tcp() { reach::portal(path, self.config.login_timeout_s).await.map(drop) } else { Ok(()) }
    }

    /// The turn on one LUN at one portal: its device and its claim. It is taken before that on the session.
    pub(super) async fn lock_lun(&self, path: &IscsiPath) -> OwnedMutexGuard<()> {
        self.locks.lock(&format!("LUN {} of {}", path.lun, sessions::name(path))).await
    }

    /// The turn on one target at one portal: to log in and out, and to write and remove the record.
    pub(super) async fn lock_session(&self, path: &IscsiPath) -> OwnedMutexGuard<()> {
        self.locks.lock(&sessions::name(path)).await
    }

    /// Takes back one path; the turn on its LUN is held.
    pub(super) async fn unwind(&self, volume: VolumeId, path: &IscsiPath) -> Result<(), ConnectorError> {
        self.release(volume, path, None, Reason::Unwind).await?;
        self.names.unclaim(volume, path).map_err(ConnectorError::system("remove the claim of the LUN"))
    }

    /// Takes back disks that this connect has brought, and their map if all of it is of them. The volume's own name is another
    /// connect's by now, or none: it is left, with the map that it leads to (`release`, `dismantle`). What stays is logged: the first
    /// error tells why, and whoever called undoes the step again.
    pub(super) async fn unwind_found(&self, volume: VolumeId, found: &[FoundDisk]) {
        let paths: Vec<IscsiPath> = found.iter().filter(|found| found.is_new).map(|found| found.path.clone()).collect();
        let is_whole = paths.len() == found.len();
        let undone = async {
            if is_whole {
                self.dismantle(volume, &paths, None, None, Reason::Unwind).await?;
            }
            for path in &paths {
                let _turn = self.lock_lun(path).await;
                self.unwind(volume, path).await?;
            }
            Ok::<_, ConnectorError>(())
        };
        if let Err(error) = undone.await {
            tracing::warn!(%volume, error = &error as &dyn std::error::Error, "the failed connect could not be unwound");
        }
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
        is_too_late: impl Fn() -> bool,
        made: &mut Made,
    ) -> Result<FoundDisk, ConnectorError> {
        let begun = Instant::now();
        let (session, _user) = {
            let _turn = self.lock_session(path).await;
            if is_too_late() {
                return Err(ConnectorError::SessionDown { path: path.clone(), state: "given up".to_owned() });
            }
            let session = match self.session(path)? {
                Some(session) => session,
                None => self.log_in(path, chap, made).await?,
            };
            (session, self.users.join(&sessions::name(path)))
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
        let total_ms = begun.elapsed().as_millis();
        tracing::debug!(%volume, %path, kernel_name, login_ms, scan_ms = total_ms - login_ms, "connected");
        let observed = device::observe(&session, path.lun);
        Ok(FoundDisk { path: path.clone(), name: kernel_name, observed, is_new: made.scan })
    }

    async fn log_in(
        &self,
        path: &IscsiPath,
        chap: Option<&ChapCredentials>,
        made: &mut Made,
    ) -> Result<Session, ConnectorError> {
        if let Owner::Other(file) = self.owner(path)? {
            return Err(ConnectorError::ForeignRecord { file });
        }
        made.login = true;
        {
            // The target's folder is shared by its portals.
            let _guard = self.locks.lock(&path.iqn).await;
            self.records.write(path, chap).map_err(ConnectorError::system(format!("write the node record of {path}")))?;
        }
        if let Err(error) = login::login(path, self.config.login_timeout_s).await {
            return Err(self.told_better(path, chap, error).await);
        }
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
        self.names.is_claimed(volume, path)
            || session
                .disk(path.lun)
                .is_some_and(|disk| device::kernel_name(&disk).is_some_and(|disk| self.is_linked(volume, disk)))
    }

    /// Whether the volume's own name leads to the disk, or to the map over it.
    fn is_linked(&self, volume: VolumeId, disk: &str) -> bool {
        self.names
            .linked(volume)
            .is_some_and(|linked| linked == disk || maps::over(&self.sysfs, disk).is_some_and(|map| map.kernel_name == linked))
    }
}
