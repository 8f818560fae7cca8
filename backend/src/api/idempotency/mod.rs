//! `Idempotency-Key`: a POST that carries one does what it asks for once, however often it comes. A repeated one is given the
//! first answer, with `Idempotency-Replayed: true`; while the first is under way, 409; the same key for another request, 422.
//!
//! A key is its project's, and bound to the request's path and to a digest of its body. It is remembered for a day. What was
//! refused and changed nothing is not remembered: the key may be used again. A key's request is carried to its end also where the
//! client goes away. Where the process dies between what it does and its answer, the answer is told anew from what was made
//! (lost.rs).
//!
//! Every request that changes something passes here, and is told its operation in `X-Bowline-Operation`.

mod lost;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tracing::warn;

use super::AppState;
use super::body::BODY_WITHIN;
use super::errors::ApiError;
use super::microversion::Microversion;
use super::router::LARGEST_BODY;
use crate::auth::Context;
use crate::hex::hex;
use crate::store::{Claim, KeptAnswer, Keyed, KeyedRequest, RequestScope};
use crate::volume::chain;

/// The request's key.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Says that an answer was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The operation a request began.
const OPERATION: HeaderName = HeaderName::from_static("x-bowline-operation");

/// The longest key.
const LONGEST_KEY: usize = 255;

/// The largest answer that is kept; nothing that a POST is answered comes near it.
const LARGEST_ANSWER: usize = 1 << 20;

/// What this service has that the field's has not, in each answer: a client that finds it here may rely on it.
const FEATURES: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-bowline-features"),
    HeaderValue::from_static("idempotency-key, attachment-lease, operation-watch"),
);

/// What is kept of an answer's headers.
const KEPT_HEADERS: [HeaderName; 3] = [header::CONTENT_TYPE, header::LOCATION, OPERATION];

/// Lets requests that change something pass as what they are.
pub(super) async fn guard(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let mut response = pass(state, request, next).await;
    let (name, value) = FEATURES;
    response.headers_mut().insert(name, value);
    response
}

async fn pass(state: AppState, request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let key = request.headers().get(KEY).filter(|_| request.method() == Method::POST).cloned();
    match (key, request.extensions().get::<Context>().cloned()) {
        (Some(key), Some(context)) => keyed(state, context, key, request, next).await.unwrap_or_else(ApiError::into_response),
        _ => answered(&RequestScope::new(None), request, next).await,
    }
}

async fn answered(scope: &std::sync::Arc<RequestScope>, request: Request, next: Next) -> Response {
    let mut response = scope.run(next.run(request)).await;
    let id = scope.operation_id().and_then(|id| HeaderValue::try_from(id.to_string()).ok());
    if let Some(id) = id {
        response.headers_mut().insert(OPERATION, id);
    }
    response
}

async fn keyed(
    state: AppState,
    context: Context,
    key: HeaderValue,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let key = key.to_str().ok().filter(|key| (1..=LONGEST_KEY).contains(&key.len())).ok_or_else(|| {
        ApiError::BadRequest(format!("Invalid Idempotency-Key: it must be 1 to {LONGEST_KEY} visible ASCII characters."))
    })?;
    let (parts, body) = request.into_parts();
    let read = tokio::time::timeout(BODY_WITHIN, to_bytes(body, LARGEST_BODY));
    let body = read.await.map_err(|_| ApiError::TooSlow)?.map_err(|_| ApiError::TooLarge)?;
    let keyed = KeyedRequest {
        project_id: context.project_id.clone(),
        key: key.to_owned(),
        fingerprint: fingerprint(parts.uri.path(), &body),
    };
    let headers = parts.headers.clone();
    let version = parts.extensions.get::<Microversion>().copied().unwrap_or(Microversion(0));
    let request = Request::from_parts(parts, Body::from(body));
    match state.store.claim_key(&keyed, state.images.who()).await? {
        Keyed::First(claim) => {
            // It goes on where the client does not: the answer is kept for when it comes again.
            let done = tokio::spawn(async move { first(state, claim, request, next).await });
            Ok(done.await.unwrap_or_else(|_| ApiError::Stopping.into_response()))
        }
        Keyed::Answered(kept) => Ok(replayed(&kept)),
        Keyed::Lost(claim, made) => {
            let told = lost::answer(&state, &context, &headers, (version, request.uri().path()), &made).await;
            match &told {
                Ok(kept) => state.store.keep_answer(&claim, kept).await?,
                Err(_) => state.store.release_key(&claim).await?,
            }
            told.map(|kept| replayed(&kept))
        }
        Keyed::InHand => Err(ApiError::KeyInHand),
        Keyed::Another => Err(ApiError::KeyOfAnother),
    }
}

/// The key is the client's own choice, so the body's digest keeps nothing that it does not know.
fn fingerprint(path: &str, body: &[u8]) -> String {
    let mut digest = Sha256::new();
    digest.update(path.as_bytes());
    digest.update([0]);
    digest.update(body);
    hex(&digest.finalize())
}

async fn first(state: AppState, claim: Claim, request: Request, next: Next) -> Response {
    let holds_secret = lost::HOLDS_SECRET.iter().any(|path| request.uri().path().starts_with(path));
    let scope = RequestScope::new(Some(claim.clone()));
    let response = answered(&scope, request, next).await;
    // An answer that says nothing of what became of it is of no use to who asks again; and what is kept in no other place in clear
    // must not be here either.
    if !scope.has_changed() || holds_secret || response.status().is_server_error() {
        if let Err(error) = state.store.release_key(&claim).await {
            warn!("cannot release an idempotency key: {}", chain(&error));
        }
        return response;
    }
    let (parts, body) = response.into_parts();
    // All of it is in memory already.
    let body = to_bytes(body, LARGEST_ANSWER).await.unwrap_or_else(|_| Bytes::new());
    let kept = KeptAnswer { status: parts.status.as_u16(), answer: kept(&parts.headers, &body) };
    if let Err(error) = state.store.keep_answer(&claim, &kept).await {
        warn!("cannot keep an answer; it is told anew when it is asked for again: {}", chain(&error));
    }
    Response::from_parts(parts, Body::from(body))
}

fn kept(headers: &HeaderMap, body: &[u8]) -> Value {
    let mut map = Map::new();
    for name in KEPT_HEADERS {
        if let Some(value) = headers.get(&name).and_then(|value| value.to_str().ok()) {
            map.insert(name.as_str().to_owned(), json!(value));
        }
    }
    json!({ "headers": map, "body": String::from_utf8_lossy(body) })
}

fn replayed(kept: &KeptAnswer) -> Response {
    let body = kept.answer.get("body").and_then(Value::as_str).unwrap_or_default().to_owned();
    let status = StatusCode::from_u16(kept.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, body).into_response();
    response.headers_mut().remove(header::CONTENT_TYPE);
    for name in KEPT_HEADERS {
        let value = kept.answer.get("headers").and_then(|headers| headers.get(name.as_str())).and_then(Value::as_str);
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
