//! Guests that are marked to be started with the host and have storage of Bowline's.
//!
//! libvirtd tries to start them as soon as it runs, before their volumes are connected, and does not try again. So the agent starts
//! each, once its volumes are connected, if it is off: once for each boot of the host, so that one that was stopped since stays off. Which
//! have had their start is noted where a boot of the host begins with nothing, as libvirtd notes that it has tried.

use super::{super::Shared, children::end_of, power::connect_volumes};
use crate::agent::api::{AgentApi, OperationState, Request, StartRequest};
use crate::agent::operations::{Agent, locks::Key, ports::GuestFacts};
use crate::model::GuestUuid;
use futures_util::{StreamExt, stream};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Guests started side by side.
const WIDTH: usize = 8;

/// Which guests have had their start since the host's boot: an empty file each.
pub(in super::super) struct Autostarted {
    folder: PathBuf,
}

impl Autostarted {
    /// `run_dir` is as long as the host is up.
    pub(in super::super) fn new(run_dir: &Path) -> Self {
        Self { folder: run_dir.join("autostarted") }
    }

    fn has(&self, guest: GuestUuid) -> io::Result<bool> {
        self.folder.join(guest.to_string()).try_exists()
    }

    fn note(&self, guest: GuestUuid) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        fs::write(self.folder.join(guest.to_string()), "")
    }
}

impl Agent {
    /// Starts what of this host's guests is to be started with it and has not been. Returns how many have to wait for their
    /// volumes; to be called again once more is connected.
    pub async fn autostart(&self) -> usize {
        let guests = match self.shared.hypervisor.autostart_guests().await {
            Ok(guests) => guests,
            Err(error) => {
                tracing::warn!(%error, "it is not known which guests are to be started with the host");
                return 1;
            }
        };
        let ours = guests.into_iter().filter(|guest| has_storage(&self.shared, guest.uuid));
        let waiting = stream::iter(ours.collect::<Vec<_>>()).map(|guest| self.autostart_one(guest));
        waiting.buffer_unordered(WIDTH).filter(|waits| std::future::ready(*waits)).count().await
    }

    /// Whether it has to wait.
    async fn autostart_one(&self, guest: GuestFacts) -> bool {
        let (shared, name) = (&self.shared, &guest.name);
        match shared.autostarted.has(guest.uuid) {
            Ok(false) => {}
            Ok(true) => return false,
            // Without a note it would be started again and again, against whoever stops it.
            Err(error) => {
                tracing::error!(guest = name, %error, "not started with the host: the note of it cannot be read");
                return false;
            }
        }
        if !guest.active {
            // An operation has it, and may take its time.
            if shared.locks.try_lock(Key::Instance(guest.uuid)).is_none() {
                return true;
            }
            if let Err(error) = connect_volumes(shared, guest.uuid).await {
                tracing::warn!(guest = name, %error, "is to be started with the host, once its volumes are connected");
                return true;
            }
            let id = match self.submit(Request::Start(StartRequest { guest: guest.uuid.to_string() })).await {
                Ok(id) => id,
                Err(error) => {
                    tracing::warn!(guest = name, %error, "is to be started with the host, and cannot be now");
                    return true;
                }
            };
            match end_of(shared, id).await {
                Ok(ended) if ended.state == OperationState::Succeeded => tracing::info!(guest = name, "started with the host"),
                Ok(ended) => {
                    let why = ended.failure.map(|failure| failure.message).unwrap_or_default();
                    tracing::error!(guest = name, why, "could not be started with the host: bowline start tries again");
                }
                Err(error) => tracing::error!(guest = name, %error, "could not be started with the host"),
            }
        }
        if let Err(error) = shared.autostarted.note(guest.uuid) {
            tracing::error!(guest = name, %error, "not noted as started with the host");
        }
        false
    }
}

/// It has volumes or disks that Bowline gave it.
pub(in super::super) fn has_storage(shared: &Shared, guest: GuestUuid) -> bool {
    shared.registry.booted(guest).is_some() || shared.registry.attachments().iter().any(|record| record.guest == guest)
}
