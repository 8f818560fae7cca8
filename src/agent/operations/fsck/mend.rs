//! What can be mended without harm. Each is looked at again under its volume's or guest's lock: what was found may have changed since.

use super::{Cure, disks};
use crate::agent::operations::{
    Shared, examine,
    locks::Key,
    ports::{PortError, PortResult},
    reconnect,
};
use crate::model::ErrorKind;
use tokio::sync::OwnedMutexGuard;

pub(super) async fn mend(shared: &Shared, cure: &Cure) -> PortResult<()> {
    match cure {
        Cure::None | Cure::Foreign => Ok(()),
        // Takes the lock itself.
        Cure::Reconnect(record) => reconnect::reconnect(shared, record).await.map(drop),
        Cure::Complete(id) => {
            let Some(record) = shared.registry.attachments().into_iter().find(|record| record.id == *id) else {
                return Ok(());
            };
            let _turn = turn(shared, Key::Volume(record.volume))?;
            shared.volumes.complete_attachment(*id).await
        }
        Cure::ForgetSecret(secret) => {
            // One that an operation has begun to use meanwhile is known by now.
            if examine::forgotten_secrets(shared, vec![*secret]).is_empty() {
                return Ok(());
            }
            shared.hypervisor.undefine_secret(*secret).await
        }
        Cure::ForgetName(volume) => {
            let _turn = turn(shared, Key::Volume(*volume))?;
            if !shared.registry.attachments_of(*volume).is_empty() {
                return Ok(());
            }
            shared.connectors.forget_own_name(*volume).await
        }
        Cure::Remove(stored) => {
            let _turn = stored.guest().map(|guest| turn(shared, Key::Instance(guest))).transpose()?;
            disks::remove(shared, stored).await
        }
    }
}

fn turn(shared: &Shared, key: Key) -> PortResult<OwnedMutexGuard<()>> {
    let busy = || PortError::new(ErrorKind::Conflict, "an operation on it is under way");
    shared.locks.try_lock(key).ok_or_else(busy)
}
