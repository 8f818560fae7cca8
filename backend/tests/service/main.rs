//! The volume service as its users meet it: the program itself over HTTP, on SQLite or on PostgreSQL, in one process or apart. One
//! program of tests, for each more would be linked for ten seconds; a service of its own for each test.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failing test is to stop at once")]

mod access;
mod actions;
mod apart;
mod attachments;
mod audit;
mod backups;
mod backups_shared;
mod bad_input;
mod common;
mod encryption;
mod engines;
mod extend;
mod full_disk;
mod idempotency;
mod images;
mod leases;
mod lists;
mod migrate;
mod openapi;
mod operating;
mod restart;
mod silent_clients;
mod types;
mod volumes;
mod watch;
mod wire;
