//! Nothing but discovery and the question of health is open without a token. Each request is given the context of the one who asks.

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::AppState;
use super::errors::ApiError;
use super::project::PathProject;
use super::request_id::RequestId;
use crate::auth::{Context, Identity, Role};
use crate::secret::Secret;

/// Discovery tells clients where and how to bring a token, so it cannot ask for one.
/// Metrics ask for one themselves, for scrapers bring it in a header of their own.
const OPEN: [&str; 7] = ["/", "/v3", "/v3/", "/healthz", "/metrics", "/key-manager", "/key-manager/"];

/// Lets in who brings a token, and nobody into another project's paths.
pub(super) async fn require_token(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    if OPEN.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let request_id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    let [token, service_token] = ["x-auth-token", "x-service-token"].map(|name| request.headers().get(name).cloned());
    let context = match context(&state, token, service_token, request_id).await {
        Ok(context) => context,
        Err(error) => return error.into_response(),
    };
    let elsewhere = request.extensions().get::<PathProject>().is_some_and(|path| path.0 != context.project_id);
    if elsewhere {
        return super::errors::no_such_path().await.into_response();
    }
    request.extensions_mut().insert(context);
    next.run(request).await
}

pub(super) async fn context(
    state: &AppState,
    token: Option<HeaderValue>,
    service_token: Option<HeaderValue>,
    request_id: String,
) -> Result<Context, ApiError> {
    let shown = token.as_ref().and_then(|token| token.to_str().ok()).unwrap_or_default().to_owned();
    let Identity { user_id, project_id, roles } = identity(state, token).await?.ok_or(ApiError::Unauthorized)?;
    let by_service = identity(state, service_token).await?.is_some_and(|service| service.roles.include(Role::Service));
    Ok(Context { user_id, project_id, roles, by_service, token: Secret::new(shown), request_id })
}

async fn identity(state: &AppState, token: Option<HeaderValue>) -> Result<Option<Identity>, ApiError> {
    match token {
        Some(token) if !token.is_empty() => Ok(state.tokens.validate(token.as_bytes()).await?),
        _ => Ok(None),
    }
}
