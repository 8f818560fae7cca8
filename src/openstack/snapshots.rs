//! Snapshots of volumes, as far as new volumes are made from them.

use super::{OpenstackError, Operation, VolumeService, volume_service::Call};
use crate::model::{ErrorKind, SnapshotId, VolumeSnapshot};
use serde::Deserialize;

#[derive(Deserialize)]
struct Envelope {
    snapshot: Wire,
}

#[derive(Deserialize)]
struct Page {
    snapshots: Vec<Wire>,
}

/// A snapshot on the wire.
#[derive(Deserialize)]
struct Wire {
    id: SnapshotId,
    name: Option<String>,
    status: String,
    size: u64,
}

impl From<Wire> for VolumeSnapshot {
    fn from(wire: Wire) -> Self {
        Self { id: wire.id, status: wire.status, size_gib: wire.size }
    }
}

impl VolumeService {
    /// The snapshot with this id, or else the only one with this name.
    ///
    /// # Errors
    /// There is none, or more than one with the name.
    pub async fn find_snapshot(&self, name_or_id: &str) -> Result<VolumeSnapshot, OpenstackError> {
        let operation = Operation::FindSnapshot(name_or_id.to_owned());
        if let Ok(id) = name_or_id.parse::<SnapshotId>() {
            match self.call(Call::get(operation.clone(), format!("snapshots/{id}"))).await {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                answer => return Ok(answer?.json::<Envelope>(&operation)?.snapshot.into()),
            }
        }
        let query = [("name", name_or_id)];
        let answer = self.call(Call { query: &query, ..Call::get(operation.clone(), "snapshots/detail") }).await?;
        let mut found = answer.json::<Page>(&operation)?.snapshots;
        // Asked again here: a service may not know the filter, or match parts.
        found.retain(|snapshot| snapshot.name.as_deref() == Some(name_or_id));
        match (found.pop(), found.len()) {
            (Some(only), 0) => Ok(only.into()),
            (last, others) => Err(OpenstackError::NotOne {
                what: "snapshots",
                name: name_or_id.to_owned(),
                count: others + usize::from(last.is_some()),
            }),
        }
    }
}
