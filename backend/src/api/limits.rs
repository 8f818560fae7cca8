//! Limits over HTTP: what a project may have and what it has. -1 is how the field says "no limit".

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::AppState;
use super::errors::ApiError;
use super::policy::{self, Context, allow};

/// `GET /v3/limits`
pub(super) async fn show(State(state): State<AppState>, context: Context) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::LIMITS_GET)?;
    let lines = state.store.quotas(&context.project_id, state.accept.limits()).await?;
    let lines: BTreeMap<&str, (i64, i64)> =
        lines.iter().map(|line| (line.resource.as_str(), (line.limit, line.in_use))).collect();
    let line = |resource: &str| lines.get(resource).copied().unwrap_or((-1, 0));
    Ok(Json(json!({ "limits": {
        "rate": [],
        "absolute": {
            "maxTotalVolumes": line("volumes").0,
            "maxTotalVolumeGigabytes": line("gigabytes").0,
            "maxTotalSnapshots": line("snapshots").0,
            "maxTotalBackups": line("backups").0,
            "maxTotalBackupGigabytes": line("backup_gigabytes").0,
            "totalVolumesUsed": line("volumes").1,
            "totalGigabytesUsed": line("gigabytes").1,
            "totalSnapshotsUsed": line("snapshots").1,
            "totalBackupsUsed": line("backups").1,
            "totalBackupGigabytesUsed": line("backup_gigabytes").1,
        },
    } })))
}
