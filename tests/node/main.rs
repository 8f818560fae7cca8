//! Tests in a compute node of their own (`tests/node/node`): kernel iSCSI, udev, systemd, polkit, power cuts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod attach;
#[path = "../common/mod.rs"]
mod common;
mod health;
mod install;
mod nfs;
mod rbd;
mod rig;
