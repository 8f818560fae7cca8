//! Quotas over HTTP: what a project may have, and the default class that holds for those without limits of their own.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::AppState;
use super::body::{Body, invalid};
use super::errors::ApiError;
use super::microversion::Microversion;
use super::path::Path;
use super::policy::{self, Context, allow, allow_for};
use super::query::Pairs;
use crate::domain::Refusal;
use crate::store::QuotaLine;

/// What is limited whether or not a limit is set; -1 is without limit.
const RESOURCES: [&str; 7] =
    ["volumes", "gigabytes", "snapshots", "backups", "backup_gigabytes", "per_volume_gigabytes", "groups"];

/// Resources of which there is one more for each type.
const PER_TYPE: [&str; 3] = ["volumes", "gigabytes", "snapshots"];

/// The owner of the limits of a class, as the database has it.
fn class_owner(class: &str) -> String {
    format!("class:{class}")
}

/// `GET /v3/os-quota-sets/{project}[?usage=true]`
pub(super) async fn show(
    State(state): State<AppState>,
    context: Context,
    Path(project): Path<String>,
    pairs: Pairs,
) -> Result<Json<Value>, ApiError> {
    let project = project.replace('-', "");
    seen(&context, &project)?;
    let with_usage = pairs.flag("usage")?;
    let lines = lines(&state, &project).await?;
    let set = lines.into_values().map(|line| {
        let value = if with_usage {
            json!({ "limit": line.limit, "in_use": line.in_use, "reserved": line.reserved })
        } else {
            json!(line.limit)
        };
        (line.resource, value)
    });
    Ok(Json(wrapped("quota_set", &project, set)))
}

/// `GET /v3/os-quota-sets/{project}/defaults`
pub(super) async fn defaults(
    State(state): State<AppState>,
    context: Context,
    Path(project): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let project = project.replace('-', "");
    seen(&context, &project)?;
    // An owner that has nothing: what holds for it is what holds for all.
    let lines = lines(&state, "").await?;
    Ok(Json(wrapped("quota_set", &project, lines.into_values().map(|line| (line.resource, json!(line.limit))))))
}

/// `PUT /v3/os-quota-sets/{project}`
pub(super) async fn update(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    Path(project): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::QUOTA_CHANGE)?;
    let project = project.replace('-', "");
    let changes = changes(&state, body.object("quota_set", version)?.rest()).await?;
    for (resource, limit) in &changes {
        state.store.set_quota(&project, resource, *limit).await?;
    }
    let lines = lines(&state, &project).await?;
    Ok(Json(json!({ "quota_set": lines.into_values().map(|line| (line.resource, line.limit)).collect::<BTreeMap<_, _>>() })))
}

/// `DELETE /v3/os-quota-sets/{project}`: the defaults hold again.
pub(super) async fn delete(
    State(state): State<AppState>,
    context: Context,
    Path(project): Path<String>,
) -> Result<StatusCode, ApiError> {
    allow(&context, policy::QUOTA_CHANGE)?;
    state.store.forget_quotas(&project.replace('-', "")).await?;
    Ok(StatusCode::OK)
}

/// `GET /v3/os-quota-class-sets/{class}`
pub(super) async fn show_class(
    State(state): State<AppState>,
    context: Context,
    Path(class): Path<String>,
) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::QUOTA_CLASS)?;
    let lines = lines(&state, &class_owner(&class)).await?;
    Ok(Json(wrapped("quota_class_set", &class, lines.into_values().map(|line| (line.resource, json!(line.limit))))))
}

/// `PUT /v3/os-quota-class-sets/{class}`
pub(super) async fn update_class(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    Path(class): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::QUOTA_CHANGE)?;
    if class.len() > 200 {
        return Err(ApiError::BadRequest("Invalid input received: the class's name is too long".into()));
    }
    let owner = class_owner(&class);
    let changes = changes(&state, body.object("quota_class_set", version)?.rest()).await?;
    for (resource, limit) in &changes {
        state.store.set_quota(&owner, resource, *limit).await?;
    }
    let lines = lines(&state, &owner).await?;
    let set: BTreeMap<String, i64> = lines.into_values().map(|line| (line.resource, line.limit)).collect();
    Ok(Json(json!({ "quota_class_set": set })))
}

/// A project's own quotas are for its members, others' for administrators.
fn seen(context: &Context, project: &str) -> Result<(), ApiError> {
    let absent = Refusal::NotFound(format!("Project {project} could not be found."));
    allow_for(context, policy::QUOTA_GET, project, absent)
}

/// Every resource there is, with what may be and what is.
async fn lines(state: &AppState, owner: &str) -> Result<BTreeMap<String, QuotaLine>, ApiError> {
    let mut lines: BTreeMap<String, QuotaLine> = resources(state)
        .await?
        .into_iter()
        .map(|resource| (resource.clone(), QuotaLine { resource, limit: -1, in_use: 0, reserved: 0 }))
        .collect();
    for line in state.store.quotas(owner, state.accept.limits()).await? {
        lines.insert(line.resource.clone(), line);
    }
    Ok(lines)
}

async fn resources(state: &AppState) -> Result<Vec<String>, ApiError> {
    let mut all: Vec<String> = RESOURCES.map(str::to_owned).into();
    for one in state.store.volume_types(None).await? {
        all.extend(PER_TYPE.map(|things| format!("{things}_{}", one.name)));
    }
    Ok(all)
}

/// The limits that are asked for, each checked before any is set.
async fn changes(state: &AppState, mut given: Map<String, Value>) -> Result<Vec<(String, i64)>, ApiError> {
    for said_by_clients in ["tenant_id", "project_id", "id", "force", "class_name"] {
        given.remove(said_by_clients);
    }
    let known = resources(state).await?;
    let unknown: Vec<&str> = given.keys().filter(|key| !known.contains(key)).map(String::as_str).collect();
    if !unknown.is_empty() {
        return Err(ApiError::BadRequest(format!("Bad key(s) in quota set: {}", unknown.join(","))));
    }
    let limit = |(key, value): (String, Value)| {
        let number = match &value {
            Value::Number(number) => number.as_i64(),
            Value::String(digits) => digits.parse().ok(),
            _ => None,
        };
        match number {
            Some(number) if (-1..=i64::from(i32::MAX)).contains(&number) => Ok((key, number)),
            Some(_) => Err(invalid(&key, &value, &format!("it must be from -1 to {}", i32::MAX))),
            None => Err(invalid(&key, &value, &format!("{value} is not of type 'integer'"))),
        }
    };
    given.into_iter().map(limit).collect()
}

fn wrapped(name: &str, id: &str, set: impl Iterator<Item = (String, Value)>) -> Value {
    let mut set: Map<String, Value> = set.collect();
    set.insert("id".into(), json!(id));
    json!({ name: set })
}
