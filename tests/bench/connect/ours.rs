//! Bowline's connectors, as the agent uses them: the same runtime, and a disconnect that demands the identity seen at the connect.

use crate::{Done, Side};
use bowline::{
    connectors::{Connectors, ConnectorsConfig, InitiatorChoice, IscsiConfig, MultipathChoice, RbdConfig},
    model::{ConnectedDevice, DeviceIdentity, Initiator, VolumeId},
    openstack,
};
use serde_json::Value;
use std::{error::Error, time::Instant};
use tokio::runtime::Runtime;

pub struct Ours {
    runtime: Runtime,
    connectors: Connectors,
    connected: Vec<(VolumeId, ConnectedDevice, DeviceIdentity)>,
}

impl Ours {
    pub fn new() -> Result<Self, Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        // The agent's own defaults.
        let iscsi = IscsiConfig {
            initiator: InitiatorChoice::Kernel,
            multipath: MultipathChoice::Preferred,
            login_timeout_s: 30,
            logout_timeout_s: 30,
            ..IscsiConfig::default()
        };
        // As os-brick's own row: a device of this host, not one that QEMU opens.
        let rbd = RbdConfig { client: Initiator::Kernel, ..RbdConfig::default() };
        let connectors =
            runtime.block_on(async { Connectors::new(ConnectorsConfig { iscsi, rbd, ..ConnectorsConfig::default() }) })?;
        Ok(Self { runtime, connectors, connected: Vec::new() })
    }
}

fn chain(error: &dyn Error) -> String {
    let source = error.source().map(|source| format!(": {}", chain(source)));
    format!("{error}{}", source.unwrap_or_default())
}

async fn connect(
    connectors: Connectors,
    volume: VolumeId,
    info: Value,
) -> (Done, Option<(VolumeId, ConnectedDevice, DeviceIdentity)>) {
    let begun = Instant::now();
    let told = || -> Result<_, String> {
        openstack::fuzzing::connection_info(info).map_err(|error| error.to_string())?.ok_or("no connection info".to_owned())
    };
    let info = match told() {
        Ok(info) => info,
        Err(error) => return (Done::since(begun, Err(error)), None),
    };
    match connectors.connect(volume, &info).await {
        Ok(device) => {
            let path = device.host_path().map(|path| path.display().to_string());
            let done = Done::since(begun, path.map(Some).ok_or("no device of this host".to_owned()));
            match connectors.observe(volume, &device, Some(&info)).await {
                Ok(observed) => (done, Some((volume, device, observed.identity))),
                Err(error) => (Done::since(begun, Err(chain(&error))), None),
            }
        }
        Err(error) => (Done::since(begun, Err(chain(&error))), None),
    }
}

impl Side for Ours {
    fn connect(&mut self, volumes: &[Value]) -> Vec<Done> {
        self.runtime.block_on(async {
            let mut tasks = Vec::new();
            for volume in volumes {
                let id = volume["id"].as_str().and_then(|id| id.parse().ok());
                if let Some(id) = id {
                    tasks.push(tokio::spawn(connect(self.connectors.clone(), id, volume["info"].clone())));
                }
            }
            let mut all = Vec::new();
            for task in tasks {
                match task.await {
                    Ok((done, connected)) => {
                        all.push(done);
                        self.connected.extend(connected);
                    }
                    Err(error) => all.push(Done::since(Instant::now(), Err(error.to_string()))),
                }
            }
            all
        })
    }

    fn disconnect(&mut self) -> Vec<Done> {
        let connected = std::mem::take(&mut self.connected);
        self.runtime.block_on(async {
            let mut tasks = Vec::new();
            for (volume, device, identity) in connected {
                let connectors = self.connectors.clone();
                tasks.push(tokio::spawn(async move {
                    let begun = Instant::now();
                    let result = connectors.disconnect(volume, &device, Some(&identity)).await;
                    Done::since(begun, result.map(|_| None).map_err(|error| chain(&error)))
                }));
            }
            let mut all = Vec::new();
            for task in tasks {
                all.push(task.await.unwrap_or_else(|error| Done::since(Instant::now(), Err(error.to_string()))));
            }
            all
        })
    }
}
