//! One lock per target.
//!
//! Volumes of one target share its session and node record, so login, scan, delete and logout on it go one after another. Volumes
//! of different targets never wait for each other. Nothing is remembered here but who waits: who uses a session is
//! always read from sysfs.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// The locks in use.
#[derive(Debug, Default)]
pub(super) struct TargetLocks {
    by_iqn: Mutex<HashMap<String, Weak<AsyncMutex<()>>>>,
}

impl TargetLocks {
    /// Waits until nobody else works on the target; holds it until the guard is dropped.
    pub(super) async fn lock(&self, iqn: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.by_iqn.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            match locks.get(iqn).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::new(AsyncMutex::new(()));
                    locks.insert(iqn.to_owned(), Arc::downgrade(&lock));
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
    async fn one_target_is_exclusive_and_others_are_free() {
        let locks = TargetLocks::default();
        let first = locks.lock("iqn.a").await;
        assert!(locks.lock("iqn.a").now_or_never().is_none(), "the same target must wait");
        assert!(locks.lock("iqn.b").now_or_never().is_some(), "another target must not wait");
        drop(first);
        assert!(locks.lock("iqn.a").now_or_never().is_some());
    }

    #[tokio::test]
    async fn locks_nobody_holds_are_forgotten() {
        let locks = TargetLocks::default();
        for number in 0..100 {
            drop(locks.lock(&format!("iqn.{number}")).await);
        }
        assert!(locks.by_iqn.lock().unwrap().len() <= 1);
    }
}
