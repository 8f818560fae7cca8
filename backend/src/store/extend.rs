//! Extending in the database. The owner and the pool pay for the new size when it is accepted; the volume shows its old size, and the
//! status `extending`, until its storage has the new one. What was not gained in the end is given back.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::engine::{Session, Sql};
use super::{Ending, Limits, Store, StoreError, attachments, now_us, operations, quotas, volumes};
use crate::domain::place::volume_queue;
use crate::domain::{Asker, NewOperation, Operation, OperationKind, VolumeStatus, rules};

/// What an extension asks for, and who paid for it: also where its volume is gone when it ends, nothing stays charged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// The size it is to have, GiB.
    pub new_gib: u64,
    /// The size it had, GiB.
    pub old_gib: u64,
    /// Where it is, `host@backend#pool`.
    pub(super) host: String,
    pub(super) project_id: String,
    pub(super) type_name: String,
    pub(super) consumes_quota: bool,
}

impl Extension {
    /// What the operation was accepted with; none where it is no extension.
    pub fn of(operation: &Operation) -> Option<Self> {
        serde_json::from_value(operation.request.clone()).ok()
    }
}

impl Store {
    /// Records that the volume is to be extended, where it may be, and charges for what it gains. `attached`: it may be in use.
    pub async fn begin_extend(
        &self,
        id: Uuid,
        size_gib: u64,
        attached: bool,
        by: Asker,
        limits: &Limits,
    ) -> Result<Operation, StoreError> {
        let mut tx = self.begin().await?;
        let volume = volumes::lock(&mut tx, id).await?;
        rules::extend(&volume, size_gib, attached)?;
        let queue = volume_queue(&volume.host);
        let extension = Extension {
            new_gib: size_gib,
            old_gib: volume.size_gib,
            host: volume.host,
            project_id: volume.project_id,
            type_name: volume.volume_type.unwrap_or_default(),
            consumes_quota: volume.consumes_quota,
        };
        let gained = size_gib - volume.size_gib;
        if extension.consumes_quota {
            let changes = quotas::of_growth(&extension.type_name, gained, 1);
            quotas::charge(&mut tx, &extension.project_id, &changes, limits).await?;
        }
        quotas::charge_pool(&mut tx, &extension.host, gained).await?;
        volumes::set_status(&mut tx, id, VolumeStatus::Extending).await?;
        let request = serde_json::json!(extension);
        let operation = NewOperation { kind: OperationKind::VolumeExtend, object_id: id, queue, request, by };
        let operation = operations::accept(&mut tx, operation).await?;
        tx.commit().await?;
        Ok(operation)
    }

    /// Records that the volume's storage has `has_gib` now, and the end: the volume is what its attachments make of it, or
    /// `error_extending`. What was charged and not gained is given back.
    pub async fn end_extend(
        &self,
        operation: &Operation,
        extension: &Extension,
        has_gib: u64,
        ending: Ending,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        // The volume first, as everywhere.
        let volume = volumes::find_locked(&mut tx, operation.object_id).await?;
        if !operations::lock_unended(&mut tx, operation.id).await? {
            return Ok(());
        }
        let has_gib = if volume.is_some() { has_gib.clamp(extension.old_gib, extension.new_gib) } else { extension.old_gib };
        give_back(&mut tx, extension, extension.new_gib - has_gib).await?;
        if let Some(volume) = volume {
            let held = rules::status_held_by(&attachments::of_volume(&mut tx, volume.id).await?);
            let status = match volume.status {
                VolumeStatus::Extending if ending.cause.is_some() => VolumeStatus::ErrorExtending,
                VolumeStatus::Extending => held,
                // An administrator decided otherwise.
                other => other,
            };
            let update = Sql::update(
                "volumes",
                [("size_gib", has_gib.into()), ("status", status.as_str().into()), ("updated_at_us", now_us().into())],
            );
            tx.execute("record the end of an extension", update.filter("id = ", volume.id)).await?;
        }
        operations::end(&mut tx, operation, ending).await?;
        tx.commit().await
    }
}

async fn give_back(tx: &mut Session, extension: &Extension, gib: u64) -> Result<(), StoreError> {
    if gib == 0 {
        return Ok(());
    }
    if extension.consumes_quota {
        quotas::release(tx, &extension.project_id, &quotas::of_growth(&extension.type_name, gib, -1)).await?;
    }
    quotas::release_pool(tx, &extension.host, gib).await
}
