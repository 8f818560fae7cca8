//! Answering requests until told to stop.

use std::future::{Future, IntoFuture as _};
use std::io;

use axum::ServiceExt;
use axum::extract::Request;
use tokio::net::TcpListener;

use super::router::{Routes, routes};
use super::{AppState, Shared};

/// The whole API.
pub struct Service(Routes);

impl Service {
    /// Makes the API over these parts.
    pub fn new(shared: Shared) -> Self {
        Self(routes(AppState::new(shared)))
    }

    /// Answers until `stop`, then finishes the answers that were begun.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let service = ServiceExt::<Request>::into_make_service(self.0);
        axum::serve(listener, service).with_graceful_shutdown(stop).into_future().await
    }
}
