//! Every path there is.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::{Request, Response};
use axum::routing::{get, post, put};
use axum::{Router, middleware};
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;

use super::{
    AppState, actions, attachments, auth, availability_zones, backups, discovery, encryption, errors, health, idempotency,
    identity, images, key_manager, leases, limits, messages, metadata, metrics, microversion, operations, project, qos_specs,
    quota_sets, request_id, services, snapshots, transfers, types, versions, volumes,
};

/// The field's limit for a request's body, in bytes.
pub(super) const LARGEST_BODY: usize = 114_688;

/// Both paths of transfers: that of 3.55 and the one before.
const TRANSFERS: [&str; 2] = ["/v3/volume-transfers", "/v3/os-volume-transfer"];

/// What this service has none of, and clients list nevertheless.
const NONE: [&str; 5] = ["/v3/groups", "/v3/group_types", "/v3/group_snapshots", "/v3/consistencygroups", "/v3/clusters"];

/// Every path as one service.
pub(super) type Routes = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// Every path, with what each request passes on its way there.
pub(super) fn routes(state: AppState) -> Routes {
    let mut router = Router::new();
    for path in TRANSFERS {
        router = router
            .route(path, get(transfers::list).post(transfers::create))
            .route(&format!("{path}/detail"), get(transfers::list_detail))
            .route(&format!("{path}/{{id}}"), get(transfers::show).delete(transfers::delete))
            .route(&format!("{path}/{{id}}/accept"), post(transfers::accept));
    }
    for path in NONE {
        router = router.route(path, get(discovery::none)).route(&format!("{path}/detail"), get(discovery::none));
    }
    let router = router
        .route("/", get(versions::choices))
        .route("/healthz", get(health::show))
        .route("/metrics", get(metrics::show))
        .route("/v3", get(versions::v3))
        .route("/v3/", get(versions::v3))
        .route("/v3/limits", get(limits::show))
        .route("/v3/types", get(types::list).post(types::create))
        .route("/v3/types/{id}", get(types::show).put(types::update).delete(types::delete))
        .route("/v3/types/{id}/extra_specs", get(types::extra_specs::list).post(types::extra_specs::merge))
        .route(
            "/v3/types/{id}/extra_specs/{key}",
            get(types::extra_specs::show).put(types::extra_specs::set).delete(types::extra_specs::delete),
        )
        .route("/v3/types/{id}/os-volume-type-access", get(types::access::list))
        .route("/v3/types/{id}/action", post(types::access::action))
        .route("/v3/types/{id}/encryption", get(types::encryption::show).post(types::encryption::create))
        .route(
            "/v3/types/{id}/encryption/{key}",
            get(types::encryption::show_one).put(types::encryption::update).delete(types::encryption::delete),
        )
        .route("/v3/default-types", get(types::defaults::list))
        .route(
            "/v3/default-types/{project}",
            get(types::defaults::show).put(types::defaults::set).delete(types::defaults::unset),
        )
        .route("/v3/qos-specs", get(qos_specs::list).post(qos_specs::create))
        .route("/v3/qos-specs/{id}", get(qos_specs::show).put(qos_specs::update).delete(qos_specs::delete))
        .route("/v3/qos-specs/{id}/delete_keys", put(qos_specs::delete_keys))
        .route("/v3/qos-specs/{id}/associations", get(qos_specs::associations))
        .route("/v3/qos-specs/{id}/associate", get(qos_specs::associate))
        .route("/v3/qos-specs/{id}/disassociate", get(qos_specs::disassociate))
        .route("/v3/qos-specs/{id}/disassociate_all", get(qos_specs::disassociate_all))
        .route("/v3/os-quota-sets/{project}", get(quota_sets::show).put(quota_sets::update).delete(quota_sets::delete))
        .route("/v3/os-quota-sets/{project}/defaults", get(quota_sets::defaults))
        .route("/v3/os-quota-class-sets/{class}", get(quota_sets::show_class).put(quota_sets::update_class))
        .route("/v3/volumes/{id}/action", post(actions::volume))
        .route("/v3/volumes/{id}/encryption", get(encryption::show))
        .route("/v3/volumes/{id}/encryption/{key}", get(encryption::show_one))
        .route("/v3/volumes", get(volumes::list).post(volumes::create))
        .route("/v3/volumes/detail", get(volumes::list_detail))
        .route("/v3/volumes/summary", get(volumes::summary))
        .route("/v3/volumes/{id}", get(volumes::show).put(volumes::update).delete(volumes::delete))
        .route("/v3/attachments", get(attachments::list).post(attachments::create))
        .route("/v3/attachments/detail", get(attachments::list_detail))
        .route("/v3/attachments/{id}", get(attachments::show).put(attachments::update).delete(attachments::delete))
        .route("/v3/attachments/{id}/action", post(attachments::action))
        .route("/v3/hosts/{host}/lease", put(leases::renew))
        .route("/v3/snapshots", get(snapshots::list).post(snapshots::create))
        .route("/v3/snapshots/detail", get(snapshots::list_detail))
        .route("/v3/snapshots/{id}", get(snapshots::show).put(snapshots::update).delete(snapshots::delete))
        .route("/v3/snapshots/{id}/action", post(snapshots::action))
        .route("/v3/backups", get(backups::list).post(backups::create))
        .route("/v3/backups/detail", get(backups::list_detail))
        .route("/v3/backups/import_record", post(backups::import))
        .route("/v3/backups/{id}", get(backups::show).put(backups::update).delete(backups::delete))
        .route("/v3/backups/{id}/restore", post(backups::restore))
        .route("/v3/backups/{id}/export_record", get(backups::export))
        .route("/v3/backups/{id}/action", post(backups::action))
        .route("/v3/extensions", get(discovery::extensions))
        .route("/v3/extensions/{alias}", get(discovery::show_extension))
        .route("/v3/resource_filters", get(discovery::resource_filters))
        .route("/v3/messages", get(messages::list))
        .route("/v3/messages/{id}", get(messages::show).delete(messages::delete))
        .route("/v3/os-availability-zone", get(availability_zones::list))
        .route("/v3/os-services", get(services::list))
        .route("/v3/os-services/{action}", put(services::update))
        .route("/v3/scheduler-stats/get_pools", get(services::pools))
        .route("/v3/operations", get(operations::list))
        .route("/v3/operations/watch", get(operations::feed))
        .route("/v3/operations/{id}", get(operations::show))
        .route("/v3/operations/{id}/watch", get(operations::watch))
        .merge(pairs_of::<metadata::OfVolume>("/v3/volumes/{id}/metadata"))
        .merge(pairs_of::<metadata::OfSnapshot>("/v3/snapshots/{id}/metadata"))
        .fallback(errors::no_such_path)
        .method_not_allowed_fallback(errors::no_such_method)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn_with_state(state.clone(), idempotency::guard))
        .layer(middleware::from_fn(microversion::negotiate))
        .layer(middleware::from_fn_with_state(state.clone(), auth::require_token))
        .layer(middleware::from_fn_with_state(state.clone(), request_id::attach))
        .merge(if state.glance.is_none() { images::routes(state.clone()) } else { Router::new() })
        .merge(identity::routes(&state))
        .merge(if state.keys.is_local() { key_manager::routes(state.clone()) } else { Router::new() })
        .with_state(state);
    // Before routing, for it decides the route.
    BoxCloneSyncService::new(router.map_request(project::strip))
}

/// The pairs of volumes, or of snapshots.
fn pairs_of<O: metadata::Owner>(path: &str) -> Router<AppState> {
    let all = get(metadata::list::<O>).post(metadata::merge::<O>).put(metadata::replace::<O>);
    let one = get(metadata::show::<O>).put(metadata::set::<O>).delete(metadata::delete::<O>);
    Router::new().route(path, all).route(&format!("{path}/{{key}}"), one)
}
