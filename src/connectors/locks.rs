//! One lock per name, where a name is what several volumes share: an iSCSI target, a mount.
//!
//! Volumes of one target share its session and node record, so its login and logout go one after another; volumes of one export share
//! its mount. Volumes of different ones never wait for each other. Nothing is remembered here but who waits and who is about to use
//! what is shared: who does use a session or a mount is always read from the system.

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

/// Who is about to use something of a name, and does not show in the system yet.
#[derive(Debug, Default)]
pub(super) struct Users {
    by_name: Mutex<HashMap<String, Weak<()>>>,
}

/// One user; not one any more when it is dropped.
#[derive(Debug)]
pub(super) struct User {
    _shared: Arc<()>,
}

impl Users {
    /// One more of `name`.
    pub(super) fn join(&self, name: &str) -> User {
        let mut users = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        users.retain(|_, shared| shared.strong_count() > 0);
        let shared = users.get(name).and_then(Weak::upgrade).unwrap_or_default();
        users.insert(name.to_owned(), Arc::downgrade(&shared));
        User { _shared: shared }
    }

    /// Whether there is any of `name`.
    pub(super) fn any(&self, name: &str) -> bool {
        let users = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        users.get(name).is_some_and(|shared| shared.strong_count() > 0)
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

    #[test]
    fn a_name_has_users_until_the_last_is_dropped() {
        let users = Users::default();
        let (first, second) = (users.join("iqn.a"), users.join("iqn.a"));
        assert!(users.any("iqn.a") && !users.any("iqn.b"));
        drop(first);
        assert!(users.any("iqn.a"), "the second is still there");
        drop(second);
        assert!(!users.any("iqn.a"));
        drop(users.join("iqn.b"));
        assert!(users.by_name.lock().unwrap().len() <= 1, "those nobody uses are forgotten");
    }
}
