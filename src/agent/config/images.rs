//! `[images]`: images of this host, and what ephemeral disks are.

use super::{
    inputs::{self, DisksOn},
    settings::{Refusal, absolute, not_empty, seconds},
};
use crate::model::DiskFormat;
use std::path::PathBuf;

/// A PiB: more than any host has.
const IMAGES_MAX_GIB: u64 = 1 << 20;

/// `[images]`
#[derive(Debug, Clone)]
pub struct ImageSettings {
    /// Where images are, and ephemeral disks that are files. QEMU's user must be able to pass through it.
    pub dir: PathBuf,
    /// The most that images which no disk uses may take, GiB.
    pub limit_gib: u64,
    /// What ephemeral disks are.
    pub disks: EphemeralDisks,
    /// Seconds for a boot's images to come, and to be copied.
    pub download_timeout_s: u64,
    /// How long a guest's read of an image that still comes waits while nothing comes, seconds; then the guest is paused.
    pub stall_timeout_s: u64,
}

/// `images.disks_on`, with what belongs to each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EphemeralDisks {
    /// Files; `images.disk_format`: over an image `qcow2` is copy-on-write, `raw` a copy.
    Files(DiskFormat),
    /// Logical volumes.
    Lvm {
        /// `images.volume_group`.
        volume_group: String,
        /// `images.thin_pool`; `None` makes linear volumes.
        thin_pool: Option<String>,
    },
}

pub(super) fn images(given: inputs::Images) -> Result<ImageSettings, Refusal> {
    let limit_gib = given.limit_gib.unwrap_or(50);
    if !(1..=IMAGES_MAX_GIB).contains(&limit_gib) {
        return Err(("images.limit_gib", format!("{limit_gib} is not from 1 to {IMAGES_MAX_GIB}")));
    }
    let volume_group = name("images.volume_group", given.volume_group)?;
    let thin_pool = name("images.thin_pool", given.thin_pool)?;
    let disks = match given.disks_on.unwrap_or(DisksOn::Files) {
        DisksOn::Files => {
            let without = "is of no use while images.disks_on is not \"lvm\"";
            for (key, given) in [("images.volume_group", &volume_group), ("images.thin_pool", &thin_pool)] {
                if given.is_some() {
                    return Err((key, without.into()));
                }
            }
            EphemeralDisks::Files(given.disk_format.unwrap_or(DiskFormat::Qcow2))
        }
        DisksOn::Lvm if given.disk_format == Some(DiskFormat::Qcow2) => {
            return Err((
                "images.disk_format",
                "a logical volume is always raw; leave the key out with images.disks_on = \"lvm\"".into(),
            ));
        }
        DisksOn::Lvm => match volume_group {
            Some(volume_group) => EphemeralDisks::Lvm { volume_group, thin_pool },
            None => return Err(("images.volume_group", "images.disks_on = \"lvm\" needs the name of a volume group".into())),
        },
    };
    Ok(ImageSettings {
        dir: absolute("images.dir", given.dir, "/var/lib/bowline-images")?,
        limit_gib,
        disks,
        download_timeout_s: seconds("images.download_timeout_s", given.download_timeout_s, 3600)?,
        stall_timeout_s: seconds("images.stall_timeout_s", given.stall_timeout_s, 30)?,
    })
}

/// What LVM takes as a name (lvm(8), "Valid names").
fn name(key: &'static str, given: Option<String>) -> Result<Option<String>, Refusal> {
    let given = not_empty(key, given)?;
    let is_name = |name: &str| {
        name.chars().all(|letter| letter.is_ascii_alphanumeric() || "+_.-".contains(letter))
            && !name.starts_with('-')
            && !matches!(name, "." | "..")
    };
    match given {
        Some(text) if !is_name(&text) => Err((key, format!("{text:?} is no name that LVM takes"))),
        given => Ok(given),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lvm(volume_group: Option<&str>) -> inputs::Images {
        let volume_group = volume_group.map(str::to_owned);
        inputs::Images { disks_on: Some(DisksOn::Lvm), volume_group, ..inputs::Images::default() }
    }

    #[test]
    fn what_belongs_to_lvm_is_asked_for_with_it_and_refused_without() {
        let disks = images(lvm(Some("fast"))).unwrap().disks;
        assert_eq!(disks, EphemeralDisks::Lvm { volume_group: "fast".into(), thin_pool: None });
        let thin_pool = Some("pool".to_owned());
        let wrong = [
            (lvm(None), "images.volume_group"),
            (lvm(Some("../sda")), "images.volume_group"),
            (inputs::Images { thin_pool: thin_pool.clone(), ..inputs::Images::default() }, "images.thin_pool"),
            (inputs::Images { disks_on: Some(DisksOn::Files), ..lvm(Some("fast")) }, "images.volume_group"),
            (inputs::Images { disk_format: Some(DiskFormat::Qcow2), ..lvm(Some("fast")) }, "images.disk_format"),
        ];
        for (given, key) in wrong {
            assert_eq!(images(given).unwrap_err().0, key);
        }
    }
}
