//! Bringing back what attachments had: after a reboot of the host the sessions, devices and secrets are gone while guests
//! still have the disks in their definitions.
//!
//! A device is given back only under its own name and only if it is the very one that was journalled.

use super::{Shared, locks::Key, ports::PortResult, steps};
use crate::agent::journal::AttachmentRecord;
use crate::model::{ErrorKind, GIB};
use futures_util::{StreamExt, stream};

/// Attachments brought back side by side.
const WIDTH: usize = 8;

/// Brings back every attachment that lost something. Returns how many could not be brought back; each was logged.
pub(super) async fn reconnect_all(shared: &Shared) -> usize {
    stream::iter(shared.registry.attachments())
        .map(|record| async move {
            match reconnect(shared, &record).await {
                Ok(false) => 0,
                Ok(true) => {
                    tracing::info!(volume = %record.volume, guest = record.guest_name, "connected again");
                    0
                }
                Err(error) => {
                    tracing::error!(volume = %record.volume, guest = record.guest_name, %error, "could not be connected again");
                    1
                }
            }
        })
        .buffer_unordered(WIDTH)
        .fold(0, |sum, failed| async move { sum + failed })
        .await
}

async fn reconnect(shared: &Shared, record: &AttachmentRecord) -> PortResult<bool> {
    // An operation on the volume is seeing to it.
    let Some(_guard) = shared.locks.try_lock(Key::Volume(record.volume)) else { return Ok(false) };
    if shared.registry.attachment(record.volume, record.guest).is_none() {
        return Ok(false);
    }
    let identity = &record.observed.identity;
    let connected = shared.connectors.is_connected(record.volume, &record.device, identity).await?;
    if connected && record.secret.is_none() {
        return Ok(false);
    }
    let attachment = shared.volumes.attachment(record.id).await?;
    let Some(info) = attachment.connection else { return Ok(false) };
    if let Some(secret) = record.secret {
        steps::define_secret(shared, secret, record.volume, &info).await?;
    }
    if connected {
        return Ok(false);
    }
    let device = shared.connectors.connect(record.volume, &info).await?;
    let size_gib = record.observed.size_bytes / GIB;
    match steps::verify_device(shared, record.volume, size_gib, device.clone(), &info, Some(identity.clone())).await {
        Ok(_) => Ok(true),
        Err(error) => {
            if error.kind == ErrorKind::IdentityMismatch {
                shared.connectors.disconnect(record.volume, &device, None).await?;
            }
            Err(error)
        }
    }
}
