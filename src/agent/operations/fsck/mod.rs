//! The journal held against libvirt, this host and the volume service: what differs, what it means, and what can be mended
//! without harm.
//!
//! ```text
//! gather (asks everybody, changes nothing) -> judge (pure) -> differences --repair--> mend, each under its volume's lock
//! ```
//! A volume that an operation has is not looked at: it is about to change. What is not Bowline's is told of where it is in the way
//! of understanding, and never touched.

mod disks;
mod gather;
mod judge;
mod mend;

use super::Shared;
use crate::agent::journal::AttachmentRecord;
use crate::model::{AttachmentId, Difference, Mending, Stored, VolumeId};
use uuid::Uuid;

/// What mends a difference, where anything does by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Cure {
    /// Nothing that could be done without somebody's judgement.
    None,
    /// It is not Bowline's.
    Foreign,
    /// Connect the device again, and prove that it is the one.
    Reconnect(Box<AttachmentRecord>),
    /// Tell the service that the attachment is complete.
    Complete(AttachmentId),
    /// Let libvirt forget a secret that nobody has.
    ForgetSecret(Uuid),
    /// Remove a name of Bowline's own that leads nowhere.
    ForgetName(VolumeId),
    /// Remove what was left of an ephemeral disk.
    Remove(Box<Stored>),
}

/// A difference with what mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Judged {
    difference: Difference,
    cure: Cure,
}

/// Looks at everything, and mends what can be mended where that is asked for. That somebody could not be asked is a difference, too.
pub(super) async fn check(shared: &Shared, repair: bool) -> Vec<Difference> {
    let mut differences = vec![];
    for Judged { mut difference, cure } in gather::differences(shared).await {
        difference.mending = match cure {
            Cure::None => Mending::ByHand,
            Cure::Foreign => Mending::Foreign,
            _ if !repair => Mending::Possible,
            cure => match mend::mend(shared, &cure).await {
                Ok(()) => {
                    tracing::info!(area = difference.area, found = difference.found, "mended");
                    Mending::Done
                }
                Err(error) => {
                    difference.remedy = format!("{}; tried: {error}", difference.remedy);
                    Mending::Failed
                }
            },
        };
        differences.push(difference);
    }
    differences
}
