//! Each request has an id, in the answer and in the log, so that the two can be brought together. A client may bring its own in
//! `X-OpenStack-Request-ID`, as the field's services do when they call each other; the answer has the service's own and the log both.

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
    let global = given(&request);
    let span = info_span!("request", %id, global, method = %request.method(), path = %request.uri().path());
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

/// The id a client brought. Only ids of the field's form are taken, `req-` and a UUID: it is put into the log.
fn given(request: &Request) -> Option<String> {
    let text = request.headers().get("x-openstack-request-id")?.to_str().ok()?;
    Uuid::parse_str(text.strip_prefix("req-")?).ok().map(|_| text.to_owned())
}
