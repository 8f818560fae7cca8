//! One HTTP exchange: bounded in time and size, with every way it can fail named; a stream is bounded from piece to piece.
//!
//! Redirects are not followed: they would carry the token to another host. Web proxies from the environment are not used:
//! control traffic of a storage network, tokens in its headers, has no business there. TLS certificates are always
//! checked; the system's roots (about 2 MB once parsed) are loaded only when an `https://` address is first used.

use super::{OpenstackError, Operation, Sent, fault};
use reqwest::{
    Body, Certificate, Client, ClientBuilder, Method, Response, Url,
    header::{CONTENT_LENGTH, HeaderMap},
    redirect::Policy,
};
use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{fs::File, io::AsyncReadExt, sync::watch};
use zeroize::Zeroizing;

/// Largest answer that is read, bytes. A page of 1000 volumes with details is about 2 MiB.
const ANSWER_MAX_BYTES: usize = 8 << 20;
/// Largest answer to an authentication or a single object would fit in this; it is what is reserved up front.
const ANSWER_START_BYTES: usize = 4 << 10;
/// How long an idle connection is kept, seconds. Shorter than servers do, so that a request that must not be sent twice
/// seldom meets a connection that the other side has just closed.
const POOL_IDLE_S: u64 = 4;
/// Idle connections kept per host; each costs about 20 KiB.
const POOL_MAX_IDLE: usize = 2;

/// Bytes that are sent at a time.
const PIECE_BYTES: usize = 256 * 1024;
/// How long a service may be silent once it has all bytes: it may still check and sync them.
const DIGESTING: Duration = Duration::from_secs(600);

/// The most that a stream may take, in all: a day.
const STREAM_MAX: Duration = Duration::from_secs(86_400);

/// Limits of every HTTP request.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Longest time to establish a connection, seconds.
    pub connect_timeout_s: u64,
    /// Longest time from sending a request to the last byte of its answer, seconds.
    pub request_timeout_s: u64,
    /// The `User-Agent`.
    pub user_agent: String,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connect_timeout_s: 5,
            // Cinder exports the volume within `PUT /attachments/{id}`: slow arrays take tens of seconds.
            request_timeout_s: 60,
            user_agent: concat!("bowline/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// The HTTP client, with TLS only once it is needed. Clones share connections.
#[derive(Clone)]
pub(super) struct Http {
    options: HttpOptions,
    plain: Client,
    tls: Arc<OnceLock<Client>>,
    cacert: Option<PathBuf>,
}

/// What came back, whole.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// Wiped when dropped: answers hold CHAP passwords.
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Answer {
    fn take(&mut self, operation: &Operation, bytes: &[u8]) -> Result<(), OpenstackError> {
        if self.body.len() + bytes.len() > ANSWER_MAX_BYTES {
            return Err(self.unintelligible(operation, "more than 8 MiB"));
        }
        self.body.extend_from_slice(bytes);
        Ok(())
    }

    /// The service's name for the request, under either of the names in use.
    pub(super) fn request_id(&self) -> Option<String> {
        let value = ["x-openstack-request-id", "x-compute-request-id"].iter().find_map(|name| self.headers.get(*name));
        value.and_then(|value| value.to_str().ok()).map(|id| fault::printable(id, 64)).filter(|id| !id.is_empty())
    }

    /// The answer, unless it is an error.
    pub(super) fn accepted(self, operation: &Operation) -> Result<Self, OpenstackError> {
        if (200..300).contains(&self.status) { Ok(self) } else { Err(self.refused(operation)) }
    }

    /// The error this answer is.
    pub(super) fn refused(&self, operation: &Operation) -> OpenstackError {
        OpenstackError::Refused {
            operation: operation.clone(),
            status: self.status,
            message: fault::message(&self.body),
            request_id: self.request_id(),
        }
    }

    /// The error that an accepted answer makes no sense.
    pub(super) fn unintelligible(&self, operation: &Operation, problem: impl Into<String>) -> OpenstackError {
        OpenstackError::Unintelligible {
            operation: operation.clone(),
            status: self.status,
            problem: problem.into(),
            request_id: self.request_id(),
        }
    }

    /// Reads the body, telling what is not JSON from JSON of another shape, and quoting neither.
    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, operation: &Operation) -> Result<T, OpenstackError> {
        use serde_json::error::Category;
        serde_json::from_slice(&self.body).map_err(|error| {
            let place = format!("at line {} column {}", error.line(), error.column());
            let problem = match error.classify() {
                Category::Data => format!("JSON of an unexpected shape ({place})"),
                _ => format!("something that is not JSON ({place})"),
            };
            self.unintelligible(operation, problem)
        })
    }
}

impl Http {
    /// A client that trusts `cacert`, or the system's roots. No I/O yet.
    pub(super) fn new(options: HttpOptions, cacert: Option<PathBuf>) -> Result<Self, OpenstackError> {
        // Fails only when a provider is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Without roots there is nothing to load; `https` never goes through this one.
        let plain = builder(&options).tls_certs_only([]).build().map_err(|error| tls_error(&cacert, error))?;
        Ok(Self { options, plain, tls: Arc::default(), cacert })
    }

    /// The same limits and plain connections with another CA bundle.
    pub(super) fn trusting(&self, cacert: Option<PathBuf>) -> Self {
        let tls = if cacert == self.cacert { self.tls.clone() } else { Arc::default() };
        Self { tls, cacert, ..self.clone() }
    }

    fn client_for(&self, url: &Url) -> Result<&Client, OpenstackError> {
        if url.scheme() != "https" {
            return Ok(&self.plain);
        }
        if let Some(client) = self.tls.get() {
            return Ok(client);
        }
        let mut tls = builder(&self.options).https_only(true);
        if let Some(bundle) = &self.cacert {
            let pem = fs::read(bundle)
                .map_err(|error| OpenstackError::UnreadableFile { file: bundle.clone(), source: Arc::new(error) })?;
            let roots = Certificate::from_pem_bundle(&pem).map_err(|error| tls_error(&self.cacert, error))?;
            if roots.is_empty() {
                return Err(tls_error(&self.cacert, "it holds no PEM certificate"));
            }
            tls = tls.tls_certs_only(roots);
        }
        let client = tls.build().map_err(|error| tls_error(&self.cacert, error))?;
        Ok(self.tls.get_or_init(|| client))
    }

    /// Sends one request and reads its whole answer, whatever its status.
    pub(super) async fn exchange(
        &self,
        operation: &Operation,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, OpenstackError> {
        let peer = url.origin().ascii_serialization();
        let mut request = self.client_for(&url)?.request(method, url).headers(headers);
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body);
        }
        let failed = |error| self.failure(operation, &peer, error);
        let mut response = request.send().await.map_err(&failed)?;
        let mut answer = Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: Zeroizing::new(Vec::with_capacity(ANSWER_START_BYTES)),
        };
        while let Some(chunk) = response.chunk().await.map_err(&failed)? {
            answer.take(operation, &chunk)?;
        }
        Ok(answer)
    }

    /// Sends a read whose answer comes piece by piece and may take as long as it likes, if only it goes on.
    pub(super) async fn stream(&self, operation: &Operation, url: Url, headers: HeaderMap) -> Result<Stream, OpenstackError> {
        let peer = url.origin().ascii_serialization();
        let request = self.client_for(&url)?.get(url).headers(headers).timeout(STREAM_MAX);
        let response = self.in_time(operation, &peer, request.send()).await?;
        Ok(Stream { status: response.status().as_u16(), response, http: self.clone(), peer })
    }

    /// Sends a body piece by piece. It may take as long as it likes, if only the peer goes on taking pieces; after the last it has
    /// [`DIGESTING`] to put them away.
    pub(super) async fn upload(
        &self,
        operation: &Operation,
        url: Url,
        headers: HeaderMap,
        upload: Upload,
    ) -> Result<Answer, OpenstackError> {
        let peer = url.origin().ascii_serialization();
        let (size_bytes, mut taken) = (upload.size_bytes, upload.taken.subscribe());
        let request = self
            .client_for(&url)?
            .put(url)
            .headers(headers)
            .header(CONTENT_LENGTH, size_bytes)
            .body(upload.into_body())
            .timeout(STREAM_MAX);
        let mut answered = std::pin::pin!(request.send());
        let timeout = Duration::from_secs(self.options.request_timeout_s);
        let response = loop {
            let patience = if *taken.borrow_and_update() >= size_bytes { DIGESTING.max(timeout) } else { timeout };
            tokio::select! {
                response = &mut answered => break response.map_err(|error| self.failure(operation, &peer, error))?,
                Ok(()) = taken.changed() => {}
                () = tokio::time::sleep(patience) => {
                    let timeout_s = patience.as_secs();
                    return Err(OpenstackError::NoAnswer { operation: operation.clone(), peer, sent: true, timeout_s });
                }
            }
        };
        Stream { status: response.status().as_u16(), response, http: self.clone(), peer }.answer(operation).await
    }

    /// Waits for one sign of life of a stream.
    async fn in_time<T>(
        &self,
        operation: &Operation,
        peer: &str,
        waiting: impl Future<Output = Result<T, reqwest::Error>>,
    ) -> Result<T, OpenstackError> {
        let timeout_s = self.options.request_timeout_s;
        match tokio::time::timeout(Duration::from_secs(timeout_s), waiting).await {
            Ok(result) => result.map_err(|error| self.failure(operation, peer, error)),
            Err(_) => {
                Err(OpenstackError::NoAnswer { operation: operation.clone(), peer: peer.to_owned(), sent: true, timeout_s })
            }
        }
    }

    fn failure(&self, operation: &Operation, peer: &str, error: reqwest::Error) -> OpenstackError {
        let sent = !error.is_connect() && !error.is_builder();
        if error.is_timeout() {
            let timeout_s = if sent { self.options.request_timeout_s } else { self.options.connect_timeout_s };
            return OpenstackError::NoAnswer { operation: operation.clone(), peer: peer.to_owned(), sent, timeout_s };
        }
        let source = Arc::new(error.without_url());
        OpenstackError::Unreachable { operation: operation.clone(), peer: peer.to_owned(), sent, source }
    }
}

/// Sees each piece of a body as it goes.
pub(super) type Seen = Box<dyn Fn(&[u8]) + Send + Sync>;

/// A body that is sent piece by piece, from a file or empty.
pub(super) struct Upload {
    file: Option<File>,
    size_bytes: u64,
    /// Sees each piece as it goes.
    seen: Seen,
    sent: Sent,
    /// Bytes that went.
    taken: watch::Sender<u64>,
}

impl Upload {
    /// Opens the file; `None` for an empty body.
    pub(super) async fn open(path: Option<&Path>, seen: Seen, sent: Sent) -> Result<Self, OpenstackError> {
        let (mut file, mut size_bytes) = (None, 0);
        if let Some(path) = path {
            let opened = async {
                let file = File::open(path).await?;
                let size_bytes = file.metadata().await?.len();
                Ok::<_, std::io::Error>((file, size_bytes))
            };
            let unreadable = |error| OpenstackError::UnreadableUpload { file: path.to_owned(), source: Arc::new(error) };
            let (opened, bytes) = opened.await.map_err(unreadable)?;
            (file, size_bytes) = (Some(opened), bytes);
        }
        Ok(Self { file, size_bytes, seen, sent, taken: watch::Sender::new(0) })
    }

    pub(super) const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn into_body(self) -> Body {
        let Self { file, size_bytes, seen, sent, taken } = self;
        let Some(file) = file else { return Body::from(Vec::new()) };
        // A file that grows meanwhile is not what was announced.
        let pieces = futures_util::stream::try_unfold(file.take(size_bytes), move |mut file| {
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            async move {
                let read = (&mut file).take(PIECE_BYTES as u64).read_to_end(&mut piece).await?;
                Ok::<_, std::io::Error>((read > 0).then_some((piece, file)))
            }
        });
        let pieces = futures_util::TryStreamExt::inspect_ok(pieces, move |piece| {
            seen(piece);
            taken.send_modify(|taken| *taken += piece.len() as u64);
            sent(*taken.borrow(), size_bytes);
        });
        Body::wrap_stream(pieces)
    }
}

/// An answer whose body is still coming.
pub(super) struct Stream {
    pub(super) status: u16,
    response: Response,
    http: Http,
    peer: String,
}

impl Stream {
    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self, operation: &Operation) -> Result<Option<Vec<u8>>, OpenstackError> {
        let chunk = self.http.in_time(operation, &self.peer, self.response.chunk()).await?;
        Ok(chunk.map(|bytes| bytes.to_vec()))
    }

    /// All of it, for an answer that is an error's.
    pub(super) async fn answer(mut self, operation: &Operation) -> Result<Answer, OpenstackError> {
        let mut answer =
            Answer { status: self.status, headers: self.response.headers().clone(), body: Zeroizing::new(Vec::new()) };
        while let Some(chunk) = self.next(operation).await? {
            answer.take(operation, &chunk)?;
        }
        Ok(answer)
    }
}

fn builder(options: &HttpOptions) -> ClientBuilder {
    Client::builder()
        .user_agent(&options.user_agent)
        .connect_timeout(Duration::from_secs(options.connect_timeout_s))
        .timeout(Duration::from_secs(options.request_timeout_s))
        .pool_idle_timeout(Duration::from_secs(POOL_IDLE_S))
        .pool_max_idle_per_host(POOL_MAX_IDLE)
        .redirect(Policy::none())
        .no_proxy()
        .http1_only()
}

fn tls_error(bundle: &Option<PathBuf>, error: impl Into<Box<dyn Error + Send + Sync>>) -> OpenstackError {
    OpenstackError::Tls { bundle: bundle.clone(), source: Arc::from(error.into()) }
}
