//! Where the service lives: one directory, closed to others, for one server at a time.
//!
//! ```text
//! lock          held by the running server
//! token         the token clients bring, made at the first start, 0600
//! clouds.yaml   the same for stock clients: OS_CLIENT_CONFIG_FILE=…/clouds.yaml openstack --os-cloud bowline …, 0600
//! password      the same user's password, made at the first start, 0600
//! master_key    what the keys of encrypted volumes are kept under, made at the first start, 0600
//! volumes.db    the database, 0600
//! volumes/      the volumes' files
//! images/       the images' files
//! mnt/          where shares are mounted
//! run/          tgtd's sockets
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tracing::warn;

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
    /// It was made by somebody for something else, perhaps; to close it to others could do harm.
    #[error(
        "{path} holds other things and is open to others; use another directory, or close this one: chmod 700 {path}",
        path = path.display()
    )]
    NotOurs {
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
    #[error("the secret in {} is shorter than 32 characters; remove the file to get a new one", path.display())]
    WeakToken {
        /// The file.
        path: PathBuf,
    },
}

impl StateDir {
    /// Makes the directory where it is missing, closes it to others and takes the lock.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        let failed = file_error;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed("make the directory", parent))?;
        }
        if !make_directory(path)? && is_open(path)? && !may_be_closed(path)? {
            return Err(StateDirError::NotOurs { path: path.to_owned() });
        }
        close_directory(path)?;
        for directory in [path.join("volumes"), path.join("run")] {
            make_directory(&directory)?;
            close_directory(&directory)?;
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

    /// Where backups are kept, unless told otherwise; made with the first.
    pub fn backups(&self) -> PathBuf {
        self.path.join("backups")
    }

    /// The directory of images.
    pub fn images(&self) -> PathBuf {
        self.path.join("images")
    }

    /// The directory below which shares are mounted.
    pub fn mounts(&self) -> PathBuf {
        self.path.join("mnt")
    }

    /// The token clients bring; made where there is none yet.
    pub fn token(&self) -> Result<Secret, StateDirError> {
        self.secret("token")
    }

    /// The password of the operator's user, made where there is none yet.
    pub fn password(&self) -> Result<Secret, StateDirError> {
        self.secret("password")
    }

    /// What the keys of encrypted volumes are kept under: in this file, or in that of the state directory; made where there is none yet.
    pub fn master_key(&self, file: Option<&Path>) -> Result<Secret, StateDirError> {
        secret_in(self.master_key_file(file))
    }

    /// Where that is.
    pub fn master_key_file(&self, file: Option<&Path>) -> PathBuf {
        file.map_or_else(|| self.path.join("master_key"), Path::to_owned)
    }

    fn secret(&self, name: &str) -> Result<Secret, StateDirError> {
        secret_in(self.path.join(name))
    }

    /// Writes what stock clients need to find and use this service, where it is not there already. Where it cannot be written
    /// (the disk is full) and an older one is there, the service does without. `bowline` brings the token. With a password,
    /// `bowline-password` beside it logs in, as clients of a whole cloud do; there is none where users are known elsewhere. `has_keys`: it
    /// is the service that has the keys of encrypted volumes.
    pub fn write_clouds_yaml(
        &self,
        listen: SocketAddr,
        token: &Secret,
        password: Option<&Secret>,
        has_keys: bool,
    ) -> Result<(), StateDirError> {
        let origin = format!("http://{}", reachable(listen));
        let by_token = format!(
            "    auth_type: admin_token\n\
             \x20   auth:\n\
             \x20     endpoint: {origin}/v3\n\
             \x20     token: {token}\n\
             \x20   block_storage_endpoint_override: {origin}/v3\n\
             \x20   image_endpoint_override: {origin}/image\n\
             {keys}\
             \x20   volume_api_version: 3\n",
            token = token.reveal(),
            keys = if has_keys { format!("    key_manager_endpoint_override: {origin}/key-manager\n") } else { String::new() },
        );
        let by_password = match password {
            None => String::new(),
            Some(password) => format!(
                "\x20 bowline-password:\n\
                 \x20   auth_type: password\n\
                 \x20   auth:\n\
                 \x20     auth_url: {origin}/identity/v3\n\
                 \x20     username: bowline\n\
                 \x20     password: {password}\n\
                 \x20     project_name: bowline\n\
                 \x20     user_domain_id: default\n\
                 \x20     project_domain_id: default\n\
                 \x20   region_name: RegionOne\n\
                 \x20   identity_api_version: 3\n\
                 \x20   volume_api_version: 3\n",
                password = password.reveal(),
            ),
        };
        let text = format!(
            "# Written by bowline-backend at each start. Whoever can read this file can do everything with its volumes.\n\
             # OS_CLIENT_CONFIG_FILE={path} openstack --os-cloud bowline volume list\n\
             clouds:\n\x20 bowline:\n{by_token}{by_password}",
            path = self.path.join("clouds.yaml").display(),
        );
        let path = self.path.join("clouds.yaml");
        let old = fs::read_to_string(&path).ok();
        if old.as_ref() == Some(&text) {
            return fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(file_error("close to others", &path));
        }
        match write_private(&path, &text) {
            Err(StateDirError::File { source, .. }) if old.is_some() => {
                warn!("cannot write {}, so it may tell clients an old address or token: {source}", path.display());
                Ok(())
            }
            written => written,
        }
    }
}

/// A secret in a file; made where there is none yet.
fn secret_in(path: PathBuf) -> Result<Secret, StateDirError> {
    match fs::read_to_string(&path) {
        Ok(text) => {
            // Whoever copied it into place may have left it open. A closed one may be where nothing can be written.
            if is_open(&path)? {
                let closed = Permissions::from_mode(0o600);
                fs::set_permissions(&path, closed).map_err(file_error("close to others", &path))?;
            }
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
        .map_err(|error| {
            // It may hold room that the disk lacks. Where it cannot be removed, the next try begins with that.
            let _ = fs::remove_file(&unfinished);
            file_error("write", path)(error)
        })
}

/// Makes a directory that nobody else may enter; false where it was there.
fn make_directory(path: &Path) -> Result<bool, StateDirError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(file_error("make the directory", path)(source)),
    }
}

fn close_directory(path: &Path) -> Result<(), StateDirError> {
    fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(file_error("close to others", path))
}

fn is_open(path: &Path) -> Result<bool, StateDirError> {
    let metadata = fs::metadata(path).map_err(file_error("look at", path))?;
    Ok(metadata.permissions().mode() & 0o077 != 0)
}

/// Whether the directory is a state directory already, or holds nothing that others could miss.
fn may_be_closed(path: &Path) -> Result<bool, StateDirError> {
    let ours = path.join("lock").is_file() || path.join("volumes.db").is_file();
    Ok(ours || fs::read_dir(path).map_err(file_error("look into", path))?.next().is_none())
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
        state.write_clouds_yaml("0.0.0.0:1234".parse().unwrap(), &token, None, true).unwrap();
        for file in ["token", "clouds.yaml"] {
            let mode = fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        assert!(fs::read_to_string(dir.path().join("clouds.yaml")).unwrap().contains("http://127.0.0.1:1234/v3"));
        drop(state);
        StateDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_of_somebody_else_is_left_as_it_is() {
        let outer = tempfile::tempdir().unwrap();
        let theirs = outer.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        fs::write(theirs.join("something"), "of theirs").unwrap();
        let mode = || fs::metadata(&theirs).unwrap().permissions().mode() & 0o777;
        fs::set_permissions(&theirs, Permissions::from_mode(0o755)).unwrap();
        let error = StateDir::open(&theirs).unwrap_err().to_string();
        assert!(error.contains("theirs") && error.contains("chmod 700"), "{error}");
        assert_eq!((mode(), fs::read_dir(&theirs).unwrap().count()), (0o755, 1));

        fs::set_permissions(&theirs, Permissions::from_mode(0o700)).unwrap();
        drop(StateDir::open(&theirs).unwrap());
        fs::set_permissions(&theirs, Permissions::from_mode(0o755)).unwrap();
        StateDir::open(&theirs).unwrap();
        assert_eq!(mode(), 0o700, "its own is closed again");

        let deep = outer.path().join("made/by/it");
        StateDir::open(&deep).unwrap();
        assert!(!is_open(&deep).unwrap());
    }

    #[test]
    fn a_clouds_yaml_that_cannot_be_written_matters_only_where_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let token = state.token().unwrap();
        let write = |port| state.write_clouds_yaml(SocketAddr::from(([127, 0, 0, 1], port)), &token, None, true);
        let file = dir.path().join("clouds.yaml");
        // In the way of the temporary file, as a full disk would be.
        let obstacle = dir.path().join("clouds.new");
        fs::create_dir(&obstacle).unwrap();
        assert!(matches!(write(1), Err(StateDirError::File { operation: "write", .. })));
        fs::remove_dir(&obstacle).unwrap();
        write(1).unwrap();
        let written = fs::metadata(&file).unwrap().modified().unwrap();
        fs::create_dir(&obstacle).unwrap();
        write(1).unwrap();
        write(2).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), written);
        fs::remove_dir(&obstacle).unwrap();
        write(2).unwrap();
        assert!(fs::read_to_string(&file).unwrap().contains("http://127.0.0.1:2/v3"));
    }

    #[test]
    fn a_token_one_could_guess_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        fs::write(dir.path().join("token"), "admin\n").unwrap();
        assert!(matches!(state.token(), Err(StateDirError::WeakToken { .. })));
    }
}
