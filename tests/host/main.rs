//! Tests on this machine's own libvirtd and QEMU, in a rig of namespaces (`tests/host/rig`): no kernel iSCSI, so volumes
//! reach guests through QEMU's own initiator.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod attach;
mod backend_rbd;
mod boot;
#[path = "../common/mod.rs"]
mod common;
mod crashes;
mod ephemeral_rbd;
mod extend;
mod fsck;
mod guest_side;
mod health;
mod hostile;
mod lazy;
mod leases;
mod power;
mod rbd;
mod rig;
mod snapshot;
