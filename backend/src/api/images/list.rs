//! Lists of images: filters, order, pages.

use axum::Json;
use axum::extract::{Query, State};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::errors::ImageError;
use super::guard::IMAGE_LIST;
use super::view;
use crate::api::AppState;
use crate::api::policy::{Context, allow};
use crate::domain::MemberStatus;
use crate::store::{ImageFilter, ImageSort, SortDirection};

/// A page where nobody asks for a length, and the longest there is.
const PAGE: u32 = 25;
const LONGEST_PAGE: u32 = 1000;

/// `GET /v2/images`
pub(super) async fn list(
    State(state): State<AppState>,
    context: Context,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, ImageError> {
    allow(&context, IMAGE_LIST)?;
    let mut filter = ImageFilter {
        seen_by: (!context.is_admin()).then(|| context.project_id.clone()),
        member_status: None,
        equal: Vec::new(),
        protected: None,
        size_min: None,
        size_max: None,
        properties: Vec::new(),
        tags: Vec::new(),
        sort: ImageSort::CreatedAt,
        direction: SortDirection::Desc,
        marker: None,
        limit: PAGE,
    };
    let mut nothing = false;
    for (key, value) in &pairs {
        nothing |= !apply(&mut filter, key, value)?;
    }
    let images = if nothing || filter.limit == 0 { Vec::new() } else { state.store.images(&filter).await? };
    let path = |marker: Option<Uuid>| {
        let same = pairs.iter().filter(|(key, _)| key != "marker").map(|(key, value)| format!("{key}={}", escaped(value)));
        let marker = marker.map(|id| format!("marker={id}"));
        let query: Vec<String> = same.chain(marker).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        format!("/v2/images{mark}{}", query.join("&"))
    };
    let mut answer = Map::from_iter([
        ("images".to_owned(), Value::Array(images.iter().map(view::image).collect())),
        ("first".to_owned(), json!(path(None))),
        ("schema".to_owned(), json!("/v2/schemas/images")),
    ]);
    let full = u32::try_from(images.len()).is_ok_and(|length| length == filter.limit);
    if let Some(last) = images.last().filter(|_| full) {
        answer.insert("next".into(), json!(path(Some(last.id))));
    }
    Ok(Json(Value::Object(answer)))
}

/// One pair of the query; false where nothing can match it.
fn apply(filter: &mut ImageFilter, key: &str, value: &str) -> Result<bool, ImageError> {
    let wrong = || ImageError::bad(format!("Invalid value for {key}: {value}"));
    match key {
        "name" | "status" | "disk_format" | "container_format" | "checksum" => equal(filter, key, value),
        "visibility" if value == "all" => {}
        "visibility" => equal(filter, key, value),
        "id" => equal(filter, key, &value.to_ascii_lowercase()),
        "owner" => filter.equal.push(("project_id", value.to_owned())),
        "os_hash_value" => filter.equal.push(("hash_value", value.to_owned())),
        "os_hash_algo" => return Ok(value == "sha512"),
        // Nothing is hidden here.
        "os_hidden" => return Ok(!value.eq_ignore_ascii_case("true")),
        "protected" => {
            filter.protected = Some(match value.to_ascii_lowercase().as_str() {
                "true" => true,
                "false" => false,
                _ => return Err(wrong()),
            });
        }
        "size_min" => filter.size_min = Some(value.parse().map_err(|_| wrong())?),
        "size_max" => filter.size_max = Some(value.parse().map_err(|_| wrong())?),
        "member_status" if value == "all" => {}
        "member_status" => filter.member_status = Some(MemberStatus::parse(value).ok_or_else(wrong)?),
        "tag" => filter.tags.push(value.to_owned()),
        "sort_key" => filter.sort = ImageSort::parse(value).ok_or_else(wrong)?,
        "sort_dir" => filter.direction = direction(value).ok_or_else(wrong)?,
        "sort" => {
            // What the first key leaves equal, age orders.
            let first = value.split(',').next().unwrap_or_default();
            let (name, way) = first.split_once(':').unwrap_or((first, "desc"));
            filter.sort = ImageSort::parse(name).ok_or_else(wrong)?;
            filter.direction = direction(way).ok_or_else(wrong)?;
        }
        "marker" => filter.marker = Some(Uuid::parse_str(value).map_err(|_| wrong())?),
        "limit" => filter.limit = value.parse::<u32>().map_err(|_| wrong())?.min(LONGEST_PAGE),
        "created_at" | "updated_at" => return Err(ImageError::bad(format!("The filter {key} is not supported here"))),
        _ => filter.properties.push((key.to_owned(), value.to_owned())),
    }
    Ok(true)
}

fn equal(filter: &mut ImageFilter, key: &str, value: &str) {
    let column = match key {
        "name" => "name",
        "status" => "status",
        "visibility" => "visibility",
        "disk_format" => "disk_format",
        "container_format" => "container_format",
        "checksum" => "checksum",
        _ => "id",
    };
    filter.equal.push((column, value.to_owned()));
}

fn direction(word: &str) -> Option<SortDirection> {
    match word {
        "asc" => Some(SortDirection::Asc),
        "desc" => Some(SortDirection::Desc),
        _ => None,
    }
}

/// A value as a query has it.
fn escaped(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    value.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
