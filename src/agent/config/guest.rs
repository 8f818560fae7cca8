//! `[guest]` and `[key_manager]`: how disks are given to guests, and where the keys of encrypted ones are.

use super::{inputs, settings::Refusal};
use crate::model::{DiskBus, DiskTuning};

/// More I/O threads than processors help nobody, and each costs memory of its own.
const IOTHREADS_MAX: u32 = 64;
/// What QEMU allows of a virtio device (its `VIRTIO_QUEUE_MAX` is 1024, the control queues included).
const QUEUES_MAX: u16 = 256;
/// Longest freeze, seconds: what writes in the guest stands still for as long.
const FREEZE_MAX_S: u64 = 600;

/// `[guest]`
#[derive(Debug, Clone)]
pub struct GuestSettings {
    /// Bus for requests that name none.
    pub disk_bus: DiskBus,
    /// How every disk is driven; what is the volume's own comes on top.
    pub tuning: DiskTuning,
    /// Seconds that a guest's filesystems are frozen at most while its disks are caught.
    pub freeze_timeout_s: u64,
}

/// `[key_manager]`
#[derive(Debug, Clone)]
pub struct KeyManagerSettings {
    /// Entry of clouds.yaml whose user may read the keys; `None` takes that of `[cloud]`.
    pub cloud: Option<String>,
    /// Its address; `None` asks Keystone's catalog.
    pub endpoint: Option<String>,
}

pub(super) fn guest(given: inputs::Guest) -> Result<GuestSettings, Refusal> {
    let iothread_count = given.iothread_count.unwrap_or(1);
    if !(1..=IOTHREADS_MAX).contains(&iothread_count) {
        return Err(("guest.iothread_count", format!("{iothread_count} is not from 1 to {IOTHREADS_MAX}")));
    }
    if given.queues.is_some_and(|queues| !(1..=QUEUES_MAX).contains(&queues)) {
        return Err(("guest.queues", format!("expected 1 to {QUEUES_MAX}; leave the key out for QEMU's choice")));
    }
    let tuning = DiskTuning {
        cache: given.cache.unwrap_or_default(),
        io: given.io.unwrap_or_default(),
        iothreads: given.iothreads.unwrap_or_default(),
        iothread_count,
        queues: given.queues,
        ..DiskTuning::default()
    };
    let freeze_timeout_s = given.freeze_timeout_s.unwrap_or(30);
    if !(1..=FREEZE_MAX_S).contains(&freeze_timeout_s) {
        return Err(("guest.freeze_timeout_s", format!("{freeze_timeout_s} is not from 1 to {FREEZE_MAX_S}")));
    }
    Ok(GuestSettings { disk_bus: given.disk_bus.unwrap_or_default(), tuning, freeze_timeout_s })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DiskCache, DiskIo, IoThreads};

    fn read(text: &str) -> Result<GuestSettings, Refusal> {
        guest(toml::from_str(text).unwrap())
    }

    #[test]
    fn every_key_is_read_in_libvirts_words() {
        let text = "cache = \"writeback\"\nio = \"io_uring\"\niothreads = \"add\"\niothread_count = 3\nqueues = 4";
        let tuning = read(text).unwrap().tuning;
        assert_eq!((tuning.cache, tuning.io, tuning.iothreads), (DiskCache::WriteBack, DiskIo::IoUring, IoThreads::Add));
        assert_eq!((tuning.iothread_count, tuning.queues), (3, Some(4)));
        assert_eq!(read("").unwrap().tuning, DiskTuning { iothread_count: 1, ..DiskTuning::default() });
    }

    #[test]
    fn numbers_out_of_range_name_their_key() {
        for (text, key) in
            [("queues = 0", "guest.queues"), ("queues = 300", "guest.queues"), ("iothread_count = 65", "guest.iothread_count")]
        {
            assert_eq!(read(text).unwrap_err().0, key);
        }
    }
}
