//! A token and the volume service's address, shared by all requests and renewed by one of them.
//!
//! ```text
//!   (nothing) --first request--> held --less than a margin left, or a 401 with this very token--> renewing --> held
//!                                                                                                    \-> error, told to all
//!                                                                                                        that waited for it
//! ```
//! The lock is held while Keystone is asked, so that concurrent requests wait for one renewal instead of each starting
//! their own. A failed renewal is handed to those that were waiting, not repeated by each: a Keystone that hangs costs one
//! deadline, not one per request.

use super::{
    AuthMethod, CloudConfig, OpenstackError, Operation, endpoint,
    http::Http,
    keystone::{self, Grant},
    volume_service::retry_reading,
};
use crate::model::Secret;
use reqwest::{Url, header::HeaderValue};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// How long before its end a token is replaced: longer than any one request takes.
const MARGIN: Duration = Duration::from_secs(120);
/// Renew at the latest when this part of a short lifetime is left.
const MARGIN_DIVISOR: u32 = 4;

/// What a request needs.
pub(super) struct Access {
    /// Ready for the header, marked so that it is never printed; `None` where no token is used.
    pub(super) token: Option<HeaderValue>,
    /// The volume service, or the key manager; `None` for a session that is only asked for tokens.
    pub(super) endpoint: Option<Url>,
    /// Roles of the token, where a Keystone told.
    pub(super) roles: Option<Vec<String>>,
    renew_at: Option<Instant>,
}

/// One set of credentials in use.
pub(super) struct Session {
    http: Http,
    config: CloudConfig,
    role: &'static str,
    /// Where the key manager or the image service is, if that was configured.
    configured: Option<Url>,
    state: Mutex<State>,
}

/// The role of a session with the key manager.
const KEYS_ROLE: &str = "key manager's user";
/// The role of a session with the image service.
const IMAGES_ROLE: &str = "image service's user";

#[derive(Default)]
struct State {
    access: Option<Arc<Access>>,
    failure: Option<(Instant, OpenstackError)>,
}

impl Session {
    /// A session for the requests themselves.
    pub(super) fn user(http: Http, config: CloudConfig) -> Self {
        Self { http, config, role: "user", configured: None, state: Mutex::default() }
    }

    /// A session whose token vouches that a service is asking (`X-Service-Token`).
    pub(super) fn service_user(http: Http, config: CloudConfig) -> Self {
        Self { http, config, role: "service user", configured: None, state: Mutex::default() }
    }

    /// A session for the key manager, at this address or where Keystone's catalog says.
    pub(super) fn key_manager(http: Http, config: CloudConfig, endpoint: Option<Url>) -> Self {
        Self { http, config, role: KEYS_ROLE, configured: endpoint, state: Mutex::default() }
    }

    /// A session for the image service, at this address or where Keystone's catalog says.
    pub(super) fn image_service(http: Http, config: CloudConfig, endpoint: Option<Url>) -> Self {
        Self { http, config, role: IMAGES_ROLE, configured: endpoint, state: Mutex::default() }
    }

    /// Whether a fresh token can be had after a 401.
    pub(super) fn is_renewable(&self) -> bool {
        keystone::request(&self.config.auth).is_some()
    }

    /// The access to use now. `refused` is one that the service answered 401 to: it is replaced, unless someone else has
    /// done so already.
    pub(super) async fn access(&self, refused: Option<&Arc<Access>>) -> Result<Arc<Access>, OpenstackError> {
        let asked_at = Instant::now();
        let mut state = self.state.lock().await;
        if let Some(access) = &state.access
            && access.renew_at.is_none_or(|at| Instant::now() < at)
            && !refused.is_some_and(|refused| Arc::ptr_eq(refused, access))
        {
            return Ok(access.clone());
        }
        if let Some((failed_at, error)) = &state.failure
            && *failed_at > asked_at
        {
            return Err(error.clone());
        }
        match self.establish().await {
            Ok(access) => {
                let access = Arc::new(access);
                *state = State { access: Some(access.clone()), failure: None };
                Ok(access)
            }
            Err(error) => {
                *state = State { access: None, failure: Some((Instant::now(), error.clone())) };
                Err(error)
            }
        }
    }

    async fn establish(&self) -> Result<Access, OpenstackError> {
        let operation = Operation::Authenticate { role: self.role };
        match &self.config.auth {
            AuthMethod::FixedToken { token, endpoint } => self.fixed(Some(token), endpoint),
            AuthMethod::NoToken { endpoint } => self.fixed(None, endpoint),
            auth => {
                let Some((auth_url, request)) = keystone::request(auth) else { return self.fixed(None, "") };
                self.warn_if_exposed(Url::parse(auth_url).ok().as_ref());
                let grant = retry_reading(|| keystone::authenticate(&self.http, &operation, auth_url, &request)).await?;
                self.granted(&operation, grant)
            }
        }
    }

    fn granted(&self, operation: &Operation, grant: Grant) -> Result<Access, OpenstackError> {
        let endpoint = match self.role {
            KEYS_ROLE | IMAGES_ROLE => Some(self.further_endpoint(&grant.catalog)?),
            "user" => Some(endpoint::volume_endpoint(&self.config, &grant.catalog, grant.project_id.as_deref())?),
            _ => None,
        };
        self.warn_if_exposed(endpoint.as_ref());
        let renew_at = Instant::now() + grant.lifetime.saturating_sub(MARGIN.min(grant.lifetime / MARGIN_DIVISOR));
        tracing::debug!(role = self.role, lifetime_s = grant.lifetime.as_secs(), "Keystone granted a token");
        Ok(Access {
            token: Some(header(operation, &grant.token)?),
            endpoint,
            roles: Some(grant.roles),
            renew_at: Some(renew_at),
        })
    }

    fn fixed(&self, token: Option<&Secret>, address: &str) -> Result<Access, OpenstackError> {
        let endpoint = match self.role {
            KEYS_ROLE | IMAGES_ROLE => self.further_endpoint(&[])?,
            _ => {
                let mut config = self.config.clone();
                config.volume_endpoint.get_or_insert_with(|| address.to_owned());
                endpoint::volume_endpoint(&config, &[], None)?
            }
        };
        self.warn_if_exposed(Some(&endpoint));
        let operation = Operation::Authenticate { role: self.role };
        let token = token.map(|token| header(&operation, token)).transpose()?;
        Ok(Access { token, endpoint: Some(endpoint), roles: None, renew_at: None })
    }

    /// The address of the key manager or the image service.
    fn further_endpoint(&self, catalog: &[endpoint::CatalogEntry]) -> Result<Url, OpenstackError> {
        match &self.configured {
            Some(address) => Ok(address.clone()),
            None if self.role == KEYS_ROLE => endpoint::key_manager_endpoint(&self.config, catalog),
            None => endpoint::image_endpoint(&self.config, catalog),
        }
    }

    fn warn_if_exposed(&self, url: Option<&Url>) {
        if let Some(url) = url
            && endpoint::is_exposed(url)
        {
            let peer = url.origin().ascii_serialization();
            tracing::warn!(%peer, role = self.role, "credentials cross the network unencrypted: use https");
        }
    }
}

fn header(operation: &Operation, token: &Secret) -> Result<HeaderValue, OpenstackError> {
    let mut value = HeaderValue::from_str(token.expose()).map_err(|_| OpenstackError::Unintelligible {
        operation: operation.clone(),
        status: 0,
        problem: "a token that cannot be sent as a header".to_owned(),
        request_id: None,
    })?;
    value.set_sensitive(true);
    Ok(value)
}
