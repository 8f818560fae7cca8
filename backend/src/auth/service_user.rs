//! This service's own user at Keystone: a token of its, kept until whoever is shown it says that it is worth nothing any more.

use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::AuthError;
use crate::config::Keystone;
use crate::secret::Secret;

/// How long Keystone may take.
const WITHIN: Duration = Duration::from_secs(10);

/// The user of the `[keystone]` table.
pub struct ServiceUser {
    pub(super) client: Client,
    pub(super) settings: Keystone,
    password: Secret,
    token: Mutex<Option<HeaderValue>>,
}

impl ServiceUser {
    /// With these settings; nothing is asked yet.
    pub fn new(settings: &Keystone) -> Result<Self, AuthError> {
        let (settings, password) = (settings.clone(), settings.password()?);
        // Whoever was first has installed the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(WITHIN).redirect(reqwest::redirect::Policy::none()).build();
        Ok(Self { client: client.map_err(failed("prepare to ask"))?, settings, password, token: Mutex::default() })
    }

    /// Where tokens are made and shown.
    pub(super) fn url(&self) -> String {
        format!("{}/auth/tokens", self.settings.auth_url.trim_end_matches('/'))
    }

    /// A token of this user, for its project.
    pub async fn token(&self) -> Result<HeaderValue, AuthError> {
        let mut kept = self.token.lock().await;
        match &*kept {
            Some(token) => Ok(token.clone()),
            None => Ok(kept.insert(self.log_in().await?).clone()),
        }
    }

    /// Somebody said that this token has expired or was revoked.
    pub async fn forget(&self, token: &HeaderValue) {
        let mut kept = self.token.lock().await;
        if kept.as_ref() == Some(token) {
            *kept = None;
        }
    }

    /// Where Keystone's catalog says that a service is, for this user, in the region of the settings.
    pub async fn endpoint(&self, service_type: &str) -> Result<Option<String>, AuthError> {
        let (_, said) = self.ask().await?;
        let said: Value = said.json().await.map_err(failed("read Keystone's catalog"))?;
        let services = said.pointer("/token/catalog").and_then(Value::as_array).into_iter().flatten();
        let is_meant = |service: &&Value| service.get("type").and_then(Value::as_str) == Some(service_type);
        let endpoints = services.filter(is_meant).filter_map(|service| service.get("endpoints")?.as_array()).flatten();
        let is = |one: &Value, key: &str, word: &str| one.get(key).and_then(Value::as_str) == Some(word);
        let region = &self.settings.region;
        let in_region = |one: &Value| region.is_empty() || is(one, "region_id", region) || is(one, "region", region);
        let mut public = endpoints.filter(|one| is(one, "interface", "public") && in_region(one));
        Ok(public.find_map(|one| one.get("url")?.as_str().map(str::to_owned)))
    }

    async fn log_in(&self) -> Result<HeaderValue, AuthError> {
        Ok(self.ask().await?.0)
    }

    /// A new token, and what Keystone says of it.
    async fn ask(&self) -> Result<(HeaderValue, Response), AuthError> {
        let user_domain = json!({ "name": self.settings.user_domain_name });
        let project_domain = json!({ "name": self.settings.project_domain_name });
        let user = json!({ "name": self.settings.username, "domain": user_domain, "password": self.password.reveal() });
        let body = json!({ "auth": {
            "identity": { "methods": ["password"], "password": { "user": user } },
            "scope": { "project": { "name": self.settings.project_name, "domain": project_domain } },
        } });
        let answer = self.client.post(self.url()).json(&body).send().await.map_err(failed("log in"))?;
        if answer.status() != StatusCode::CREATED {
            return Err(unexpected("log in", answer.status()));
        }
        let mut token =
            answer.headers().get("x-subject-token").cloned().ok_or_else(|| unexpected("log in", answer.status()))?;
        token.set_sensitive(true);
        Ok((token, answer))
    }
}

pub(super) fn failed(operation: &'static str) -> impl FnOnce(reqwest::Error) -> AuthError {
    // The address may hold a name and a password.
    move |source| AuthError::IdentityService { operation, source: Box::new(source.without_url()) }
}

pub(super) fn unexpected(operation: &'static str, status: StatusCode) -> AuthError {
    AuthError::IdentityService { operation, source: format!("it answers {status}").into() }
}
