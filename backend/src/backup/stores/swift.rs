//! Objects in a container of OpenStack's object store, by a token of Keystone's or, for `…/auth/v1.0`, of Swift's own.

use futures_util::future::BoxFuture;
use reqwest::header::HeaderValue;
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::super::object::{ObjectName, Place};
use super::{ObjectStore, StoreFault, http, read_secret};
use crate::config::SwiftConfig;
use crate::secret::Secret;

/// A list, or a token with its catalog, is not longer, bytes.
const LONGEST_ANSWER: u64 = 8 << 20;

/// The store.
pub(super) struct SwiftStore {
    client: Client,
    settings: SwiftConfig,
    password: Secret,
    session: Mutex<Option<Session>>,
}

/// What a login gives.
#[derive(Clone)]
struct Session {
    token: HeaderValue,
    /// Where the account's containers are.
    url: String,
}

impl SwiftStore {
    pub(super) fn new(settings: &SwiftConfig) -> Result<Self, StoreFault> {
        let password = read_secret(&settings.password_file)?;
        Ok(Self { client: http::client()?, settings: settings.clone(), password, session: Mutex::default() })
    }

    async fn ask(
        &self,
        operation: &'static str,
        method: Method,
        object: &str,
        query: &[(&str, &str)],
        payload: Vec<u8>,
    ) -> Result<Response, StoreFault> {
        let mut fresh = false;
        loop {
            let session = self.session(&mut fresh).await?;
            let slash = if object.is_empty() { "" } else { "/" };
            let url = format!("{}/{}{slash}{object}", session.url, self.settings.container);
            let request = self.client.request(method.clone(), &url).query(query).body(payload.clone());
            let answer = http::send(operation, object, request.header("x-auth-token", session.token)).await?;
            // The token has expired or was revoked.
            if answer.status() == StatusCode::UNAUTHORIZED && !fresh {
                *self.session.lock().await = None;
                continue;
            }
            return Ok(answer);
        }
    }

    /// The session there is, or a new one, whose container is made where it is not there.
    async fn session(&self, fresh: &mut bool) -> Result<Session, StoreFault> {
        let mut kept = self.session.lock().await;
        if let Some(session) = &*kept {
            return Ok(session.clone());
        }
        *fresh = true;
        let keystone = self.settings.auth_url.trim_end_matches('/').ends_with("/v3");
        let session = if keystone { self.log_in_to_keystone().await? } else { self.log_in().await? };
        let container = &self.settings.container;
        let url = format!("{}/{container}", session.url);
        let make = self.client.put(&url).header("x-auth-token", session.token.clone());
        let made = http::send("make the container", container, make).await?;
        if !made.status().is_success() {
            return Err(http::refused(made, "make the container", container).await);
        }
        Ok(kept.insert(session).clone())
    }

    /// Swift's own way.
    async fn log_in(&self) -> Result<Session, StoreFault> {
        let (user, key) = (&self.settings.username, self.password.reveal());
        let request = self.client.get(&self.settings.auth_url).header("x-auth-user", user).header("x-auth-key", key);
        let answer = http::send(LOG_IN, user, request).await?;
        if !answer.status().is_success() {
            return Err(http::refused(answer, LOG_IN, user).await);
        }
        let url = answer.headers().get("x-storage-url").and_then(|url| url.to_str().ok()).map(str::to_owned);
        let url = url.ok_or_else(|| lacks("X-Storage-Url"))?;
        session(&answer, "x-auth-token", url)
    }

    async fn log_in_to_keystone(&self) -> Result<Session, StoreFault> {
        let settings = &self.settings;
        let domain = json!({ "name": settings.user_domain_name });
        let user = json!({ "name": settings.username, "domain": domain, "password": self.password.reveal() });
        let domain = json!({ "name": settings.project_domain_name });
        let body = json!({ "auth": {
            "identity": { "methods": ["password"], "password": { "user": user } },
            "scope": { "project": { "name": settings.project_name, "domain": domain } },
        } });
        let url = format!("{}/auth/tokens", settings.auth_url.trim_end_matches('/'));
        let answer = http::send(LOG_IN, &settings.username, self.client.post(&url).json(&body)).await?;
        if answer.status() != StatusCode::CREATED {
            return Err(http::refused(answer, LOG_IN, &settings.username).await);
        }
        let mut session = session(&answer, "x-subject-token", String::new())?;
        let said = http::body(answer, LONGEST_ANSWER, LOG_IN, &settings.username).await?;
        let said: Value = serde_json::from_slice(&said).map_err(|_| lacks("JSON"))?;
        session.url = endpoint(&said, &settings.region).ok_or_else(|| lacks("an object-store in its catalog"))?;
        Ok(session)
    }
}

const LOG_IN: &str = "log in as";

fn lacks(what: &str) -> StoreFault {
    StoreFault::Answer { operation: "log in to Swift", problem: format!("the answer has no {what}") }
}

fn session(answer: &Response, header: &str, url: String) -> Result<Session, StoreFault> {
    let mut token = answer.headers().get(header).cloned().ok_or_else(|| lacks(header))?;
    token.set_sensitive(true);
    Ok(Session { token, url: url.trim_end_matches('/').to_owned() })
}

/// The public endpoint of the object store, in this region where one is told.
fn endpoint(said: &Value, region: &str) -> Option<String> {
    let services = said.pointer("/token/catalog")?.as_array()?;
    let service = services.iter().find(|service| service.get("type").and_then(Value::as_str) == Some("object-store"))?;
    let text = |endpoint: &Value, key: &str| endpoint.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let fits = |endpoint: &&Value| {
        text(endpoint, "interface") == "public" && (region.is_empty() || text(endpoint, "region_id") == region)
    };
    let endpoint = service.get("endpoints")?.as_array()?.iter().find(fits)?;
    Some(text(endpoint, "url").trim_end_matches('/').to_owned())
}

impl ObjectStore for SwiftStore {
    fn put<'a>(&'a self, name: &'a ObjectName, bytes: Vec<u8>) -> BoxFuture<'a, Result<(), StoreFault>> {
        Box::pin(async move {
            let answer = self.ask("write", Method::PUT, name.as_str(), &[], bytes).await?;
            if answer.status().is_success() { Ok(()) } else { Err(http::refused(answer, "write", name.as_str()).await) }
        })
    }

    fn get<'a>(&'a self, name: &'a ObjectName, most: u64) -> BoxFuture<'a, Result<Option<Vec<u8>>, StoreFault>> {
        Box::pin(async move {
            let answer = self.ask("read", Method::GET, name.as_str(), &[], Vec::new()).await?;
            match answer.status() {
                StatusCode::OK => Ok(Some(http::body(answer, most, "read", name.as_str()).await?)),
                StatusCode::NOT_FOUND => Ok(None),
                _ => Err(http::refused(answer, "read", name.as_str()).await),
            }
        })
    }

    fn remove<'a>(&'a self, name: &'a ObjectName) -> BoxFuture<'a, Result<(), StoreFault>> {
        Box::pin(async move {
            let answer = self.ask("remove", Method::DELETE, name.as_str(), &[], Vec::new()).await?;
            if answer.status().is_success() || answer.status() == StatusCode::NOT_FOUND {
                return Ok(());
            }
            Err(http::refused(answer, "remove", name.as_str()).await)
        })
    }

    fn list<'a>(
        &'a self,
        place: &'a Place,
        after: Option<&'a ObjectName>,
    ) -> BoxFuture<'a, Result<Vec<ObjectName>, StoreFault>> {
        Box::pin(async move {
            let prefix = place.prefix();
            let after = after.map(ObjectName::as_str).unwrap_or_default();
            let query = [("prefix", prefix.as_str()), ("marker", after), ("limit", "1000")];
            let answer = self.ask("list", Method::GET, "", &query, Vec::new()).await?;
            match answer.status() {
                StatusCode::OK => {}
                StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => return Ok(Vec::new()),
                _ => return Err(http::refused(answer, "list", &prefix).await),
            }
            // A name a line, where no other form is asked for.
            let list = http::body(answer, LONGEST_ANSWER, "list", &prefix).await?;
            Ok(String::from_utf8_lossy(&list).lines().filter_map(|name| place.named(name)).collect())
        })
    }
}
