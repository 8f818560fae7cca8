//! One volume group, by LVM's commands.

use super::{CHANGE_WITHIN, devices};
use crate::{
    bootsource::BootSourceError,
    command::{self, Finished},
};
use std::path::{Path, PathBuf};

/// What Bowline's volumes are tagged with.
const TAG: &str = "bowline.ephemeral";

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
        let size = format!("{size_bytes}b");
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
        match found.map(|seen| (seen.attributes.get(KIND_AT), seen.attributes.get(ZEROING_AT))) {
            Some((Some(b't'), Some(b'z'))) => Ok(()),
            Some((Some(b't'), _)) => Err(BootSourceError::NotZeroed { group: self.name.clone(), pool: pool.to_owned() }),
            _ => Err(BootSourceError::NoThinPool { group: self.name.clone(), pool: pool.to_owned() }),
        }
    }

    /// What `lvs` says of the volume of this name: nothing, where there is none.
    async fn look(&self, volume: &str) -> Result<String, BootSourceError> {
        let selection = format!("lv_name=\"{volume}\"");
        let arguments = ["--noheadings", "--options", "lv_name,lv_attr,lv_tags", "--select", &selection];
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
        let missing = || BootSourceError::NoVolumeGroup { group: self.name.clone() };
        let devices = devices::of_this_host();
        if devices.is_empty() {
            return Err(missing());
        }
        let mut arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        arguments.extend(["--devices".to_owned(), devices.join(","), "--".to_owned(), operand.to_owned()]);
        let full = || format!("{}/{volume}", self.name);
        // Whoever waits for it may be cut; a change of a volume group must not be.
        let ended = tokio::spawn(async move { command::run(program, &arguments, CHANGE_WITHIN).await });
        let ended = ended.await.map_err(|_| BootSourceError::Lost { path: self.device(volume) })?;
        let ended = ended.map_err(|source| BootSourceError::LvmCommand { operation, volume: full(), source })?;
        match ended.code {
            Some(0) => Ok(ended),
            _ if is_no_group(&ended.stderr, &self.name) => Err(missing()),
            _ => Err(BootSourceError::Lvm { operation, volume: full(), program, said: ended.stderr }),
        }
    }
}

fn is_no_group(said: &str, group: &str) -> bool {
    said.contains(&format!("Volume group \"{group}\" not found"))
}

/// Lines of name, attributes, and tags with commas between them.
fn seen_in(listed: &str) -> Vec<Seen<'_>> {
    listed
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (name, attributes) = (words.next()?, words.next()?.as_bytes());
            Some(Seen { name, attributes, tags: words.next().unwrap_or_default() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lvs_says_is_read() {
        let seen = seen_in("  pool twi-aotz-- \n  bowline-1-vda Vwi-a-tz-- a,bowline.ephemeral\n\n");
        let seen: Vec<_> = seen.iter().map(|seen| (seen.name, seen.attributes[KIND_AT], seen.tags)).collect();
        assert_eq!(seen, [("pool", b't', ""), ("bowline-1-vda", b'V', "a,bowline.ephemeral")]);
        assert_eq!(seen_in("  pool twi-aotz--")[0].attributes[ZEROING_AT], b'z');
        assert!(is_no_group("Volume group \"fast\" not found; Cannot process volume group fast", "fast"));
        assert!(!is_no_group("Volume group \"fast\" has insufficient free space (1 extents): 2 required.", "fast"));
    }
}
