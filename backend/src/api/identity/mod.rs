//! Users, projects, roles and tokens over HTTP: the field's Identity API v3 under `/identity`, as far as its command line and its
//! libraries need it. One domain, fixed roles; groups, federation and trusts are not there.
//!
//! ```text
//! versions.rs     discovery
//! caller.rs       who asks
//! errors.rs       what clients get instead of an answer
//! tokens.rs       logging in, and what a token says
//! login.rs        what a request to log in says
//! catalog.rs      where the services are
//! projects.rs, users.rs, assignments.rs, fixed.rs   the resources; those that never change in the last
//! ```

mod assignments;
mod caller;
mod catalog;
mod errors;
mod fixed;
mod login;
mod projects;
mod tokens;
mod users;
mod versions;

use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post, put};
use axum::{Router, middleware};

use super::{AppState, request_id};

/// The field's limit for a request's body, in bytes.
const LARGEST_BODY: usize = 114_688;

/// Every path; none where an identity service is configured.
pub(super) fn routes(state: &AppState) -> Router<AppState> {
    if state.people.is_none() {
        return Router::new();
    }
    let grant = || put(assignments::grant).delete(assignments::revoke).get(assignments::check);
    let v3 = Router::new()
        .route("/auth/tokens", post(tokens::issue).get(tokens::show).delete(tokens::revoke))
        .route("/auth/projects", get(tokens::projects))
        .route("/auth/domains", get(tokens::domains))
        .route("/auth/system", get(tokens::system))
        .route("/auth/catalog", get(catalog::show))
        .route("/projects", get(projects::list).post(projects::create))
        .route("/projects/{id}", get(projects::show).patch(projects::change).delete(projects::remove))
        .route("/users", get(users::list).post(users::create))
        .route("/users/{id}", get(users::show).patch(users::change).delete(users::remove))
        .route("/users/{id}/password", post(users::change_password))
        .route("/users/{id}/projects", get(users::projects))
        .route("/users/{id}/groups", get(fixed::no_groups))
        .route("/{scope}/{id}/users/{user}/roles", get(assignments::list_for))
        .route("/{scope}/{id}/users/{user}/roles/{role}", grant())
        .route("/system/users/{user}/roles", get(assignments::list_for_system))
        .route(
            "/system/users/{user}/roles/{role}",
            put(assignments::grant_system).delete(assignments::revoke_system).get(assignments::check_system),
        )
        .route("/role_assignments", get(assignments::list))
        .route("/roles", get(fixed::roles))
        .route("/roles/{id}", get(fixed::role))
        .route("/roles/{id}/implies", get(fixed::implied))
        .route("/role_inferences", get(fixed::inferences))
        .route("/domains", get(fixed::domains))
        .route("/domains/{id}", get(fixed::domain))
        .route("/groups", get(fixed::no_groups))
        .route("/regions", get(fixed::regions))
        .route("/regions/{id}", get(fixed::region))
        .route("/services", get(catalog::services))
        .route("/services/{id}", get(catalog::service))
        .route("/endpoints", get(catalog::endpoints))
        .route("/", get(versions::v3))
        .fallback(errors::no_such_path)
        .method_not_allowed_fallback(errors::no_such_method);
    Router::new()
        .route("/identity", get(versions::choices))
        .route("/identity/", get(versions::choices))
        .route("/identity/v3/", get(versions::v3))
        .nest("/identity/v3", v3)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn_with_state(state.clone(), request_id::attach))
}
