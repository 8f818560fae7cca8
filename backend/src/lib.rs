//! Bowline's volume service: Cinder's v3 API over sparse files shown by iSCSI, in one process with no other server.
//!
//! ```text
//! api/         HTTP in Cinder's words: thin handlers, each asks the policy first
//! auth/        who asks, and what they may do
//! audit/       what there is, compared with what the database says
//! admin.rs     what an operator does beside the running service
//! status.rs    what the running service is doing
//! doctor/      what keeps it from working on this machine
//! accept/      recorded with the operation that will do it, sent, waited for
//! bus/         tells workers what is theirs: in the process, or RabbitMQ
//! operations/  carrying operations out, whichever role they belong to
//! scheduler/   where a volume is put
//! backup/      backups: their objects, the stores of those, the backup service
//! volume/      the volume host: what was accepted becomes true
//! drivers/     who keeps the bytes
//! targets/     who shows them to hosts
//! command.rs   runs external programs: storages' own tools, qemu-img
//! store/       the truth: SQLite, or PostgreSQL
//! domain/      states and rules, pure
//! keys/        keys of encrypted volumes: the service's own, sealed, or a Barbican's
//! luks/        the containers that encrypted volumes are
//! nova.rs      tells Nova what it waits for
//! image/       disk images: what their bytes really are, and raw disks made of them
//! identity/    users, projects and roles of the service's own
//! config/, state_dir.rs, server/   what it is told, where it lives, how its roles run
//! ```

pub mod accept;
pub mod admin;
pub mod api;
pub mod audit;
pub mod auth;
pub mod backup;
pub mod bus;
mod command;
pub mod config;
pub mod doctor;
pub mod domain;
pub mod drivers;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod hex;
pub mod identity;
pub mod image;
pub mod keys;
pub mod luks;
pub mod nova;
pub mod operations;
pub mod scheduler;
pub mod secret;
pub mod server;
pub mod state_dir;
pub mod status;
pub mod store;
pub mod targets;
pub mod volume;
