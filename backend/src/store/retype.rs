//! Another type for a volume that stays where it is. Counters by type, of the volume and of its snapshots, follow in the same
//! transaction.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::engine::{Session, Sql};
use super::placement::Candidates;
use super::{Limits, Store, StoreError, now_us, quotas, services, types, volumes};
use crate::domain::encryption::alike;
use crate::domain::place::backend_of;
use crate::domain::{Refusal, Volume, VolumeStatus, VolumeType};

impl Store {
    /// Gives a volume another type. `may_stay` is asked inside the transaction whether the volume's own pool does for it, with a
    /// volume that takes no room, for it has its room already.
    pub async fn retype(
        &self,
        id: Uuid,
        new: &VolumeType,
        limits: &Limits,
        may_stay: impl FnOnce(&Candidates) -> Result<(), Refusal> + Send,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let volume = volumes::lock(&mut tx, id).await?;
        check(&mut tx, &volume, new).await?;
        may_stay(&in_place(services::all(&mut tx).await?, &volume, new))?;
        let (old_name, new_name) = (volume.volume_type.clone().unwrap_or_default(), new.name.as_str());
        let query = Sql::new("SELECT size_gib FROM snapshots").filter("volume_id = ", id);
        let sizes: Vec<u64> =
            tx.all("read snapshots", query).await?.iter().map(|row| row.size("size_gib")).collect::<Result<_, _>>()?;
        let changes = |type_name: &str, sign: i64| {
            let charged = Some(volume.size_gib).filter(|_| volume.consumes_quota);
            let of_volume = charged.iter().flat_map(|size| quotas::of_volume(type_name, *size, sign));
            let of_snapshots = sizes.iter().flat_map(|size| quotas::of_snapshot(type_name, *size, sign));
            quotas::by_type(type_name, of_volume.chain(of_snapshots))
        };
        quotas::charge(&mut tx, &volume.project_id, &changes(new_name, 1), limits).await?;
        if !old_name.is_empty() {
            quotas::release(&mut tx, &volume.project_id, &changes(&old_name, -1)).await?;
        }
        let update = Sql::update(
            "volumes",
            [
                ("volume_type_id", new.id.as_str().into()),
                ("multiattach", new.multiattach().into()),
                ("updated_at_us", now_us().into()),
            ],
        );
        tx.execute("change a volume's type", update.filter("id = ", id)).await?;
        let update = Sql::update("snapshots", [("volume_type_id", new.id.as_str().into())]).filter("volume_id = ", id);
        tx.execute("change the type of a volume's snapshots", update).await?;
        tx.commit().await
    }
}

/// Whether the volume may have another type: its status allows it, and its bytes are what the new type's are.
pub(super) async fn check(tx: &mut Session, volume: &Volume, new: &VolumeType) -> Result<(), StoreError> {
    may_change(volume, new)?;
    check_encryption(tx, volume, &new.id, &new.name).await
}

/// Whether the volume's bytes are what those of a type are. That stays so until the transaction ends.
pub(super) async fn check_encryption(tx: &mut Session, volume: &Volume, id: &str, name: &str) -> Result<(), StoreError> {
    let old = match &volume.volume_type_id {
        Some(id) => types::find(tx, id).await?.and_then(|old| old.encryption),
        None => None,
    };
    // As it is in this transaction: what the caller has may be old. A type without volumes may be encrypted otherwise at any time.
    let new = types::find_locked(tx, id).await?.ok_or_else(|| Refusal::VolumeTypeNotFound(name.to_owned()))?;
    if alike(old.as_ref(), new.encryption.as_ref()) {
        return Ok(());
    }
    let text = format!(
        "Invalid input received: Volume {} cannot get the type {}, which is encrypted otherwise: its bytes would have to be encrypted \
         anew. Make a volume of that type and copy the data within a guest.",
        volume.id, new.name
    );
    Err(Refusal::Invalid(text).into())
}

fn may_change(volume: &Volume, new: &VolumeType) -> Result<(), Refusal> {
    let id = volume.id;
    if !matches!(volume.status, VolumeStatus::Available | VolumeStatus::InUse) {
        let text =
            format!("Invalid volume: Volume {id} status must be available or in-use to retype, but it is {}.", volume.status);
        return Err(Refusal::Invalid(text));
    }
    if volume.volume_type_id.as_deref() == Some(&new.id) {
        let text = format!("Invalid volume: Retype requires another type than the volume's own: {}.", new.name);
        return Err(Refusal::Invalid(text));
    }
    if volume.multiattach != new.multiattach() && volume.status != VolumeStatus::Available {
        let text = "Invalid input received: the volume must be available for its multiattach capability to be changed.";
        return Err(Refusal::Invalid(text.into()));
    }
    Ok(())
}

/// The choice between one pool: that in which the volume is.
fn in_place(services: Vec<crate::domain::ServiceRow>, volume: &Volume, new: &VolumeType) -> Candidates {
    let now_us = now_us();
    let own = services.into_iter().filter(|service| service.host == backend_of(&volume.host));
    let own = own.map(|mut service| {
        service.pools.retain(|pool| pool.name == volume.host);
        // Nothing is asked of it.
        (service.disabled, service.heartbeat_at_us, service.problem) = (false, now_us, None);
        service
    });
    Candidates {
        volume: Volume { size_gib: 0, multiattach: new.multiattach(), ..volume.clone() },
        volume_type: Some(new.clone()),
        source_host: None,
        tried: Vec::new(),
        services: own.collect(),
        allocated_gib: BTreeMap::new(),
        now_us,
    }
}
