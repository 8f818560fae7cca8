//! One request to tgtd, one answer, each with a deadline. tgtd closes the connection after its answer, so each
//! request has a connection of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::error::{TgtError, TgtRefusal};
use super::protocol::{ANSWER_HEADER, Request, decode_header};

/// tgtd answers within a millisecond unless the machine is in trouble or it opens a file on storage that hangs.
const DEADLINE: Duration = Duration::from_secs(10);

/// Longer answers are not believed: 16 MiB are about 15,000 targets.
const LONGEST_ANSWER: usize = 16 << 20;

/// Asks one tgtd.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// Asks the tgtd that listens on this control socket.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// The control socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks, and gives the text of the answer.
    pub async fn ask(&self, request: Request<'_>) -> Result<String, TgtError> {
        let bytes = request.encode()?;
        match tokio::time::timeout(DEADLINE, self.exchange(&bytes)).await {
            Ok(answer) => answer,
            Err(_) => Err(TgtError::Deadline { socket: self.socket.clone(), deadline: DEADLINE }),
        }
    }

    /// Asks for something that may be so already: `fine` is the refusal that says it is.
    pub async fn ensure(&self, request: Request<'_>, fine: TgtRefusal) -> Result<(), TgtError> {
        match self.ask(request).await {
            Ok(_) => Ok(()),
            Err(TgtError::Refused(refusal)) if refusal == fine => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn exchange(&self, request: &[u8]) -> Result<String, TgtError> {
        let failed = |source| TgtError::Socket { socket: self.socket.clone(), source };
        let garbled = || TgtError::Garbled { socket: self.socket.clone() };
        let mut stream = UnixStream::connect(&self.socket).await.map_err(failed)?;
        stream.write_all(request).await.map_err(failed)?;
        let mut header = [0; ANSWER_HEADER];
        stream.read_exact(&mut header).await.map_err(failed)?;
        let text_len = decode_header(header).map_err(|reason| reason.map_or_else(garbled, TgtError::Refused))?;
        if text_len > LONGEST_ANSWER {
            return Err(garbled());
        }
        let mut text = vec![0; text_len];
        stream.read_exact(&mut text).await.map_err(failed)?;
        String::from_utf8(text).map_err(|_| garbled())
    }
}
