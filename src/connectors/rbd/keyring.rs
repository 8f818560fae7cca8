//! Ceph's keyring files: an INI with one section a user, `[client.NAME]`, and `key = BASE64` in it.

use super::RbdError;
use crate::model::Secret;
use std::{fs, io, path::Path};
use zeroize::Zeroizing;

/// The user's key in the file; none if there is no such file.
pub(super) fn read(file: &Path, user: &str) -> Result<Option<Secret>, RbdError> {
    let text = match fs::read_to_string(file) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RbdError::Keyring { file: file.to_owned(), source }),
    };
    let key = key_of(&text, user).ok_or_else(|| RbdError::KeyNotInKeyring { file: file.to_owned(), user: user.to_owned() })?;
    Ok(Some(Secret::new(key)))
}

pub(super) fn key_of<'t>(text: &'t str, user: &str) -> Option<&'t str> {
    let section = format!("[client.{user}]");
    let mut lines = text.lines().map(str::trim).skip_while(|line| *line != section).skip(1);
    let key = lines.by_ref().take_while(|line| !line.starts_with('[')).find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == "key").then(|| value.trim().trim_matches('"'))
    })?;
    let base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    (!key.is_empty() && key.chars().all(base64)).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYRING: &str =
        "[client.admin]\n\tkey = QURNSU4=\n[client.cinder]\n\tcaps mon = \"profile rbd\"\n\tkey = Q0lOREVS+/==\n";

    #[test]
    fn the_key_is_that_of_the_user_and_of_nobody_else() {
        assert_eq!(key_of(KEYRING, "cinder"), Some("Q0lOREVS+/=="));
        assert_eq!(key_of(KEYRING, "admin"), Some("QURNSU4="));
        for (text, user) in
            [(KEYRING, "cind"), ("", "cinder"), ("[client.a]\n[client.b]\nkey = QQ==", "a"), ("[client.a]\nkey = no key", "a")]
        {
            assert_eq!(key_of(text, user), None, "{text} {user}");
        }
    }

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
