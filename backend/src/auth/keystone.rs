//! Tokens of a Keystone: each is shown to it with a token of this service's own, and what it says is kept for a while, a refusal too.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use reqwest::header::HeaderValue;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

use super::{AuthError, Identity, Roles, TokenDigest, Validator};
use crate::config::Keystone;
use crate::secret::Secret;

/// How long Keystone may take.
const WITHIN: Duration = Duration::from_secs(10);

/// How long a refusal is kept: a token may become valid no sooner than it is issued, so this only has to be short enough for an
/// operator's patience.
const REFUSAL_KEPT: Duration = Duration::from_secs(10);

/// So many answers are kept.
const MOST_KEPT: usize = 4096;

/// Asks a Keystone whom tokens speak for. The operator's own token is valid beside them.
pub struct KeystoneTokens {
    client: Client,
    settings: Keystone,
    password: Secret,
    operator: (TokenDigest, Identity),
    own: tokio::sync::Mutex<Option<HeaderValue>>,
    kept: Mutex<HashMap<TokenDigest, (Instant, Option<Identity>)>>,
}

impl KeystoneTokens {
    /// With these settings; `operator` is the token of the state directory and whom it speaks for.
    pub fn new(settings: Keystone, password: Secret, operator: (&Secret, Identity)) -> Result<Self, AuthError> {
        // Whoever was first has installed the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(WITHIN).redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(failed("prepare to ask"))?;
        let operator = (TokenDigest::of(operator.0.reveal().as_bytes()), operator.1);
        Ok(Self { client, settings, password, operator, own: tokio::sync::Mutex::default(), kept: Mutex::default() })
    }

    fn url(&self) -> String {
        format!("{}/auth/tokens", self.settings.auth_url.trim_end_matches('/'))
    }

    /// A token of this service's own.
    async fn log_in(&self) -> Result<HeaderValue, AuthError> {
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
        Ok(token)
    }

    async fn show(&self, own: &HeaderValue, token: &HeaderValue) -> Result<Response, AuthError> {
        let request = self.client.get(self.url()).query(&[("nocatalog", "")]);
        let request = request.header("x-auth-token", own).header("x-subject-token", token);
        request.send().await.map_err(failed("show a token"))
    }

    /// What Keystone says, and for how long it may be kept.
    async fn ask(&self, token: &[u8]) -> Result<(Duration, Option<Identity>), AuthError> {
        // What is no header is no token.
        let Ok(mut token) = HeaderValue::from_bytes(token) else { return Ok((REFUSAL_KEPT, None)) };
        token.set_sensitive(true);
        let mut own = self.own.lock().await;
        let mut fresh = own.is_none();
        let answer = loop {
            let mine = match own.clone() {
                Some(mine) => mine,
                None => own.insert(self.log_in().await?).clone(),
            };
            let answer = self.show(&mine, &token).await?;
            // The own token has expired or was revoked.
            if answer.status() == StatusCode::UNAUTHORIZED && !fresh {
                fresh = true;
                *own = None;
                continue;
            }
            break answer;
        };
        drop(own);
        match answer.status() {
            StatusCode::OK => {
                let said: Value = answer.json().await.map_err(failed("read what it says of a token"))?;
                Ok(identity(&said, Duration::from_secs(self.settings.cache_s)))
            }
            StatusCode::NOT_FOUND => Ok((REFUSAL_KEPT, None)),
            other => Err(unexpected("show a token", other)),
        }
    }
}

/// Whom a token speaks for, and for how long that may be believed.
fn identity(said: &Value, longest: Duration) -> (Duration, Option<Identity>) {
    let text = |path: &str| said.pointer(path).and_then(Value::as_str);
    let expires: Option<jiff::Timestamp> = text("/token/expires_at").and_then(|time| time.parse().ok());
    let left = expires.map(|time| time.as_second().saturating_sub(jiff::Timestamp::now().as_second()));
    let left = Duration::from_secs(left.and_then(|left| u64::try_from(left).ok()).unwrap_or(0));
    let roles = said.pointer("/token/roles").and_then(Value::as_array);
    let names = roles.into_iter().flatten().filter_map(|role| role.get("name").and_then(Value::as_str));
    // A token for no project may do nothing here.
    let identity = text("/token/user/id")
        .zip(text("/token/project/id"))
        .filter(|_| !left.is_zero())
        .map(|(user, project)| Identity { user_id: user.to_owned(), project_id: project.to_owned(), roles: Roles::of(names) });
    (if identity.is_some() { longest.min(left) } else { REFUSAL_KEPT }, identity)
}

impl Validator for KeystoneTokens {
    fn validate<'a>(&'a self, token: &'a [u8]) -> BoxFuture<'a, Result<Option<Identity>, AuthError>> {
        Box::pin(async move {
            let digest = TokenDigest::of(token);
            if digest == self.operator.0 {
                return Ok(Some(self.operator.1.clone()));
            }
            let now = Instant::now();
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned();
            if let Some((_, identity)) = kept.filter(|(until, _)| *until > now) {
                return Ok(identity);
            }
            let (keep, identity) = self.ask(token).await?;
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() >= MOST_KEPT {
                kept.retain(|_, (until, _)| *until > now);
            }
            if kept.len() < MOST_KEPT {
                kept.insert(digest, (now + keep, identity.clone()));
            }
            Ok(identity)
        })
    }

    fn forget(&self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn failed(operation: &'static str) -> impl FnOnce(reqwest::Error) -> AuthError {
    // The address may hold a name and a password.
    move |source| AuthError::IdentityService { operation, source: Box::new(source.without_url()) }
}

fn unexpected(operation: &'static str, status: StatusCode) -> AuthError {
    AuthError::IdentityService { operation, source: format!("it answers {status}").into() }
}
