//! Services and pools over HTTP, for administrators: who is alive, and what there is room for.

use axum::Json;
use axum::extract::{Extension, State};
use serde_json::{Map, Value, json};

use super::AppState;
use super::body::{Body, Fields};
use super::errors::{self, ApiError};
use super::microversion::Microversion;
use super::path::Path;
use super::policy::{self, Context, allow};
use super::query::Pairs;
use super::views::time;
use crate::domain::place::VOLUME_SERVICE;
use crate::domain::{Pool, ServiceRow};
use crate::store::now_us;

/// `GET /v3/os-services`
pub(super) async fn list(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    pairs: Pairs,
) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::SERVICE_LIST)?;
    let now = now_us();
    let mut services = state.store.services().await?;
    // A host without its backend is all of its backends.
    let is_host = |host: &str, wanted: &str| host == wanted || host.split('@').next() == Some(wanted);
    services.retain(|one| pairs.value("host").is_none_or(|host| is_host(&one.host, host)));
    let binary = pairs.value("binary").or(pairs.value("service"));
    services.retain(|one| binary.is_none_or(|binary| one.name == binary));
    let list: Vec<Value> = services.iter().map(|service| view(service, version, now)).collect();
    Ok(Json(json!({ "services": list })))
}

/// `PUT /v3/os-services/{enable,disable,disable-log-reason}`, and `gone`, which is not in the field's API: a volume service that is
/// down will not come back, and what waits for it is ended.
pub(super) async fn update(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    Path(action): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::SERVICE_UPDATE)?;
    let disabled = match action.as_str() {
        "enable" => Some(false),
        "disable" | "disable-log-reason" => Some(true),
        "gone" => None,
        _ => return Err(errors::no_such_path().await),
    };
    let mut fields = Fields::from(body);
    let reason = fields.text("disabled_reason")?;
    let host = fields.text("host")?;
    let binary = [fields.text("binary")?, fields.text("service")?].into_iter().flatten().next();
    fields.finish(version)?;
    let (Some(host), Some(binary)) = (host, binary) else {
        return Err(ApiError::BadRequest("Invalid input received: 'host' and 'binary' are required properties".into()));
    };
    let Some(disabled) = disabled else {
        state.store.declare_gone(&binary, &host).await?;
        return Ok(Json(json!({ "host": host, "service": binary, "binary": binary, "gone": true })));
    };
    state.store.set_service_disabled(&binary, &host, disabled, reason.as_deref()).await?;
    let mut answer = Map::from_iter([
        ("host".to_owned(), json!(host)),
        ("service".to_owned(), json!(binary)),
        ("binary".to_owned(), json!(binary)),
        ("disabled".to_owned(), json!(disabled)),
        ("status".to_owned(), json!(if disabled { "disabled" } else { "enabled" })),
    ]);
    if let Some(reason) = reason {
        answer.insert("disabled_reason".to_owned(), json!(reason));
    }
    Ok(Json(Value::Object(answer)))
}

/// `GET /v3/scheduler-stats/get_pools`
pub(super) async fn pools(State(state): State<AppState>, context: Context, pairs: Pairs) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::POOL_LIST)?;
    let detail = pairs.flag("detail")?;
    let services = state.store.services().await?;
    let pools = services.iter().flat_map(|service| service.pools.iter().map(move |pool| (service, pool)));
    let pools = pools.filter(|(_, pool)| pairs.value("name").is_none_or(|name| pool.name == name));
    let view = |(service, pool): (_, &Pool)| if detail { pool_view(service, pool) } else { json!({ "name": pool.name }) };
    let list: Vec<Value> = pools.map(view).collect();
    Ok(Json(json!({ "pools": list })))
}

/// Whether a service's storage can be used, in the field's words.
fn backend_state(service: &ServiceRow) -> &'static str {
    if service.problem.is_some() { "down" } else { "up" }
}

fn view(service: &ServiceRow, version: Microversion, now: i64) -> Value {
    let mut view = json!({
        "binary": service.name,
        "host": service.host,
        "zone": service.availability_zone,
        "status": if service.disabled { "disabled" } else { "enabled" },
        "state": if service.is_up(now) { "up" } else { "down" },
        "updated_at": time(service.heartbeat_at_us),
        "disabled_reason": service.disabled_reason,
    });
    if let Some(fields) = view.as_object_mut().filter(|_| service.name == VOLUME_SERVICE) {
        if version >= Microversion::BACKEND_STATE {
            fields.insert("backend_state".into(), json!(backend_state(service)));
        }
        // Not in the field's API, and so told only where there is one. What a service said that has fallen silent since says nothing.
        let problem = service.problem.iter().filter(|_| service.is_heard_of(now));
        fields.extend(problem.map(|problem| ("backend_problem".to_owned(), json!(problem))));
    }
    view
}

fn pool_view(service: &ServiceRow, pool: &Pool) -> Value {
    let mut capabilities = json!({
        "volume_backend_name": pool.backend_name,
        "total_capacity_gb": pool.total_gib,
        "free_capacity_gb": pool.free_gib,
        "thin_provisioning_support": pool.thin,
        "max_over_subscription_ratio": pool.max_over_subscription_ratio.to_string(),
        "reserved_percentage": pool.reserved_percentage,
        "multiattach": pool.multiattach,
        "availability_zone": pool.availability_zone,
        "storage_protocol": "iSCSI",
        "vendor_name": "Bowline",
        "backend_state": backend_state(service),
    });
    if let Some(capabilities) = capabilities.as_object_mut() {
        capabilities.extend(pool.capabilities.clone());
    }
    json!({ "name": pool.name, "capabilities": capabilities })
}
