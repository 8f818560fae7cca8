//! Images over HTTP: the field's Image API v2 under `/image`, with its errors and codes.
//!
//! ```text
//! versions.rs   discovery
//! guard.rs      nothing but discovery is open without a token
//! errors.rs     what clients get instead of an answer, in HTML or JSON as they like it
//! records.rs    make, show, change, delete
//! fields.rs     what clients say of an image, in a body or in patches
//! list.rs       lists: filters, order, pages
//! data.rs       bytes in and out
//! members.rs    offering an image to other projects
//! schemas.rs    JSON schemas, which older clients ask for
//! view.rs       what they get
//! ```

mod data;
mod errors;
mod fields;
mod guard;
mod list;
mod members;
mod records;
mod schemas;
mod versions;
pub(super) mod view;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fields::fuzz_image_patch;

use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, get, post, put};
use axum::{Router, middleware};

use super::request_id;
use super::{AppState, idempotency};

/// The largest body that is no image, in bytes.
const LARGEST_BODY: usize = 1 << 20;

/// Every path.
pub(super) fn routes(state: AppState) -> Router<AppState> {
    Router::new()
        .route("/image", get(versions::choices))
        .route("/image/", get(versions::choices))
        .route("/image/versions", get(versions::list))
        .route("/image/v2", get(versions::choices))
        .route("/image/v2/", get(versions::choices))
        .route("/image/v2/images", get(list::list).post(records::create))
        .route("/image/v2/images/{id}", get(records::show).patch(records::patch).delete(records::remove))
        .route("/image/v2/images/{id}/file", get(data::download).put(data::upload))
        .route("/image/v2/images/{id}/tags/{tag}", put(records::add_tag).delete(records::remove_tag))
        .route("/image/v2/images/{id}/actions/{action}", post(records::act))
        .route("/image/v2/images/{id}/members", get(members::list).post(members::add))
        .route("/image/v2/images/{id}/members/{member}", get(members::show).put(members::change))
        .route("/image/v2/images/{id}/members/{member}", delete(members::remove))
        .route("/image/v2/schemas/{name}", get(schemas::show))
        .route("/image/v2/info/import", get(versions::import))
        .route("/image/v2/info/stores", get(versions::stores))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn_with_state(state.clone(), idempotency::guard))
        .layer(middleware::from_fn(errors::in_the_clients_form))
        .layer(middleware::from_fn_with_state(state.clone(), guard::require_token))
        .layer(middleware::from_fn_with_state(state, request_id::attach))
}
