//! One volume group, by LVM's commands.

use super::{CHANGE_WITHIN, devices};
use crate::{
    bootsource::BootSourceError,
    command::{self, Finished},
    model::{GroupRoom, POOL_FULL_PERCENT, PoolRoom},
};
use std::path::{Path, PathBuf};

/// Between columns; in no name and no tag (lvm(8)).
const SEPARATOR: &str = "|";

/// What sizes are multiples of.
const SECTOR_BYTES: u64 = 512;

/// LVM raises its priority while devices are suspended, which takes a capability that the agent does not have.
const NO_HURRY: &str = "activation/process_priority=0";

/// What Bowline's volumes are tagged with.
pub(super) const TAG: &str = "bowline.ephemeral";

/// Where the letters of `lv_attr` say what a volume is, and whether a pool zeroes what it gives out (lvs(8)).
pub(super) const KIND_AT: usize = 0;
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

    /// What `lvs` says in these columns of the volumes that match, a line a volume, its words in the order of the columns.
    pub(super) async fn select(&self, selection: &str, columns: &str) -> Result<Vec<Vec<String>>, BootSourceError> {
        let arguments = ["--noheadings", "--separator", SEPARATOR, "--options", columns, "--select", selection];
        let said = self.run("list", "*", "lvs", &arguments, &self.name).await?;
        let listed = String::from_utf8_lossy(&said.stdout);
        Ok(listed.lines().map(|line| line.split(SEPARATOR).map(|word| word.trim().to_owned()).collect()).collect())
    }

    /// A pool that gives out what it has not zeroed would show a guest what another wrote.
    async fn check_pool(&self, pool: &str) -> Result<(), BootSourceError> {
        let room = self.pool_room(pool).await?;
        let (group, pool) = (self.name.clone(), pool.to_owned());
        if !room.is_zeroing {
            return Err(BootSourceError::NotZeroed { group, pool });
        }
        match room.taken_percent().filter(|percent| *percent >= POOL_FULL_PERCENT) {
            Some(percent) => Err(BootSourceError::PoolFull { group, pool, percent }),
            None => Ok(()),
        }
    }

    async fn pool_room(&self, pool: &str) -> Result<PoolRoom, BootSourceError> {
        let seen = self.look(pool).await?;
        let found = seen_in(&seen).into_iter().find(|seen| seen.name == pool);
        let name = pool.to_owned();
        let Some(seen) = found.filter(|seen| seen.attributes.get(KIND_AT) == Some(&b't')) else {
            return Err(BootSourceError::NoThinPool { group: self.name.clone(), pool: name });
        };
        let ([data_percent, metadata_percent], is_zeroing) = (seen.taken, seen.attributes.get(ZEROING_AT) == Some(&b'z'));
        Ok(PoolRoom { name, data_percent, metadata_percent, is_zeroing })
    }

    /// What room it has, and its pool.
    pub(in crate::bootsource) async fn room(&self) -> Result<GroupRoom, BootSourceError> {
        let arguments = ["--noheadings", "--units", "b", "--nosuffix", "--options", "vg_free"];
        let said = self.run("look at", "*", "vgs", &arguments, &self.name).await?;
        let said = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        let unreadable = |_| BootSourceError::Lvm {
            operation: "look at",
            volume: format!("{}/*", self.name),
            program: "vgs",
            said: format!("no number of free bytes: {said:?}"),
        };
        let free_bytes = said.parse().map_err(unreadable)?;
        let pool = match &self.thin_pool {
            Some(pool) => Some(self.pool_room(pool).await?),
            None => None,
        };
        Ok(GroupRoom { name: self.name.clone(), free_bytes, pool })
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
