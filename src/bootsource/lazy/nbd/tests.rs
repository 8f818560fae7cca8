//! What a client is answered, and what becomes of one that is out for harm.

use super::{serve, wire::*};
use crate::bootsource::lazy::{
    block_map::BLOCK_BYTES,
    store::Store,
    stream::{Stream, Streaming},
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::JoinHandle,
};

const SIZE: u64 = BLOCK_BYTES + 1000;
/// Longer than a busy machine takes for anything here, and what a test can wait for.
const PATIENCE: [Duration; 2] = [Duration::from_secs(60), Duration::from_millis(200)];

/// A client, and the server's end. Block 0 is here, block 1 is not.
struct Client {
    wire: DuplexStream,
    server: JoinHandle<io::Result<()>>,
    stream: Arc<Stream>,
    _folder: tempfile::TempDir,
}

impl Client {
    /// `patience`: how long a read waits for what does not come.
    fn connect(patience: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("image.lazy"), SIZE).unwrap();
        store.put(0, &[7; BLOCK_BYTES as usize]).unwrap();
        let stream = Arc::new(Stream::new(store, Streaming::Coming, patience));
        let (wire, other) = tokio::io::duplex(1 << 22);
        let served = stream.clone();
        let server = tokio::spawn(async move {
            let (reader, writer) = tokio::io::split(other);
            serve(&served, reader, writer).await
        });
        Self { wire, server, stream, _folder: folder }
    }

    async fn greeted(flags: u32) -> Self {
        Self::greeted_by(PATIENCE[0], flags).await
    }

    async fn greeted_by(patience: Duration, flags: u32) -> Self {
        let mut client = Self::connect(patience);
        assert_eq!(client.wire.read_u64().await.unwrap(), GREETING);
        assert_eq!(client.wire.read_u64().await.unwrap(), OPTION);
        assert_eq!(client.wire.read_u16().await.unwrap(), FIXED_NEWSTYLE | NO_ZEROES);
        client.wire.write_u32(flags).await.unwrap();
        client
    }

    async fn option(&mut self, option: u32, data: &[u8]) {
        let mut bytes = OPTION.to_be_bytes().to_vec();
        bytes.extend(option.to_be_bytes());
        bytes.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        bytes.extend(data);
        self.wire.write_all(&bytes).await.unwrap();
    }

    /// Kind and data of the next answer to this option.
    async fn reply(&mut self, option: u32) -> (u32, Vec<u8>) {
        assert_eq!(self.wire.read_u64().await.unwrap(), OPTION_REPLY);
        assert_eq!(self.wire.read_u32().await.unwrap(), option);
        let kind = self.wire.read_u32().await.unwrap();
        let mut data = vec![0; self.wire.read_u32().await.unwrap() as usize];
        self.wire.read_exact(&mut data).await.unwrap();
        (kind, data)
    }

    /// Ready for requests.
    async fn open() -> Self {
        Self::open_to(PATIENCE[0]).await
    }

    /// The same, of a server with this patience.
    async fn open_to(patience: Duration) -> Self {
        let mut client = Self::greeted_by(patience, 3).await;
        client.option(OPT_GO, &[0, 0, 0, 3, b'i', b'm', b'g', 0, 1, 0, 3]).await;
        let (kind, export) = client.reply(OPT_GO).await;
        assert_eq!((kind, &export[2..10]), (REP_INFO, &SIZE.to_be_bytes()[..]));
        assert_eq!(client.reply(OPT_GO).await.1[..2], INFO_BLOCK_SIZE.to_be_bytes());
        assert_eq!(client.reply(OPT_GO).await.0, REP_ACK);
        client
    }

    async fn ask(&mut self, command: u16, cookie: u64, offset: u64, length: u32) {
        let mut bytes = REQUEST.to_be_bytes().to_vec();
        bytes.extend([0, 0]);
        bytes.extend(command.to_be_bytes());
        bytes.extend(cookie.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        self.wire.write_all(&bytes).await.unwrap();
    }

    /// Error and cookie of the next answer.
    async fn answer(&mut self) -> (u32, u64) {
        assert_eq!(self.wire.read_u32().await.unwrap(), SIMPLE_REPLY);
        (self.wire.read_u32().await.unwrap(), self.wire.read_u64().await.unwrap())
    }

    /// How the server ended the connection.
    async fn ended(self) -> io::Result<()> {
        tokio::time::timeout(Duration::from_secs(60), self.server).await.expect("the server hangs").unwrap()
    }
}

#[tokio::test]
async fn what_is_here_is_read_at_once_and_what_is_not_when_it_comes() {
    let mut client = Client::open().await;
    client.ask(CMD_READ, 1, BLOCK_BYTES, 1000).await;
    client.ask(CMD_READ, 2, BLOCK_BYTES - 4, 4).await;
    assert_eq!(client.answer().await, (0, 2), "a read that waits holds up no other");
    let mut bytes = vec![0; 4];
    client.wire.read_exact(&mut bytes).await.unwrap();
    assert_eq!(bytes, [7; 4]);
    client.stream.clone().put(1, vec![9; 1000]).await.unwrap();
    assert_eq!(client.answer().await, (0, 1));
    let mut bytes = vec![0; 1000];
    client.wire.read_exact(&mut bytes).await.unwrap();
    assert_eq!(bytes, [9; 1000]);
    client.ask(CMD_FLUSH, 3, 0, 0).await;
    assert_eq!(client.answer().await, (0, 3));
    client.ask(CMD_DISC, 4, 0, 0).await;
    assert!(client.ended().await.is_ok());
}

#[tokio::test]
async fn a_read_of_what_never_comes_fails_and_is_told() {
    let mut client = Client::open_to(PATIENCE[1]).await;
    client.ask(CMD_READ, 1, BLOCK_BYTES, 1).await;
    assert_eq!(client.answer().await, (EIO, 1));
    let told = client.stream.watch().borrow().clone();
    assert!(matches!(told.state, Streaming::Lost(_)), "{told:?}");
}

#[tokio::test]
async fn what_may_not_be_asked_is_refused_and_the_connection_stays() {
    let mut client = Client::open().await;
    for (command, offset, length, error) in [
        (CMD_READ, 0, 0, EINVAL),
        (CMD_READ, SIZE, 1, EINVAL),
        (CMD_READ, u64::MAX, 2, EINVAL),
        (CMD_READ, 0, u32::MAX, EINVAL),
        (4, 0, 512, EINVAL),
        (6, 0, 512, EINVAL),
        (u16::MAX, 0, 1, EINVAL),
    ] {
        client.ask(command, offset ^ 5, offset, length).await;
        assert_eq!(client.answer().await, (error, offset ^ 5), "command {command} at {offset} of {length}");
    }
    client.ask(CMD_WRITE, 6, 0, 4).await;
    client.wire.write_all(b"harm").await.unwrap();
    assert_eq!(client.answer().await, (EPERM, 6));
    assert_eq!(client.stream.store.read(0, 4).unwrap(), [7; 4]);
}

#[tokio::test]
async fn whoever_makes_no_sense_is_hung_up_on() {
    let nonsense = [
        // In the place of a request, of a write's length.
        &b"\xde\xad\xbe\xef"[..],
        &b"\x25\x60\x95\x13\0\0\0\x01AAAAAAAA\0\0\0\0\0\0\0\0\xff\xff\xff\xff"[..],
    ];
    for bytes in nonsense {
        let mut client = Client::open().await;
        client.wire.write_all(bytes).await.unwrap();
        assert_eq!(client.ended().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
    // Flags of another handshake; no option; an endless option.
    for (flags, bytes) in [(0, &b""[..]), (0x80, b""), (3, b"IHAVEOPX"), (3, b"IHAVEOPT\0\0\0\x07\xff\xff\xff\xff")] {
        let mut client = Client::greeted(flags).await;
        client.wire.write_all(bytes).await.unwrap();
        if !bytes.is_empty() {
            client.wire.write_all(&[0; 8]).await.unwrap();
        }
        assert_eq!(client.ended().await.unwrap_err().kind(), io::ErrorKind::InvalidData, "{flags} {bytes:?}");
    }
    // One that is cut short in a request, or says nothing but goodbye.
    let mut client = Client::open().await;
    client.wire.write_all(&REQUEST.to_be_bytes()).await.unwrap();
    client.wire.shutdown().await.unwrap();
    assert!(client.ended().await.is_err());
}

#[tokio::test]
async fn options_are_answered_and_counted() {
    let mut client = Client::greeted(3).await;
    for (option, data, kind) in [
        (5, &b""[..], REP_ERR_UNSUP),
        (8, b"", REP_ERR_UNSUP),
        (OPT_INFO, b"", REP_ERR_INVALID),
        (OPT_GO, b"\xff\xff\xff\xff\0\0", REP_ERR_INVALID),
        (OPT_GO, b"\0\0\0\0\0\x09", REP_ERR_INVALID),
        (OPT_INFO, b"\0\0\0\0\0\0", REP_INFO),
    ] {
        client.option(option, data).await;
        assert_eq!(client.reply(option).await.0, kind, "{option} {data:?}");
    }
    assert_eq!(client.reply(OPT_INFO).await.0, REP_ACK);
    client.option(OPT_ABORT, b"").await;
    assert_eq!(client.reply(OPT_ABORT).await.0, REP_ACK);
    assert!(client.ended().await.is_ok());

    let mut client = Client::greeted(3).await;
    for _ in 0..32 {
        client.option(9, b"").await;
    }
    assert!(client.ended().await.is_err(), "options without end");

    // The old way to choose an export, with and without its padding.
    for (flags, padding) in [(1, 124), (3, 0)] {
        let mut client = Client::greeted(flags).await;
        client.option(OPT_EXPORT_NAME, b"any").await;
        let mut answer = vec![0; 10 + padding];
        client.wire.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer[..8], SIZE.to_be_bytes());
        client.ask(CMD_READ, 1, 0, 1).await;
        assert_eq!(client.answer().await, (0, 1));
    }
}
