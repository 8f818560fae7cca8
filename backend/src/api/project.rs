//! `/v3/{project_id}/volumes` is `/v3/volumes`: the project follows from the token. That of the path is remembered, for another
//! project's leads nowhere.

use axum::body::Body;
use axum::http::uri::PathAndQuery;
use axum::http::{Request, Uri};

/// The project id that was in the path, without hyphens.
#[derive(Clone, Debug)]
pub(super) struct PathProject(pub(super) String);

/// Takes a project id out of the path.
pub(super) fn strip(mut request: Request<Body>) -> Request<Body> {
    if let Some((uri, project)) = stripped(request.uri()) {
        *request.uri_mut() = uri;
        request.extensions_mut().insert(PathProject(project));
    }
    request
}

/// Project ids are 32 hex digits, with hyphens or without; nothing else at that place in a path is.
fn stripped(uri: &Uri) -> Option<(Uri, String)> {
    let (first, rest) = uri.path().strip_prefix("/v3/")?.split_once('/')?;
    let project = first.replace('-', "").to_ascii_lowercase();
    if project.len() != 32 || !project.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(format!("/v3/{rest}{query}")).ok()?);
    Some((Uri::from_parts(parts).ok()?, project))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_id_is_taken_out_and_nothing_else_is() {
        let own = "0123456789abcdef0123456789abcdef";
        let to = |path: &str| stripped(&path.parse().unwrap()).map(|(uri, project)| (uri.to_string(), project));
        assert_eq!(to(&format!("/v3/{own}/volumes?limit=1")), Some(("/v3/volumes?limit=1".into(), own.into())));
        assert_eq!(to("/v3/01234567-89ab-cdef-0123-456789abcdef/volumes/x"), Some(("/v3/volumes/x".into(), own.into())));
        assert_eq!(to("/v3/volumes/detail"), None);
        assert_eq!(to("/v3/attachments/0123456789abcdef0123456789abcdef"), None);
    }
}
