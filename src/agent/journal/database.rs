//! The journal's file: a redb database, one table for each kind of record, values in JSON.
//!
//! redb takes no write any more after one that failed, even once the disk has room again: then the file is opened anew before the
//! next. A new file gets its name only when it is complete, so that no power cut leaves half of one.

use super::{AttachmentRecord, BootRecord, Change, Contents, FORMAT, JournalError, OperationRecord, disk};
use crate::model::{GuestUuid, VolumeId};
use redb::{
    Builder, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageBackend, StorageError, TableDefinition,
    TableError, backends::InMemoryBackend,
};
use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
};

const META: TableDefinition<&str, u32> = TableDefinition::new("meta");
/// Key: the operation's id, 16 bytes.
const OPERATIONS: TableDefinition<&[u8; 16], &[u8]> = TableDefinition::new("operations");
/// Key: volume id, then guest UUID, 16 bytes each.
const ATTACHMENTS: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("attachments");
/// Since format 3.
const GUESTS: TableDefinition<&[u8; 16], &[u8]> = TableDefinition::new("guests");

/// Bytes of redb's page cache. Records are small and read once, at start.
const CACHE_BYTES: usize = 512 * 1024;

pub(super) struct Database {
    path: PathBuf,
    /// None after a write that failed, until the next.
    redb: Option<redb::Database>,
    /// Locked for longer than the file is open: redb's own lock ends while it is not.
    _folder: Option<File>,
}

impl Database {
    /// Opens and reads; makes it where it is missing. A file that is refused is left byte for byte as it was: redb writes to what
    /// it opens, so a copy in memory is looked at first. redb panics on a page whose bytes make no sense; here that is an error,
    /// since the agent has to say what is wrong with which file instead of dying at each start.
    pub(super) fn load(state_dir: &Path, path: &Path) -> Result<(Self, Contents), JournalError> {
        let opened = panic::catch_unwind(|| {
            let folder = Self::lock(state_dir, path)?;
            let contents = if path.try_exists().map_err(open_error(path))? {
                Self::examine(path)?
            } else {
                Self::make(path, &folder)?;
                Contents::default()
            };
            let database = Self { _folder: Some(folder), ..Self::open_file(path, false)? };
            Ok((database, contents))
        });
        opened.unwrap_or_else(|_| Err(Self::senseless(path)))
    }

    fn lock(state_dir: &Path, path: &Path) -> Result<File, JournalError> {
        DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(open_error(path))?;
        let folder = File::open(state_dir).map_err(open_error(path))?;
        match folder.try_lock() {
            Ok(()) => Ok(folder),
            Err(TryLockError::WouldBlock) => Err(JournalError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => Err(open_error(path)(error)),
        }
    }

    fn make(path: &Path, folder: &File) -> Result<(), JournalError> {
        let draft = path.with_extension("redb.new");
        // Of a start that was cut: it never had the name, so nothing is in it.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(open_error(path)(error)),
            _ => {}
        }
        Self::open_file(&draft, true)?.write(std::iter::empty())?;
        fs::rename(&draft, path).and_then(|()| folder.sync_all()).map_err(open_error(path))
    }

    /// Reads a copy, every page of it held against its checksum: redb itself looks at them only after a crash, and mends by going
    /// back to an older state, which is not for a program to decide.
    fn examine(path: &Path) -> Result<Contents, JournalError> {
        let copied = Self { path: path.to_owned(), redb: None, _folder: None };
        let bytes = fs::read(path).map_err(open_error(path))?;
        // redb would make a new one of it.
        if bytes.is_empty() {
            return Err(copied.damaged("file", &"it is empty"));
        }
        let memory = InMemoryBackend::new();
        let filled = memory.set_len(bytes.len() as u64).and_then(|()| memory.write(0, &bytes));
        drop(bytes);
        filled.map_err(|error| copied.damaged("file", &error))?;
        let mut redb = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(memory)
            .map_err(|error| copied.damaged("file", &error))?;
        match redb.check_integrity() {
            Ok(true) => {}
            Ok(false) => return Err(copied.damaged("file", &"a page is not what its checksum says")),
            Err(error) => return Err(copied.damaged("file", &error)),
        }
        let copy = Self { redb: Some(redb), ..copied };
        copy.check_format()?;
        copy.read()
    }

    fn open_file(path: &Path, create: bool) -> Result<Self, JournalError> {
        let file =
            OpenOptions::new().read(true).write(true).create_new(create).mode(0o600).open(path).map_err(open_error(path))?;
        file.set_permissions(Permissions::from_mode(0o600)).map_err(open_error(path))?;
        let backend = disk::backend(path, file).map_err(|error| Self::open_failure(path, error))?;
        let redb = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(backend)
            .map_err(|error| Self::open_failure(path, error))?;
        Ok(Self { path: path.to_owned(), redb: Some(redb), _folder: None })
    }

    fn senseless(path: &Path) -> JournalError {
        let message = "its pages make no sense".to_owned();
        JournalError::Damaged { path: path.to_owned(), what: "file".to_owned(), message }
    }

    /// The open file.
    fn redb(&self) -> Result<&redb::Database, JournalError> {
        self.redb.as_ref().ok_or_else(|| Self::senseless(&self.path))
    }

    fn open_failure(path: &Path, error: DatabaseError) -> JournalError {
        match error {
            DatabaseError::DatabaseAlreadyOpen => JournalError::InUse { path: path.to_owned() },
            DatabaseError::Storage(StorageError::Corrupted(message)) => {
                JournalError::Damaged { path: path.to_owned(), what: "file".into(), message }
            }
            other => JournalError::Open { path: path.to_owned(), message: other.to_string() },
        }
    }

    fn check_format(&self) -> Result<(), JournalError> {
        let found = {
            let transaction = self.redb()?.begin_read().map_err(|error| self.damaged("meta", &error))?;
            match transaction.open_table(META) {
                Ok(table) => table.get("format").map_err(|error| self.damaged("meta", &error))?.map(|value| value.value()),
                Err(TableError::TableDoesNotExist(_)) => None,
                Err(error) => return Err(self.damaged("meta", &error)),
            }
        };
        match found {
            Some(format) if format > FORMAT => Err(JournalError::Newer { path: self.path.clone(), found: format }),
            Some(_) => Ok(()),
            None => Err(self.damaged("meta", &"it has no format")),
        }
    }

    fn damaged(&self, what: &str, error: &dyn std::fmt::Display) -> JournalError {
        JournalError::Damaged { path: self.path.clone(), what: what.to_owned(), message: error.to_string() }
    }

    pub(super) fn read(&self) -> Result<Contents, JournalError> {
        let transaction = self.redb()?.begin_read().map_err(|error| self.damaged("file", &error))?;
        let operations = transaction.open_table(OPERATIONS).map_err(|error| self.damaged("operations", &error))?;
        let attachments = transaction.open_table(ATTACHMENTS).map_err(|error| self.damaged("attachments", &error))?;
        let mut contents = Contents::default();
        for entry in operations.iter().map_err(|error| self.damaged("operations", &error))? {
            let (key, value) = entry.map_err(|error| self.damaged("operations", &error))?;
            let record: OperationRecord = serde_json::from_slice(value.value())
                .map_err(|error| self.damaged(&format!("operation {}", uuid::Uuid::from_bytes(*key.value())), &error))?;
            contents.operations.push(record);
        }
        for entry in attachments.iter().map_err(|error| self.damaged("attachments", &error))? {
            let (_, value) = entry.map_err(|error| self.damaged("attachments", &error))?;
            let record: AttachmentRecord =
                serde_json::from_slice(value.value()).map_err(|error| self.damaged("an attachment", &error))?;
            contents.attachments.push(record);
        }
        match transaction.open_table(GUESTS) {
            Err(TableError::TableDoesNotExist(_)) => {}
            table => {
                let guests = table.map_err(|error| self.damaged("guests", &error))?;
                for entry in guests.iter().map_err(|error| self.damaged("guests", &error))? {
                    let (_, value) = entry.map_err(|error| self.damaged("guests", &error))?;
                    let record: BootRecord =
                        serde_json::from_slice(value.value()).map_err(|error| self.damaged("a guest", &error))?;
                    contents.guests.push(record);
                }
            }
        }
        contents.operations.sort_by_key(|operation| operation.created_at_us);
        Ok(contents)
    }

    /// Writes all changes in one transaction; on return they are on the disk.
    pub(super) fn write<'a>(&mut self, changes: impl Iterator<Item = &'a Change>) -> Result<(), JournalError> {
        if self.redb.is_none() {
            let again = panic::catch_unwind(|| {
                let database = Self::open_file(&self.path, false)?;
                database.check_format()?;
                Ok(database)
            });
            self.redb = again.unwrap_or_else(|_| Err(Self::senseless(&self.path)))?.redb;
        }
        let written = panic::catch_unwind(AssertUnwindSafe(|| self.try_write(changes)));
        let message = match written {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "its pages make no sense".to_owned(),
        };
        // It may want to write as it is closed, which may fail as well.
        let closed = self.redb.take();
        let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(closed)));
        Err(JournalError::Write { path: self.path.clone(), message })
    }

    fn try_write<'a>(&self, changes: impl Iterator<Item = &'a Change>) -> Result<(), Box<dyn std::error::Error>> {
        let mut transaction = self.redb()?.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut meta = transaction.open_table(META)?;
            meta.insert("format", FORMAT)?;
            let mut operations = transaction.open_table(OPERATIONS)?;
            let mut attachments = transaction.open_table(ATTACHMENTS)?;
            let mut guests = transaction.open_table(GUESTS)?;
            for change in changes {
                match change {
                    Change::PutOperation(record) => {
                        operations.insert(record.id.0.as_bytes(), serde_json::to_vec(record)?.as_slice())?;
                    }
                    Change::DropOperation(id) => {
                        operations.remove(id.0.as_bytes())?;
                    }
                    Change::PutAttachment(record) => {
                        let key = attachment_key(record.volume, record.guest);
                        attachments.insert(&key, serde_json::to_vec(record)?.as_slice())?;
                    }
                    Change::DropAttachment(volume, guest) => {
                        attachments.remove(&attachment_key(*volume, *guest))?;
                    }
                    Change::PutGuest(record) => {
                        guests.insert(record.guest.0.as_bytes(), serde_json::to_vec(record)?.as_slice())?;
                    }
                    Change::DropGuest(guest) => {
                        guests.remove(guest.0.as_bytes())?;
                    }
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

fn open_error(path: &Path) -> impl Fn(io::Error) -> JournalError {
    move |error| JournalError::Open { path: path.to_owned(), message: error.to_string() }
}

fn attachment_key(volume: VolumeId, guest: GuestUuid) -> [u8; 32] {
    let mut key = [0; 32];
    let (first, second) = key.split_at_mut(16);
    first.copy_from_slice(volume.0.as_bytes());
    second.copy_from_slice(guest.0.as_bytes());
    key
}
