//! The key manager (Barbican): the keys of encrypted volumes. Its session is one of its own, since the user who may read a key is
//! the one who made the volume, and often not the one who attaches it.

use super::{
    CloudConfig, HttpOptions, OpenstackError, Operation, endpoint,
    http::{Answer, Http},
    session::{Access, Session},
    volume_service::retry_reading,
};
use crate::model::Secret;
use reqwest::{
    Method, Url,
    header::{ACCEPT, HeaderMap, HeaderName, HeaderValue},
};
use std::{fmt::Write, sync::Arc};
use uuid::Uuid;
use zeroize::Zeroizing;

/// A client of one cloud's key manager. Clones share its session and connections.
#[derive(Clone)]
pub struct KeyManager {
    inner: Arc<Inner>,
}

struct Inner {
    http: Http,
    session: Session,
}

const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// Longest key that is taken, bytes: volumes have 32 or 64.
const KEY_MAX_BYTES: usize = 1024;

impl KeyManager {
    /// A client with `config`'s credentials. `endpoint`: its address; without one Keystone's catalog has it. No I/O: the first
    /// request authenticates.
    ///
    /// # Errors
    /// An address that is none, or HTTPS cannot be set up.
    pub fn new(config: CloudConfig, endpoint: Option<&str>, http: HttpOptions) -> Result<Self, OpenstackError> {
        let endpoint = match endpoint {
            Some(text) => Some(
                endpoint::key_manager_address(text).ok_or_else(|| no_key_manager(&config, "its address is no http(s) URL"))?,
            ),
            None => None,
        };
        let http = Http::new(http, config.cacert.clone())?;
        let session = Session::key_manager(http.clone(), config, endpoint);
        Ok(Self { inner: Arc::new(Inner { http, session }) })
    }

    /// The passphrase of the volumes that have this key: its bytes in hexadecimal, as Nova, Cinder and os-brick all make it.
    ///
    /// # Errors
    /// The key manager refuses, cannot be reached, or answers with what is no key.
    pub async fn passphrase(&self, key: Uuid) -> Result<Secret, OpenstackError> {
        let operation = Operation::FetchKey(key);
        let answer = retry_reading(|| self.once(&operation, key)).await?;
        if answer.body.is_empty() || answer.body.len() > KEY_MAX_BYTES {
            return Err(answer.unintelligible(&operation, format!("{} bytes, which are no key", answer.body.len())));
        }
        let mut text = Zeroizing::new(String::with_capacity(answer.body.len() * 2));
        for byte in answer.body.iter() {
            // Writing to a text cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Ok(Secret::new(text.as_str()))
    }

    /// One try; a refused token is replaced once.
    async fn once(&self, operation: &Operation, key: Uuid) -> Result<Answer, OpenstackError> {
        let access = self.inner.session.access(None).await?;
        let mut answer = self.send(operation, key, &access).await?;
        if answer.status == 401 && self.inner.session.is_renewable() {
            let access = self.inner.session.access(Some(&access)).await?;
            answer = self.send(operation, key, &access).await?;
        }
        if (200..300).contains(&answer.status) { Ok(answer) } else { Err(answer.refused(operation)) }
    }

    async fn send(&self, operation: &Operation, key: Uuid, access: &Access) -> Result<Answer, OpenstackError> {
        let Some(base) = &access.endpoint else {
            return Err(OpenstackError::NoKeyManager { cloud: String::new(), problem: "this session has no address".into() });
        };
        let mut headers = HeaderMap::with_capacity(2);
        // Asked for JSON, it would give what describes the key instead.
        headers.insert(ACCEPT, HeaderValue::from_static("application/octet-stream"));
        if let Some(token) = &access.token {
            headers.insert(TOKEN, token.clone());
        }
        let url: Url = endpoint::resource(base, &format!("secrets/{key}/payload"), &[]);
        self.inner.http.exchange(operation, Method::GET, url, headers, None).await
    }
}

fn no_key_manager(config: &CloudConfig, problem: &str) -> OpenstackError {
    OpenstackError::NoKeyManager { cloud: config.name.clone(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::ErrorKind,
        openstack::{
            AuthMethod, Interface,
            test_server::{Reply, Server},
        },
    };
    use serde_json::json;

    const KEY: Uuid = Uuid::from_u128(0x94333fbd_2aab_4a5a_befd_e30c2f7377fd);

    fn client(server: &Server) -> KeyManager {
        let auth = AuthMethod::NoToken { endpoint: String::new() };
        let config = CloudConfig {
            name: "c".into(),
            auth,
            region_name: None,
            interface: Interface::Public,
            cacert: None,
            volume_endpoint: None,
            image_endpoint: None,
            key_manager_endpoint: None,
        };
        KeyManager::new(config, Some(&server.url()), HttpOptions::default()).unwrap()
    }

    #[tokio::test]
    async fn a_keys_bytes_become_the_passphrase_in_hexadecimal() {
        let server = Server::start(|_, _| Reply::Text(200, "\u{1}Zz".into())).await;
        assert_eq!(client(&server).passphrase(KEY).await.unwrap().expose(), "015a7a");
        let asked = &server.requests()[0];
        assert_eq!(asked.line, format!("GET /v1/secrets/{KEY}/payload"));
        assert_eq!(asked.header("accept"), Some("application/octet-stream"));
    }

    #[tokio::test]
    async fn a_key_that_is_refused_or_empty_is_told_and_never_quoted() {
        let server =
            Server::start(|_, _| Reply::Json(403, &[], json!({"title": "Forbidden", "code": 403, "description": "no"}))).await;
        let error = client(&server).passphrase(KEY).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains(&KEY.to_string()), "{error}");
        let server = Server::start(|_, _| Reply::Text(200, String::new())).await;
        assert_eq!(client(&server).passphrase(KEY).await.unwrap_err().kind(), ErrorKind::Internal);
    }
}
