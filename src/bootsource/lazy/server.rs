//! The socket by which one disk's QEMU reads its image.
//!
//! The socket's folder may be passed by everybody, for QEMU is another user and only libvirt knows which. So whoever connects is asked
//! for by the kernel: it must be root, or the user to whom libvirt has given the disk's own file.

use super::{nbd, stream::InUse};
use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Connections at a time: QEMU has one.
const CONNECTIONS: usize = 4;
/// What happens again and again at a socket is told once in this time: whoever connects must not fill the log.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Pause after the kernel refused to take a connection, as when the process has too many files open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A socket that is served until this is dropped.
pub(super) struct Export {
    pub(super) image: Arc<InUse>,
    socket: PathBuf,
    ends: CancellationToken,
    _guard: DropGuard,
}

impl Export {
    /// Listens, in the place of whoever did before.
    pub(super) fn listen(image: Arc<InUse>, socket: &Path, disk: &Path) -> io::Result<Self> {
        match fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(socket)?;
        fs::set_permissions(socket, Permissions::from_mode(0o666))?;
        let ends = CancellationToken::new();
        let (serving, disk, token) = (image.clone(), disk.to_owned(), ends.clone());
        tokio::spawn(async move { token.run_until_cancelled(accept(listener, serving, disk)).await });
        Ok(Self { image, socket: socket.to_owned(), _guard: ends.clone().drop_guard(), ends })
    }

    /// Cancelled once it is served no more.
    pub(super) fn ends(&self) -> CancellationToken {
        self.ends.clone()
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.socket);
    }
}

/// How often something is worth a line in the log.
#[derive(Default)]
struct Told {
    last: Option<Instant>,
    untold: u64,
}

impl Told {
    /// It has happened. `Some`: it is to be told now, with how often it happened untold before.
    fn again(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.last.is_some_and(|last| now.duration_since(last) < TELL_EVERY) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.untold) - 1)
    }
}

/// Takes connections. Those that stand end with this.
async fn accept(listener: UnixListener, image: Arc<InUse>, disk: PathBuf) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    let (mut turned_away, broken) = (Told::default(), Arc::new(Mutex::new(Told::default())));
    loop {
        // Never closed, so there is always one to wait for.
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            Err(error) => {
                tracing::warn!(%error, "a guest cannot be let in to its image: trying on");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        if !may_read(&connection, &disk) {
            if let Some(before) = turned_away.again(Instant::now()) {
                let user = connection.peer_cred().ok().map(|peer| peer.uid());
                tracing::warn!(disk = %disk.display(), user, before, "somebody who may not read this guest's image was turned away");
            }
            continue;
        }
        let (image, broken, disk) = (image.clone(), broken.clone(), disk.clone());
        connections.spawn(async move {
            let _place = place;
            let (reader, writer) = connection.into_split();
            if let Err(error) = nbd::serve(&image.stream, tokio::io::BufReader::new(reader), writer).await {
                let before = broken.lock().unwrap_or_else(PoisonError::into_inner).again(Instant::now());
                if let Some(before) = before {
                    tracing::warn!(disk = %disk.display(), before, %error, "the connection of a guest to its image broke");
                }
            }
        });
    }
}

/// It is root, or whose the disk's file is.
fn may_read(connection: &UnixStream, disk: &Path) -> bool {
    let owner = fs::metadata(disk).map(|about| about.uid()).ok();
    connection.peer_cred().is_ok_and(|peer| peer.uid() == 0 || owner == Some(peer.uid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_again_and_again_is_told_now_and_then_and_counted() {
        let (mut told, begun) = (Told::default(), Instant::now());
        assert_eq!(told.again(begun), Some(0));
        assert!((0..1000).all(|_| told.again(begun + TELL_EVERY / 2).is_none()));
        assert_eq!(told.again(begun + TELL_EVERY), Some(1000));
        assert_eq!(told.again(begun + TELL_EVERY), None);
    }
}
