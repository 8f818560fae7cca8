//! Images without their bytes: make, show, change, delete.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use uuid::Uuid;

use super::errors::ImageError;
use super::guard::{self, IMAGE_ADD};
use super::{fields, view};
use crate::api::AppState;
use crate::api::path::Path;
use crate::api::policy::{Context, allow};
use crate::api::versions::origin;
use crate::domain::{Image, ImageStatus, Visibility};
use crate::store::NewImage;

/// `POST /v2/images`
pub(super) async fn create(
    State(state): State<AppState>,
    context: Context,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ImageError> {
    allow(&context, IMAGE_ADD)?;
    let Ok(Value::Object(mut said)) = serde_json::from_slice(&body) else {
        return Err(ImageError::bad("Request body must be a JSON object."));
    };
    let id = match said.remove("id") {
        None | Some(Value::Null) => Uuid::new_v4(),
        Some(id) => {
            id.as_str().and_then(|id| Uuid::parse_str(id).ok()).ok_or_else(|| ImageError::bad("Invalid image id format"))?
        }
    };
    let mut image = empty(id, &context.project_id);
    match said.remove("owner") {
        None | Some(Value::Null) => {}
        Some(Value::String(owner)) if owner == context.project_id || context.is_admin() => image.project_id = owner,
        Some(_) => return Err(ImageError::forbidden("You are not permitted to create images owned by another project.")),
    }
    if said.get("os_hidden") == Some(&Value::Bool(false)) {
        said.remove("os_hidden");
    }
    for (key, value) in said {
        fields::set(&mut image, &key, value)?;
    }
    may_be_public(&context, &image)?;
    let new = NewImage {
        id,
        project_id: image.project_id,
        name: image.name,
        visibility: image.visibility,
        protected: image.protected,
        disk_format: image.disk_format,
        container_format: image.container_format,
        min_disk_gib: image.min_disk_gib,
        min_ram_mib: image.min_ram_mib,
        properties: image.properties,
        tags: image.tags,
    };
    let image = state.store.insert_image(new).await?;
    let mut response = (StatusCode::CREATED, Json(view::image(&image))).into_response();
    if let Ok(location) = HeaderValue::try_from(format!("{}/image/v2/images/{id}", origin(&headers))) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// What an image is that nobody has said anything of.
fn empty(id: Uuid, project_id: &str) -> Image {
    Image {
        id,
        project_id: project_id.to_owned(),
        name: None,
        status: ImageStatus::Queued,
        visibility: Visibility::Shared,
        protected: false,
        disk_format: None,
        container_format: None,
        size_bytes: None,
        virtual_bytes: None,
        min_disk_gib: 0,
        min_ram_mib: 0,
        checksum: None,
        hash_value: None,
        properties: Default::default(),
        tags: Default::default(),
        created_at_us: 0,
        updated_at_us: None,
    }
}

/// What all projects see is an administrator's to say.
fn may_be_public(context: &Context, image: &Image) -> Result<(), ImageError> {
    if image.visibility == Visibility::Public && !context.is_admin() {
        return Err(ImageError::forbidden("You are not authorized to complete publicize_image action."));
    }
    Ok(())
}

/// `GET /v2/images/{id}`
pub(super) async fn show(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
) -> Result<Json<Value>, ImageError> {
    Ok(Json(view::image(&guard::seen(&state, &context, &id).await?)))
}

/// `PATCH /v2/images/{id}`
pub(super) async fn patch(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ImageError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("application/openstack-images-v2.") || !kind.contains("-json-patch") {
        let text = "Accepted media types are application/openstack-images-v2.1-json-patch, application/openstack-images-v2.0-json-patch";
        return Err(ImageError(StatusCode::UNSUPPORTED_MEDIA_TYPE, text.into()));
    }
    let id = guard::owned(&state, &context, &id).await?.id;
    let patches = fields::patches(&body)?;
    let mut kept = None;
    let changed = state.store.change_image(id, |image| {
        let was = image.visibility;
        let change = patches.into_iter().try_for_each(|patch| fields::apply(image, patch, context.is_admin()));
        let allowed = change.and_then(|()| if was == image.visibility { Ok(()) } else { may_be_public(&context, image) });
        allowed.map_err(|error| fields::as_refusal(error, &mut kept))
    });
    let changed = changed.await;
    match kept {
        Some(error) => Err(error),
        None => Ok(Json(view::image(&changed?))),
    }
}

/// `DELETE /v2/images/{id}`
pub(super) async fn remove(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
) -> Result<StatusCode, ImageError> {
    let id = guard::owned(&state, &context, &id).await?.id;
    state.store.delete_image(id).await?;
    // Where this fails or is cut off, bytes without an image are left, which the next start removes.
    state.images.remove(id)?;
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT /v2/images/{id}/tags/{tag}`
pub(super) async fn add_tag(
    State(state): State<AppState>,
    context: Context,
    Path((id, tag)): Path<(String, String)>,
) -> Result<StatusCode, ImageError> {
    let image = guard::owned(&state, &context, &id).await?;
    let mut tags: Vec<Value> = image.tags.into_iter().map(Value::String).collect();
    tags.push(Value::String(tag));
    let mut kept = None;
    let changed = state.store.change_image(image.id, |image| {
        fields::set(image, "tags", Value::Array(tags)).map_err(|error| fields::as_refusal(error, &mut kept))
    });
    let changed = changed.await;
    if let Some(error) = kept {
        return Err(error);
    }
    changed?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /v2/images/{id}/tags/{tag}`
pub(super) async fn remove_tag(
    State(state): State<AppState>,
    context: Context,
    Path((id, tag)): Path<(String, String)>,
) -> Result<StatusCode, ImageError> {
    let image = guard::owned(&state, &context, &id).await?;
    if !image.tags.contains(&tag) {
        return Err(ImageError(StatusCode::NOT_FOUND, "Tag not found".into()));
    }
    state
        .store
        .change_image(image.id, |image| {
            image.tags.remove(&tag);
            Ok(())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v2/images/{id}/actions/{deactivate|reactivate}`
pub(super) async fn act(
    State(state): State<AppState>,
    context: Context,
    Path((id, action)): Path<(String, String)>,
) -> Result<StatusCode, ImageError> {
    let image = guard::owned(&state, &context, &id).await?;
    if !context.is_admin() {
        return Err(ImageError::forbidden("You are not authorized to complete deactivate action."));
    }
    let to = match action.as_str() {
        "deactivate" => ImageStatus::Deactivated,
        "reactivate" => ImageStatus::Active,
        _ => return Err(ImageError(StatusCode::NOT_FOUND, "The resource could not be found.".into())),
    };
    if !matches!(image.status, ImageStatus::Active | ImageStatus::Deactivated) {
        return Err(ImageError::forbidden(format!("Not allowed to {action} image in status '{}'", image.status)));
    }
    state
        .store
        .change_image(image.id, |image| {
            image.status = to;
            Ok(())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
