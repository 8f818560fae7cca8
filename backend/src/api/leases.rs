//! Leases of attachments over HTTP. Not in the field's API: a client that knows nothing of them makes attachments without one.
//!
//! `X-Bowline-Lease-Host: <name>` at `POST /v3/attachments` asks for one; `PUT /v3/hosts/<name>/lease` renews all that the host has in
//! the asker's project.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName};
use serde_json::{Value, json};

use super::AppState;
use super::body::{Body, invalid};
use super::errors::ApiError;
use super::microversion::Microversion;
use super::path::Path;
use super::policy::{self, Context, allow};
use super::views::time;
use crate::domain::Lease;
use crate::store::LEASE_S;

const HEADER: HeaderName = HeaderName::from_static("x-bowline-lease-host");

/// The shortest and the longest lease, seconds: a renewal may be lost, and a host be off for a day.
const SHORTEST_S: u64 = 10;
const LONGEST_S: u64 = 86_400;

/// The host that asks for a lease, where one does.
pub(super) fn asked_for(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(HEADER) else { return Ok(None) };
    let name = value.to_str().ok().filter(|name| is_host_name(name));
    name.map(|name| Some(name.to_owned())).ok_or_else(wrong_name)
}

fn is_host_name(name: &str) -> bool {
    (1..=255).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

fn wrong_name() -> ApiError {
    ApiError::BadRequest("Invalid input received: a lease's host must be 1 to 255 letters, digits, '-', '.' or '_'".into())
}

/// `PUT /v3/hosts/{host}/lease`
pub(super) async fn renew(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    Path(host): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::LEASE_RENEW)?;
    let mut fields = body.object("lease", version)?;
    let ttl_s = fields.size("ttl_s")?.unwrap_or(LEASE_S.into());
    fields.finish(version)?;
    if !is_host_name(&host) {
        return Err(wrong_name());
    }
    if !(SHORTEST_S..=LONGEST_S).contains(&ttl_s) {
        return Err(invalid("ttl_s", &json!(ttl_s), &format!("it must be {SHORTEST_S} to {LONGEST_S}")));
    }
    let ttl_s = u32::try_from(ttl_s).unwrap_or(LEASE_S);
    let (until_us, attachments) = state.store.renew_leases(&context.project_id, &host, ttl_s).await?;
    Ok(Json(json!({ "lease": { "host": host, "ttl_s": ttl_s, "until": time(until_us), "attachments": attachments } })))
}

/// A lease as its attachment shows it.
pub(super) fn view(lease: &Lease) -> Value {
    json!({ "host": lease.host, "until": time(lease.until_us), "lost_since": lease.lost_at_us.map(time) })
}
