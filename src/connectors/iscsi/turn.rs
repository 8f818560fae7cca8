//! Whose turn it is with a volume, and whether a path that comes late is still wanted.
//!
//! ```text
//! connect_all: turn taken, latest -----------------> verdict, turn given back
//!   its paths' tasks: connect_path -----late-----> turn -> still the latest? --yes--> as the verdict says
//!                                                              |no
//!                                                              +--> the disk is left: whoever came later has it, or has taken it away
//! ```
//! A connect may be dropped at any moment, by a deadline of its caller's, while the tasks of its paths go on. What they bring then
//! is nobody's to delete but of the one who takes the volume off the host, or of another connect's, which may have it under a guest already:
//! the claim of the LUN, written before the scan, leads both to it.

use super::KernelInitiator;
use crate::model::{DeviceIdentity, VolumeId};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};
use tokio::sync::OwnedMutexGuard;

/// What became of the whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A map of paths that are this device.
    Joined(DeviceIdentity),
    /// Nothing; what it brought is taken back.
    Failed,
    /// Its caller did not wait for the end. What it brought stays.
    Abandoned,
}

/// One connect over several paths, as the tasks of its paths know it; set once.
#[derive(Debug, Clone, Default)]
pub(super) struct Verdict(Arc<OnceLock<End>>);

impl Verdict {
    /// `None` while the connect is under way.
    pub(super) fn end(&self) -> Option<&End> {
        self.0.get()
    }

    /// The first word counts.
    pub(super) fn set(&self, end: End) {
        let _ = self.0.set(end);
    }
}

/// Held by the connect itself: without another word before, its drop says that the connect was abandoned.
#[derive(Debug)]
pub(super) struct Word(pub(super) Verdict);

impl Drop for Word {
    fn drop(&mut self) {
        self.0.set(End::Abandoned);
    }
}

/// The latest connect of each volume that has one under way, or paths that come late.
#[derive(Debug, Default)]
pub(super) struct Latest {
    by_volume: Mutex<HashMap<VolumeId, Weak<OnceLock<End>>>>,
}

impl Latest {
    fn change(&self) -> MutexGuard<'_, HashMap<VolumeId, Weak<OnceLock<End>>>> {
        let mut latest = self.by_volume.lock().unwrap_or_else(PoisonError::into_inner);
        latest.retain(|_, verdict| verdict.strong_count() > 0);
        latest
    }

    /// From now on it is this one. `None`: no connect of before has a say any more.
    pub(super) fn set(&self, volume: VolumeId, verdict: Option<&Verdict>) {
        let mut latest = self.change();
        match verdict {
            Some(Verdict(verdict)) => latest.insert(volume, Arc::downgrade(verdict)),
            None => latest.remove(&volume),
        };
    }

    /// Whether nothing was begun with the volume since.
    pub(super) fn is(&self, volume: VolumeId, verdict: &Verdict) -> bool {
        self.change().get(&volume).is_some_and(|latest| latest.as_ptr() == Arc::as_ptr(&verdict.0))
    }
}

impl KernelInitiator {
    /// The turn on all of a volume: its map, its own name, and which of its disks stay. It is taken before that on any path.
    pub(super) async fn lock_volume(&self, volume: VolumeId) -> OwnedMutexGuard<()> {
        self.locks.lock(&format!("volume {volume}")).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(last: u8) -> VolumeId {
        format!("94333fbd-2aab-4a5a-befd-e30c2f7377f{last}").parse().unwrap()
    }

    #[test]
    fn a_connect_that_is_dropped_has_told_its_paths_so_and_one_that_ended_is_not_overruled() {
        let (dropped, ended) = (Verdict::default(), Verdict::default());
        drop(Word(dropped.clone()));
        assert_eq!(dropped.end(), Some(&End::Abandoned));
        let word = Word(ended.clone());
        ended.set(End::Failed);
        drop(word);
        assert_eq!(ended.end(), Some(&End::Failed));
    }

    #[test]
    fn whatever_is_begun_later_takes_the_say_from_a_connect_of_before() {
        let latest = Latest::default();
        let (first, second) = (Verdict::default(), Verdict::default());
        latest.set(volume(0), Some(&first));
        latest.set(volume(1), Some(&second));
        assert!(latest.is(volume(0), &first) && latest.is(volume(1), &second) && !latest.is(volume(0), &second));
        let again = Verdict::default();
        latest.set(volume(0), Some(&again));
        assert!(!latest.is(volume(0), &first) && latest.is(volume(0), &again));
        latest.set(volume(0), None);
        assert!(!latest.is(volume(0), &again), "a disconnect");
        drop(second);
        assert!(!latest.is(volume(2), &first));
        assert!(latest.by_volume.lock().unwrap().is_empty(), "those that ended are forgotten");
    }
}
