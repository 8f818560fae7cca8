//! The client of the volume service: one call with its token, its retries and its errors.
//!
//! Which failures are tried again depends on the request:
//!
//! | request | tried again after | why |
//! | --- | --- | --- |
//! | reads, getting a token | no connection, lost answer, 502, 503, 504 | repeating changes nothing |
//! | `PUT`, `os-complete`, `DELETE` | these and 500 | repeating ends in the same state |
//! | `POST` that creates | no connection made | anything later may have created it; the caller looks first |
//! | the same, where the service keeps idempotency keys | as `PUT`, and while it says that the first is under way | it does it once |
//!
//! A request that ran into its deadline is not repeated: the time is the caller's.

use super::{
    CloudConfig, HttpOptions, OpenstackError, Operation, endpoint,
    http::{Answer, Http},
    session::{Access, Session},
};
use crate::model::VolumeId;
use backon::{BackoffBuilder, ExponentialBuilder, Retryable};
use reqwest::{
    Method,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;
use std::{
    collections::HashMap,
    iter,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};
use uuid::Uuid;

/// The microversion of what every attach needs: 3.54 lets an attachment be read-only. Cinder has it since the release Stein.
const MICROVERSION: &str = "volume 3.54";
const API_VERSION: HeaderName = HeaderName::from_static("openstack-api-version");
const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
const SERVICE_TOKEN: HeaderName = HeaderName::from_static("x-service-token");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Under whose lease an attachment is made.
const LEASE_HOST: HeaderName = HeaderName::from_static("x-bowline-lease-host");
/// What a bundled service says that it has beyond Cinder; Cinder says nothing.
const FEATURES: HeaderName = HeaderName::from_static("x-bowline-features");

/// The operation that a change has begun, as a bundled service tells it.
const BEGUN: HeaderName = HeaderName::from_static("x-bowline-operation");
/// So many operations are kept in mind.
const BEGUN_MAX: usize = 256;

/// First pause between tries; each later one is twice as long, and jittered so that hosts do not return in step.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Tries after the first failed one.
const RETRIES: usize = 4;

/// How Cinder refuses a connector that the same attachment, or another one of this host, has given already.
const DUPLICATE_CONNECTOR: &str = "duplicate connectors";

/// Whether something had to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done now.
    Changed,
    /// It was so already.
    Unchanged,
}

/// Whether a failed request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It changes nothing.
    Reading,
    /// Doing it twice ends as doing it once.
    Idempotent,
    /// Only if it was certainly not received, or if the service is known to do what has one key once.
    Keyed,
    /// Only if it was certainly not received.
    Never,
}

/// One request to the volume service.
pub(super) struct Call<'a> {
    pub(super) operation: Operation,
    pub(super) method: Method,
    /// Below the endpoint; made of fixed words and ids only, so nothing in it wants escaping.
    pub(super) path: String,
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) body: Option<Value>,
    pub(super) repeat: Repeat,
    /// In the words of its header.
    pub(super) microversion: &'static str,
    /// Show that a service asks: Cinder lets nobody else detach what an instance uses.
    pub(super) as_service: bool,
}

impl Call<'_> {
    /// A read.
    pub(super) fn get(operation: Operation, path: impl Into<String>) -> Self {
        let (method, repeat) = (Method::GET, Repeat::Reading);
        let microversion = MICROVERSION;
        Self { operation, method, path: path.into(), query: &[], body: None, repeat, microversion, as_service: false }
    }
}

/// What a service has beyond Cinder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Features {
    pub(super) idempotency_key: bool,
    pub(super) attachment_lease: bool,
}

impl Features {
    fn of(told: &str) -> Self {
        let has = |feature| told.split(", ").any(|one| one == feature);
        Self { idempotency_key: has("idempotency-key"), attachment_lease: has("attachment-lease") }
    }
}

/// A client of one cloud's volume service. Clones share its session and connections.
#[derive(Clone)]
pub struct VolumeService {
    inner: Arc<Inner>,
}

struct Inner {
    http: Http,
    user: Session,
    service_user: Option<Session>,
    /// What the service has told of itself; none before its first answer.
    features: Mutex<Option<Features>>,
    /// The host whose leases attachments are made under.
    lease_host: OnceLock<String>,
    /// The operations that changes of volumes have begun and nobody has waited for yet, as a service told them that has such.
    begun: Mutex<HashMap<VolumeId, String>>,
}

impl VolumeService {
    /// A client with `config`'s credentials; with `service_user` it proves on detach that a service is asking. No I/O: the
    /// first request authenticates.
    pub fn new(config: CloudConfig, service_user: Option<CloudConfig>, http: HttpOptions) -> Result<Self, OpenstackError> {
        let http = Http::new(http, config.cacert.clone())?;
        let service_user = service_user.map(|config| Session::service_user(http.trusting(config.cacert.clone()), config));
        let user = Session::user(http.clone(), config);
        Ok(Self {
            inner: Arc::new(Inner {
                http,
                user,
                service_user,
                features: Mutex::default(),
                lease_host: OnceLock::new(),
                begun: Mutex::default(),
            }),
        })
    }

    /// Whether requests can prove that a service is asking.
    pub(super) fn has_service_user(&self) -> bool {
        self.inner.service_user.is_some()
    }

    /// The service user's token, where one is set up.
    pub(super) async fn service_access(&self) -> Option<Result<Arc<Access>, OpenstackError>> {
        match &self.inner.service_user {
            Some(session) => Some(session.access(None).await),
            None => None,
        }
    }

    /// Whether the user's token comes from a Keystone.
    pub(super) fn has_keystone(&self) -> bool {
        self.inner.user.is_renewable()
    }

    /// What the service has told of itself; none before its first answer.
    pub(super) fn features(&self) -> Option<Features> {
        *self.inner.features.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host whose leases attachments are made under.
    pub(super) fn lease_host(&self) -> &OnceLock<String> {
        &self.inner.lease_host
    }

    /// Keeps the operation that an answer tells, for who waits for its end.
    pub(super) fn note_begun(&self, volume: VolumeId, answer: &Answer) {
        let id = answer.headers.get(BEGUN).and_then(|id| id.to_str().ok()).filter(|id| Uuid::parse_str(id).is_ok());
        let mut begun = self.inner.begun.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody waits for would add up.
        if begun.len() >= BEGUN_MAX {
            begun.clear();
        }
        match id {
            Some(id) => begun.insert(volume, id.to_owned()),
            None => begun.remove(&volume),
        };
    }

    /// Waits for the end of the operation that a volume's last change began: the service tells it as a stream that ends with it.
    /// Whether it was worth the waiting; where not, the volume has to be looked at now and then.
    pub(super) async fn watch_begun(&self, volume: VolumeId) -> bool {
        let begun = || self.inner.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(id) = begun().remove(&volume) else { return false };
        let call = Call { repeat: Repeat::Never, ..Call::get(Operation::ShowVolume(volume), format!("operations/{id}/watch")) };
        match self.call(call).await {
            Ok(_) => true,
            // It takes longer than one request may.
            Err(OpenstackError::NoAnswer { sent: true, .. }) => {
                begun().insert(volume, id);
                true
            }
            Err(error) => {
                tracing::debug!(%error, "an operation cannot be watched");
                false
            }
        }
    }

    /// Sends one call, again where that is safe. Any status outside 2xx is an error.
    pub(super) async fn call(&self, call: Call<'_>) -> Result<Answer, OpenstackError> {
        let body = call.body.as_ref().map(|body| body.to_string().into_bytes());
        // Sent to Cinder too, which does not know it: what the service is, the first answer tells.
        let key = (call.repeat == Repeat::Keyed).then(|| HeaderValue::try_from(Uuid::new_v4().to_string()).ok()).flatten();
        let repeat = || match call.repeat {
            Repeat::Keyed if self.features().is_some_and(|features| features.idempotency_key) => Repeat::Idempotent,
            Repeat::Keyed => Repeat::Never,
            other => other,
        };
        let may_repeat = |error: &OpenstackError| may_repeat(repeat(), error);
        (|| self.once(&call, body.clone(), key.clone()))
            .retry(pauses())
            .when(may_repeat)
            .notify(|error, pause| tracing::debug!(%error, pause_ms = pause.as_millis(), "trying again"))
            .await
    }

    /// One try; a refused token is replaced once.
    async fn once(&self, call: &Call<'_>, body: Option<Vec<u8>>, key: Option<HeaderValue>) -> Result<Answer, OpenstackError> {
        let (user, service) = self.accesses(call, None).await?;
        let answer = self.send(call, &user, service.as_deref(), body.clone(), key.clone()).await?;
        let renewable = self.inner.user.is_renewable() || self.inner.service_user.as_ref().is_some_and(Session::is_renewable);
        let answer = if answer.status == 401 && renewable {
            // The middleware answers alike whichever of the two tokens it dislikes.
            let (user, service) = self.accesses(call, Some((&user, service.as_ref()))).await?;
            self.send(call, &user, service.as_deref(), body, key).await?
        } else {
            answer
        };
        if (200..300).contains(&answer.status) { Ok(answer) } else { Err(answer.refused(&call.operation)) }
    }

    async fn accesses(
        &self,
        call: &Call<'_>,
        refused: Option<(&Arc<Access>, Option<&Arc<Access>>)>,
    ) -> Result<(Arc<Access>, Option<Arc<Access>>), OpenstackError> {
        let user = self.inner.user.access(refused.map(|(user, _)| user)).await?;
        let service = match &self.inner.service_user {
            Some(session) if call.as_service => Some(session.access(refused.and_then(|(_, service)| service)).await?),
            _ => None,
        };
        Ok((user, service))
    }

    async fn send(
        &self,
        call: &Call<'_>,
        user: &Access,
        service: Option<&Access>,
        body: Option<Vec<u8>>,
        key: Option<HeaderValue>,
    ) -> Result<Answer, OpenstackError> {
        let Some(base) = &user.endpoint else {
            let offered = "no address for this session".to_owned();
            return Err(OpenstackError::NoEndpoint { region: None, interface: "public", offered });
        };
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(API_VERSION, HeaderValue::from_static(call.microversion));
        headers.insert(reqwest::header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(token) = &user.token {
            headers.insert(TOKEN, token.clone());
        }
        if let Some(token) = service.and_then(|service| service.token.as_ref()) {
            headers.insert(SERVICE_TOKEN, token.clone());
        }
        if let Some(key) = key {
            headers.insert(IDEMPOTENCY_KEY, key);
        }
        // Sent to Cinder too, which does not know it.
        if let (Operation::CreateAttachment { .. }, Some(host)) = (&call.operation, self.inner.lease_host.get())
            && let Ok(host) = HeaderValue::try_from(host)
        {
            headers.insert(LEASE_HOST, host);
        }
        let url = endpoint::resource(base, &call.path, call.query);
        let answer = self.inner.http.exchange(&call.operation, call.method.clone(), url, headers, body).await?;
        let told = answer.headers.get(FEATURES).and_then(|features| features.to_str().ok()).unwrap_or_default();
        *self.inner.features.lock().unwrap_or_else(PoisonError::into_inner) = Some(Features::of(told));
        Ok(answer)
    }
}

/// Repeats `try_once` as a read is repeated.
pub(super) async fn retry_reading<T, F: Future<Output = Result<T, OpenstackError>>>(
    try_once: impl FnMut() -> F,
) -> Result<T, OpenstackError> {
    try_once.retry(pauses()).when(|error| may_repeat(Repeat::Reading, error)).await
}

/// At once, then ever later: most failures are a restarted worker or a connection gone stale, which the next try misses.
fn pauses() -> impl BackoffBuilder {
    let later = ExponentialBuilder::default().with_min_delay(PAUSE_MIN).with_jitter().with_max_times(RETRIES - 1).build();
    iter::once(Duration::ZERO).chain(later)
}

fn may_repeat(repeat: Repeat, error: &OpenstackError) -> bool {
    // A token that could not be had was tried for enough already, and nothing else was sent.
    if matches!(error, OpenstackError::Refused { operation: Operation::Authenticate { .. }, .. }) && repeat != Repeat::Reading {
        return false;
    }
    match error {
        OpenstackError::Unreachable { sent, .. } => !sent || repeat != Repeat::Never,
        OpenstackError::Refused { status: 502..=504, .. } => repeat != Repeat::Never,
        // Said of a `PUT` that arrived before: asking again changes nothing.
        OpenstackError::Refused { status: 500, message, .. } if message.contains(DUPLICATE_CONNECTOR) => false,
        OpenstackError::Refused { status: 500, .. } => repeat == Repeat::Idempotent,
        error if error.is_key_in_hand() => repeat == Repeat::Idempotent,
        _ => false,
    }
}
