//! Volumes made from images and images made from volumes, over HTTP.

use serde_json::{Value, json};
use tracing::warn;
use uuid::Uuid;

use super::AppState;
use super::body::{Fields, invalid};
use super::errors::ApiError;
use super::microversion::Microversion;
use super::policy::Context;
use super::views::time;
use crate::domain::volume::GIB;
use crate::domain::{Image, ImageStatus, Refusal, Source, Visibility, Volume, rules};
use crate::luks::HEADER_BYTES;
use crate::store::NewImage;
use crate::volume::chain;

/// An image that the asker sees.
async fn seen(state: &AppState, context: &Context, id: Uuid) -> Result<Image, ApiError> {
    let absent = || ApiError::from(Refusal::ImageNotFound(id.to_string()));
    Ok(match &state.glance {
        Some(glance) => glance.show(&context.token, id).await?.ok_or_else(absent)?,
        None => {
            let image = state.store.image(id).await?;
            let members = state.store.image_members(id).await?;
            let is_member = members.iter().any(|member| member.project_id == context.project_id);
            if !context.is_admin() && !image.seen_by(&context.project_id, is_member) {
                return Err(absent());
            }
            image
        }
    })
}

/// Whether an encrypted volume has room for the image and for the header before it.
pub(super) async fn fits_encrypted(state: &AppState, context: &Context, id: Uuid, size_gib: u64) -> Result<(), ApiError> {
    let image_bytes = seen(state, context, id).await?.virtual_bytes.unwrap_or(0);
    if image_bytes.saturating_add(HEADER_BYTES) <= size_gib.saturating_mul(GIB) {
        return Ok(());
    }
    let header_mib = HEADER_BYTES >> 20;
    Err(ApiError::BadRequest(format!(
        "Invalid input received: image {id} has {image_bytes} bytes and an encrypted volume a header of {header_mib} MiB before them, \
         which is more than volume size {size_gib}GB: ask for {} GB",
        image_bytes.saturating_add(HEADER_BYTES).div_ceil(GIB)
    )))
}

/// An image as a volume's source, where the asker sees it and the volume is large enough.
pub(super) async fn source(state: &AppState, context: &Context, id: Uuid, size_gib: Option<u64>) -> Result<Source, ApiError> {
    let image = seen(state, context, id).await?;
    let wrong = |text: String| Err(ApiError::BadRequest(format!("Invalid input received: {text}")));
    let Some(size_gib) = size_gib else {
        return Err(ApiError::BadRequest("Invalid input for field/attribute volume. 'size' is a required property".into()));
    };
    if image.status != ImageStatus::Active {
        return wrong(format!("Image {id} is not active."));
    }
    let least_gib = image.virtual_bytes.unwrap_or(0).div_ceil(GIB);
    if size_gib < least_gib {
        return wrong(format!("Size of specified image {least_gib}GB is larger than volume size {size_gib}GB."));
    }
    if size_gib < image.min_disk_gib {
        let least = image.min_disk_gib;
        return wrong(format!("Volume size {size_gib}GB cannot be smaller than the image minDisk size {least}GB."));
    }
    Ok(Source::Image(id))
}

/// `os-volume_upload_image`: reads a volume into a new image.
pub(super) async fn upload(
    state: &AppState,
    context: &Context,
    version: Microversion,
    volume: &Volume,
    mut fields: Fields,
) -> Result<Value, ApiError> {
    let name = fields.text("image_name")?.filter(|name| !name.is_empty());
    let name =
        name.ok_or_else(|| ApiError::BadRequest("Invalid input for field/attribute image_name. It is required".into()))?;
    fields.boolean("force")?;
    let disk_format = fields.text("disk_format")?.unwrap_or_else(|| "raw".into());
    let container_format = fields.text("container_format")?.unwrap_or_else(|| "bare".into());
    let visibility = fields.text("visibility")?.unwrap_or_else(|| "private".into());
    let protected = fields.boolean("protected")?.unwrap_or(false);
    fields.finish(version)?;
    if !matches!(disk_format.as_str(), "raw" | "qcow2") {
        return Err(invalid("disk_format", &json!(disk_format), "volumes become raw or qcow2 images here"));
    }
    if container_format != "bare" {
        return Err(invalid("container_format", &json!(container_format), "it must be bare"));
    }
    let visibility = match Visibility::parse(&visibility) {
        Some(Visibility::Public) if !context.is_admin() => {
            return Err(ApiError::Forbidden("volume_extension:volume_actions:upload_public"));
        }
        Some(visibility) => visibility,
        None => return Err(invalid("visibility", &json!(visibility), "it must be community, private, public or shared")),
    };
    if volume.encryption_key_id.is_some() {
        let text = format!(
            "Invalid volume: Volume {} is encrypted: an image of it would be of no use without its key, which images here do not have. Back it up \
             instead.",
            volume.id
        );
        return Err(ApiError::BadRequest(text));
    }
    let new = NewImage {
        id: Uuid::new_v4(),
        project_id: context.project_id.clone(),
        name: Some(name.clone()),
        visibility,
        protected,
        disk_format: Some(disk_format.clone()),
        container_format: Some(container_format.clone()),
        min_disk_gib: volume.size_gib,
        min_ram_mib: 0,
        properties: kept_properties(volume.image_metadata.clone().unwrap_or_default()),
        tags: Default::default(),
    };
    let image_id = new.id;
    let volume = match &state.glance {
        None => state.accept.upload_volume(volume.id, image_id, Some(new), context.asker()).await?,
        Some(glance) => {
            rules::upload(volume)?;
            glance.create(&context.token, &new).await?;
            let accepted = state.accept.upload_volume(volume.id, image_id, None, context.asker()).await;
            if accepted.is_err()
                && let Err(error) = glance.remove(image_id).await
            {
                warn!(image = %image_id, "it stays without bytes: {}", chain(&error));
            }
            accepted?
        }
    };
    let answer = json!({
        "id": volume.id,
        "status": volume.status.as_str(),
        "size": volume.size_gib,
        "display_description": volume.description,
        "volume_type": volume.volume_type,
        "updated_at": volume.updated_at_us.map(time),
        "image_id": image_id,
        "image_name": name,
        "disk_format": disk_format,
        "container_format": container_format,
        "visibility": visibility.as_str(),
        "protected": protected,
    });
    Ok(json!({ "os-volume_upload_image": answer }))
}

/// What the volume remembers of its own image, without what is true of those bytes only.
fn kept_properties(mut facts: std::collections::BTreeMap<String, String>) -> std::collections::BTreeMap<String, String> {
    for key in ["image_id", "image_name", "checksum", "container_format", "disk_format", "min_disk", "min_ram", "size"] {
        facts.remove(key);
    }
    facts
}
