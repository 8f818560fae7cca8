//! Targets: who shows volumes to hosts. One trait, one folder a kind.
//!
//! The database is the truth and a target its image: `export` is told everything that should be, and makes up what is
//! missing, so it serves a first attach, a repeated one and the time after a restart alike.

pub mod lio;
mod none;
pub mod tgt;

use std::path::PathBuf;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use uuid::Uuid;

use crate::domain::ChapAccount;
pub use none::NoTarget;

/// Who may log in.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// The initiator's iSCSI name; no other gets in.
    pub initiator: String,
    /// The account it must use.
    pub chap: ChapAccount,
}

/// All there is to say about a volume that hosts may see.
#[derive(Clone, Debug)]
pub struct Export {
    /// The volume.
    pub volume_id: Uuid,
    /// The target's number, the same for all the volume's life.
    pub target_id: i32,
    /// Where its bytes are.
    pub path: PathBuf,
    /// Everybody who may log in.
    pub accesses: Vec<Access>,
}

impl Export {
    /// The target's iSCSI name.
    pub fn iqn(&self) -> String {
        iqn(self.volume_id)
    }

    /// The LUN's serial.
    pub fn scsi_serial(&self) -> String {
        scsi_serial(self.volume_id)
    }
}

/// The LUN of a volume in its target; 0 is the target's controller.
pub const LUN: u64 = 1;

/// What the iSCSI names of volumes' targets begin with, as the field's volume services form them.
pub const IQN_PREFIX: &str = "iqn.2010-10.org.openstack:volume-";

/// The iSCSI name of a volume's target.
pub fn iqn(volume_id: Uuid) -> String {
    format!("{IQN_PREFIX}{volume_id}")
}

/// What the LUN says in SCSI pages 0x80 and 0x83: the volume's id in 32 hex digits, so that a host can prove which
/// volume it holds.
pub fn scsi_serial(volume_id: Uuid) -> String {
    volume_id.simple().to_string()
}

/// Shows volumes to hosts. Calls for one volume must not overlap; calls for different ones may.
pub trait Target: Send + Sync {
    /// Makes sure that the volume is shown and that everybody in `accesses` may log in. Others who may are not touched.
    fn export<'a>(&'a self, export: &'a Export) -> BoxFuture<'a, Result<(), TargetError>>;

    /// Takes `access` away. `export.accesses` are those who stay: where nobody does, the target goes with it. A session
    /// that `access` still has gets some time to end, then it is cut.
    fn revoke<'a>(&'a self, export: &'a Export, access: &'a Access) -> BoxFuture<'a, Result<(), TargetError>>;

    /// Shows the size that the volume's bytes have now. Hosts that are logged in may be held up for a moment; none of their
    /// commands is lost.
    fn grow<'a>(&'a self, export: &'a Export) -> BoxFuture<'a, Result<(), TargetError>>;

    /// Keeps all hosts off the volume's bytes until [`Target::release`]: when this returns, none of their commands is in hand. They wait
    /// meanwhile, so it is for seconds. False where this kind of target cannot.
    fn hold<'a>(&'a self, export: &'a Export) -> BoxFuture<'a, Result<bool, TargetError>> {
        let _ = export;
        Box::pin(std::future::ready(Ok(false)))
    }

    /// Lets hosts go on.
    fn release<'a>(&'a self, export: &'a Export) -> BoxFuture<'a, Result<(), TargetError>> {
        let _ = export;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Makes sure that the volume is not shown to anybody.
    fn remove<'a>(&'a self, export: &'a Export) -> BoxFuture<'a, Result<(), TargetError>>;

    /// Takes away what is left from a life before: all that is not in `exports`. Called at the start, once what is in there has
    /// been exported. A target that begins empty has nothing to do.
    fn keep_only<'a>(&'a self, exports: &'a [Export]) -> BoxFuture<'a, Result<(), TargetError>> {
        let _ = exports;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Where hosts connect to, each as `address:port`; the one that every host is told comes first.
    fn portals(&self) -> &[String];

    /// Counts the target daemon's lives, from 1. Each new one has forgotten every export.
    fn generation(&self) -> watch::Receiver<u64>;

    /// Lets hosts connect. Called in each life of the daemon once everything is exported again that can be, so that a host
    /// that reconnects never finds its target missing.
    fn open(&self) -> BoxFuture<'_, Result<(), TargetError>>;

    /// Ends what must not outlive the service.
    fn stop(&self) -> BoxFuture<'_, ()>;
}

/// An operation on a target that failed.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// No backend of this machine has its volumes shown by a target.
    #[error("target of volume {volume_id}: this machine has none, for its backends need none")]
    None {
        /// The volume.
        volume_id: Uuid,
    },
    /// The target daemon could not be asked.
    #[error("target of volume {volume_id}: cannot {operation}")]
    Daemon {
        /// The volume.
        volume_id: Uuid,
        /// What was tried.
        operation: &'static str,
        /// Why.
        source: tgt::TgtError,
    },
    /// Something else listens there.
    #[error("{portal} is taken (is tgt.service running? `systemctl disable --now tgt`, or set targets.tgt.portal)")]
    PortalTaken {
        /// The address and port.
        portal: String,
    },
    /// Hosts cannot be let in.
    #[error("cannot listen for iSCSI hosts on {portal}")]
    Portal {
        /// The address and port.
        portal: String,
        /// Why.
        source: tgt::TgtError,
    },
    /// The kernel refused something.
    #[error("target of volume {volume_id}: cannot {operation}")]
    Kernel {
        /// The volume.
        volume_id: Uuid,
        /// What was tried.
        operation: &'static str,
        /// Why.
        source: lio::LioError,
    },
    /// The kernel refused something that concerns all volumes.
    #[error(transparent)]
    Lio(#[from] lio::LioError),
}
