//! One lock per name, where a name is what several volumes share: an iSCSI target, a mount.
//!
//! Volumes of one target share its session and node record, so login, scan, delete and logout on it go one after another; volumes of
//! one export share its mount. Volumes of different ones never wait for each other. Nothing is remembered here but who waits: who uses
//! a session or a mount is always read from the system.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// The locks in use.
#[derive(Debug, Default)]
pub(super) struct NamedLocks {
    by_name: Mutex<HashMap<String, Weak<AsyncMutex<()>>>>,
}

impl NamedLocks {
    /// Waits until nobody else works on what is called `name`; holds it until the guard is dropped.
    pub(super) async fn lock(&self, name: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            match locks.get(name).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::new(AsyncMutex::new(()));
                    locks.insert(name.to_owned(), Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn one_name_is_exclusive_and_others_are_free() {
        let locks = NamedLocks::default();
        let first = locks.lock("iqn.a").await;
        assert!(locks.lock("iqn.a").now_or_never().is_none(), "the same one must wait");
        assert!(locks.lock("iqn.b").now_or_never().is_some(), "another one must not wait");
        drop(first);
        assert!(locks.lock("iqn.a").now_or_never().is_some());
    }

    #[tokio::test]
    async fn locks_nobody_holds_are_forgotten() {
        let locks = NamedLocks::default();
        for number in 0..100 {
            drop(locks.lock(&format!("iqn.{number}")).await);
        }
        assert!(locks.by_name.lock().unwrap().len() <= 1);
    }
}
