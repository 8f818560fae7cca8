//! Where volumes can be: `host@backend#pool`, and what the pools say of themselves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The queue of the scheduler.
pub const SCHEDULER_QUEUE: &str = "scheduler";

/// What the queues of volume services begin with.
const VOLUME_QUEUE_PREFIX: &str = "volume.";

/// The field's name of the volume service.
pub const VOLUME_SERVICE: &str = "cinder-volume";

/// The capability of a pool that says how hosts get at it, as in the field.
pub const STORAGE_PROTOCOL: &str = "storage_protocol";

/// What it says where hosts log in to a target.
pub const ISCSI: &str = "iSCSI";

/// What the queues of what volume services do for backups begin with.
const BACKUP_QUEUE_PREFIX: &str = "backup.";

/// The queue of the backup services.
pub const BACKUP_QUEUE: &str = "backup";

/// The queue of what a place reads and writes for backups, which takes long and must not hold up its other work:
/// `backup.<host@backend>`.
pub fn backup_queue(host: &str) -> String {
    format!("{BACKUP_QUEUE_PREFIX}{}", backend_of(host))
}

/// The `host@backend` whose volume service works on a queue, where one does.
pub fn host_of_queue(queue: &str) -> Option<&str> {
    [VOLUME_QUEUE_PREFIX, BACKUP_QUEUE_PREFIX].into_iter().find_map(|prefix| queue.strip_prefix(prefix))
}

/// The queue of a place's volume service: `volume.<host@backend>`.
pub fn volume_queue(host: &str) -> String {
    format!("{VOLUME_QUEUE_PREFIX}{}", backend_of(host))
}

/// `host@backend` of `host@backend#pool`.
pub fn backend_of(host: &str) -> &str {
    host.split('#').next().unwrap_or(host)
}

/// A pool of storage as its backend reports it. Sizes in GiB.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// `host@backend#pool`.
    pub name: String,
    /// What `volume_backend_name` in a type's extra specs asks for.
    pub backend_name: String,
    /// Its zone.
    pub availability_zone: String,
    /// All there is.
    pub total_gib: f64,
    /// What is free by the storage's own count, now.
    pub free_gib: f64,
    /// Whether a volume takes only what was written to it.
    pub thin: bool,
    /// How many times its size may be promised, where it is thin.
    pub max_over_subscription_ratio: f64,
    /// So much of it, in percent, is not given out.
    pub reserved_percentage: u32,
    /// Whether several attachments may hold a volume at once.
    pub multiattach: bool,
    /// What else it can do, for extra specs to ask for.
    pub capabilities: BTreeMap<String, Value>,
}

/// A process of the service, or a backend of one.
#[derive(Clone, Debug)]
pub struct ServiceRow {
    /// Its id.
    pub id: String,
    /// The field's binary name: `cinder-scheduler`, `cinder-volume`, `cinder-backup`.
    pub name: String,
    /// `host`, or `host@backend` for a volume service.
    pub host: String,
    /// Its zone.
    pub availability_zone: String,
    /// Whether the operator took it out of use.
    pub disabled: bool,
    /// Why.
    pub disabled_reason: Option<String>,
    /// What it has room for.
    pub pools: Vec<Pool>,
    /// When it last said that it lives, microseconds since the epoch.
    pub heartbeat_at_us: i64,
    /// When it was last changed, microseconds since the epoch.
    pub updated_at_us: Option<i64>,
    /// When an administrator said that it will not come back, microseconds since the epoch.
    pub gone_at_us: Option<i64>,
    /// Why its storage cannot be used, as it said itself; for administrators.
    pub problem: Option<String>,
}

/// A service that was silent for longer is down. The field's value: six heartbeats.
pub const DOWN_AFTER_US: i64 = 60_000_000;

impl ServiceRow {
    /// Whether it lives, at this time.
    pub fn is_heard_of(&self, now_us: i64) -> bool {
        now_us.saturating_sub(self.heartbeat_at_us) <= DOWN_AFTER_US
    }

    /// Whether it lives and its storage can be used.
    pub fn is_up(&self, now_us: i64) -> bool {
        self.is_heard_of(now_us) && self.problem.is_none()
    }
}
