//! One operation at a time on a volume, one hot-plug at a time on a guest, and nothing wider: there is no lock of the host.

use crate::model::{GuestUuid, VolumeId};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// What is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// A volume, for a whole operation.
    Volume(VolumeId),
    /// A guest, for a whole boot, delete, start or stop.
    Instance(GuestUuid),
    /// A guest, while its power is cut: that waits for no operation of the guest but another of its kind.
    Power(GuestUuid),
    /// A guest, while its disks are filled: nothing else waits for that.
    Fill(GuestUuid),
    /// A guest, while a fill of its disks is begun.
    FillBegin(GuestUuid),
    /// A guest, while a target name is chosen and its disk is plugged in.
    Guest(GuestUuid),
}

/// The locks that are held or waited for; others take no memory.
#[derive(Default)]
pub(super) struct Locks {
    held: Mutex<HashMap<Key, Arc<AsyncMutex<()>>>>,
}

impl Locks {
    /// Waits for a lock, first come first served.
    pub(super) async fn lock(&self, key: Key) -> OwnedMutexGuard<()> {
        let lock = self.entry(key);
        lock.lock_owned().await
    }

    /// Takes a lock if nobody has it.
    pub(super) fn try_lock(&self, key: Key) -> Option<OwnedMutexGuard<()>> {
        self.entry(key).try_lock_owned().ok()
    }

    fn entry(&self, key: Key) -> Arc<AsyncMutex<()>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // One reference is the map's own: such a lock is neither held nor waited for.
        held.retain(|_, lock| Arc::strong_count(lock) > 1);
        held.entry(key).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[tokio::test]
    async fn one_volume_waits_and_another_does_not() {
        let locks = Locks::default();
        let (first, second) = (Key::Volume(VolumeId(Uuid::from_u128(1))), Key::Volume(VolumeId(Uuid::from_u128(2))));
        let guard = locks.lock(first).await;
        assert!(locks.try_lock(first).is_none());
        assert!(locks.try_lock(second).is_some());
        drop(guard);
        assert!(locks.try_lock(first).is_some());
    }

    #[tokio::test]
    async fn a_free_lock_is_forgotten() {
        let locks = Locks::default();
        drop(locks.lock(Key::Volume(VolumeId(Uuid::from_u128(1)))).await);
        let _second = locks.lock(Key::Volume(VolumeId(Uuid::from_u128(2)))).await;
        assert_eq!(locks.held.lock().unwrap().len(), 1);
    }
}
