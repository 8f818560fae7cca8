//! `/v3/{project_id}/volumes` is `/v3/volumes`: the project follows from the token. Another project's id in the path leads
//! nowhere.

use axum::body::Body;
use axum::http::uri::PathAndQuery;
use axum::http::{Request, Uri};

/// Takes this service's project id out of the path.
pub(super) fn strip(mut request: Request<Body>, project_id: &str) -> Request<Body> {
    if let Some(uri) = stripped(request.uri(), project_id) {
        *request.uri_mut() = uri;
    }
    request
}

fn stripped(uri: &Uri, project_id: &str) -> Option<Uri> {
    let (first, rest) = uri.path().strip_prefix("/v3/")?.split_once('/')?;
    if first.replace('-', "") != project_id {
        return None;
    }
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(format!("/v3/{rest}{query}")).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_project_is_taken_out() {
        let own = "0123456789abcdef0123456789abcdef";
        let to = |path: &str| stripped(&path.parse().unwrap(), own).map(|uri| uri.to_string());
        assert_eq!(to(&format!("/v3/{own}/volumes?limit=1")).as_deref(), Some("/v3/volumes?limit=1"));
        assert_eq!(to("/v3/01234567-89ab-cdef-0123-456789abcdef/volumes/x").as_deref(), Some("/v3/volumes/x"));
        assert_eq!(to("/v3/volumes/detail"), None);
        assert_eq!(to("/v3/ffffffffffffffffffffffffffffffff/volumes"), None);
    }
}
