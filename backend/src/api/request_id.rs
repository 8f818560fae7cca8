//! Each request has an id, in the answer and in the log, so that the two can be brought together.

use std::time::Instant;

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use tracing::{Instrument as _, debug, info_span};
use uuid::Uuid;

/// The request's id, for what is recorded of it.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub(super) String);

/// Names the request.
pub(super) async fn attach(mut request: Request, next: Next) -> Response {
    let id = format!("req-{}", Uuid::new_v4());
    request.extensions_mut().insert(RequestId(id.clone()));
    let span = info_span!("request", %id, method = %request.method(), path = %request.uri().path());
    let started = Instant::now();
    let mut response = async {
        let response = next.run(request).await;
        debug!(status = response.status().as_u16(), duration_us = started.elapsed().as_micros(), "answered");
        response
    }
    .instrument(span)
    .await;
    if let Ok(value) = HeaderValue::try_from(id) {
        response.headers_mut().insert("x-compute-request-id", value.clone());
        response.headers_mut().insert("x-openstack-request-id", value);
    }
    response
}
