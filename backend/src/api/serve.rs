//! Answering requests until told to stop.
//!
//! Clients that connect and fall silent, dead or ill-meaning, get no more than some seconds of a connection each: where they
//! take all there are, the others wait for that long and not for ever.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use nix::sys::resource::{Resource, getrlimit};
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;
use tracing::{debug, warn};

use super::router::routes;
use super::{AppState, Shared};

/// How long a request's head may take, from when the connection is open or the answer before was sent. More than the ten
/// seconds at which programs like to ask again, so that they find their connection open.
const HEAD_WITHIN: Duration = Duration::from_secs(12);

/// So many connections at once, and no more than half of the files that may be open; the next wait to be accepted. A
/// hypervisor's agent has a few, an operator one.
const CONNECTIONS: usize = 512;

/// How long a client may take nothing of an answer before its connection is cut, in milliseconds.
const TAKEN_WITHIN_MS: u32 = 60_000;

/// After an accept that failed for want of something, such as file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

fn most_connections() -> usize {
    let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    usize::try_from(files / 2).unwrap_or(CONNECTIONS).clamp(1, CONNECTIONS)
}

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// The whole API.
pub struct Service {
    routes: BoxCloneSyncService<Request<Incoming>, Response<Body>, Infallible>,
    closing: watch::Sender<bool>,
}

impl Service {
    /// Makes the API over these parts.
    pub fn new(shared: Shared) -> Self {
        let closing = shared.closing.clone();
        let routes = routes(AppState::new(shared));
        let routes = BoxCloneSyncService::new(routes.map_request(|request: Request<Incoming>| request.map(Body::new)));
        Self { routes, closing }
    }

    /// Answers until `stop`, then finishes the answers that were begun.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let graceful = GracefulShutdown::new();
        let room = Arc::new(Semaphore::new(most_connections()));
        let accepting = async {
            loop {
                let permit = room.clone().acquire_owned().await.map_err(io::Error::other)?;
                match listener.accept().await {
                    Ok((stream, peer)) => self.answer(stream, Peer(peer.ip()), permit, graceful.watcher()),
                    // It left before it was accepted.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        warn!("cannot accept a connection: {error}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        let served = tokio::select! {
            served = accepting => served,
            () = stop => Ok(()),
        };
        drop(listener);
        self.closing.send_replace(true);
        graceful.shutdown().await;
        served
    }

    /// Answers on one connection, in a task of its own.
    fn answer(&self, stream: TcpStream, peer: Peer, permit: OwnedSemaphorePermit, watcher: Watcher) {
        // Small answers must not wait for the client's acknowledgement of the one before.
        if let Err(error) = stream.set_nodelay(true) {
            debug!("a connection keeps its delay: {error}");
        }
        if let Err(error) = set_tcp_user_timeout(&stream, TAKEN_WITHIN_MS) {
            debug!("a client that takes nothing is kept for longer: {error}");
        }
        let service = self.routes.clone().map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            request
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let connection = watcher.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!("a connection ended: {error}");
            }
            drop(permit);
        });
    }
}
