//! A client that costs little: one kept connection, requests whose bytes are made beforehand, answers cut by their length.

use std::io;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What all requests have in common.
#[derive(Clone)]
pub struct Target {
    /// `127.0.0.1:port`.
    pub address: String,
    /// Of the operator.
    pub token: String,
    /// Of a service, where that takes another one: what lets an attachment be deleted that a server uses.
    pub service_token: Option<String>,
    /// The microversion that is asked for.
    pub version: &'static str,
    /// The type of the volumes that are made, unless it is the service's default.
    pub volume_type: Option<String>,
}

impl Target {
    /// The bytes of a request; `path` is below `/v3`.
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Vec<u8> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let service = self.service_token.as_ref().map_or(String::new(), |token| format!("x-service-token: {token}\r\n"));
        format!(
            "{method} /v3{path} HTTP/1.1\r\nhost: {}\r\nx-auth-token: {}\r\n{service}openstack-api-version: volume {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            self.token,
            self.version,
            body.len()
        )
        .into_bytes()
    }
}

/// One kept connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub async fn open(target: &Target) -> io::Result<Self> {
        let stream = TcpStream::connect(&target.address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(1 << 16) })
    }

    /// Sends a request and reads its whole answer; one that is no success is an error.
    pub async fn ask(&mut self, request: &[u8]) -> io::Result<&[u8]> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some(head) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let (status, length) = read_head(&self.buffer[..head])?;
            let begin = head + 4;
            if !(200..300).contains(&status) {
                let text = String::from_utf8_lossy(&self.buffer).into_owned();
                return Err(io::Error::other(format!("{}\n{text}", String::from_utf8_lossy(request))));
            }
            while self.buffer.len() < begin + length {
                if self.stream.read_buf(&mut self.buffer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            return Ok(&self.buffer[begin..begin + length]);
        }
    }

    /// The same, and reads the answer as JSON.
    pub async fn json(&mut self, request: &[u8]) -> io::Result<Value> {
        Ok(serde_json::from_slice(self.ask(request).await?)?)
    }
}

/// The status, and how long the body is.
fn read_head(head: &[u8]) -> io::Result<(u16, usize)> {
    let text = std::str::from_utf8(head).map_err(io::Error::other)?;
    let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
    let length =
        text.lines().filter_map(|line| line.split_once(": ")).find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.map_or(Some(0), |(_, word)| word.parse().ok());
    status.zip(length).ok_or_else(|| io::Error::other(format!("an answer that cannot be read: {text}")))
}
