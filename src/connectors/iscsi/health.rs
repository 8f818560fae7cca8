//! How the paths of a connected volume are doing.
//!
//! What is asked answers at once whatever the storage does: sysfs, and multipathd for how its map sees the paths.

use super::{KernelInitiator, device, multipath::maps, sessions::read};
use crate::{
    connectors::ConnectorError,
    model::{BlockDevice, DeviceIdentity, Fault, Health, IscsiPath, VolumeId},
};

impl KernelInitiator {
    /// Each path of the device that does not carry I/O, and why.
    pub(super) async fn health(
        &self,
        volume: VolumeId,
        block: &BlockDevice,
        identity: &DeviceIdentity,
    ) -> Result<Health, ConnectorError> {
        let map = block.multipath.as_ref().and_then(|map| maps::find(&self.sysfs, &map.wwid));
        let held = map.as_ref().map(maps::Map::disks);
        // Without multipathd nobody says how the map sees its paths; that is a fault of the map's, not of each path.
        let states = match &map {
            Some(_) => self.multipathd.paths().await,
            None => Ok(Vec::new()),
        };
        let mut faults = Vec::new();
        for path in &block.paths {
            let problem = match self.kernel_problem(path, identity)? {
                Ok(disk) => match (&block.multipath, &held) {
                    (None, _) => None,
                    (Some(_), None) => Some("no-map".to_owned()),
                    (Some(_), Some(held)) if !held.contains(&disk) => Some("not-in-map".to_owned()),
                    (Some(_), Some(_)) => states
                        .as_ref()
                        .ok()
                        .and_then(|states| states.iter().find(|state| state.disk == disk && state.dm == "failed"))
                        .map(|state| state.checker.clone()),
                },
                Err(problem) => Some(problem),
            };
            faults.extend(problem.map(|problem| Fault { part: path.to_string(), problem }));
        }
        let mut health = Health::of_parts(block.paths.len(), faults);
        if states.is_err() || map.as_ref().is_some_and(|map| self.must_be_of(volume, map, identity).is_err()) {
            let (part, problem) = match &states {
                Err(_) => ("multipathd".to_owned(), "not-running"),
                Ok(_) => (format!("map of {volume}"), "foreign-path"),
            };
            let fault = Fault { part, problem: problem.to_owned() };
            health = match health {
                Health::Healthy => Health::Degraded(vec![fault]),
                Health::Degraded(mut faults) => {
                    faults.push(fault);
                    Health::Degraded(faults)
                }
                lost @ Health::Lost(_) => lost,
            };
        }
        Ok(health)
    }

    /// The path's disk, or the word for what is wrong with its session or its disk.
    fn kernel_problem(&self, path: &IscsiPath, identity: &DeviceIdentity) -> Result<Result<String, String>, ConnectorError> {
        let Some(session) = self.session(path)? else { return Ok(Err("no-session".to_owned())) };
        if !session.is_up() {
            return Ok(Err(format!("session-{}", session.state.to_lowercase())));
        }
        let Some(disk) = session.disk(path.lun) else { return Ok(Err("no-device".to_owned())) };
        let Some(name) = device::kernel_name(&disk) else { return Ok(Err("no-device".to_owned())) };
        if device::observe(&session, path.lun).is_none_or(|found| found.identity != *identity) {
            return Ok(Err("another-device".to_owned()));
        }
        Ok(match read(&session.lun_folder(path.lun).join("state")) {
            Some(state) if state != "running" => Err(state),
            _ => Ok(name.to_owned()),
        })
    }
}
