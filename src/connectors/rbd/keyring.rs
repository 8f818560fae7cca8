//! Ceph's keyring files on this host.

use super::RbdError;
use crate::model::{Secret, ceph_key_of};
use std::{fs, io, path::Path};
use zeroize::Zeroizing;

/// The user's key in the file; none if there is no such file.
pub(super) fn read(file: &Path, user: &str) -> Result<Option<Secret>, RbdError> {
    let text = match fs::read_to_string(file) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RbdError::Keyring { file: file.to_owned(), source }),
    };
    let key =
        ceph_key_of(&text, user).ok_or_else(|| RbdError::KeyNotInKeyring { file: file.to_owned(), user: user.to_owned() })?;
    Ok(Some(Secret::new(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYRING: &str =
        "[client.admin]\n\tkey = QURNSU4=\n[client.cinder]\n\tcaps mon = \"profile rbd\"\n\tkey = Q0lOREVS+/==\n";

    #[test]
    fn a_keyring_that_is_there_must_be_usable() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keyring");
        assert!(read(&file, "cinder").unwrap().is_none());
        fs::write(&file, KEYRING).unwrap();
        assert_eq!(read(&file, "cinder").unwrap().unwrap().expose(), "Q0lOREVS+/==");
        let error = read(&file, "nova").unwrap_err().to_string();
        assert!(error.contains("client.nova") && !error.contains("QURN"), "{error}");
    }
}
