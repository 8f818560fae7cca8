//! Requests to a server: tried again where the server is away or says that it is busy, read no further than wanted.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode};

use super::StoreFault;

/// How long one request may take, with its 4 MiB.
const WITHIN: Duration = Duration::from_secs(120);

/// How long a connection may take to come.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Before the second, third … try. A server that is away for longer is told to the backup's owner.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(15)];

/// So many characters of what a server says are told.
const SAID: usize = 200;

/// A client for one server.
pub(super) fn client() -> Result<Client, StoreFault> {
    // Whoever was first has installed the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().timeout(WITHIN).connect_timeout(CONNECT_WITHIN).redirect(reqwest::redirect::Policy::none());
    client.build().map_err(|error| request("prepare to ask", "the server")(error))
}

/// Sends a request, again where that may help. Whatever the server answers, unless it cannot just now, is an answer.
pub(super) async fn send(operation: &'static str, object: &str, wanted: RequestBuilder) -> Result<Response, StoreFault> {
    let mut pauses = PAUSES.iter();
    loop {
        // Only a body that is a stream cannot be had twice.
        let Some(once) = wanted.try_clone() else { return wanted.send().await.map_err(request(operation, object)) };
        let sent = once.send().await;
        let again = match &sent {
            Ok(answer) => answer.status().is_server_error() || answer.status() == StatusCode::TOO_MANY_REQUESTS,
            Err(error) => !error.is_builder(),
        };
        match pauses.next().filter(|_| again) {
            Some(pause) => tokio::time::sleep(*pause).await,
            None => return sent.map_err(request(operation, object)),
        }
    }
}

/// The body of an answer, or a little more than `most` of it.
pub(super) async fn body(
    mut answer: Response,
    most: u64,
    operation: &'static str,
    object: &str,
) -> Result<Vec<u8>, StoreFault> {
    let mut bytes = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(request(operation, object))? {
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 > most {
            break;
        }
    }
    Ok(bytes)
}

/// What a server that said no has said.
pub(super) async fn refused(answer: Response, operation: &'static str, object: &str) -> StoreFault {
    let status = answer.status().as_u16();
    let said = body(answer, 4096, operation, object).await.unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    StoreFault::Refused { operation, object: object.to_owned(), status, said: said.chars().take(SAID).collect() }
}

/// For `map_err`: a request that came to nothing.
pub(super) fn request(operation: &'static str, object: &str) -> impl FnOnce(reqwest::Error) -> StoreFault {
    let object = object.to_owned();
    // The address may hold what is not to be told.
    move |source| StoreFault::Request { operation, object, source: Box::new(source.without_url()) }
}
