//! The file as redb has it. In tests its disk can be full, or be cut off.

use redb::{DatabaseError, backends::FileBackend};
use std::{fs::File, path::Path};

/// The file itself.
#[cfg(not(test))]
pub(super) fn backend(_path: &Path, file: File) -> Result<FileBackend, DatabaseError> {
    FileBackend::new(file)
}

#[cfg(test)]
pub(super) fn backend(path: &Path, file: File) -> Result<faulty::Faulty, DatabaseError> {
    Ok(faulty::Faulty { path: path.to_owned(), file: FileBackend::new(file)? })
}

/// A disk that fails when a test says so.
#[cfg(test)]
pub mod faulty {
    use redb::{StorageBackend, backends::FileBackend};
    use std::{
        collections::BTreeMap,
        io,
        ops::Bound,
        path::{Path, PathBuf},
        sync::Mutex,
    };

    /// What happens to writes, by the journal's file.
    static FAULTS: Mutex<BTreeMap<PathBuf, Fault>> = Mutex::new(BTreeMap::new());

    /// What happens to writes.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Fault {
        /// There is no room.
        Full,
        /// The file system was remounted read-only.
        ReadOnly,
        /// So many more are done, and then none, though all are said to be: the power is about to go.
        LostAfter(u32),
    }

    /// From now on this happens to the journal in that folder; `None`: it works again.
    pub fn lay(state_dir: &Path, fault: Option<Fault>) {
        let mut faults = FAULTS.lock().unwrap();
        let file = state_dir.join("journal.redb");
        match fault {
            Some(fault) => drop(faults.insert(file, fault)),
            None => drop(faults.remove(&file)),
        }
    }

    /// The file, and whose it is.
    #[derive(Debug)]
    pub struct Faulty {
        pub(super) path: PathBuf,
        pub(super) file: FileBackend,
    }

    impl Faulty {
        /// Whether a write is really done.
        fn write_is_done(&self) -> io::Result<bool> {
            match FAULTS.lock().unwrap().get_mut(&self.path) {
                None => Ok(true),
                Some(Fault::Full) => Err(io::Error::from_raw_os_error(nix::libc::ENOSPC)),
                Some(Fault::ReadOnly) => Err(io::Error::from_raw_os_error(nix::libc::EROFS)),
                Some(Fault::LostAfter(left)) => {
                    let is_done = *left > 0;
                    *left = left.saturating_sub(1);
                    Ok(is_done)
                }
            }
        }
    }

    impl StorageBackend for Faulty {
        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.file.read(offset, out)
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            if self.write_is_done()? { self.file.set_len(len) } else { Ok(()) }
        }
        fn sync_data(&self) -> io::Result<()> {
            self.file.sync_data()
        }
        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            if self.write_is_done()? { self.file.write(offset, data) } else { Ok(()) }
        }
        fn close(&self) -> io::Result<()> {
            self.file.close()
        }
        fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, redb::BackendError> {
            self.file.try_lock_range(start, end)
        }
    }
}
