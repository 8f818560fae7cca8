//! Availability zones over HTTP: those of the volume services that are in use.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::AppState;
use super::errors::ApiError;
use super::policy::{self, Context, allow};
use crate::domain::place::VOLUME_SERVICE;

/// `GET /v3/os-availability-zone`
pub(super) async fn list(State(state): State<AppState>, context: Context) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::ZONE_LIST)?;
    let list: Vec<Value> =
        zones(&state).await?.into_iter().map(|zone| json!({ "zoneName": zone, "zoneState": { "available": true } })).collect();
    Ok(Json(json!({ "availabilityZoneInfo": list })))
}

/// Every zone a volume may be asked for in.
pub(super) async fn zones(state: &AppState) -> Result<BTreeSet<String>, ApiError> {
    let services = state.store.services().await?;
    let used = services.into_iter().filter(|service| service.name == VOLUME_SERVICE && !service.disabled);
    Ok(used.map(|service| service.availability_zone).collect())
}
