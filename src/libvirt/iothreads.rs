//! Which of a guest's I/O threads serves a disk. Pure; a thread is only ever added where the settings ask for it.

use super::{domain_xml::DomainXml, guest::Sides};
use crate::model::{DiskTuning, IoThreads};

/// A thread for a disk, and those that have to be given to the guest before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct IoThreadPlan {
    /// The disk's thread; QEMU's main one if none.
    pub(super) thread: Option<u32>,
    /// To be added to the running guest.
    pub(super) add_live: Vec<u32>,
    /// To be added to the definition.
    pub(super) add_config: Vec<u32>,
}

impl IoThreadPlan {
    /// The least used thread that every side has, the lowest number among equals: disk after disk they fill evenly.
    pub(super) fn new(sides: &Sides, tuning: &DiskTuning) -> Self {
        let mut plan = Self::default();
        if tuning.iothreads == IoThreads::Add {
            let missing = |side: Option<&DomainXml>| match side {
                Some(side) => (1..=tuning.iothread_count).filter(|id| !side.iothreads.contains(id)).collect(),
                None => Vec::new(),
            };
            plan.add_live = missing(sides.live.as_ref());
            plan.add_config = missing(sides.config.as_ref());
        }
        if tuning.iothreads != IoThreads::None {
            plan.thread = plan.least_used(sides);
        }
        plan
    }

    fn least_used(&self, sides: &Sides) -> Option<u32> {
        let will_have = |side: Option<&DomainXml>, added: &[u32], id: u32| {
            side.is_none_or(|side| side.iothreads.contains(&id)) || added.contains(&id)
        };
        let mut known: Vec<u32> = sides.each().flat_map(|side| &side.iothreads).copied().collect();
        known.extend(self.add_live.iter().chain(&self.add_config));
        known.retain(|id| {
            will_have(sides.live.as_ref(), &self.add_live, *id) && will_have(sides.config.as_ref(), &self.add_config, *id)
        });
        known.sort_unstable();
        // What runs now decides; a guest that is off is counted by its definition.
        let users =
            |id: u32| sides.each().next().map_or(0, |side| side.iothread_users.iter().filter(|user| **user == id).count());
        known.into_iter().min_by_key(|id| (users(*id), *id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(iothreads: &[u32], users: &[u32]) -> Option<DomainXml> {
        Some(DomainXml { iothreads: iothreads.to_vec(), iothread_users: users.to_vec(), ..DomainXml::default() })
    }

    fn plan(live: Option<DomainXml>, config: Option<DomainXml>, iothreads: IoThreads, iothread_count: u32) -> IoThreadPlan {
        IoThreadPlan::new(&Sides { live, config }, &DiskTuning { iothreads, iothread_count, ..DiskTuning::default() })
    }

    #[test]
    fn disks_are_spread_over_the_threads_that_a_guest_has() {
        for (users, thread) in [(&[][..], 1), (&[1], 2), (&[1, 2], 1), (&[2, 1, 1], 2)] {
            let found = plan(side(&[1, 2], users), side(&[1, 2], &[]), IoThreads::Existing, 0);
            assert_eq!(found, IoThreadPlan { thread: Some(thread), ..IoThreadPlan::default() }, "{users:?}");
        }
    }

    #[test]
    fn no_thread_is_invented_and_one_that_a_side_lacks_is_not_used() {
        let nothing = IoThreadPlan::default();
        assert_eq!(plan(side(&[], &[]), side(&[], &[]), IoThreads::Existing, 4), nothing);
        assert_eq!(plan(side(&[1], &[]), side(&[], &[]), IoThreads::Existing, 4), nothing);
        assert_eq!(plan(side(&[1], &[]), side(&[1], &[]), IoThreads::None, 4), nothing);
    }

    #[test]
    fn threads_are_added_where_the_settings_ask_for_them() {
        let found = plan(side(&[1], &[1]), side(&[], &[]), IoThreads::Add, 2);
        assert_eq!(found, IoThreadPlan { thread: Some(2), add_live: vec![2], add_config: vec![1, 2] });
        let off = plan(None, side(&[7], &[]), IoThreads::Add, 1);
        assert_eq!(off, IoThreadPlan { thread: Some(1), add_live: vec![], add_config: vec![1] });
    }
}
