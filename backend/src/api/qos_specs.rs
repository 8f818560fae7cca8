//! Quality-of-service specs over HTTP, for administrators.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::AppState;
use super::body::{Body, Fields, invalid};
use super::errors::ApiError;
use super::microversion::Microversion;
use super::path::Path;
use super::policy::{self, Context, allow};
use super::query::Pairs;
use crate::domain::{QosConsumer, QosSpecs, Refusal};

/// `GET /v3/qos-specs`
pub(super) async fn list(State(state): State<AppState>, context: Context) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::QOS)?;
    let list: Vec<Value> = state.store.all_qos().await?.iter().map(view).collect();
    Ok(Json(json!({ "qos_specs": list })))
}

/// `POST /v3/qos-specs`
pub(super) async fn create(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::QOS)?;
    let mut fields = body.object("qos_specs", version)?;
    let name = fields.required_text("name")?.trim().to_owned();
    let consumer = consumer(&mut fields)?.unwrap_or(QosConsumer::BackEnd);
    let new = QosSpecs { id: Uuid::new_v4().to_string(), name, consumer, specs: specs(fields)? };
    state.store.insert_qos(&new).await?;
    Ok(Json(json!({ "qos_specs": view(&new), "links": links(&new.id) })))
}

/// `GET /v3/qos-specs/{id}`
pub(super) async fn show(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::QOS)?;
    let found = state.store.qos(&id).await?;
    Ok(Json(json!({ "qos_specs": view(&found), "links": links(&found.id) })))
}

/// `PUT /v3/qos-specs/{id}`: adds to what is there.
pub(super) async fn update(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::QOS)?;
    let mut fields = body.object("qos_specs", version)?;
    let new_consumer = consumer(&mut fields)?;
    let specs = specs(fields)?;
    let mut given = json!(specs);
    if let (Some(consumer), Some(given)) = (new_consumer, given.as_object_mut()) {
        given.insert("consumer".into(), json!(consumer.as_str()));
    }
    state
        .store
        .change_qos(&id, |consumer, old| {
            *consumer = new_consumer.unwrap_or(*consumer);
            old.extend(specs);
            Ok(())
        })
        .await?;
    Ok(Json(json!({ "qos_specs": given })))
}

/// `PUT /v3/qos-specs/{id}/delete_keys`
pub(super) async fn delete_keys(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
    Body(mut map): Body,
) -> Result<StatusCode, ApiError> {
    allow(&context, policy::QOS)?;
    let wrong = |value: &Value| invalid("keys", value, "it is not a list of texts");
    let given = map.remove("keys").unwrap_or_default();
    let Value::Array(list) = &given else { return Err(wrong(&given)) };
    let keys: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
    let keys = keys.ok_or_else(|| wrong(&given))?;
    state
        .store
        .change_qos(&id, |_, old| {
            keys.iter().try_for_each(|key| match old.remove(*key) {
                Some(_) => Ok(()),
                None => Err(Refusal::NotFound(format!("QoS spec {id} has no spec with key {key}."))),
            })
        })
        .await?;
    Ok(StatusCode::ACCEPTED)
}

/// `DELETE /v3/qos-specs/{id}`
pub(super) async fn delete(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
    pairs: Pairs,
) -> Result<StatusCode, ApiError> {
    allow(&context, policy::QOS)?;
    state.store.delete_qos(&id, pairs.flag("force")?).await?;
    Ok(StatusCode::ACCEPTED)
}

/// `GET /v3/qos-specs/{id}/associations`
pub(super) async fn associations(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::QOS)?;
    let types = state.store.types_of_qos(&id).await?;
    let list: Vec<Value> =
        types.iter().map(|one| json!({ "association_type": "volume_type", "name": one.name, "id": one.id })).collect();
    Ok(Json(json!({ "qos_associations": list })))
}

/// `GET /v3/qos-specs/{id}/associate?vol_type_id=…`: the field changes it by a GET.
pub(super) async fn associate(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
    pairs: Pairs,
) -> Result<StatusCode, ApiError> {
    allow(&context, policy::QOS)?;
    state.store.associate_qos(&id, type_id(&pairs)?).await?;
    Ok(StatusCode::ACCEPTED)
}

/// `GET /v3/qos-specs/{id}/disassociate?vol_type_id=…`
pub(super) async fn disassociate(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
    pairs: Pairs,
) -> Result<StatusCode, ApiError> {
    allow(&context, policy::QOS)?;
    state.store.disassociate_qos(&id, Some(type_id(&pairs)?)).await?;
    Ok(StatusCode::ACCEPTED)
}

/// `GET /v3/qos-specs/{id}/disassociate_all`
pub(super) async fn disassociate_all(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    allow(&context, policy::QOS)?;
    state.store.disassociate_qos(&id, None).await?;
    Ok(StatusCode::ACCEPTED)
}

fn type_id(pairs: &Pairs) -> Result<&str, ApiError> {
    pairs.value("vol_type_id").ok_or_else(|| ApiError::BadRequest("Volume Type id must not be None.".into()))
}

fn consumer(fields: &mut Fields) -> Result<Option<QosConsumer>, ApiError> {
    let Some(word) = fields.text("consumer")? else { return Ok(None) };
    QosConsumer::parse(&word)
        .map(Some)
        .ok_or_else(|| invalid("consumer", &json!(word), &format!("'{word}' is not one of ['back-end', 'front-end', 'both']")))
}

/// Whatever is left is a spec; numbers and truth values become text.
fn specs(fields: Fields) -> Result<BTreeMap<String, String>, ApiError> {
    let mut map = fields.rest();
    for (key, value) in &mut map {
        match value {
            Value::Number(_) | Value::Bool(_) => *value = Value::String(value.to_string()),
            Value::String(_) => {}
            other => return Err(invalid(key, other, &format!("{other} is not of type 'string'"))),
        }
    }
    let wrapped = Body([("qos_specs".to_owned(), Value::Object(map))].into_iter().collect());
    Ok(Fields::from(wrapped).pairs("qos_specs")?.unwrap_or_default())
}

fn view(specs: &QosSpecs) -> Value {
    json!({ "id": specs.id, "name": specs.name, "consumer": specs.consumer.as_str(), "specs": specs.specs })
}

fn links(id: &str) -> Value {
    json!([{ "rel": "self", "href": format!("/v3/qos-specs/{id}") }, { "rel": "bookmark", "href": format!("/qos-specs/{id}") }])
}
