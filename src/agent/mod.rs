//! The agent: what it is asked ([`dbus`]), what it does about it ([`operations`]), what it remembers ([`journal`]), how it
//! looks after what is attached ([`health`]), what it counts ([`metrics`]) and how it is set up ([`config`]).

pub mod api;
pub mod config;
pub mod dbus;
pub mod health;
pub mod journal;
pub mod memory;
pub mod metrics;
pub mod operations;
