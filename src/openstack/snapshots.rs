//! Snapshots of volumes: those that new volumes are made from, and those that are taken for an image of a guest.

use super::{
    OpenstackError, Operation, VolumeService,
    volume_service::{Call, Repeat},
    volumes::{PAGES_MAX, looks},
    wire::{Link, next_marker},
};
use crate::model::{ErrorKind, SnapshotId, VolumeId, VolumeSnapshot};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};

#[derive(Deserialize)]
struct Envelope {
    snapshot: Wire,
}

#[derive(Deserialize)]
struct Page {
    snapshots: Vec<Wire>,
    #[serde(default)]
    snapshots_links: Vec<Link>,
}

/// A snapshot on the wire.
#[derive(Deserialize)]
struct Wire {
    id: SnapshotId,
    volume_id: VolumeId,
    name: Option<String>,
    status: String,
    size: u64,
}

impl From<Wire> for VolumeSnapshot {
    fn from(wire: Wire) -> Self {
        Self {
            id: wire.id,
            volume: wire.volume_id,
            name: wire.name.unwrap_or_default(),
            status: wire.status,
            size_gib: wire.size,
        }
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

    /// Every snapshot of the project.
    ///
    /// # Errors
    /// The service refuses or cannot be reached.
    pub async fn snapshots(&self) -> Result<Vec<VolumeSnapshot>, OpenstackError> {
        let operation = Operation::ListSnapshots;
        let mut snapshots = Vec::new();
        let mut marker: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let query: Vec<_> = marker.as_deref().map(|marker| ("marker", marker)).into_iter().collect();
            let answer = self.call(Call { query: &query, ..Call::get(operation.clone(), "snapshots/detail") }).await?;
            let page: Page = answer.json(&operation)?;
            let next = next_marker(&page.snapshots_links);
            snapshots.extend(page.snapshots.into_iter().map(VolumeSnapshot::from));
            if next.is_none() || next == marker {
                break;
            }
            marker = next;
        }
        Ok(snapshots)
    }

    /// Takes a snapshot of a volume, in use or not; it is `creating` when this returns.
    ///
    /// # Errors
    /// The service refuses or cannot be reached: see [`OpenstackError::outcome_unknown`].
    pub async fn create_snapshot(&self, volume: VolumeId, name: &str) -> Result<VolumeSnapshot, OpenstackError> {
        let operation = Operation::CreateSnapshot(name.to_owned());
        let call = Call {
            method: Method::POST,
            body: Some(json!({"snapshot": {"volume_id": volume.to_string(), "name": name, "force": true}})),
            repeat: Repeat::Keyed,
            ..Call::get(operation.clone(), "snapshots")
        };
        Ok(self.call(call).await?.json::<Envelope>(&operation)?.snapshot.into())
    }

    /// Waits until a snapshot is `available`. Ends early when it cannot be made.
    ///
    /// # Errors
    /// It failed, or the deadline passed.
    pub async fn wait_snapshot_available(&self, id: SnapshotId, deadline: Instant) -> Result<(), OpenstackError> {
        self.wait_snapshot(id, "available", deadline, |found| match found? {
            status if status == "available" => Ok(None),
            status => Ok(Some(status)),
        })
        .await
    }

    /// Asks for a snapshot's deletion, and waits until it is gone. One that is gone is fine.
    ///
    /// # Errors
    /// The service refuses; the deletion fails, or the deadline passed.
    pub async fn delete_snapshot(&self, id: SnapshotId, deadline: Instant) -> Result<(), OpenstackError> {
        let call = Call {
            method: Method::DELETE,
            repeat: Repeat::Idempotent,
            ..Call::get(Operation::DeleteSnapshot(id), format!("snapshots/{id}"))
        };
        match self.call(call).await {
            Err(error) if error.status() == Some(404) => return Ok(()),
            other => other?,
        };
        self.wait_snapshot(id, "deleted", deadline, |found| match found {
            Err(error) if error.status() == Some(404) => Ok(None),
            found => found.map(Some),
        })
        .await
    }

    /// `judge` gives the status that the snapshot has as long as it is not there yet.
    async fn wait_snapshot(
        &self,
        id: SnapshotId,
        wanted: &'static str,
        deadline: Instant,
        judge: impl Fn(Result<String, OpenstackError>) -> Result<Option<String>, OpenstackError> + Send,
    ) -> Result<(), OpenstackError> {
        let operation = Operation::FindSnapshot(id.to_string());
        let mut pauses = looks();
        let mut last = "unknown".to_owned();
        let looking = async {
            loop {
                let answer = self.call(Call::get(operation.clone(), format!("snapshots/{id}"))).await;
                let found = answer.and_then(|answer| Ok(answer.json::<Envelope>(&operation)?.snapshot.status));
                match judge(found)? {
                    None => return Ok(()),
                    Some(status) if status.starts_with("error") => {
                        return Err(OpenstackError::Snapshot { snapshot: id, status, wanted, in_time: true, cause: None });
                    }
                    Some(status) => last = status,
                }
                sleep(pauses.next().unwrap_or_default()).await;
            }
        };
        match timeout_at(deadline, looking).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.with_cause(error).await),
            Err(_) => Err(OpenstackError::Snapshot { snapshot: id, status: last, wanted, in_time: false, cause: None }),
        }
    }
}
