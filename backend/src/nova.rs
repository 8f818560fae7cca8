//! The Nova that runs the guests, where Keystone's catalog has one: it waits to hear when an image was written over the volume of a guest
//! that it rebuilds (its API's external events, microversion 2.93). Nothing else is asked of it.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::json;
use uuid::Uuid;

use crate::auth::{AuthError, ServiceUser};

/// How long it may take.
const WITHIN: Duration = Duration::from_secs(10);

/// Nova could not be told.
#[derive(Debug, thiserror::Error)]
pub enum NovaError {
    /// It could not be reached, or did not answer.
    #[error("Nova: cannot tell it of volume {volume_id}")]
    Request {
        /// Of which.
        volume_id: Uuid,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It said no.
    #[error(
        "Nova: cannot tell it of volume {volume_id}: it answers {status}; has the user of [keystone] the role service or admin?"
    )]
    Refused {
        /// Of which.
        volume_id: Uuid,
        /// The HTTP status.
        status: u16,
    },
    /// This service's own user.
    #[error(transparent)]
    User(#[from] AuthError),
}

/// A Nova.
pub struct Nova {
    client: Client,
    user: ServiceUser,
}

impl Nova {
    /// Where Keystone's catalog says that it is; nothing is asked yet.
    pub fn new(user: ServiceUser) -> Result<Self, AuthError> {
        let client = Client::builder().timeout(WITHIN).redirect(reqwest::redirect::Policy::none()).build();
        let failed = |source: reqwest::Error| AuthError::IdentityService {
            operation: "prepare to ask",
            source: Box::new(source.without_url()),
        };
        Ok(Self { client: client.map_err(failed)?, user })
    }

    /// Tells it that an image was written over a volume of these guests, or could not be. Where there is no Nova, nothing happens.
    pub async fn volume_reimaged(&self, volume_id: Uuid, servers: &[Uuid], failed: bool) -> Result<(), NovaError> {
        if servers.is_empty() {
            return Ok(());
        }
        let Some(url) = self.user.endpoint("compute").await? else { return Ok(()) };
        let url = format!("{}/os-server-external-events", url.trim_end_matches('/'));
        let status = if failed { "failed" } else { "completed" };
        let event =
            |server: &Uuid| json!({ "name": "volume-reimaged", "server_uuid": server, "tag": volume_id, "status": status });
        let body = json!({ "events": servers.iter().map(event).collect::<Vec<_>>() });
        let mut is_second = false;
        loop {
            let token = self.user.token().await?;
            let request = self.client.post(&url).header("x-auth-token", &token).header("openstack-api-version", "compute 2.93");
            let answer = request.json(&body).send().await.map_err(|source| {
                // The address may hold a name and a password.
                NovaError::Request { volume_id, source: Box::new(source.without_url()) }
            })?;
            match answer.status() {
                // It says 207 where it knows one guest and not another.
                status if status.is_success() => return Ok(()),
                StatusCode::UNAUTHORIZED if !is_second => self.user.forget(&token).await,
                status => return Err(NovaError::Refused { volume_id, status: status.as_u16() }),
            }
            is_second = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::http::HeaderMap;
    use axum::routing::post;
    use axum::{Json, Router};
    use serde_json::Value;

    use super::*;
    use crate::config::Keystone;

    #[tokio::test]
    async fn a_nova_in_the_catalog_hears_of_its_guests_volumes() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let endpoint = move |region: &str, path: &str| json!({ "interface": "public", "region_id": region, "url": format!("http://{address}{path}") });
        let log_in = move || async move {
            let compute =
                json!({ "type": "compute", "endpoints": [endpoint("other", "/elsewhere"), endpoint("here", "/v2.1/")] });
            (StatusCode::CREATED, [("x-subject-token", "t")], Json(json!({ "token": { "catalog": [compute] } })))
        };
        let heard: Arc<Mutex<Vec<Value>>> = Arc::default();
        let hears = heard.clone();
        let event = move |headers: HeaderMap, Json(body): Json<Value>| async move {
            let of = |name: &str| headers.get(name).unwrap().to_str().unwrap().to_owned();
            let mut hears = hears.lock().unwrap();
            hears.push(body);
            // The first token is worth nothing any more.
            let code = if hears.len() == 1 { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
            assert_eq!((of("x-auth-token").as_str(), of("openstack-api-version").as_str()), ("t", "compute 2.93"));
            code
        };
        let app = Router::new().route("/v3/auth/tokens", post(log_in)).route("/v2.1/os-server-external-events", post(event));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let password = tempfile::NamedTempFile::new().unwrap();
        let keystone = Keystone {
            auth_url: format!("http://{address}/v3"),
            password_file: password.path().to_owned(),
            region: "here".into(),
            ..Keystone::default()
        };
        let nova = Nova::new(ServiceUser::new(&keystone).unwrap()).unwrap();
        let (volume, server) = (Uuid::new_v4(), Uuid::new_v4());
        nova.volume_reimaged(volume, &[], false).await.unwrap();
        nova.volume_reimaged(volume, &[server], true).await.unwrap();
        let event = json!({ "name": "volume-reimaged", "server_uuid": server, "tag": volume, "status": "failed" });
        assert_eq!(*heard.lock().unwrap(), vec![json!({ "events": [event] }); 2]);
    }
}
