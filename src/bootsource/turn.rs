//! Whose turn it is at an image of the cache, and how far that one is with it, which all who wait may hear.

use std::sync::Arc;
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

/// The turns at one image.
#[derive(Default)]
pub(super) struct Turn {
    lock: Arc<Mutex<()>>,
    came: watch::Sender<u64>,
}

/// One of them, while it lasts.
pub(super) struct Held {
    turn: Arc<Turn>,
    _lock: OwnedMutexGuard<()>,
}

impl Turn {
    /// Waits for a turn. It lasts as long as anybody holds it.
    pub(super) async fn take(self: Arc<Self>) -> Arc<Held> {
        let lock = self.lock.clone().lock_owned().await;
        Arc::new(Held { turn: self, _lock: lock })
    }

    /// Tells how many bytes are here, each time that this has changed; without end.
    pub(super) fn follow<T>(&self, told: impl Fn(u64)) -> impl Future<Output = T> {
        // From now on, not from when it is first waited for.
        let mut came = self.came.subscribe();
        async move {
            while came.changed().await.is_ok() {
                let done = *came.borrow_and_update();
                told(done);
            }
            std::future::pending().await
        }
    }
}

impl Held {
    /// So many bytes are here.
    pub(super) fn came(&self, done: u64) {
        self.turn.came.send_replace(done);
    }
}
