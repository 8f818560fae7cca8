//! `GET /metrics`: figures for Prometheus. For administrators: by `X-Auth-Token`, or as a bearer token, which a scraper can send
//! (`authorization: { credentials_file: STATE_DIR/token }`).
//!
//! Requests are counted as they are answered; all else is read at the scrape. Labels hold routes, methods, statuses, kinds of
//! operations, backends and pools: words of the service's own and its operator's, never an id or a name that a client chose.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::{IntoResponse as _, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tracing::error;

use super::AppState;
use super::auth;
use super::errors::ApiError;
use super::policy::{SERVICE_LIST, allow, from_token};

const PREFIX: &str = "bowline_backend";

/// Upper bounds of buckets, seconds: from a page out of memory to a call that a volume's host answers.
const BUCKETS_S: [f64; 11] = [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0, 60.0];

const PAGE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: &'static str,
    route: String,
    status: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    method: &'static str,
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOperations {
    kind: String,
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPool {
    pool: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfService {
    binary: String,
    host: String,
}

/// What is counted as it happens.
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    durations: Family<Route, Histogram, fn() -> Histogram>,
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS_S)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let requests = Family::default();
        let durations = Family::new_with_constructor(histogram as fn() -> Histogram);
        registry.register("requests", "Requests answered", requests.clone());
        registry.register("request_seconds", "How long answers took", durations.clone());
        Self { registry, requests, durations }
    }
}

impl Metrics {
    /// Counts an answer; `route` is none where there is no such path.
    pub(super) fn answered(&self, method: &Method, route: Option<&str>, status: u16, took: Duration) {
        let (method, route) = (known(method), route.unwrap_or("none"));
        let of_route = Route { method, route: route.to_owned() };
        self.durations.get_or_create(&of_route).observe(took.as_secs_f64());
        self.requests.get_or_create(&Answered { method, route: of_route.route, status: status.into() }).inc();
    }
}

/// Clients may send any word as a method.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        _ => "other",
    }
}

/// `GET /metrics`
pub(super) async fn show(State(state): State<AppState>, headers: HeaderMap) -> Result<Response, ApiError> {
    let context = auth::context(&state, token(&headers), None, String::new()).await?;
    allow(&from_token(context), SERVICE_LIST)?;
    let now = now(&state).await?;
    let mut page = String::new();
    let written = encode_registry(&mut page, &state.metrics.registry)
        .and_then(|()| encode_registry(&mut page, &now))
        .and_then(|()| encode_eof(&mut page));
    if let Err(problem) = written {
        error!("cannot write the metrics: {problem}");
        return Err(ApiError::Internal);
    }
    Ok(([(header::CONTENT_TYPE, PAGE)], page).into_response())
}

fn token(headers: &HeaderMap) -> Option<HeaderValue> {
    if let Some(token) = headers.get("x-auth-token") {
        return Some(token.clone());
    }
    let bearer = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
    HeaderValue::from_str(bearer.trim()).ok()
}

/// What is so at the moment.
async fn now(state: &AppState) -> Result<Registry, ApiError> {
    let mut registry = Registry::with_prefix(PREFIX);
    let operations = Family::<OfOperations, Gauge>::default();
    for count in state.store.operations_by_kind().await? {
        operations.get_or_create(&OfOperations { kind: count.of, state: count.state }).set(count.count);
    }
    registry.register("operations", "Long actions that wait, run or have failed", operations);

    let (total, free) = (
        Family::<OfPool, Gauge<f64, std::sync::atomic::AtomicU64>>::default(),
        Family::<OfPool, Gauge<f64, std::sync::atomic::AtomicU64>>::default(),
    );
    let up = Family::<OfService, Gauge>::default();
    let at_us = crate::store::now_us();
    for service in state.store.services().await? {
        for pool in &service.pools {
            let of_pool = OfPool { pool: pool.name.clone() };
            total.get_or_create(&of_pool).set(pool.total_gib);
            free.get_or_create(&of_pool).set(pool.free_gib);
        }
        let lives = i64::from(service.is_up(at_us));
        up.get_or_create(&OfService { binary: service.name, host: service.host }).set(lives);
    }
    registry.register("pool_total_gib", "What a pool has in all", total);
    registry.register("pool_free_gib", "What is free in a pool", free);
    registry.register("service_up", "Whether a service was heard of within a minute and its storage can be used", up);

    let exports = Gauge::<i64>::default();
    exports.set(state.store.exports().await?);
    registry.register("exports", "Attachments whose host may log in", exports);
    let waiting = Gauge::<i64>::default();
    waiting.set(i64::try_from(state.store.waiting()).unwrap_or(i64::MAX));
    registry.register("database_waiting", "Changes that wait to be written; with PostgreSQL, connections in use", waiting);
    Ok(registry)
}
