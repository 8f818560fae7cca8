//! Bytes of the storage: what stands behind a portal or in a file may be anybody's.

use super::assert_one_line;
use crate::{
    connectors::fuzzing::{iscsi, nfs, rbd},
    model::{ChapCredentials, IscsiPath, Portal, RbdImage, Secret},
};
use std::{cell::OnceCell, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    time::timeout,
};

/// Bytes of a PDU's header (RFC 7143, 11.2).
const HEADER: usize = 48;
/// How long a request may be on its way over the loopback.
const PATIENCE: Duration = Duration::from_millis(5);

/// A target that answers each request with the next PDU of `data`, as the answer to that very request, and closes.
pub(super) fn probe(data: &[u8]) {
    thread_local!(static RUNTIME: OnceCell<Option<Runtime>> = const { OnceCell::new() });
    let make = || tokio::runtime::Builder::new_current_thread().enable_all().build().ok();
    RUNTIME.with(|runtime| {
        let runtime = runtime.get_or_init(make).as_ref();
        assert!(runtime.is_some(), "no runtime");
        if let Some(runtime) = runtime {
            runtime.block_on(probed(data.to_vec()));
        }
    });
}

async fn probed(data: Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await;
    assert!(listener.is_ok(), "cannot listen: {listener:?}");
    let Ok(listener) = listener else { return };
    let port = listener.local_addr().map(|address| address.port()).unwrap_or_default();
    let portal = Portal { host: "127.0.0.1".to_owned(), port };
    let path = IscsiPath { portal, iqn: "iqn.2026-01.org.bowline.test:fuzz".to_owned(), lun: 1 };
    let chap = ChapCredentials { username: "user".to_owned(), password: Secret::new("password-12".to_owned()) };
    let target = tokio::spawn(async move {
        if let Ok((stream, _)) = listener.accept().await {
            // Closed as soon as the initiator has gone, or all was said.
            let _ = answer(stream, &data).await;
        }
    });
    match iscsi::probe(&path, Some(&chap)).await {
        Ok(observed) => {
            observed.identity.wwids.iter().chain(&observed.identity.serial).for_each(|id| assert_one_line(id, "an identity"))
        }
        Err(error) => {
            let said = error.to_string();
            assert!(!said.contains("password-12"), "{said}");
            assert_one_line(&said, "a complaint");
        }
    }
    target.abort();
}

async fn answer(mut stream: TcpStream, mut data: &[u8]) -> std::io::Result<()> {
    let mut request = [0; HEADER];
    while data.len() >= HEADER {
        // What was said may be no answer for the initiator, which then waits for more: more is what it gets.
        if timeout(PATIENCE, stream.read_exact(&mut request)).await.is_ok_and(|read| read.is_ok()) {
            let mut rest = vec![0; length(&request).min(1 << 20)];
            stream.read_exact(&mut rest).await?;
        }
        let (header, after) = data.split_at(HEADER);
        let (body, after) = after.split_at(length(header).min(after.len()));
        let mut header = header.to_vec();
        if let (Some(to), Some(from)) = (header.get_mut(16..20), request.get(16..20)) {
            to.copy_from_slice(from);
        }
        stream.write_all(&[&header, body].concat()).await?;
        data = after;
    }
    Ok(())
}

/// The lengths of additional header and data segment, with padding.
fn length(header: &[u8]) -> usize {
    let additional = header.get(4).map_or(0, |words| usize::from(*words) * 4);
    let bytes = [5, 6, 7].map(|at| usize::from(header.get(at).copied().unwrap_or_default()));
    let [high, middle, low] = bytes;
    additional + ((high << 16) | (middle << 8) | low).next_multiple_of(4)
}

/// VPD pages 0x80 and 0x83: what is made of them goes into the journal, links and messages.
pub(super) fn scsi_pages(data: &[u8]) {
    let cut = data.first().map_or(0, |first| usize::from(*first)).min(data.len());
    let (serial, identification) = data.split_at(cut);
    let identity = iscsi::identity(serial, identification);
    identity.wwids.iter().chain(&identity.serial).for_each(|id| assert_one_line(id, "an identity"));
}

/// The answer of `rbd info`, and keyrings.
pub(super) fn rbd_info(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let image = RbdImage { pool: "volumes".to_owned(), namespace: None, name: "volume-1".to_owned() };
    if let Ok(observed) = rbd::identity(&image, &text) {
        observed.identity.wwids.iter().chain(&observed.identity.serial).for_each(|id| assert_one_line(id, "an identity"));
        assert!(observed.identity.serial.is_some_and(|serial| !serial.is_empty()));
    }
    if let Some(key) = rbd::key_of(&text, "cinder") {
        assert!(text.contains(key));
        assert_one_line(key, "a key");
    }
}

/// A file's first bytes: a header with a way out of the file is never taken.
pub(super) fn qcow2(data: &[u8]) {
    if crate::model::qcow2::virtual_size(data).is_ok() {
        let word =
            |at: usize| data.get(at..at + 8).map(|bytes| bytes.iter().fold(0_u64, |all, byte| (all << 8) | u64::from(*byte)));
        assert_eq!(data.get(..4), Some(b"QFI\xfb".as_slice()));
        assert_eq!(word(8), Some(0), "a backing file was taken");
        let is_newer = data.get(4..8) == Some(&[0, 0, 0, 3]);
        assert!(!is_newer || word(72).is_some_and(|features| features & 0b100 == 0), "an external data file was taken");
    }
}

/// Mount options of the service and of the configuration, with a line feed between them.
pub(super) fn mount_options(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (configured, asked) = text.split_once('\n').map_or((None, text.as_ref()), |(one, other)| (Some(one), other));
    if let Ok(options) = nfs::mount_options(configured, Some(asked)) {
        assert_one_line(&options, "mount options");
        let words: Vec<&str> = options.split(',').collect();
        for kept in ["nosuid", "nodev", "noexec"] {
            assert!(words.contains(&kept), "{options}");
        }
        for word in words {
            let name = word.split('=').next().unwrap_or(word);
            assert!(
                !["suid", "dev", "exec", "bg", "user", "users", "owner", "bind", "loop", "remount", "addr", "mountaddr"]
                    .contains(&name),
                "{options}"
            );
            assert!(!word.starts_with('-') && !word.contains([' ', '/', '\\', '"']), "{options}");
        }
    }
}
