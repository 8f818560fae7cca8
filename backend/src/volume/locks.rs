//! One thing at a time per volume; different volumes do not wait for each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

/// A lock for each volume that is in use just now.
#[derive(Debug, Default)]
pub(super) struct Locks(Mutex<HashMap<Uuid, Weak<tokio::sync::Mutex<()>>>>);

impl Locks {
    /// Waits for the volume's turn. The turn ends when the guard is dropped.
    pub(super) async fn lock(&self, volume_id: Uuid) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match locks.get(&volume_id).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    locks.retain(|_, lock| lock.strong_count() > 0);
                    let lock = Arc::new(tokio::sync::Mutex::new(()));
                    locks.insert(volume_id, Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}
