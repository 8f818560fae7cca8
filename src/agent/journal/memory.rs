//! A journal that is kept in memory, for tests that live through tens of thousands of lives. It keeps what the file would have, in the
//! same form; what is owed when its agent ends is lost, as by a kill.

use super::{Change, Commit, Contents, Journal, JournalError, OperationRecord, write_waiting};
use crate::model::{GuestUuid, OperationId, VolumeId};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
};
use tokio::sync::mpsc;

/// What is kept over the lives of an agent.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    operations: BTreeMap<OperationId, Vec<u8>>,
    attachments: BTreeMap<(VolumeId, GuestUuid), Vec<u8>>,
    guests: BTreeMap<GuestUuid, Vec<u8>>,
    is_full: bool,
}

impl Memory {
    /// From now on there is no room for anything, or there is again.
    pub fn set_full(&self, is_full: bool) {
        self.0.lock().unwrap().is_full = is_full;
    }

    /// Opens it for an agent of this runtime.
    pub fn open(&self) -> (Journal, Contents) {
        let (commits, waiting) = mpsc::unbounded_channel();
        tokio::spawn(self.clone().serve(waiting));
        let kept = self.0.lock().unwrap();
        let mut operations: Vec<OperationRecord> = read(kept.operations.values());
        operations.sort_by_key(|operation| operation.created_at_us);
        let (attachments, guests) = (read(kept.attachments.values()), read(kept.guests.values()));
        (Journal { commits, path: Path::new("memory").into() }, Contents { operations, attachments, guests })
    }

    async fn serve(self, mut waiting: mpsc::UnboundedReceiver<Commit>) {
        let mut owed = vec![];
        while let Some(first) = waiting.recv().await {
            write_waiting(first, &mut waiting, &mut owed, |changes| self.write(changes));
        }
    }

    fn write(&self, changes: &mut dyn Iterator<Item = &Change>) -> Result<(), JournalError> {
        let mut kept = self.0.lock().unwrap();
        if kept.is_full {
            return Err(JournalError::Write { path: "memory".into(), message: "no room".into() });
        }
        for change in changes {
            match change {
                Change::PutOperation(record) => drop(kept.operations.insert(record.id, serde_json::to_vec(record).unwrap())),
                Change::DropOperation(id) => drop(kept.operations.remove(id)),
                Change::PutAttachment(record) => {
                    kept.attachments.insert((record.volume, record.guest), serde_json::to_vec(record).unwrap());
                }
                Change::DropAttachment(volume, guest) => drop(kept.attachments.remove(&(*volume, *guest))),
                Change::PutGuest(record) => drop(kept.guests.insert(record.guest, serde_json::to_vec(record).unwrap())),
                Change::DropGuest(guest) => drop(kept.guests.remove(guest)),
            }
        }
        Ok(())
    }
}

fn read<'r, T: serde::de::DeserializeOwned>(records: impl Iterator<Item = &'r Vec<u8>>) -> Vec<T> {
    records.map(|record| serde_json::from_slice(record).unwrap()).collect()
}
