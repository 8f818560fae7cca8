//! A Barbican that has the keys of volumes (its API v1), asked with the token of who asks for the volume, as the field's service does:
//! the key is that user's project's.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{ACCEPT, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::VolumeKey;
use crate::auth::{AuthError, ServiceUser};
use crate::secret::Secret;

/// How long it may take.
const WITHIN: Duration = Duration::from_secs(10);

/// The longest answer that is read, bytes: a key has 64.
const LONGEST: usize = 64 << 10;

/// Barbican could not do something.
#[derive(Debug, thiserror::Error)]
pub enum BarbicanError {
    /// It could not be reached, or did not answer.
    #[error("Barbican: cannot {operation}")]
    Request {
        /// What was tried.
        operation: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It said no.
    #[error("Barbican: cannot {operation}: it answers {status}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// The HTTP status.
        status: u16,
    },
    /// It said something else than it should.
    #[error("Barbican: cannot {operation}: its answer cannot be understood")]
    Answer {
        /// What was tried.
        operation: &'static str,
    },
    /// Keystone does not say where it is.
    #[error(
        "Keystone's catalog has no public endpoint of type key-manager (in keystone.region, where that is set); name it in key_manager.url"
    )]
    Nowhere,
    /// This service's own user, which reads the catalog.
    #[error(transparent)]
    User(#[from] AuthError),
}

/// A Barbican.
pub struct Barbican {
    client: Client,
    user: ServiceUser,
    configured: Option<String>,
    found: OnceCell<String>,
}

impl Barbican {
    /// At this address, or where Keystone's catalog says; nothing is asked yet.
    pub fn new(url: Option<&str>, user: ServiceUser) -> Result<Self, BarbicanError> {
        let client = Client::builder().timeout(WITHIN).redirect(reqwest::redirect::Policy::none()).build();
        let configured = url.map(str::to_owned);
        Ok(Self { client: client.map_err(failed("prepare to ask"))?, user, configured, found: OnceCell::new() })
    }

    async fn secrets(&self) -> Result<String, BarbicanError> {
        let url = match &self.configured {
            Some(url) => url,
            None => {
                let look = || async { self.user.endpoint("key-manager").await?.ok_or(BarbicanError::Nowhere) };
                self.found.get_or_try_init(look).await?
            }
        };
        Ok(format!("{}/v1/secrets", url.trim_end_matches('/').trim_end_matches("/v1")))
    }

    /// Puts a key there, as the owner of this token; gives its id.
    pub async fn store(&self, token: &Secret, key: &VolumeKey) -> Result<Uuid, BarbicanError> {
        const STORE: &str = "store a key";
        let body = json!({
            "name": "key of an encrypted volume",
            "secret_type": "symmetric",
            "algorithm": "aes",
            "mode": "xts",
            "bit_length": key.bits(),
            "payload_content_type": "application/octet-stream",
            "payload_content_encoding": "base64",
            "payload": STANDARD.encode(key.bytes()),
        });
        let answer = send(self.client.post(self.secrets().await?).json(&body), token, STORE).await?;
        let answer: Value = serde_json::from_slice(&read(answer, STORE).await?).map_err(|_| not_understood(STORE))?;
        let id = answer.get("secret_ref").and_then(Value::as_str).and_then(|address| address.rsplit('/').next());
        id.and_then(|id| Uuid::parse_str(id).ok()).ok_or_else(|| not_understood(STORE))
    }

    /// Reads a key, as the owner of this token.
    pub async fn fetch(&self, token: &Secret, id: Uuid) -> Result<VolumeKey, BarbicanError> {
        const FETCH: &str = "read a key";
        let request = self.client.get(format!("{}/{id}/payload", self.secrets().await?));
        let request = request.header(ACCEPT, HeaderValue::from_static("application/octet-stream"));
        Ok(VolumeKey::new(read(send(request, token, FETCH).await?, FETCH).await?))
    }

    /// Removes a key, as the owner of this token. Where there is none, nothing happens.
    pub async fn remove(&self, token: &Secret, id: Uuid) -> Result<(), BarbicanError> {
        let request = self.client.delete(format!("{}/{id}", self.secrets().await?));
        match send(request, token, "remove a key").await {
            Err(BarbicanError::Refused { status: 404, .. }) => Ok(()),
            removed => removed.map(drop),
        }
    }
}

async fn send(request: RequestBuilder, token: &Secret, operation: &'static str) -> Result<Response, BarbicanError> {
    let mut token = HeaderValue::from_str(token.reveal()).map_err(|_| refused(operation, StatusCode::UNAUTHORIZED))?;
    token.set_sensitive(true);
    let answer = request.header("x-auth-token", token).send().await.map_err(failed(operation))?;
    if answer.status().is_success() { Ok(answer) } else { Err(refused(operation, answer.status())) }
}

async fn read(mut answer: Response, operation: &'static str) -> Result<Vec<u8>, BarbicanError> {
    let mut bytes = Vec::new();
    while let Some(more) = answer.chunk().await.map_err(failed(operation))? {
        bytes.extend_from_slice(&more);
        if bytes.len() > LONGEST {
            return Err(not_understood(operation));
        }
    }
    Ok(bytes)
}

fn failed(operation: &'static str) -> impl FnOnce(reqwest::Error) -> BarbicanError {
    // The address may hold a name and a password.
    move |source| BarbicanError::Request { operation, source: Box::new(source.without_url()) }
}

fn refused(operation: &'static str, status: StatusCode) -> BarbicanError {
    BarbicanError::Refused { operation, status: status.as_u16() }
}

fn not_understood(operation: &'static str) -> BarbicanError {
    BarbicanError::Answer { operation }
}
