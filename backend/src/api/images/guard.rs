//! Nothing but discovery is open without a token.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::errors::ImageError;
use crate::api::AppState;
use crate::api::auth::context;
use crate::api::policy::{self, Context};
use crate::api::request_id::RequestId;
use crate::auth::{Action, Role};
use crate::domain::Image;

pub(super) const IMAGE_LIST: Action = Action::read("get_images");
pub(super) const IMAGE_ADD: Action = Action::write("add_image");

/// Discovery tells clients where to go, so it cannot ask for a token.
const OPEN: [&str; 5] = ["/image", "/image/", "/image/versions", "/image/v2", "/image/v2/"];

/// Lets in who brings a token.
pub(super) async fn require_token(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    if OPEN.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let request_id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    let [token, service_token] = ["x-auth-token", "x-service-token"].map(|name| request.headers().get(name).cloned());
    match context(&state, token, service_token, request_id).await {
        Ok(context) => {
            request.extensions_mut().insert(context);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

/// The image of this id, where the asker sees it: as if it were not there where not.
pub(super) async fn seen(state: &AppState, context: &Context, id: &str) -> Result<Image, ImageError> {
    let id = uuid::Uuid::parse_str(id).map_err(|_| ImageError::absent(id))?;
    policy::allow(context, IMAGE_LIST)?;
    let image = state.store.image(id).await?;
    if context.is_admin() {
        return Ok(image);
    }
    let members = state.store.image_members(id).await?;
    let is_member = members.iter().any(|member| member.project_id == context.project_id);
    if image.seen_by(&context.project_id, is_member) { Ok(image) } else { Err(ImageError::absent(&id.to_string())) }
}

/// The same where the asker may change it: its own project's, or an administrator.
pub(super) async fn owned(state: &AppState, context: &Context, id: &str) -> Result<Image, ImageError> {
    let image = seen(state, context, id).await?;
    let own = image.project_id == context.project_id;
    if context.is_admin() || own && (context.roles.include(Role::Member) || context.roles.include(Role::Service)) {
        return Ok(image);
    }
    Err(ImageError(StatusCode::FORBIDDEN, "You are not permitted to modify this image.".into()))
}
