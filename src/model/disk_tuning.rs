//! How a disk is driven, beyond where its data is: I/O limits, caching, queues and block sizes.
//!
//! The limits come from the volume type's QoS specs, under the names that Cinder and Nova use and that libvirt's `<iotune>` has as
//! elements. They are checked here by the rules that libvirt and QEMU (`throttle_is_valid`) would refuse them by, because theirs is
//! a refusal in the middle of a hot-plug that names no key of the QoS specs.

use serde::{Deserialize, Serialize};

/// More than this QEMU does not take (its `THROTTLE_VALUE_MAX`), in bytes or requests a second.
const LIMIT_MAX: u64 = 1_000_000_000_000_000;

/// Sectors that every QEMU can show a guest, bytes.
const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 512..=32_768;

/// A limit of `<iotune>`. Bytes and requests are a second's; `*_max` are bursts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the key of its name, see `IoLimit::key`")]
pub enum IoLimit {
    TotalBytes,
    ReadBytes,
    WriteBytes,
    TotalIops,
    ReadIops,
    WriteIops,
    TotalBytesMax,
    ReadBytesMax,
    WriteBytesMax,
    TotalIopsMax,
    ReadIopsMax,
    WriteIopsMax,
    /// How many bytes of one request count as one; larger requests count as several.
    SizeIops,
}

impl IoLimit {
    /// All of them, in the order in which libvirt's schema has them.
    pub const ALL: [Self; 13] = [
        Self::TotalBytes,
        Self::ReadBytes,
        Self::WriteBytes,
        Self::TotalIops,
        Self::ReadIops,
        Self::WriteIops,
        Self::TotalBytesMax,
        Self::ReadBytesMax,
        Self::WriteBytesMax,
        Self::TotalIopsMax,
        Self::ReadIopsMax,
        Self::WriteIopsMax,
        Self::SizeIops,
    ];

    /// The six that have a burst and can be given per GiB, each with its burst.
    const BASES: [(Self, Self); 6] = [
        (Self::TotalBytes, Self::TotalBytesMax),
        (Self::ReadBytes, Self::ReadBytesMax),
        (Self::WriteBytes, Self::WriteBytesMax),
        (Self::TotalIops, Self::TotalIopsMax),
        (Self::ReadIops, Self::ReadIopsMax),
        (Self::WriteIops, Self::WriteIopsMax),
    ];

    /// A total, and the two directions it excludes.
    const EXCLUSIVE: [(Self, Self, Self); 4] = [
        (Self::TotalBytes, Self::ReadBytes, Self::WriteBytes),
        (Self::TotalIops, Self::ReadIops, Self::WriteIops),
        (Self::TotalBytesMax, Self::ReadBytesMax, Self::WriteBytesMax),
        (Self::TotalIopsMax, Self::ReadIopsMax, Self::WriteIopsMax),
    ];

    /// The key in QoS specs, which is libvirt's element, too.
    pub const fn key(self) -> &'static str {
        match self {
            Self::TotalBytes => "total_bytes_sec",
            Self::ReadBytes => "read_bytes_sec",
            Self::WriteBytes => "write_bytes_sec",
            Self::TotalIops => "total_iops_sec",
            Self::ReadIops => "read_iops_sec",
            Self::WriteIops => "write_iops_sec",
            Self::TotalBytesMax => "total_bytes_sec_max",
            Self::ReadBytesMax => "read_bytes_sec_max",
            Self::WriteBytesMax => "write_bytes_sec_max",
            Self::TotalIopsMax => "total_iops_sec_max",
            Self::ReadIopsMax => "read_iops_sec_max",
            Self::WriteIopsMax => "write_iops_sec_max",
            Self::SizeIops => "size_iops_sec",
        }
    }
}

/// Limits on a disk's I/O. Only [`IoTune::from_qos`] makes one that limits anything, so each is one that QEMU takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IoTune {
    limits: Vec<(IoLimit, u64)>,
}

/// QoS specs that cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("QoS spec `{key}` {problem}")]
pub struct IoTuneError {
    /// The key as the service spells it.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
}

fn bad<T>(key: impl Into<String>, problem: impl Into<String>) -> Result<T, IoTuneError> {
    Err(IoTuneError { key: key.into(), problem: problem.into() })
}

impl IoTune {
    /// The limits that these QoS specs (`(key, value)`) set for a volume of this size. Zero is no limit, as QEMU means it. Keys that
    /// limit nothing here are the storage's own and are passed over.
    ///
    /// Cinder multiplies the `KEY_per_gb` by itself and then sends them no more; where a service does send one, it is
    /// done as Cinder does it: at least `KEY_per_gb_min`, at most `KEY_max`, which then is no burst.
    ///
    /// # Errors
    /// The key that is no number, or that contradicts another.
    pub fn from_qos(specs: &[(String, String)], size_gib: u64) -> Result<Self, IoTuneError> {
        let get = |key: &str| -> Result<Option<u64>, IoTuneError> {
            let Some((_, text)) = specs.iter().find(|(name, _)| name == key) else { return Ok(None) };
            match text.trim().parse::<u64>() {
                Ok(value) => Ok(Some(value)),
                Err(_) => bad(key, "is not a whole number"),
            }
        };
        let mut limits = Vec::new();
        for (base, burst) in IoLimit::BASES {
            let key = base.key();
            let (plain, most) = (get(key)?, get(burst.key())?);
            let least = get(&format!("{key}_per_gb_min"))?.unwrap_or(0);
            match get(&format!("{key}_per_gb"))? {
                Some(per_gib) => {
                    let wanted = per_gib.saturating_mul(size_gib).max(least);
                    limits.push((base, wanted.min(most.unwrap_or(wanted))));
                }
                None => {
                    limits.extend(plain.map(|value| (base, value)));
                    limits.extend(most.map(|value| (burst, value)));
                }
            }
        }
        limits.extend(get(IoLimit::SizeIops.key())?.map(|value| (IoLimit::SizeIops, value)));
        limits.retain(|(_, value)| *value > 0);
        limits.sort_unstable();
        let tune = Self { limits };
        tune.check()?;
        Ok(tune)
    }

    /// The limits that are set, in libvirt's order.
    pub fn limits(&self) -> &[(IoLimit, u64)] {
        &self.limits
    }

    /// Nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }

    fn get(&self, limit: IoLimit) -> Option<u64> {
        self.limits.iter().find(|(set, _)| *set == limit).map(|(_, value)| *value)
    }

    fn check(&self) -> Result<(), IoTuneError> {
        if let Some((limit, _)) = self.limits.iter().find(|(_, value)| *value > LIMIT_MAX) {
            return bad(limit.key(), format!("is more than QEMU takes ({LIMIT_MAX})"));
        }
        for (total, read, write) in IoLimit::EXCLUSIVE {
            if self.get(total).is_some()
                && let Some(other) = [read, write].into_iter().find(|other| self.get(*other).is_some())
            {
                return bad(total.key(), format!("cannot stand beside `{}`: set the total or the directions", other.key()));
            }
        }
        for (base, burst) in IoLimit::BASES {
            match (self.get(base), self.get(burst)) {
                (None, Some(_)) => return bad(burst.key(), format!("needs `{}`, of which it is the burst", base.key())),
                (Some(steady), Some(most)) if most < steady => {
                    return bad(burst.key(), format!("is less than `{}`, of which it is the burst", base.key()));
                }
                _ => {}
            }
        }
        let iops = [IoLimit::TotalIops, IoLimit::ReadIops, IoLimit::WriteIops];
        if self.get(IoLimit::SizeIops).is_some() && iops.iter().all(|limit| self.get(*limit).is_none()) {
            return bad(IoLimit::SizeIops.key(), "needs a limit of requests, such as `total_iops_sec`");
        }
        Ok(())
    }
}

/// Sector sizes that the guest is shown, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockSizes {
    /// Smallest unit of I/O; QEMU's default is 512.
    pub logical: Option<u32>,
    /// What the storage works in.
    pub physical: Option<u32>,
}

impl BlockSizes {
    /// Checks sizes as QEMU does: powers of two from 512 to 32768, the physical at least the logical.
    ///
    /// # Errors
    /// The name of the size that does not fit, and why not.
    pub fn checked(logical: Option<u32>, physical: Option<u32>) -> Result<Self, (&'static str, &'static str)> {
        for (key, size) in [("logical_block_size", logical), ("physical_block_size", physical)] {
            if size.is_some_and(|size| !size.is_power_of_two() || !BLOCK_SIZES.contains(&size)) {
                return Err((key, "is not a power of two from 512 to 32768"));
            }
        }
        if physical.is_some_and(|physical| physical < logical.unwrap_or(*BLOCK_SIZES.start())) {
            return Err(("physical_block_size", "is smaller than the logical block size"));
        }
        Ok(Self { logical, physical })
    }
}

/// The host's cache for a disk, in libvirt's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskCache {
    /// None: what the guest flushed is on the storage, and another host sees it.
    #[default]
    None,
    /// None, and every write is flushed.
    DirectSync,
    /// The host's page cache for reads; every write goes through.
    WriteThrough,
    /// The host's page cache; a guest must flush.
    WriteBack,
}

impl DiskCache {
    /// libvirt's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::DirectSync => "directsync",
            Self::WriteThrough => "writethrough",
            Self::WriteBack => "writeback",
        }
    }

    /// The host's page cache is in between. QEMU refuses native AIO with it.
    pub const fn is_buffered(self) -> bool {
        matches!(self, Self::WriteThrough | Self::WriteBack)
    }
}

/// How QEMU does a disk's I/O, in libvirt's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum DiskIo {
    /// Linux AIO; needs a disk without the host's cache.
    #[default]
    #[serde(rename = "native")]
    Native,
    /// A pool of threads.
    #[serde(rename = "threads")]
    Threads,
    /// io_uring.
    #[serde(rename = "io_uring")]
    IoUring,
}

impl DiskIo {
    /// libvirt's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Threads => "threads",
            Self::IoUring => "io_uring",
        }
    }
}

/// Which of QEMU's threads serves a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IoThreads {
    /// QEMU's main one.
    #[default]
    None,
    /// The least used of those that the guest has; the main one where it has none.
    Existing,
    /// The same, after giving the guest as many as are asked for.
    Add,
}

/// What the volume service says of the disk beside how to reach it. From connection info; holds no secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeTraits {
    /// QoS specs for the hypervisor, as the service wrote them.
    pub qos_specs: Vec<(String, String)>,
    /// Sector sizes.
    pub block_sizes: BlockSizes,
    /// The data is encrypted, and is to be decrypted on this host.
    pub encrypted: bool,
}

/// How a disk is driven.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskTuning {
    /// I/O limits.
    pub iotune: IoTune,
    /// Sector sizes.
    pub block_sizes: BlockSizes,
    /// Host cache. A disk that guests share has none, whatever is asked for.
    pub cache: DiskCache,
    /// How its I/O is done. A buffered disk is served by threads, whatever is asked for.
    pub io: DiskIo,
    /// Which thread serves it; virtio-blk only, since a virtio-scsi disk shares its controller's.
    pub iothreads: IoThreads,
    /// How many threads [`IoThreads::Add`] gives a guest.
    pub iothread_count: u32,
    /// Queues of a virtio-blk disk, or of a virtio-scsi controller that is made for it.
    pub queues: Option<u16>,
}

/// What a request may ask of a disk beside where it goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskWishes {
    /// A name for what the disk is for, shown with its attachment; the guest does not see it.
    #[serde(default)]
    pub tag: Option<String>,
    /// Its place among the devices that the guest boots from, counted from 1.
    #[serde(default)]
    pub boot_order: Option<u32>,
}

/// Longest tag, characters: what Nova allows of a device's.
const TAG_CHARS: usize = 60;

impl DiskWishes {
    /// Checks what a caller wrote.
    ///
    /// # Errors
    /// What is wrong, naming the wish.
    pub fn checked(tag: Option<String>, boot_order: Option<u32>) -> Result<Self, String> {
        let plain = |c: char| !c.is_control() && c != ',' && c != '/';
        match &tag {
            Some(tag) if tag.is_empty() || tag.chars().count() > TAG_CHARS || !tag.chars().all(plain) => {
                return Err(format!(
                    "a tag has 1 to {TAG_CHARS} characters, none of them a comma, a slash or a control character"
                ));
            }
            _ => {}
        }
        match boot_order {
            Some(0) => Err("a boot order counts from 1".to_owned()),
            _ => Ok(Self { tag, boot_order }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tune(specs: &[(&str, &str)], size_gib: u64) -> Result<Vec<(&'static str, u64)>, IoTuneError> {
        let specs: Vec<_> = specs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        IoTune::from_qos(&specs, size_gib)
            .map(|tune| tune.limits().iter().map(|(limit, value)| (limit.key(), *value)).collect())
    }

    #[test]
    fn every_key_becomes_its_limit_and_others_are_the_storages() {
        let one_way: Vec<_> = IoLimit::ALL.iter().filter(|limit| !limit.key().starts_with("total")).collect();
        let specs: Vec<_> = one_way.iter().map(|limit| (limit.key(), "700")).chain([("vendor:cache", "fast")]).collect();
        let found = tune(&specs, 1).unwrap();
        assert_eq!(found, one_way.iter().map(|limit| (limit.key(), 700)).collect::<Vec<_>>());
        let totals =
            [("total_bytes_sec", "10"), ("total_bytes_sec_max", "20"), ("total_iops_sec", "5"), ("total_iops_sec_max", "9")];
        assert_eq!(tune(&totals, 1).unwrap().len(), 4);
        assert_eq!(tune(&[("read_iops_sec", "0")], 1).unwrap(), []);
    }

    #[test]
    fn limits_per_gib_grow_with_the_volume_between_their_bounds() {
        let per_gib = [("read_iops_sec_per_gb", "10"), ("read_iops_sec_per_gb_min", "50"), ("read_iops_sec_max", "200")];
        for (size_gib, iops) in [(1, 50), (7, 70), (1000, 200)] {
            assert_eq!(tune(&per_gib, size_gib).unwrap(), [("read_iops_sec", iops)], "{size_gib} GiB");
        }
    }

    #[test]
    fn what_qemu_would_refuse_is_refused_by_its_key() {
        for (specs, key, word) in [
            (&[("total_bytes_sec", "9"), ("read_bytes_sec", "9")][..], "total_bytes_sec", "read_bytes_sec"),
            (&[("total_iops_sec", "9"), ("write_iops_sec_per_gb", "9")], "total_iops_sec", "write_iops_sec"),
            (&[("read_iops_sec_max", "9")], "read_iops_sec_max", "needs `read_iops_sec`"),
            (&[("read_iops_sec_max", "9"), ("read_iops_sec", "10")], "read_iops_sec_max", "less than"),
            (&[("size_iops_sec", "4096"), ("read_bytes_sec", "9")], "size_iops_sec", "needs"),
            (&[("write_bytes_sec", "fast")], "write_bytes_sec", "number"),
            (&[("write_bytes_sec", "-1")], "write_bytes_sec", "number"),
            (&[("write_bytes_sec", "1000000000000001")], "write_bytes_sec", "more than"),
        ] {
            let error = tune(specs, 1).unwrap_err();
            assert!(error.key == key && error.problem.contains(word), "{specs:?}: {error}");
        }
    }

    #[test]
    fn block_sizes_are_those_of_disks() {
        assert!(BlockSizes::checked(Some(4096), Some(4096)).is_ok() && BlockSizes::checked(None, Some(4096)).is_ok());
        for (logical, physical, key) in
            [(Some(4096), Some(512), "physical"), (Some(513), None, "logical"), (None, Some(1 << 20), "physical")]
        {
            assert!(BlockSizes::checked(logical, physical).unwrap_err().0.starts_with(key), "{logical:?} {physical:?}");
        }
    }

    #[test]
    fn tags_are_one_word_of_a_list() {
        for (tag, fine) in [("database", true), ("", false), ("a,b", false), ("a\nb", false)] {
            assert_eq!(DiskWishes::checked(Some(tag.into()), None).is_ok(), fine, "{tag:?}");
        }
        assert!(DiskWishes::checked(None, Some(0)).is_err());
    }
}
