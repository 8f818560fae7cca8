//! What of a volume's iSCSI paths works now: by sysfs where the kernel is logged in, by a knock at the portal where QEMU is.

use super::{Iscsi, KernelInitiator, device, sessions};
use crate::{
    connectors::{ConnectorError, reach},
    model::{BlockDevice, DeviceIdentity, Fault, Health, IscsiNetworkDevice, IscsiPath, VolumeId},
};
use std::error::Error;

/// The SCSI device states in which commands get through (scsi(4) `state` in sysfs).
const WORKING_STATES: [&str; 2] = ["running", "quiesce"];

impl Iscsi {
    /// Every path the volume was connected by: its session, its LUN, and that it is still the same device.
    pub(in crate::connectors) fn block_health(
        &self,
        volume: VolumeId,
        block: &BlockDevice,
        identity: &DeviceIdentity,
    ) -> Result<Health, ConnectorError> {
        let Some(kernel) = &self.kernel else {
            return Err(ConnectorError::NotConnected { volume });
        };
        let mut faults = Vec::new();
        for path in &block.paths {
            if let Some(problem) = kernel.problem(path, identity)? {
                faults.push(Fault { part: path.to_string(), problem });
            }
        }
        Ok(Health::of_parts(block.paths.len(), faults))
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
    fn problem(&self, path: &IscsiPath, identity: &DeviceIdentity) -> Result<Option<String>, ConnectorError> {
        let Some(session) = self.session(path)? else {
            return Ok(Some("there is no session: the initiator is logged out".to_owned()));
        };
        if !session.is_up() {
            return Ok(Some(format!("the session is {}: the target does not answer", session.state)));
        }
        let Some(state) = sessions::read(&session.lun_folder(path.lun).join("state")) else {
            return Ok(Some("the session has no such LUN any more".to_owned()));
        };
        if !WORKING_STATES.contains(&state.as_str()) {
            return Ok(Some(format!("the device is {state}")));
        }
        let other = device::observe(&session, path.lun).filter(|observed| observed.identity != *identity);
        Ok(other.map(|_| "another device is at its place".to_owned()))
    }
}
