//! `[images]`: images of this host, and what ephemeral disks are.

use super::{
    inputs::{self, DisksOn},
    settings::{Refusal, absolute, not_empty, seconds},
};
use crate::model::{DiskFormat, is_plain_ceph_name};
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
    /// RBD images.
    Rbd(RbdDisks),
}

/// Where ephemeral disks on RBD are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RbdDisks {
    /// `images.rbd_pool`, the pool.
    pub pool: String,
    /// And the namespace in it, where it names one.
    pub namespace: Option<String>,
    /// `rbd.user`, who makes and opens them.
    pub user: String,
}

/// `rbd_user`: `rbd.user`.
pub(super) fn images(given: inputs::Images, rbd_user: Option<&str>) -> Result<ImageSettings, Refusal> {
    let limit_gib = given.limit_gib.unwrap_or(50);
    if !(1..=IMAGES_MAX_GIB).contains(&limit_gib) {
        return Err(("images.limit_gib", format!("{limit_gib} is not from 1 to {IMAGES_MAX_GIB}")));
    }
    let volume_group = name("images.volume_group", given.volume_group)?;
    let thin_pool = name("images.thin_pool", given.thin_pool)?;
    let rbd_pool = not_empty("images.rbd_pool", given.rbd_pool)?;
    let disks_on = given.disks_on.unwrap_or(DisksOn::Files);
    let lvm = [("images.volume_group", volume_group.is_some()), ("images.thin_pool", thin_pool.is_some())];
    let all = lvm.into_iter().map(|key| (DisksOn::Lvm, "lvm", key));
    for (needed, word, (key, is_given)) in all.chain([(DisksOn::Rbd, "rbd", ("images.rbd_pool", rbd_pool.is_some()))]) {
        if is_given && disks_on != needed {
            return Err((key, format!("is of no use while images.disks_on is not \"{word}\"")));
        }
    }
    let disks = match disks_on {
        DisksOn::Files => EphemeralDisks::Files(given.disk_format.unwrap_or(DiskFormat::Qcow2)),
        DisksOn::Lvm | DisksOn::Rbd if given.disk_format == Some(DiskFormat::Qcow2) => {
            let problem =
                "a logical volume or an RBD image is always raw; leave the key out with images.disks_on = \"lvm\" or \"rbd\"";
            return Err(("images.disk_format", problem.into()));
        }
        DisksOn::Rbd => EphemeralDisks::Rbd(rbd_disks(rbd_pool, rbd_user)?),
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

fn rbd_disks(rbd_pool: Option<String>, rbd_user: Option<&str>) -> Result<RbdDisks, Refusal> {
    let needs = |what: &str| format!("images.disks_on = \"rbd\" needs {what}");
    let Some(given) = rbd_pool else { return Err(("images.rbd_pool", needs("the name of a pool, or of POOL/NAMESPACE"))) };
    let (pool, namespace) = match given.split_once('/') {
        Some((pool, namespace)) => (pool, Some(namespace)),
        None => (given.as_str(), None),
    };
    if !is_plain_ceph_name(pool) || !namespace.is_none_or(is_plain_ceph_name) {
        return Err(("images.rbd_pool", format!("{given:?} names no pool, nor a POOL/NAMESPACE")));
    }
    match rbd_user {
        Some(user) if is_plain_ceph_name(user) => {
            Ok(RbdDisks { pool: pool.to_owned(), namespace: namespace.map(str::to_owned), user: user.to_owned() })
        }
        Some(user) => Err(("rbd.user", format!("{user:?} is no plain name of a user, without `client.`"))),
        None => Err(("rbd.user", needs("the name of a cephx user, without `client.`"))),
    }
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
        let disks = images(lvm(Some("fast")), None).unwrap().disks;
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
            assert_eq!(images(given, None).unwrap_err().0, key);
        }
    }

    #[test]
    fn a_pool_needs_a_user_and_is_named_with_its_namespace() {
        let rbd = |rbd_pool: Option<&str>| inputs::Images {
            disks_on: Some(DisksOn::Rbd),
            rbd_pool: rbd_pool.map(str::to_owned),
            ..inputs::Images::default()
        };
        let disks = |pool| images(rbd(Some(pool)), Some("nova")).unwrap().disks;
        let named = |namespace: Option<&str>| {
            EphemeralDisks::Rbd(RbdDisks { pool: "vms".into(), namespace: namespace.map(str::to_owned), user: "nova".into() })
        };
        assert_eq!((disks("vms"), disks("vms/ns")), (named(None), named(Some("ns"))));
        let files = inputs::Images { disks_on: Some(DisksOn::Files), ..rbd(Some("vms")) };
        let wrong = [
            (rbd(None), Some("nova"), "images.rbd_pool"),
            (rbd(Some("vms/a/b")), Some("nova"), "images.rbd_pool"),
            (rbd(Some("/ns")), Some("nova"), "images.rbd_pool"),
            (rbd(Some("vms")), None, "rbd.user"),
            (rbd(Some("vms")), Some("client:nova"), "rbd.user"),
            (files, Some("nova"), "images.rbd_pool"),
            (inputs::Images { disk_format: Some(DiskFormat::Qcow2), ..rbd(Some("vms")) }, Some("nova"), "images.disk_format"),
        ];
        for (given, user, key) in wrong {
            assert_eq!(images(given, user).unwrap_err().0, key);
        }
    }
}
