//! Bowline's volume service: Cinder's v3 API over sparse files shown by iSCSI, in one process with no other server.
//!
//! ```text
//! api/      HTTP in Cinder's words ──▶ volume/   the manager: what is accepted becomes true
//!                                        ├──▶ store/    SQLite, the truth
//! domain/   states and rules, pure       ├──▶ drivers/  who keeps the bytes
//!                                        └──▶ targets/  who shows them to hosts
//! config.rs, state_dir.rs, server.rs     what it is told, where it lives, how it runs
//! ```

pub mod api;
pub mod config;
pub mod domain;
pub mod drivers;
pub mod secret;
pub mod server;
pub mod state_dir;
pub mod store;
pub mod targets;
pub mod volume;
