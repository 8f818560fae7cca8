//! `GET /healthz`: whether this process can do its work, for load balancers. Open to everybody, so it says no more than that.

use axum::extract::State;
use axum::http::StatusCode;
use tracing::warn;

use super::AppState;

/// `GET /healthz`
pub(super) async fn show(State(state): State<AppState>) -> (StatusCode, &'static str) {
    match state.store.ping().await {
        Ok(()) => (StatusCode::OK, "OK\n"),
        Err(error) => {
            warn!("not healthy: {}", crate::volume::chain(&error));
            (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n")
        }
    }
}
