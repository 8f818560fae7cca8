//! How the ways of a connected volume are doing: by sysfs and multipathd where the kernel is logged in, by a knock at the portal
//! where QEMU is.
//!
//! What is asked of this host answers at once whatever the storage does.

use super::{Iscsi, KernelInitiator, device, multipath::maps, sessions::read};
use crate::{
    connectors::{ConnectorError, reach},
    model::{BlockDevice, DeviceIdentity, Fault, Health, IscsiNetworkDevice, IscsiPath, VolumeId},
};
use std::error::Error as _;

/// The SCSI device states in which commands get through (scsi(4) `state` in sysfs).
const WORKING_STATES: [&str; 2] = ["running", "quiesce"];

impl Iscsi {
    pub(in crate::connectors) async fn health(
        &self,
        volume: VolumeId,
        device: &BlockDevice,
        identity: &DeviceIdentity,
    ) -> Result<Health, ConnectorError> {
        self.kernel()?.health(volume, device, identity).await
    }

    /// Whether the portal that QEMU was given accepts connections. QEMU logs in again by itself once it does.
    pub(in crate::connectors) async fn network_health(&self, network: &IscsiNetworkDevice) -> Health {
        match reach::portal(&network.path, self.config.login_timeout_s).await {
            Ok(_) => Health::Healthy,
            Err(error) => {
                // The part names the portal already.
                let problem = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                Health::Lost(vec![Fault { part: network.path.to_string(), problem }])
            }
        }
    }
}

impl KernelInitiator {
    /// Each path of the device that does not carry I/O, and why.
    async fn health(&self, volume: VolumeId, block: &BlockDevice, identity: &DeviceIdentity) -> Result<Health, ConnectorError> {
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
                    (Some(_), None) => Some("there is no multipath map".to_owned()),
                    (Some(_), Some(held)) if !held.contains(&disk) => Some("the path is not in the multipath map".to_owned()),
                    (Some(_), Some(_)) => states
                        .as_ref()
                        .ok()
                        .and_then(|states| states.iter().find(|state| state.disk == disk && state.dm == "failed"))
                        .map(|state| format!("multipathd calls the path {}", state.checker)),
                },
                Err(problem) => Some(problem),
            };
            faults.extend(problem.map(|problem| Fault { part: path.to_string(), problem }));
        }
        let health = Health::of_parts(block.paths.len(), faults);
        let of_map = match (&states, &map) {
            (Err(_), _) => Some(("multipathd", "it does not run: no path is brought back")),
            (Ok(_), Some(map)) if self.must_be_of(volume, map, identity).is_err() => {
                Some(("multipath map", "a path in it is another device's"))
            }
            _ => None,
        };
        Ok(match of_map {
            Some((part, problem)) => degrade(health, Fault { part: part.to_owned(), problem: problem.to_owned() }),
            None => health,
        })
    }

    /// The path's disk, or what is wrong with its session or its disk.
    fn kernel_problem(&self, path: &IscsiPath, identity: &DeviceIdentity) -> Result<Result<String, String>, ConnectorError> {
        let Some(session) = self.session(path)? else {
            return Ok(Err("there is no session: the initiator is logged out".to_owned()));
        };
        if !session.is_up() {
            return Ok(Err(format!("the session is {}: the target does not answer", session.state)));
        }
        let gone = || Ok(Err("the session has no such LUN any more".to_owned()));
        let Some(disk) = session.disk(path.lun) else { return gone() };
        let Some(name) = device::kernel_name(&disk) else { return gone() };
        if device::observe(&session, path.lun).is_none_or(|found| found.identity != *identity) {
            return Ok(Err("another device is at its place".to_owned()));
        }
        Ok(match read(&session.lun_folder(path.lun).join("state")) {
            Some(state) if !WORKING_STATES.contains(&state.as_str()) => Err(format!("the device is {state}")),
            _ => Ok(name.to_owned()),
        })
    }
}

/// What is wrong with the whole adds to what is wrong with its parts.
fn degrade(health: Health, fault: Fault) -> Health {
    match health {
        Health::Healthy => Health::Degraded(vec![fault]),
        Health::Degraded(mut faults) => {
            faults.push(fault);
            Health::Degraded(faults)
        }
        lost @ Health::Lost(_) => lost,
    }
}
