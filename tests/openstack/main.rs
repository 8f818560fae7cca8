//! Bowline beside a real Keystone, Glance and Cinder from Debian's packages, on this machine, in a host rig: `up` starts them.
//! Cinder's volumes are images of a real Ceph cluster, and files that Cinder's own code exports over iSCSI. The host's kernel may
//! have neither: QEMU is the client of both.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod attach;
mod boot;
mod cloud;
#[path = "../common/mod.rs"]
mod common;
