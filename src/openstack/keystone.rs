//! Keystone's side of a session: the request for a token (`POST /v3/auth/tokens`) and what its answer holds.

use super::{
    AuthMethod, OpenstackError, Operation, Scope,
    cloud_config::{ApplicationCredential, Domain, NamedOrId},
    endpoint::CatalogEntry,
    http::{Answer, Http},
    wire::with,
};
use crate::model::Secret;
use jiff::Timestamp;
use reqwest::{Method, Url, header::HeaderMap};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// What Keystone granted.
pub(super) struct Grant {
    pub(super) token: Secret,
    /// How long the token is good for, from now.
    pub(super) lifetime: Duration,
    pub(super) project_id: Option<String>,
    pub(super) catalog: Vec<CatalogEntry>,
    /// Names of the roles the token has in its project.
    pub(super) roles: Vec<String>,
}

#[derive(Deserialize)]
struct Envelope {
    token: TokenBody,
}

#[derive(Deserialize)]
struct TokenBody {
    expires_at: String,
    issued_at: Option<String>,
    project: Option<Project>,
    #[serde(default)]
    catalog: Vec<CatalogEntry>,
    #[serde(default)]
    roles: Vec<Role>,
}

#[derive(Deserialize)]
struct Role {
    name: String,
}

#[derive(Deserialize)]
struct Project {
    id: String,
}

/// The request body for `auth`, and Keystone's address; `None` where no Keystone is involved.
pub(super) fn request(auth: &AuthMethod) -> Option<(&str, Value)> {
    match auth {
        AuthMethod::Password { auth_url, user, scope } => {
            let who = with(named(&user.user), "password", user.password.expose());
            Some((auth_url, body("password", json!({"user": who}), scope)))
        }
        AuthMethod::Token { auth_url, token, scope } => Some((auth_url, body("token", json!({"id": token.expose()}), scope))),
        // An application credential carries its project: Keystone refuses a scope beside it.
        AuthMethod::ApplicationCredential { auth_url, credential, secret } => {
            let what = match credential {
                ApplicationCredential::Id(id) => json!({"id": id}),
                ApplicationCredential::Name { name, user } => json!({"name": name, "user": named(user)}),
            };
            let what = with(what, "secret", secret.expose());
            Some((auth_url, body("application_credential", what, &Scope::Unscoped)))
        }
        AuthMethod::FixedToken { .. } | AuthMethod::NoToken { .. } => None,
    }
}

fn body(method: &str, details: Value, scope: &Scope) -> Value {
    let auth = json!({"identity": {"methods": [method], method: details}});
    let auth = match scope {
        Scope::Project(project) => with(auth, "scope", json!({"project": named(project)})),
        Scope::Domain(of) => with(auth, "scope", json!({"domain": domain(of)})),
        Scope::System => with(auth, "scope", json!({"system": {"all": true}})),
        Scope::Unscoped => auth,
    };
    json!({"auth": auth})
}

fn named(what: &NamedOrId) -> Value {
    match what {
        NamedOrId::Id(id) => json!({"id": id}),
        NamedOrId::Name { name, domain: of } => json!({"name": name, "domain": domain(of)}),
    }
}

fn domain(of: &Domain) -> Value {
    match of {
        Domain::Id(id) => json!({"id": id}),
        Domain::Name(name) => json!({"name": name}),
    }
}

/// Asks for a token once.
pub(super) async fn authenticate(
    http: &Http,
    operation: &Operation,
    auth_url: &str,
    request: &Value,
) -> Result<Grant, OpenstackError> {
    let url = tokens_url(auth_url);
    let answer = http.exchange(operation, Method::POST, url?, HeaderMap::new(), Some(request.to_string().into_bytes())).await?;
    if !(200..300).contains(&answer.status) {
        return Err(answer.refused(operation));
    }
    read(&answer, operation)
}

fn read(answer: &Answer, operation: &Operation) -> Result<Grant, OpenstackError> {
    let body = answer.json::<Envelope>(operation)?.token;
    let token = answer.headers.get("x-subject-token").and_then(|value| value.to_str().ok()).filter(|token| !token.is_empty());
    let Some(token) = token else {
        return Err(answer.unintelligible(operation, "no X-Subject-Token header"));
    };
    // Both times are Keystone's, so a host whose clock is wrong still renews in time.
    let unreadable = |_| answer.unintelligible(operation, "a token whose times are not RFC 3339");
    let until: Timestamp = body.expires_at.parse().map_err(unreadable)?;
    let from = body.issued_at.map_or_else(|| Ok(Timestamp::now()), |text| text.parse()).map_err(unreadable)?;
    let lifetime = until.duration_since(from).try_into().unwrap_or(Duration::ZERO);
    Ok(Grant {
        token: Secret::new(token),
        lifetime,
        project_id: body.project.map(|project| project.id),
        catalog: body.catalog,
        roles: body.roles.into_iter().map(|role| role.name).collect(),
    })
}

/// `auth_url` may stand with or without the version; `v2.0` is left over in many files.
fn tokens_url(auth_url: &str) -> Result<Url, OpenstackError> {
    // Checked when the configuration was read; the error is for whoever builds one by hand.
    let bad = || OpenstackError::CloudsFile {
        file: "clouds.yaml".into(),
        line: None,
        problem: "`auth.auth_url` is not an http:// or https:// address".to_owned(),
    };
    let mut url = Url::parse(auth_url).map_err(|_| bad())?;
    let last = url.path_segments().and_then(|mut segments| segments.rfind(|segment| !segment.is_empty()));
    let last = last.unwrap_or_default().to_owned();
    let mut path = url.path_segments_mut().map_err(|()| bad())?;
    path.pop_if_empty();
    if last == "v2.0" {
        path.pop();
    }
    if last != "v3" {
        path.push("v3");
    }
    path.extend(["auth", "tokens"]);
    drop(path);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openstack::PasswordUser;

    #[test]
    fn keystones_address_is_completed() {
        for (given, want) in [
            ("http://h:5000", "http://h:5000/v3/auth/tokens"),
            ("http://h:5000/v3", "http://h:5000/v3/auth/tokens"),
            ("http://h:5000/v3/", "http://h:5000/v3/auth/tokens"),
            ("http://h/identity", "http://h/identity/v3/auth/tokens"),
            ("http://h:5000/v2.0", "http://h:5000/v3/auth/tokens"),
        ] {
            assert_eq!(tokens_url(given).unwrap().as_str(), want);
        }
    }

    #[test]
    fn a_password_request_is_what_keystone_documents() {
        let auth = AuthMethod::Password {
            auth_url: "http://k".into(),
            user: PasswordUser {
                user: NamedOrId::Name { name: "u".into(), domain: Domain::Name("D".into()) },
                password: Secret::new("p"),
            },
            scope: Scope::Project(NamedOrId::Id("x".into())),
        };
        assert_eq!(
            request(&auth).unwrap().1,
            json!({"auth": {
                "identity": {"methods": ["password"], "password": {"user": {"name": "u", "domain": {"name": "D"}, "password": "p"}}},
                "scope": {"project": {"id": "x"}}
            }})
        );
    }

    #[test]
    fn an_application_credential_asks_for_no_scope() {
        let auth = AuthMethod::ApplicationCredential {
            auth_url: "http://k".into(),
            credential: ApplicationCredential::Id("i".into()),
            secret: Secret::new("s"),
        };
        let body = request(&auth).unwrap().1;
        assert_eq!(body["auth"]["identity"]["application_credential"], json!({"id": "i", "secret": "s"}));
        assert!(body["auth"].get("scope").is_none());
    }
}
