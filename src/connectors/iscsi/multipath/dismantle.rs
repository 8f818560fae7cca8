//! Takes a map off the host: what is cached is written out, what waits for a path that never comes is failed, the map is removed.
//!
//! A map with `queue_if_no_path` and no path left holds every caller for ever, a flush and its own removal too. So queueing is
//! ended before anything is asked of such a map, and before its removal in any case. Nothing is lost by that: the guest has
//! let go of it, and a flush that fails is an error.

use super::{
    super::{KernelInitiator, device},
    MultipathError,
    maps::Map,
};
use crate::{
    connectors::{
        ConnectorError, command,
        udev::{self, Waited},
    },
    model::VolumeId,
};
use std::{path::Path, time::Duration};
use tokio::time::Instant;

/// Longest wait for udev to say that it is done with the map it was looking into when its removal was refused. It is mostly
/// milliseconds; its event is waited for, this is for one that was missed.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

impl KernelInitiator {
    /// Writes out what the host caches of the map.
    pub(in crate::connectors::iscsi) async fn flush_map(&self, volume: VolumeId, map: &Map) -> Result<(), ConnectorError> {
        let has_path = self.has_active_path(map).await;
        if !has_path {
            self.fail_what_waits(map).await;
        }
        let name = map.kernel_name.clone();
        let flushed =
            device::with_deadline(format!("flushing /dev/{name}"), self.config.device_timeout_s, move || device::sync(&name))
                .await;
        let Err(error) = flushed else { return Ok(()) };
        // It may have been the last path's end that held it up: let the thread go.
        self.fail_what_waits(map).await;
        if has_path && self.has_active_path(map).await {
            return Err(error);
        }
        Err(MultipathError::AllPathsLost { volume, map: map.kernel_name.clone(), source: Box::new(error) }.into())
    }

    /// Removes the map; nothing is flushed. One that somebody has open stays, and that is an error.
    pub(in crate::connectors::iscsi) async fn remove_map(&self, map: &Map) -> Result<(), ConnectorError> {
        let limit_s = self.config.device_timeout_s;
        let deadline = udev::deadline(Duration::from_secs(limit_s));
        let mut events = self.monitor.subscribe();
        self.fail_what_waits(map).await;
        loop {
            let why = match self.multipathd.remove_map(&map.name().unwrap_or_default()).await {
                Ok(true) => "it came back".to_owned(),
                Ok(false) => "multipathd refuses: it is in use on this host (mounted, or open)".to_owned(),
                Err(MultipathError::NotRunning { .. }) => self.remove_by_dmsetup(map).await?,
                Err(error) => return Err(error.into()),
            };
            if !map.exists() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(MultipathError::NotRemoved { map: map.kernel_name.clone(), why }.into());
            }
            // udev may just be looking into it. Each of its events may be the one after which it is free.
            let pause = deadline.min(udev::deadline(BUSY_PAUSE));
            while let Waited::Event(event) = events.next(pause).await {
                if event.syspath.file_name() == Some(map.kernel_name.as_ref()) {
                    break;
                }
            }
        }
    }

    /// For a host where multipathd was stopped while its maps stayed. Returns what dmsetup said.
    async fn remove_by_dmsetup(&self, map: &Map) -> Result<String, ConnectorError> {
        let uuid = format!("mpath-{}", map.wwid);
        let limit = Duration::from_secs(self.config.device_timeout_s);
        let run = |arguments: Vec<String>| async move {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            command::run("dmsetup", &arguments, limit).await
        };
        let removed = run(vec!["remove".into(), "--noudevsync".into(), "--uuid".into(), uuid]).await;
        match removed {
            Ok(ended) => Ok(ended.stderr),
            Err(source) => Err(MultipathError::NotRemoved {
                map: map.kernel_name.clone(),
                why: format!("multipathd does not run, and {source}"),
            }
            .into()),
        }
    }

    /// Ends the map's queueing. That it cannot be ended shows in what comes next, which has a deadline.
    async fn fail_what_waits(&self, map: &Map) {
        match self.multipathd.disable_queueing(&map.kernel_name).await {
            Ok(true) => {}
            Ok(false) => tracing::warn!(map = map.kernel_name, "multipathd does not end the map's queueing"),
            Err(MultipathError::NotRunning { .. }) => {
                let uuid = format!("mpath-{}", map.wwid);
                let arguments = ["message", "--uuid", &uuid, "0", "fail_if_no_path"];
                if let Err(error) = command::run("dmsetup", &arguments, Duration::from_secs(self.config.device_timeout_s)).await
                {
                    tracing::warn!(map = map.kernel_name, %error, "the map's queueing cannot be ended");
                }
            }
            Err(error) => tracing::warn!(map = map.kernel_name, %error, "the map's queueing cannot be ended"),
        }
    }

    /// Whether I/O on the map has a way to go now.
    async fn has_active_path(&self, map: &Map) -> bool {
        let disks = map.disks();
        match self.multipathd.paths().await {
            Ok(paths) => paths.iter().any(|path| disks.contains(&path.disk) && path.dm == "active"),
            // Nobody watches the paths: what the kernel knows of the disks must do.
            Err(_) => disks.iter().any(|disk| device::is_running(&self.sysfs, disk)),
        }
    }

    /// What lies on the map besides its own partitions, which `kpartx` makes by udev's rules and which go with it.
    pub(in crate::connectors::iscsi) fn foreign_holder(&self, map: &Map) -> Option<String> {
        let own = format!("mpath-{}", map.wwid);
        let is_own_partition = |holder: &String| {
            let uuid = std::fs::read_to_string(self.sysfs.join("block").join(holder).join("dm/uuid")).unwrap_or_default();
            uuid.trim_end().split_once('-').is_some_and(|(part, rest)| part.starts_with("part") && rest == own)
        };
        map.holders().into_iter().find(|holder| !is_own_partition(holder))
    }

    /// Makes sure that nothing of the host lies on the map.
    pub(in crate::connectors::iscsi) fn must_be_free(&self, map: &Map) -> Result<(), ConnectorError> {
        match self.foreign_holder(map) {
            None => Ok(()),
            Some(_) => Err(ConnectorError::DeviceInUse { device: Path::new("/dev").join(&map.kernel_name) }),
        }
    }
}
