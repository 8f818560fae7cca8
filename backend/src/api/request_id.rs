//! Each request has an id, in the answer and in the log, so that the two can be brought together. A client may bring it in
//! `X-OpenStack-Request-ID`, as the field's services do when they call each other: then it is that one, in operations and messages too.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use tracing::{Instrument as _, debug, info_span};
use uuid::Uuid;

use super::AppState;

/// The request's id, for what is recorded of it.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub(super) String);

/// Names the request, and counts its answer.
pub(super) async fn attach(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let id = given(&request).unwrap_or_else(|| format!("req-{}", Uuid::new_v4()));
    request.extensions_mut().insert(RequestId(id.clone()));
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let span = info_span!("request", %id, %method, path = %request.uri().path());
    let started = Instant::now();
    let mut response = async {
        let response = next.run(request).await;
        debug!(status = response.status().as_u16(), duration_us = started.elapsed().as_micros(), "answered");
        response
    }
    .instrument(span)
    .await;
    let route = route.as_ref().map(MatchedPath::as_str);
    state.metrics.answered(&method, route, response.status().as_u16(), started.elapsed());
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
