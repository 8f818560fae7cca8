//! What clients ask about the service itself: its extensions, what lists can be filtered by, and the lists that are always empty,
//! for what this service has none of.

use axum::Json;
use axum::extract::OriginalUri;
use serde_json::{Value, json};

use super::errors::ApiError;
use super::path::Path;
use super::policy::{self, Context, allow};
use super::query::Pairs;

/// The extensions of the field's service that this one has: alias and name.
const EXTENSIONS: [(&str, &str); 17] = [
    ("OS-SCH-HNT", "SchedulerHints"),
    ("os-admin-actions", "AdminActions"),
    ("os-availability-zone", "AvailabilityZones"),
    ("os-extended-snapshot-attributes", "ExtendedSnapshotAttributes"),
    ("os-quota-class-sets", "QuotaClasses"),
    ("os-quota-sets", "Quotas"),
    ("os-services", "Services"),
    ("os-types-extra-specs", "TypesExtraSpecs"),
    ("os-types-manage", "TypesManage"),
    ("os-used-limits", "UsedLimits"),
    ("os-vol-host-attr", "VolumeHostAttribute"),
    ("os-vol-mig-status-attr", "VolumeMigStatusAttribute"),
    ("os-vol-tenant-attr", "VolumeTenantAttribute"),
    ("os-volume-actions", "VolumeActions"),
    ("os-volume-transfer", "VolumeTransfer"),
    ("os-volume-type-access", "VolumeTypeAccess"),
    ("qos-specs", "Qos_specs_manage"),
];

/// What lists can be filtered by, by resource.
const FILTERS: [(&str, &[&str]); 3] = [
    (
        "volume",
        &[
            "name",
            "status",
            "metadata",
            "bootable",
            "multiattach",
            "availability_zone",
            "created_at",
            "updated_at",
            "consumes_quota",
        ],
    ),
    ("snapshot", &["name", "status", "volume_id", "metadata", "availability_zone", "created_at", "updated_at"]),
    ("attachment", &["volume_id", "status", "instance_id", "attach_status"]),
];

/// `GET /v3/extensions`
pub(super) async fn extensions(context: Context) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::NOTHING_MORE)?;
    let list: Vec<Value> = EXTENSIONS.iter().map(|(alias, name)| extension(alias, name)).collect();
    Ok(Json(json!({ "extensions": list })))
}

/// `GET /v3/extensions/{alias}`
pub(super) async fn show_extension(context: Context, Path(alias): Path<String>) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::NOTHING_MORE)?;
    match EXTENSIONS.iter().find(|(known, _)| *known == alias) {
        Some((alias, name)) => Ok(Json(json!({ "extension": extension(alias, name) }))),
        None => Err(super::errors::no_such_path().await),
    }
}

fn extension(alias: &str, name: &str) -> Value {
    json!({ "alias": alias, "name": name, "description": name, "links": [], "updated": "2011-06-29T00:00:00+00:00" })
}

/// `GET /v3/resource_filters`
pub(super) async fn resource_filters(context: Context, pairs: Pairs) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::NOTHING_MORE)?;
    let wanted = pairs.value("resource");
    let list: Vec<Value> = FILTERS
        .iter()
        .filter(|(resource, _)| wanted.is_none_or(|wanted| wanted == *resource))
        .map(|(resource, filters)| json!({ "resource": resource, "filters": filters }))
        .collect();
    Ok(Json(json!({ "resource_filters": list })))
}

/// `GET /v3/groups`, `/v3/groups/detail`, `/v3/group_types` and their like: there are none.
pub(super) async fn none(context: Context, OriginalUri(uri): OriginalUri) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::NOTHING_MORE)?;
    let path = uri.path().trim_end_matches("/detail");
    let name = path.rsplit('/').next().unwrap_or_default();
    Ok(Json(json!({ name: [] })))
}
