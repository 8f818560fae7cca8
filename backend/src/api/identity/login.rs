//! What a request to log in says: by what, and for what.

use serde_json::Value;

use super::errors::IdentityError;
use crate::domain::DEFAULT_DOMAIN;
use crate::secret::Secret;

/// By what somebody logs in.
pub(super) enum Proof {
    /// A user, by its id or its name, and its password.
    Password { id: Option<String>, name: Option<String>, password: Secret },
    /// A token that was issued before.
    Token(Secret),
}

/// For what.
pub(super) enum Wanted {
    /// Whatever the user has by default.
    Default,
    /// Nothing.
    Unscoped,
    /// A project, by its id or its name.
    Project { id: Option<String>, name: Option<String> },
    /// The domain.
    Domain,
    /// The installation.
    System,
}

/// Reads a request.
pub(super) fn read(body: &Value) -> Result<(Proof, Wanted), IdentityError> {
    let missing = |what: &str| IdentityError::bad(format!("'{what}' is a required property"));
    let auth = body.get("auth").ok_or_else(|| missing("auth"))?;
    let identity = auth.get("identity").ok_or_else(|| missing("identity"))?;
    let methods = identity.get("methods").and_then(Value::as_array).ok_or_else(|| missing("methods"))?;
    let methods: Vec<&str> = methods.iter().filter_map(Value::as_str).collect();
    let proof = match methods.as_slice() {
        ["password"] => {
            let user = identity.pointer("/password/user").ok_or_else(|| missing("user"))?;
            let password = text(user, "password").ok_or_else(|| missing("password"))?;
            let (id, name) = (text(user, "id"), text(user, "name"));
            if id.is_none() {
                in_the_domain(user)?;
            }
            Proof::Password { id, name, password: Secret::new(password) }
        }
        ["token"] => {
            let token = identity.get("token").and_then(|token| text(token, "id")).ok_or_else(|| missing("id"))?;
            Proof::Token(Secret::new(token))
        }
        // Another method than these proves nothing here.
        _ => return Err(IdentityError::unauthorized()),
    };
    Ok((proof, wanted(auth.get("scope"))?))
}

fn wanted(scope: Option<&Value>) -> Result<Wanted, IdentityError> {
    Ok(match scope {
        None | Some(Value::Null) => Wanted::Default,
        Some(Value::String(word)) if word == "unscoped" => Wanted::Unscoped,
        Some(scope) => {
            if let Some(project) = scope.get("project") {
                let (id, name) = (text(project, "id"), text(project, "name"));
                if id.is_none() {
                    in_the_domain(project)?;
                }
                Wanted::Project { id, name }
            } else if let Some(domain) = scope.get("domain") {
                is_the_domain(domain)?;
                Wanted::Domain
            } else if scope.pointer("/system/all") == Some(&Value::Bool(true)) {
                Wanted::System
            } else {
                return Err(IdentityError::bad("the scope is none of project, domain, system and unscoped"));
            }
        }
    })
}

fn text(object: &Value, key: &str) -> Option<String> {
    object.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn in_the_domain(object: &Value) -> Result<(), IdentityError> {
    object.get("domain").map_or(Ok(()), is_the_domain)
}

/// There is one; whoever names another is nobody here.
fn is_the_domain(domain: &Value) -> Result<(), IdentityError> {
    let named = text(domain, "id").or_else(|| text(domain, "name")).unwrap_or_default();
    if named.eq_ignore_ascii_case(DEFAULT_DOMAIN) { Ok(()) } else { Err(IdentityError::unauthorized()) }
}
