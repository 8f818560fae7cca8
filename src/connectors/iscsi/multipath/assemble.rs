//! From disks to one map that is ready for I/O.
//!
//! ```text
//! disks --none in a map--> "add path" each -> its WWID -> "add map" --+
//!    |some are                                                       v
//!    +--> "add path" the rest ---------------------> wait for udev: table loaded, not suspended, rules done
//!                                                                    |all disks in it, or a grace has passed
//!                                                                    v
//!                                                                   map
//! ```
//! multipathd hears of new disks from udev by itself, sometimes late, and under `find_multipaths strict`, which is Debian's default, makes
//! no map for a WWID it was not told of. So it is told, and its events are waited for.

use super::{
    super::{KernelInitiator, PATH_GRACE},
    MultipathError,
    maps::{self, Map},
};
use crate::connectors::{
    ConnectorError,
    udev::{self, Waited},
};
use std::{path::Path, time::Duration};

impl KernelInitiator {
    /// The map over these disks, made if need be. It has all of them, or those that got into it in time.
    pub(in crate::connectors::iscsi) async fn map_over(&self, disks: &[String]) -> Result<Map, ConnectorError> {
        let limit_s = self.config.device_timeout_s;
        let mut deadline = udev::deadline(Duration::from_secs(limit_s));
        let mut events = self.monitor.subscribe();
        self.offer(disks).await?;
        let mut is_in_grace = false;
        loop {
            let map = disks.iter().find_map(|disk| maps::over(&self.sysfs, disk));
            if let Some(map) = map.as_ref().filter(|map| is_ready(map)) {
                let held = map.disks();
                if disks.iter().all(|disk| held.contains(disk)) {
                    return Ok(map.clone());
                }
                if !is_in_grace {
                    is_in_grace = true;
                    deadline = deadline.min(udev::deadline(PATH_GRACE));
                }
            }
            if let Waited::TimedOut = events.next(deadline).await {
                return match map {
                    Some(map) if map.is_live() && Path::new("/dev").join(&map.kernel_name).exists() => {
                        tracing::warn!(map = map.kernel_name, held = ?map.disks(), wanted = ?disks, "not every path is in the map in time");
                        Ok(map)
                    }
                    _ => Err(MultipathError::MapMissing { disks: disks.join(", "), waited_s: limit_s }.into()),
                };
            }
        }
    }

    /// Tells multipathd of disks that are in no map yet, and to make one.
    async fn offer(&self, disks: &[String]) -> Result<(), ConnectorError> {
        let is_held = |disk: &&String| maps::over(&self.sysfs, disk).is_some();
        for disk in disks.iter().filter(|disk| !is_held(disk)) {
            self.multipathd.add_path(disk).await?;
        }
        if disks.iter().any(|disk| is_held(&disk)) {
            return Ok(());
        }
        let known = self.multipathd.paths().await?;
        let wwid_of = |disk: &String| known.iter().find(|path| path.disk == *disk).map(|path| path.wwid.clone());
        match disks.iter().find_map(wwid_of) {
            // Refused also where it has just made the map by itself: whether there is one is seen in sysfs.
            Some(wwid) => self.multipathd.add_map(&wwid).await.map(drop)?,
            None => return Err(MultipathError::NotAPath { disk: disks.first().cloned().unwrap_or_default() }.into()),
        }
        Ok(())
    }

    /// multipathd holds the disk, or udev's rules have left it to multipathd, which is about to.
    pub(in crate::connectors::iscsi) fn is_claimed_by_multipath(&self, disk: &str) -> bool {
        let folder = self.sysfs.join("block").join(disk);
        maps::over(&self.sysfs, disk).is_some()
            || udev::property(&folder, "DM_MULTIPATH_DEVICE_PATH").is_some_and(|value| value == "1")
    }
}

/// It has a table with a path that works, and udev's rules are through with it (`11-dm-mpath.rules` sets the flag while there is none).
fn is_ready(map: &Map) -> bool {
    let Ok(syspath) = map.syspath() else { return false };
    let is_held_back = udev::property(&syspath, "DM_UDEV_DISABLE_OTHER_RULES_FLAG").is_some_and(|value| value == "1");
    map.is_live() && udev::is_settled(&syspath) && !is_held_back
}
