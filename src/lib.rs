//! Bowline: a host agent that attaches volumes to libvirt guests.
//!
//! The parts and who may know whom are told in ARCHITECTURE.md; `tests/imports.rs` holds the edges:
//! `model` <- { `openstack`, `connectors`, `libvirt`, `bootsource` } <- `agent::operations` <- `agent::dbus` <- the binaries.
//! `command` runs programs for whoever of these needs one; `doctor` knows only `model`; `cli` is a D-Bus client and knows `model` and `doctor`.

pub mod agent;
pub mod bootsource;
pub mod cli;
mod command;
pub mod connectors;
pub mod doctor;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod libvirt;
pub mod model;
pub mod openstack;
