//! A small HTTP/1.1 server for tests: it answers by a closure, misbehaves on request, and remembers what it was asked.

use serde_json::Value;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// One request as it arrived.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) line: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What to do with a request.
pub(super) enum Reply {
    /// Status, further headers, JSON body.
    Json(u16, &'static [(&'static str, &'static str)], Value),
    /// Status and a body of this text.
    Text(u16, String),
    /// Close the connection without an answer.
    Close,
    /// Never answer.
    Hang,
}

/// The server; it ends with the test.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    accepting: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (seen, answer) = (requests.clone(), Arc::new(answer));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer) = (seen.clone(), answer.clone());
                tokio::spawn(async move { serve(stream, &seen, answer.as_ref()).await });
            }
        });
        Self { address, requests, accepting }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// How many requests began with `line`.
    pub(super) fn count(&self, line: &str) -> usize {
        self.requests().iter().filter(|request| request.line.starts_with(line)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One request per connection. The closure also learns how many requests with this very line came before.
async fn serve(stream: TcpStream, seen: &Mutex<Vec<Request>>, answer: &(impl Fn(&Request, usize) -> Reply + Sync)) {
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let line = lines.remove(0).trim_end_matches(" HTTP/1.1").to_owned();
    let split = |line: &String| line.split_once(": ").map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut request = Request { line, headers: lines.iter().filter_map(split).collect(), body: String::new() };
    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    request.body = String::from_utf8(body).unwrap();
    let earlier = {
        let mut seen = seen.lock().unwrap();
        let earlier = seen.iter().filter(|other| other.line == request.line).count();
        seen.push(request.clone());
        earlier
    };
    let (status, headers, body) = match answer(&request, earlier) {
        Reply::Json(status, headers, body) => (status, headers, body.to_string()),
        Reply::Text(status, body) => (status, [].as_slice(), body),
        Reply::Close => return,
        Reply::Hang => std::future::pending().await,
    };
    let mut head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (key, value) in headers {
        head.push_str(&format!("{key}: {value}\r\n"));
    }
    // The client may hang up on an answer it finds too long; that is its right.
    let _ = stream.write_all(format!("{head}\r\n{body}").as_bytes()).await;
}
