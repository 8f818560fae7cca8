//! What the host and the node tests share: a machine to run commands on, and the guests that run there.
//!
//! Two machines have the same face ([`Machine`]): a [`HostRig`] (libvirtd and QEMU in namespaces of this machine) and a
//! [`Node`] (a whole compute node with its own kernel). Shell scripts build and run them, so that a person can do by hand
//! what a test does; this module starts those scripts, bounds them, and leaves nothing behind, not even when a test panics.

// Each test crate compiles this module for itself and uses its own part of it.
#![allow(dead_code, unused_imports)]

pub mod boots;
pub mod cases;
pub mod cuts;
pub mod growth;
mod guest;
mod host_rig;
mod install_tree;
mod machine;
mod node;
mod pool;
pub mod service;
pub mod sharing;
mod site;

pub use guest::Guest;
pub use host_rig::HostRig;
pub use install_tree::install_tree;
pub use machine::{Machine, Output};
pub use node::Node;
pub use pool::in_any_node;
pub use site::{Services, Site};

use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of the binaries under test: those that cargo just built, or, to test others, `BOWLINE_BIN`.
pub fn binaries() -> PathBuf {
    let built = || Path::new(env!("CARGO_BIN_EXE_bowlined")).parent().unwrap().to_owned();
    std::env::var_os("BOWLINE_BIN").map_or_else(built, PathBuf::from)
}

/// Where a failing test leaves its logs: `target/test-logs/NAME`.
fn log_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("test-logs").join(name)
}
