//! Volumes as sparse files, `volume-<id>` in one directory. A file costs what was written to it.
//!
//! Making one is atomic: a temporary file gets its size, is synced and linked into place, and the directory is synced. So a
//! file of a volume's name is always whole, whenever the power went.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::{DriverError, VolumeDriver};

/// The driver.
#[derive(Clone, Debug)]
pub struct FilesDriver {
    directory: PathBuf,
}

impl FilesDriver {
    /// Keeps volumes in `directory`, which must exist.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }
}

impl VolumeDriver for FilesDriver {
    fn create(&self, id: Uuid, size_bytes: u64) -> BoxFuture<'_, Result<(), DriverError>> {
        let path = self.path(id);
        let directory = self.directory.clone();
        blocking(id, path.clone(), "make", move || create(&directory, &path, id, size_bytes))
    }

    fn extend(&self, id: Uuid, size_bytes: u64) -> BoxFuture<'_, Result<(), DriverError>> {
        let path = self.path(id);
        blocking(id, path.clone(), "enlarge", move || {
            let enlarged = OpenOptions::new().write(true).open(&path).and_then(|file| {
                if file.metadata()?.len() < size_bytes {
                    file.set_len(size_bytes)?;
                }
                file.sync_all()
            });
            enlarged.map_err(file_error(id, "enlarge", &path))
        })
    }

    fn size_bytes(&self, id: Uuid) -> BoxFuture<'_, Result<u64, DriverError>> {
        let path = self.path(id);
        blocking(id, path.clone(), "look at", move || {
            fs::metadata(&path).map(|found| found.len()).map_err(file_error(id, "look at", &path))
        })
    }

    fn delete(&self, id: Uuid) -> BoxFuture<'_, Result<(), DriverError>> {
        let path = self.path(id);
        let directory = self.directory.clone();
        blocking(id, path.clone(), "remove", move || {
            let failed = |operation| file_error(id, operation, &path);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove")(error)),
                _ => {}
            }
            sync_directory(&directory).map_err(failed("sync the directory of"))
        })
    }

    fn path(&self, id: Uuid) -> PathBuf {
        self.directory.join(format!("volume-{id}"))
    }
}

fn create(directory: &Path, path: &Path, id: Uuid, wanted_bytes: u64) -> Result<(), DriverError> {
    let failed = |operation| file_error(id, operation, path);
    match fs::metadata(path) {
        Ok(found) if found.len() == wanted_bytes => return Ok(()),
        Ok(found) => {
            return Err(DriverError::Occupied { volume_id: id, path: path.into(), found_bytes: found.len(), wanted_bytes });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("look at")(error)),
    }
    let unfinished = directory.join(format!(".making-{id}"));
    let made = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&unfinished).and_then(|file| {
        file.set_len(wanted_bytes)?;
        file.sync_all()
    });
    if let Err(error) = made {
        // Nothing more can be done about a file that can neither be made nor removed; the first error is the telling one.
        let _ = fs::remove_file(&unfinished);
        return Err(failed("make")(error));
    }
    fs::rename(&unfinished, path).map_err(failed("put in place"))?;
    sync_directory(directory).map_err(failed("sync the directory of"))
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn file_error(volume_id: Uuid, operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DriverError + use<> {
    let path = path.to_owned();
    move |source| DriverError::File { volume_id, operation, path, source }
}

/// File systems may block for long, so this happens off the runtime's threads.
fn blocking<'a, T: Send + 'static>(
    id: Uuid,
    path: PathBuf,
    operation: &'static str,
    work: impl FnOnce() -> Result<T, DriverError> + Send + 'static,
) -> BoxFuture<'a, Result<T, DriverError>> {
    tokio::task::spawn_blocking(work)
        .map(move |joined| joined.unwrap_or_else(|error| Err(file_error(id, operation, &path)(io::Error::other(error)))))
        .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::volume::GIB;
    use std::os::unix::fs::MetadataExt as _;

    #[tokio::test]
    async fn a_volume_is_sparse_and_everything_can_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let driver = FilesDriver::new(dir.path().into());
        let id = Uuid::new_v4();
        for _ in 0..2 {
            driver.create(id, 5 * GIB).await.unwrap();
        }
        let file = fs::metadata(driver.path(id)).unwrap();
        assert_eq!(file.len(), 5 * GIB);
        assert!(file.blocks() * 512 < 1 << 20, "sparse");
        assert_eq!(file.mode() & 0o777, 0o600);
        for _ in 0..2 {
            driver.delete(id).await.unwrap();
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn an_enlarged_volume_keeps_its_bytes_and_is_never_cut() {
        let dir = tempfile::tempdir().unwrap();
        let driver = FilesDriver::new(dir.path().into());
        let id = Uuid::new_v4();
        fs::write(driver.path(id), b"kept").unwrap();
        for (wanted, has) in [(GIB, GIB), (GIB, GIB), (512, GIB)] {
            driver.extend(id, wanted).await.unwrap();
            assert_eq!(driver.size_bytes(id).await.unwrap(), has);
        }
        let mut head = [0; 5];
        io::Read::read_exact(&mut File::open(driver.path(id)).unwrap(), &mut head).unwrap();
        assert_eq!(&head, b"kept\0");
    }

    #[tokio::test]
    async fn a_file_of_another_size_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let driver = FilesDriver::new(dir.path().into());
        let id = Uuid::new_v4();
        fs::write(driver.path(id), b"someone's data").unwrap();
        assert!(matches!(driver.create(id, GIB).await, Err(DriverError::Occupied { found_bytes: 14, .. })));
        assert_eq!(fs::read(driver.path(id)).unwrap(), b"someone's data");
    }
}
