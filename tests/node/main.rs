//! Tests in a compute node of their own (`tests/node/node`): kernel iSCSI, udev, systemd, polkit, power cuts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod attach;
mod backend_lvm;
mod backend_nfs;
#[path = "../common/mod.rs"]
mod common;
mod ephemeral_lvm;
mod extend;
mod health;
mod install;
mod iscsi;
mod krbd;
mod multipath;
mod nfs;
mod nfs_servers;
mod rbd;
mod rbd_holders;
mod rig;
