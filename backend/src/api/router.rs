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
    AppState, actions, attachments, auth, availability_zones, errors, health, limits, messages, metadata, microversion,
    operations, project, request_id, services, snapshots, types, versions, volumes,
};

/// The field's limit for a request's body, in bytes.
const LARGEST_BODY: usize = 114_688;

/// Every path as one service.
pub(super) type Routes = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// Every path, with what each request passes on its way there.
pub(super) fn routes(state: AppState) -> Routes {
    let router = Router::new()
        .route("/", get(versions::choices))
        .route("/healthz", get(health::show))
        .route("/v3", get(versions::v3))
        .route("/v3/", get(versions::v3))
        .route("/v3/limits", get(limits::show))
        .route("/v3/types", get(types::list))
        .route("/v3/types/{id}", get(types::show))
        .route("/v3/volumes", get(volumes::list).post(volumes::create))
        .route("/v3/volumes/detail", get(volumes::list_detail))
        .route("/v3/volumes/summary", get(volumes::summary))
        .route("/v3/volumes/{id}", get(volumes::show).put(volumes::update).delete(volumes::delete))
        .route("/v3/volumes/{id}/action", post(actions::volume))
        .route("/v3/volumes/{id}/metadata", get(metadata::list).post(metadata::merge).put(metadata::replace))
        .route("/v3/volumes/{id}/metadata/{key}", get(metadata::show).put(metadata::set).delete(metadata::delete))
        .route("/v3/attachments", get(attachments::list).post(attachments::create))
        .route("/v3/attachments/detail", get(attachments::list_detail))
        .route("/v3/attachments/{id}", get(attachments::show).put(attachments::update).delete(attachments::delete))
        .route("/v3/attachments/{id}/action", post(attachments::action))
        .route("/v3/snapshots", get(snapshots::list).post(snapshots::create))
        .route("/v3/snapshots/detail", get(snapshots::list_detail))
        .route("/v3/snapshots/{id}", get(snapshots::show).delete(snapshots::delete))
        .route("/v3/messages", get(messages::list))
        .route("/v3/messages/{id}", get(messages::show).delete(messages::delete))
        .route("/v3/os-availability-zone", get(availability_zones::list))
        .route("/v3/os-services", get(services::list))
        .route("/v3/os-services/{action}", put(services::update))
        .route("/v3/scheduler-stats/get_pools", get(services::pools))
        .route("/v3/operations", get(operations::list))
        .route("/v3/operations/{id}", get(operations::show))
        .fallback(errors::no_such_path)
        .method_not_allowed_fallback(errors::no_such_method)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn(microversion::negotiate))
        .layer(middleware::from_fn_with_state(state.clone(), auth::require_token))
        .layer(middleware::from_fn(request_id::attach))
        .with_state(state);
    // Before routing, for it decides the route.
    BoxCloneSyncService::new(router.map_request(project::strip))
}
