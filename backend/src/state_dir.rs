//! Where the service lives: one directory, closed to others, for one server at a time.
//!
//! ```text
//! lock          held by the running server
//! token         the token clients bring, made at the first start, 0600
//! clouds.yaml   the same for stock clients: OS_CLIENT_CONFIG_FILE=…/clouds.yaml openstack --os-cloud bowline …, 0600
//! volumes.db    the database, 0600
//! volumes/      the volumes' files
//! run/          tgtd's sockets
//! ```

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::secret::Secret;

/// Letters and digits in a token: 43 of them are over 256 bits.
const TOKEN_LENGTH: usize = 43;

/// The state directory, held by this process.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// Unlocked by the kernel when this is closed, however the process ends.
    _lock: File,
}

/// The state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// Another server has it.
    #[error("another bowline-backend is running on {}; stop it first or use another state directory", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The token file does not hold a token.
    #[error("the token in {} is shorter than 32 characters; remove the file to get a new one", path.display())]
    WeakToken {
        /// The file.
        path: PathBuf,
    },
}

impl StateDir {
    /// Makes the directory where it is missing, closes it to others and takes the lock.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        let failed = file_error;
        for directory in [path.to_owned(), path.join("volumes"), path.join("run")] {
            fs::create_dir_all(&directory).map_err(failed("make the directory", &directory))?;
            let closed = Permissions::from_mode(0o700);
            fs::set_permissions(&directory, closed).map_err(failed("close to others", &directory))?;
        }
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(failed("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateDirError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(failed("lock", &lock_path)(source)),
        }
    }

    /// The database's file.
    pub fn database(&self) -> PathBuf {
        self.path.join("volumes.db")
    }

    /// The directory of the volumes' files.
    pub fn volumes(&self) -> PathBuf {
        self.path.join("volumes")
    }

    /// The directory of tgtd's sockets.
    pub fn run(&self) -> PathBuf {
        self.path.join("run")
    }

    /// The token clients bring; made where there is none yet.
    pub fn token(&self) -> Result<Secret, StateDirError> {
        let path = self.path.join("token");
        match fs::read_to_string(&path) {
            Ok(text) => {
                // Whoever copied it into place may have left it open.
                let closed = Permissions::from_mode(0o600);
                fs::set_permissions(&path, closed).map_err(file_error("close to others", &path))?;
                let token = Secret::new(text.trim().to_owned());
                if token.reveal().len() < 32 {
                    return Err(StateDirError::WeakToken { path });
                }
                Ok(token)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let token = Secret::random(TOKEN_LENGTH);
                write_private(&path, &format!("{}\n", token.reveal()))?;
                Ok(token)
            }
            Err(source) => Err(file_error("read", &path)(source)),
        }
    }

    /// Writes what stock clients need to find and use this service.
    pub fn write_clouds_yaml(&self, listen: SocketAddr, token: &Secret) -> Result<(), StateDirError> {
        let endpoint = format!("http://{}/v3", reachable(listen));
        let text = format!(
            "# Written by bowline-backend at each start. Whoever can read this file can do everything with its volumes.\n\
             # OS_CLIENT_CONFIG_FILE={path} openstack --os-cloud bowline volume list\n\
             clouds:\n\
             \x20 bowline:\n\
             \x20   auth_type: admin_token\n\
             \x20   auth:\n\
             \x20     endpoint: {endpoint}\n\
             \x20     token: {token}\n\
             \x20   block_storage_endpoint_override: {endpoint}\n\
             \x20   volume_api_version: 3\n",
            path = self.path.join("clouds.yaml").display(),
            token = token.reveal(),
        );
        write_private(&self.path.join("clouds.yaml"), &text)
    }
}

/// The address by which a client on this machine reaches a server that listens there.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Writes a file that only its owner may read, whole or not at all.
fn write_private(path: &Path, text: &str) -> Result<(), StateDirError> {
    let unfinished = path.with_extension("new");
    let written = match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => OpenOptions::new().create_new(true).write(true).mode(0o600).open(&unfinished),
    };
    written
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&unfinished, path))
        .and_then(|()| File::open(path.parent().unwrap_or(path))?.sync_all())
        .map_err(file_error("write", path))
}

fn file_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateDirError + use<> {
    let path = path.to_owned();
    move |source| StateDirError::File { operation, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_at_a_time_and_secrets_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let error = StateDir::open(dir.path()).unwrap_err();
        assert!(matches!(error, StateDirError::InUse { .. }), "{error}");

        let token = state.token().unwrap();
        assert!(token.reveal().len() >= 32);
        assert_eq!(state.token().unwrap(), token, "kept");
        state.write_clouds_yaml("0.0.0.0:1234".parse().unwrap(), &token).unwrap();
        for file in ["token", "clouds.yaml"] {
            let mode = fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        assert!(fs::read_to_string(dir.path().join("clouds.yaml")).unwrap().contains("http://127.0.0.1:1234/v3"));
        drop(state);
        StateDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_token_one_could_guess_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        fs::write(dir.path().join("token"), "admin\n").unwrap();
        assert!(matches!(state.token(), Err(StateDirError::WeakToken { .. })));
    }
}
