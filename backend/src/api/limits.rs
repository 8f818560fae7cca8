//! Limits over HTTP. There are no quotas: -1 is how the field says so. What is used is counted.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::AppState;
use super::errors::ApiError;

/// `GET /v3/limits`
pub(super) async fn show(State(state): State<AppState>) -> Result<Json<Value>, ApiError> {
    let (count, gib) = state.manager.store().usage().await?;
    Ok(Json(json!({ "limits": {
        "rate": [],
        "absolute": {
            "maxTotalVolumes": -1,
            "maxTotalVolumeGigabytes": -1,
            "maxTotalSnapshots": 0,
            "maxTotalBackups": 0,
            "maxTotalBackupGigabytes": 0,
            "totalVolumesUsed": count,
            "totalGigabytesUsed": gib,
            "totalSnapshotsUsed": 0,
            "totalBackupsUsed": 0,
            "totalBackupGigabytesUsed": 0,
        },
    } })))
}
