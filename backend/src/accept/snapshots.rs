//! Snapshots: accepted, and made or deleted afterwards.

use uuid::Uuid;

use super::{Accept, AcceptError};
use crate::domain::{Asker, NewSnapshot, Snapshot};

impl Accept {
    /// Accepts a snapshot; it is made afterwards.
    pub async fn create_snapshot(&self, new: NewSnapshot, by: Asker) -> Result<Snapshot, AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let (snapshot, operation) = accept.store.insert_snapshot(new, by, &accept.limits).await?;
                accept.send(&operation).await;
                Ok(snapshot)
            })
        })
        .await
    }

    /// Accepts the deletion of a snapshot; it is removed afterwards.
    pub async fn delete_snapshot(&self, id: Uuid, by: Asker) -> Result<(), AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let operation = accept.store.begin_delete_snapshot(id, by).await?;
                accept.send(&operation).await;
                Ok(())
            })
        })
        .await
    }
}

/// Whatever its status.
impl Accept {
    /// Accepts the deletion of a snapshot whatever its status.
    pub async fn force_delete_snapshot(&self, id: Uuid, by: Asker) -> Result<(), AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let operation = accept.store.force_delete_snapshot(id, by).await?;
                accept.send(&operation).await;
                Ok(())
            })
        })
        .await
    }
}
