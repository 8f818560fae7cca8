//! Talks to multipathd over its own socket, as `multipathd -k` does, without a process.
//!
//! The socket is a stream in the abstract namespace. A message is its length, 8 bytes in the host's order, and then that many
//! bytes of text ending in a zero byte; the answer has the same form (multipath-tools `libmpathcmd`, 0.5 and later). Commands
//! that change something are taken from user id 0 alone. An answer is `ok`, `fail`, or what was asked for.

use super::MultipathError;
use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

/// `DEFAULT_SOCKET` of multipath-tools; the zero byte makes it an abstract name.
const SOCKET: &str = "\0/org/kernel/linux/storage/multipathd";

/// Longest answer that is read, bytes: some 50,000 paths.
const ANSWER_LIMIT_BYTES: usize = 4 * 1024 * 1024;

/// How long a daemon that runs may take to say so. It answers nobody while it reads its configuration anew.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// How multipathd sees one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::connectors::iscsi) struct PathState {
    /// Kernel name, `sdX`.
    pub disk: String,
    /// `active` or `failed`, as device mapper has it; `undef` where it is in no map.
    pub dm: String,
    /// What the path checker found, `ready`, `faulty`, ….
    pub checker: String,
    /// WWID that multipathd gives it.
    pub wwid: String,
}

/// The daemon of this host.
#[derive(Debug, Clone)]
pub(in crate::connectors::iscsi) struct Multipathd {
    socket: String,
    timeout: Duration,
}

impl Multipathd {
    /// Asks nothing yet. `timeout_s`: deadline for one answer, seconds.
    pub(in crate::connectors::iscsi) fn new(timeout_s: u64) -> Self {
        Self { socket: SOCKET.to_owned(), timeout: Duration::from_secs(timeout_s) }
    }

    /// Fails with [`MultipathError::NotRunning`] unless the daemon answers.
    pub(in crate::connectors::iscsi) async fn must_run(&self) -> Result<(), MultipathError> {
        let asked = timeout(HELLO_TIMEOUT, self.exchange("show daemon")).await;
        let answered = asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        answered.map(drop).map_err(|source| MultipathError::NotRunning { source })
    }

    /// Whether the daemon answers.
    pub(in crate::connectors::iscsi) async fn runs(&self) -> bool {
        self.must_run().await.is_ok()
    }

    /// Every path that multipathd knows.
    pub(in crate::connectors::iscsi) async fn paths(&self) -> Result<Vec<PathState>, MultipathError> {
        Ok(parse_paths(&self.ask("show paths raw format \"%d|%t|%T|%w\"").await?))
    }

    /// Makes it look at a disk whose event it may have missed or not yet handled.
    pub(in crate::connectors::iscsi) async fn add_path(&self, disk: &str) -> Result<bool, MultipathError> {
        self.order(&format!("add path {disk}")).await
    }

    /// Makes it forget a disk.
    pub(in crate::connectors::iscsi) async fn remove_path(&self, disk: &str) -> Result<bool, MultipathError> {
        self.order(&format!("remove path {disk}")).await
    }

    /// Makes a map for a WWID, and notes the WWID as one that shall have one, as `multipath -a` does: whatever
    /// `find_multipaths` says, this disk was asked for.
    pub(in crate::connectors::iscsi) async fn add_map(&self, wwid: &str) -> Result<bool, MultipathError> {
        if !is_quotable(wwid) {
            return Ok(false);
        }
        self.order(&format!("add map \"{wwid}\"")).await
    }

    /// Ends the queueing of I/O for want of a path: what waits, fails.
    pub(in crate::connectors::iscsi) async fn disable_queueing(&self, map: &str) -> Result<bool, MultipathError> {
        self.order(&format!("disablequeueing map {map}")).await
    }

    /// Removes a map that nobody has open, by its name: of all commands this one does not take `dm-N`.
    pub(in crate::connectors::iscsi) async fn remove_map(&self, name: &str) -> Result<bool, MultipathError> {
        if !is_quotable(name) {
            return Ok(false);
        }
        self.order(&format!("remove map \"{name}\"")).await
    }

    /// Gives a map the size of its paths.
    pub(in crate::connectors::iscsi) async fn resize_map(&self, map: &str) -> Result<bool, MultipathError> {
        self.order(&format!("resize map {map}")).await
    }

    /// Whether it said `ok`.
    async fn order(&self, command: &str) -> Result<bool, MultipathError> {
        let answer = self.ask(command).await?;
        let is_done = answer.trim() == "ok";
        if !is_done {
            tracing::debug!(command, answer = answer.trim(), "multipathd refused");
        }
        Ok(is_done)
    }

    async fn ask(&self, command: &str) -> Result<String, MultipathError> {
        let answered = match timeout(self.timeout, self.exchange(command)).await {
            Ok(answered) => answered,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        answered.map_err(|source| match source.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => MultipathError::NotRunning { source },
            _ => MultipathError::NoAnswer { command: command.to_owned(), source },
        })
    }

    async fn exchange(&self, command: &str) -> io::Result<String> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        stream.write_all(&message(command)).await?;
        let mut length = [0; 8];
        stream.read_exact(&mut length).await?;
        let length = usize::from_ne_bytes(length);
        if length > ANSWER_LIMIT_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("an answer of {length} bytes")));
        }
        let mut text = vec![0; length];
        stream.read_exact(&mut text).await?;
        Ok(String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned())
    }
}

/// What comes from a device or an administrator is quoted in a command, and must stay within its quotes.
fn is_quotable(text: &str) -> bool {
    text.chars().all(|c| (c.is_ascii_graphic() || c == ' ') && c != '"')
}

fn message(command: &str) -> Vec<u8> {
    let mut message = (command.len() + 1).to_ne_bytes().to_vec();
    message.extend(command.as_bytes());
    message.push(0);
    message
}

/// Lines `disk|dm state|checker's word|WWID`; other lines are skipped.
fn parse_paths(answer: &str) -> Vec<PathState> {
    let parse = |line: &str| {
        let mut parts = line.splitn(4, '|').map(|part| part.trim().to_owned());
        Some(PathState { disk: parts.next()?, dm: parts.next()?, checker: parts.next()?, wwid: parts.next()? })
    };
    answer.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::net::UnixListener;

    /// A daemon that reads one command and answers with these bytes.
    async fn answering(answer: Vec<u8>) -> (Multipathd, tokio::task::JoinHandle<String>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut length = [0; 8];
            stream.read_exact(&mut length).await.unwrap();
            let mut text = vec![0; usize::from_ne_bytes(length)];
            stream.read_exact(&mut text).await.unwrap();
            stream.write_all(&answer).await.unwrap();
            String::from_utf8(text).unwrap()
        });
        (Multipathd { socket: socket.to_str().unwrap().to_owned(), timeout: Duration::from_secs(5) }, server, dir)
    }

    #[tokio::test]
    async fn a_command_and_its_answer_carry_their_length_and_a_zero_byte() {
        let (daemon, server, _dir) = answering(message("ok\n")).await;
        assert!(daemon.add_path("sda").await.unwrap());
        assert_eq!(server.await.unwrap(), "add path sda\0");
    }

    #[tokio::test]
    async fn a_refusal_is_told_from_an_answer() {
        let (daemon, _server, _dir) = answering(message("fail\n")).await;
        assert!(!daemon.remove_map("dm-0").await.unwrap());
    }

    #[tokio::test]
    async fn an_answer_without_bound_or_cut_short_is_an_error() {
        for answer in [usize::MAX.to_ne_bytes().to_vec(), vec![1, 2], message("ok\n")[..9].to_vec()] {
            let (daemon, _server, _dir) = answering(answer).await;
            let error = daemon.add_path("sda").await.unwrap_err();
            assert!(matches!(error, MultipathError::NoAnswer { .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn a_daemon_that_is_not_there_is_told_as_such() {
        let daemon = Multipathd { socket: "/nonexistent".to_owned(), timeout: Duration::from_secs(1) };
        assert!(!daemon.runs().await);
        let error = daemon.paths().await.unwrap_err();
        assert!(error.to_string().contains("systemctl enable --now multipathd"), "{error}");
    }

    #[tokio::test]
    async fn a_wwid_that_would_leave_its_quotes_is_never_sent() {
        let daemon = Multipathd { socket: "/nonexistent".to_owned(), timeout: Duration::from_secs(1) };
        assert!(!daemon.add_map("a\" ; reconfigure").await.unwrap());
    }

    #[test]
    fn paths_are_read_from_the_raw_format() {
        let paths = parse_paths("sda|active|ready|3600a\nsdb|undef|undef|3600a\n");
        assert_eq!(paths.len(), 2);
        assert_eq!((paths[0].dm.as_str(), paths[1].wwid.as_str()), ("active", "3600a"));
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(answer in ".*") {
            parse_paths(&answer);
        }
    }
}
