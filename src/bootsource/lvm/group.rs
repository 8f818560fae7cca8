//! One volume group, by LVM's commands.

use super::{CHANGE_WITHIN, devices};
use crate::{
    bootsource::BootSourceError,
    command::{self, Finished},
};
use std::path::{Path, PathBuf};

/// Between columns; in no name and no tag (lvm(8)).
const SEPARATOR: &str = "|";

/// What sizes are multiples of.
const SECTOR_BYTES: u64 = 512;

/// LVM raises its priority while devices are suspended, which takes a capability that the agent does not have.
const NO_HURRY: &str = "activation/process_priority=0";

/// What Bowline's volumes are tagged with.
const TAG: &str = "bowline.ephemeral";

/// A pool with less than this left gives no new disks: one that is full stops the guests it has. Percent that are taken, of data or of
/// metadata; LVM's own warnings begin there.
const FULL_PERCENT: f64 = 95.0;

/// Where the letters of `lv_attr` say what a volume is, and whether a pool zeroes what it gives out (lvs(8)).
const KIND_AT: usize = 0;
const ZEROING_AT: usize = 7;

/// Where ephemeral disks are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeGroup {
    name: String,
    thin_pool: Option<String>,
}

/// A logical volume, as `lvs` tells of it.
struct Seen<'a> {
    name: &'a str,
    attributes: &'a [u8],
    /// What is taken of a pool's data and of its metadata; nothing of what is no pool.
    taken: [Option<f64>; 2],
    tags: &'a str,
}

impl VolumeGroup {
    /// The group of this name. `thin_pool`: the pool in it that disks are thin volumes of; else they are linear.
    pub const fn new(name: String, thin_pool: Option<String>) -> Self {
        Self { name, thin_pool }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn is_thin(&self) -> bool {
        self.thin_pool.is_some()
    }

    pub(super) fn device(&self, volume: &str) -> PathBuf {
        Path::new("/dev").join(&self.name).join(volume)
    }

    /// Makes a volume of at least this size; whole extents is what there is.
    pub(super) async fn create(&self, volume: &str, size_bytes: u64) -> Result<(), BootSourceError> {
        // LVM takes whole sectors; an image may be of any length.
        let size = format!("{}b", size_bytes.checked_next_multiple_of(SECTOR_BYTES).unwrap_or(size_bytes));
        let kind: Vec<&str> = match &self.thin_pool {
            Some(pool) => {
                self.check_pool(pool).await?;
                vec!["--type", "thin", "--thinpool", pool, "--virtualsize", &size]
            }
            // All of it is zeroed next.
            None => vec!["--type", "linear", "--size", &size, "--zero", "n", "--wipesignatures", "n"],
        };
        let arguments = [&["--yes", "--name", volume, "--addtag", TAG], kind.as_slice()].concat();
        self.run("make", volume, "lvcreate", &arguments, &self.name).await.map(drop)
    }

    /// Removes a volume. One that is not there is fine; one that is somebody else's stays.
    ///
    /// # Errors
    /// There is no such group; the name is somebody else's; it is open.
    pub(super) async fn remove(&self, volume: &str) -> Result<(), BootSourceError> {
        let seen = self.look(volume).await?;
        let Some(seen) = seen_in(&seen).into_iter().find(|seen| seen.name == volume) else { return Ok(()) };
        let full = format!("{}/{volume}", self.name);
        if !seen.tags.split(',').any(|tag| tag == TAG) {
            return Err(BootSourceError::ForeignVolume { volume: full, tag: TAG });
        }
        self.run("remove", volume, "lvremove", &["--yes"], &full).await.map(drop)
    }

    /// A pool that gives out what it has not zeroed would show a guest what another wrote.
    async fn check_pool(&self, pool: &str) -> Result<(), BootSourceError> {
        let seen = self.look(pool).await?;
        let found = seen_in(&seen).into_iter().find(|seen| seen.name == pool);
        let (group, pool) = (self.name.clone(), pool.to_owned());
        let Some(seen) = found.filter(|seen| seen.attributes.get(KIND_AT) == Some(&b't')) else {
            return Err(BootSourceError::NoThinPool { group, pool });
        };
        if seen.attributes.get(ZEROING_AT) != Some(&b'z') {
            return Err(BootSourceError::NotZeroed { group, pool });
        }
        match seen.taken.into_iter().flatten().find(|percent| *percent >= FULL_PERCENT) {
            Some(percent) => Err(BootSourceError::PoolFull { group, pool, percent }),
            None => Ok(()),
        }
    }

    /// What `lvs` says of the volume of this name: nothing, where there is none.
    async fn look(&self, volume: &str) -> Result<String, BootSourceError> {
        let selection = format!("lv_name=\"{volume}\"");
        let columns = "lv_name,lv_attr,data_percent,metadata_percent,lv_tags";
        let arguments = ["--noheadings", "--separator", SEPARATOR, "--options", columns, "--select", &selection];
        let said = self.run("look for", volume, "lvs", &arguments, &self.name).await?;
        Ok(String::from_utf8_lossy(&said.stdout).into_owned())
    }

    async fn run(
        &self,
        operation: &'static str,
        volume: &str,
        program: &'static str,
        arguments: &[&str],
        operand: &str,
    ) -> Result<Finished, BootSourceError> {
        let missing = |said: String| BootSourceError::NoVolumeGroup { group: self.name.clone(), said };
        let devices = devices::of_this_host();
        if devices.is_empty() {
            return Err(missing("no disk of this host is to be seen".to_owned()));
        }
        let mut arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        arguments.extend(["--config", NO_HURRY, "--devices", &devices.join(","), "--", operand].map(str::to_owned));
        let full = || format!("{}/{volume}", self.name);
        let ended = command::run_whole(program, &arguments, CHANGE_WITHIN).await;
        let ended = ended.map_err(|source| BootSourceError::LvmCommand { operation, volume: full(), source })?;
        match ended.code {
            Some(0) => Ok(ended),
            _ if is_no_group(&ended.stderr, &self.name) => Err(missing(ended.stderr)),
            _ => Err(BootSourceError::Lvm { operation, volume: full(), program, said: ended.stderr }),
        }
    }
}

fn is_no_group(said: &str, group: &str) -> bool {
    said.contains(&format!("Volume group \"{group}\" not found"))
}

/// Lines of name, attributes, two percentages that may be empty, and tags with commas between them.
fn seen_in(listed: &str) -> Vec<Seen<'_>> {
    listed
        .lines()
        .filter_map(|line| {
            let mut words = line.split(SEPARATOR).map(str::trim);
            let (name, attributes) = (words.next()?, words.next()?.as_bytes());
            let mut percent = || words.next().and_then(|word| word.parse().ok());
            let taken = [percent(), percent()];
            Some(Seen { name, attributes, taken, tags: words.next()? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lvs_says_is_read() {
        let listed = "  pool|twi-aotz--|12.50|96.00|\n  bowline-1-vda|Vwi-a-tz--|||a,bowline.ephemeral\n\n";
        let seen = seen_in(listed);
        assert_eq!(seen[0].taken, [Some(12.5), Some(96.0)]);
        let seen: Vec<_> = seen.iter().map(|seen| (seen.name, seen.attributes[KIND_AT], seen.tags)).collect();
        assert_eq!(seen, [("pool", b't', ""), ("bowline-1-vda", b'V', "a,bowline.ephemeral")]);
        assert_eq!(seen_in(listed)[0].attributes[ZEROING_AT], b'z');
        assert!(is_no_group("Volume group \"fast\" not found; Cannot process volume group fast", "fast"));
        assert!(!is_no_group("Volume group \"fast\" has insufficient free space (1 extents): 2 required.", "fast"));
    }
}
