//! The agent's D-Bus service and the `bowline` command, on a private bus and over an agent that is only pretended.
//!
//! Needs `dbus-daemon` (Debian: package dbus). Everything runs unprivileged as well as as root: where the tests are not
//! root, the pretended polkit stands in for the privilege.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A test fails by panicking.

mod authorization;
mod bad_journal;
mod cli_errors;
mod cli_output;
mod cli_waiting;
mod denied;
mod errors;
mod forged;
mod introspection;
mod lifecycle;
mod objects;
mod support;
