//! The database, the truth of the service: SQLite in one file for one process, PostgreSQL for several, by the same statements.
//!
//! Rules are asked inside the writing transaction: nothing changes between the question and the change. What a long action
//! changes and the operation that carries it out are written together; counters are written with what they count.
//!
//! ```text
//! engine/         the two engines behind one face
//! volumes.rs      volumes: make, read, change, forget
//! extend.rs       volumes: a larger size
//! page.rs         one page of volumes: filters, order, marker
//! attachments.rs  attachments, and what they make of their volume's status
//! snapshots.rs    snapshots
//! backups.rs      backups: asked for, read, changed, deleted, taken over
//! backup_work.rs  backups: what work makes of them
//! types.rs        volume types: those there are, who may use them
//! type_changes.rs volume types: make, change, remove
//! type_encryption.rs volume types: how their volumes are encrypted
//! keys.rs         the keys of volumes and backups, sealed
//! qos.rs          quality-of-service specs
//! transfers.rs    volumes offered to other projects
//! holds.rs        the older way of attaching: statuses of volumes first, attachments behind them
//! statuses.rs     statuses that administrators set, readonly, bootable, revert, forced deletion
//! retype.rs       another type for a volume, where it is
//! migration.rs    a volume's way to another place
//! idempotency.rs  what requests with a key have made and were answered
//! scope.rs        what a request is to the database while it is answered
//! operations.rs   long actions: accept, claim, hand over, end
//! placement.rs    where a volume is put, and what pools have given out
//! quotas.rs       limits and counters
//! figures.rs      how much of what there is
//! services.rs     who is alive, and what it has room for
//! leases.rs       attachments whose host said that it would be heard of
//! audit.rs        what there should be, for comparing; what nobody works on
//! messages.rs     what owners are told afterwards
//! image_volumes.rs volumes made from images and images made from volumes
//! images.rs       images and whom they were offered to
//! people.rs       users, projects, roles, and the tokens they were issued
//! tokens.rs       projects, users and tokens
//! service.rs      what this installation is called
//! rows.rs         rows to domain types
//! ```

mod attachments;
mod audit;
mod backup_work;
mod backups;
mod engine;
mod error;
mod extend;
mod figures;
mod holds;
mod idempotency;
mod image_volumes;
mod images;
mod keys;
mod leases;
mod messages;
mod migration;
mod operations;
mod page;
mod people;
mod placement;
mod qos;
mod quotas;
mod retype;
mod rows;
mod scope;
mod service;
mod services;
mod snapshots;
mod statuses;
mod tokens;
mod transfers;
mod type_changes;
mod type_encryption;
mod types;
mod volumes;

use std::path::Path;

use engine::{Engine, Session};
use tokio::sync::broadcast;
use uuid::Uuid;

pub use attachments::{AttachmentFilter, NewAttachment, Replaced};
pub use audit::{Kept, KeptImage, Stuck};
pub use backup_work::WrittenBackup;
pub use backups::{BackupChange, BackupFilter};
pub use error::StoreError;
pub use extend::Extension;
pub use figures::Count;
pub use holds::Attached;
pub use idempotency::{Claim, KeptAnswer, Keyed, KeyedRequest, Made};
pub use image_volumes::CachedImage;
pub use images::{ImageFilter, ImageSort, NewImage};
pub use leases::{LEASE_S, LeaseEnd};
pub use operations::{Ending, OperationFilter};
pub use page::{Moment, SortDirection, SortKey, TimeFilter, VolumePage};
pub use placement::{Candidates, Choice};
pub use quotas::{Drift, Limits, QuotaLine};
pub use scope::{RequestScope, carried};
pub use service::ServiceIdentity;
pub use snapshots::{SnapshotChange, SnapshotFilter};
pub use tokens::TokenOwner;
pub use transfers::{NewTransfer, TransferKey};
pub use type_changes::TypeChange;
pub use volumes::VolumeChange;

/// The database, open. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    engine: Engine,
    /// Operations that this process changed.
    changes: broadcast::Sender<Uuid>,
}

/// So many changes are remembered for who is slow to listen; who missed some looks for itself.
const CHANGES_REMEMBERED: usize = 1024;

impl Store {
    /// Opens a database file, making it or bringing it up to date as needed.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::over(Engine::sqlite(path).await?))
    }

    /// Connects to a PostgreSQL server, `postgres://user:password@host:port/database`, and brings its tables up to date.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Ok(Self::over(Engine::postgres(url).await?))
    }

    fn over(engine: Engine) -> Self {
        Self { engine, changes: broadcast::channel(CHANGES_REMEMBERED).0 }
    }

    /// The operations that this process changes from now on.
    pub fn changes(&self) -> broadcast::Receiver<Uuid> {
        self.changes.subscribe()
    }

    /// Whether a PostgreSQL server lets this service in; nothing is changed there.
    pub async fn reach(url: &str) -> Result<(), StoreError> {
        Engine::reach(url).await
    }

    /// Closes it.
    pub async fn close(&self) {
        self.engine.close().await;
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.read().await?.number("ask the database", engine::Sql::new("SELECT CAST(1 AS BIGINT)")).await?;
        Ok(())
    }

    async fn begin(&self) -> Result<Session, StoreError> {
        Ok(self.engine.begin().await?.telling(&self.changes))
    }

    async fn read(&self) -> Result<Session, StoreError> {
        self.engine.read().await
    }
}

/// Microseconds since the epoch, now.
pub(crate) fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}
