//! configfs: a folder that is made is an object of the kernel's, a file in it an attribute, a link a relation. Each operation is
//! one system call that the kernel does whole or refuses; making what is there and removing what is not are no errors.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// The kernel refused an operation. The value that was to be written is not told: it may be a password.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
pub struct ConfigfsError {
    /// What was tried.
    pub(super) operation: &'static str,
    /// On what.
    pub(super) path: PathBuf,
    /// Why.
    #[source]
    pub(super) source: io::Error,
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ConfigfsError {
    move |source| ConfigfsError { operation, path: path.to_owned(), source }
}

/// Makes an object; whether it was not there.
pub(super) fn make(path: &Path) -> Result<bool, ConfigfsError> {
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed("make", path)(error)),
    }
}

/// Removes an object.
pub(super) fn remove(path: &Path) -> Result<(), ConfigfsError> {
    fine_if_absent(fs::remove_dir(path)).map_err(failed("remove", path))
}

/// Removes an object unless it holds others.
pub(super) fn remove_if_empty(path: &Path) -> Result<(), ConfigfsError> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
        other => fine_if_absent(other).map_err(failed("remove", path)),
    }
}

/// Writes an attribute: no line feed, which the kernel would take as part of it.
pub(super) fn set(path: &Path, value: &str) -> Result<(), ConfigfsError> {
    let file = OpenOptions::new().write(true).open(path);
    file.and_then(|mut file| file.write_all(value.as_bytes())).map_err(failed("set", path))
}

/// Reads an attribute, without white space around it.
pub(super) fn get(path: &Path) -> Result<String, ConfigfsError> {
    let text = fs::read_to_string(path).map_err(failed("read", path))?;
    Ok(text.trim().to_owned())
}

/// Relates an object to another.
pub(super) fn link(to: &Path, path: &Path) -> Result<(), ConfigfsError> {
    match std::os::unix::fs::symlink(to, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(failed("link", path)),
    }
}

/// The relations of an object.
pub(super) fn links(path: &Path) -> Result<Vec<PathBuf>, ConfigfsError> {
    entries(path, fs::FileType::is_symlink)
}

/// Ends all relations of an object.
pub(super) fn unlink_all(path: &Path) -> Result<(), ConfigfsError> {
    for link in links(path)? {
        fine_if_absent(fs::remove_file(&link)).map_err(failed("unlink", &link))?;
    }
    Ok(())
}

/// The objects in an object.
pub(super) fn objects(path: &Path) -> Result<Vec<PathBuf>, ConfigfsError> {
    entries(path, fs::FileType::is_dir)
}

/// The entries of one type; none where there is no such object.
fn entries(path: &Path, of_type: fn(&fs::FileType) -> bool) -> Result<Vec<PathBuf>, ConfigfsError> {
    let listed = || -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if of_type(&entry.file_type()?) {
                found.push(entry.path());
            }
        }
        Ok(found)
    };
    match listed() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(failed("list", path)),
    }
}

/// The last part of a path.
pub(super) fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn fine_if_absent(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
