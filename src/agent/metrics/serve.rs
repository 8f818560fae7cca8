//! One page over HTTP, at an address or at a Unix socket: `GET /metrics`.

use super::Metrics;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    time::timeout,
};

/// What `encode` writes.
const CONTENT: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Connections at a time: scrapers are few, and others must not fill the agent's memory.
const CONNECTIONS: usize = 8;

/// How long a connection may stay, and a request may take to be sent.
const CONNECTION_LIMIT: Duration = Duration::from_secs(60);
const HEADER_LIMIT: Duration = Duration::from_secs(5);

/// After a failed accept, as when the process has no descriptor left: trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Where the page is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// At this address.
    Tcp(SocketAddr),
    /// At a socket that root alone may open.
    Unix(PathBuf),
}

/// The page cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve metrics at {place} (metrics.listen)")]
pub struct ServeError {
    /// Where.
    place: String,
    /// Why.
    source: io::Error,
}

enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Opens the door and returns; serves until the task that is returned is aborted.
///
/// # Errors
/// The address or the socket cannot be had.
pub async fn serve(metrics: Arc<Metrics>, listen: &Listen) -> Result<tokio::task::JoinHandle<()>, ServeError> {
    let (door, place) = match listen {
        Listen::Tcp(address) => (TcpListener::bind(address).await.map(Door::Tcp), address.to_string()),
        Listen::Unix(path) => (unix(path).map(Door::Unix), path.display().to_string()),
    };
    let door = door.map_err(|source| ServeError { place: place.clone(), source })?;
    tracing::info!(place, "metrics are served");
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    Ok(tokio::spawn(async move {
        // The semaphore is never closed.
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            let accepted = match &door {
                Door::Tcp(listener) => {
                    listener.accept().await.map(|(stream, _)| tokio::spawn(answer(stream, metrics.clone(), slot)))
                }
                Door::Unix(listener) => {
                    listener.accept().await.map(|(stream, _)| tokio::spawn(answer(stream, metrics.clone(), slot)))
                }
            };
            if let Err(error) = accepted {
                tracing::warn!(%error, "a scrape could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }))
}

/// A socket that an earlier life left is in the way; anything else at its place is not ours to remove.
fn unix(path: &Path) -> io::Result<UnixListener> {
    if std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, metrics: Arc<Metrics>, _slot: tokio::sync::OwnedSemaphorePermit) {
    let service = service_fn(move |request| {
        let metrics = Arc::clone(&metrics);
        async move { Ok::<_, Infallible>(respond(&request, &metrics)) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT);
    // A scraper that leaves, or sends nonsense, is nobody's trouble.
    let _ = timeout(CONNECTION_LIMIT, http.serve_connection(TokioIo::new(stream), service)).await;
}

fn respond(request: &Request<Incoming>, metrics: &Metrics) -> Response<String> {
    let (status, body) = match (request.uri().path(), request.method()) {
        ("/metrics", &Method::GET | &Method::HEAD) => (StatusCode::OK, metrics.page()),
        ("/metrics", _) => (StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "the page is /metrics\n".to_owned()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    match status {
        StatusCode::OK => headers.insert(CONTENT_TYPE, CONTENT),
        StatusCode::METHOD_NOT_ALLOWED => headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD")),
        _ => None,
    };
    response
}
