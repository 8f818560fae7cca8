//! What targets must prove themselves with: mutual CHAP.
//!
//! Cinder's connection info has keys for the initiator's credentials alone, so those of targets are the operator's: a file
//! that only its owner can read, named by `iscsi.target_accounts_file`, with a line `TARGET USER PASSWORD` for each. TARGET is an
//! IQN, or the beginning of IQNs with a `*` after it, or `discovery` for discovery sessions; the first line that fits counts. A target
//! with an account that does not prove itself is not logged in to, by whatever initiator: nothing is done with less.

use crate::{
    connectors::ConnectorError,
    model::{ChapCredentials, Initiator, Secret},
};
use std::{
    fs::File,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// The word for discovery sessions in the place of a target.
const DISCOVERY: &str = "discovery";

/// The accounts of this host's targets.
#[derive(Debug, Clone, Default)]
pub(super) struct TargetAccounts {
    lines: Vec<(String, ChapCredentials)>,
}

impl TargetAccounts {
    /// Reads the file; without one, no target has to prove itself.
    pub(super) fn read(file: Option<&PathBuf>) -> Result<Self, ConnectorError> {
        let Some(file) = file else { return Ok(Self::default()) };
        let text = read_private(file)?;
        let mut lines = Vec::new();
        for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let [target, username, password] = words.as_slice() else {
                return Err(bad(file, format!("line {number} is not TARGET USER PASSWORD")));
            };
            let credentials = ChapCredentials { username: (*username).to_owned(), password: Secret::new(*password) };
            lines.push(((*target).to_owned(), credentials));
        }
        Ok(Self { lines })
    }

    /// What the target must prove itself with, if it must.
    pub(super) fn of_target(&self, iqn: &str) -> Option<&ChapCredentials> {
        let fits = |pattern: &str| match pattern.strip_suffix('*') {
            Some(beginning) => iqn.starts_with(beginning),
            None => iqn == pattern,
        };
        self.lines.iter().find(|(target, _)| target != DISCOVERY && fits(target)).map(|(_, account)| account)
    }

    /// What a portal must prove itself with at discovery, if it must.
    pub(super) fn of_discovery(&self) -> Option<&ChapCredentials> {
        self.lines.iter().find(|(target, _)| target == DISCOVERY).map(|(_, account)| account)
    }

    /// Whether the target can be logged in to with these credentials, and by this initiator.
    pub(super) fn check(&self, iqn: &str, chap: Option<&ChapCredentials>, initiator: Initiator) -> Result<(), ConnectorError> {
        let Some(account) = self.of_target(iqn) else { return Ok(()) };
        let problem = match chap {
            // QEMU's iscsi driver, and libvirt's XML for it, know one user and one password.
            _ if initiator == Initiator::Qemu => "QEMU's initiator cannot make a target prove itself: use the kernel's",
            None => "the volume service gave no CHAP credentials, without which a target cannot be asked for its own",
            // RFC 7143, 9.2.1: else a target could answer with what it was just told.
            Some(chap) if chap.password.expose() == account.password.expose() => {
                "its password is the initiator's too, which proves nothing"
            }
            Some(_) => return Ok(()),
        };
        Err(ConnectorError::MutualChap { iqn: iqn.to_owned(), problem })
    }
}

fn bad(file: &Path, why: impl Into<String>) -> ConnectorError {
    ConnectorError::AccountsFile { file: file.to_owned(), why: why.into() }
}

/// Checks what was opened, not what has the name a moment later.
fn read_private(file: &Path) -> Result<Zeroizing<String>, ConnectorError> {
    let failed = |error: std::io::Error| bad(file, format!("cannot be read: {error}"));
    let mut opened = File::open(file).map_err(failed)?;
    let metadata = opened.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(bad(file, "is no file"));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(bad(
            file,
            format!("has mode {:o}, and others must not read or write it: chmod 600", metadata.mode() & 0o777),
        ));
    }
    if metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err(bad(file, format!("belongs to user {}, not to the agent's", metadata.uid())));
    }
    let mut text = Zeroizing::new(String::new());
    opened.read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    fn file(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    fn read(text: &str, mode: u32) -> Result<TargetAccounts, ConnectorError> {
        TargetAccounts::read(Some(&file(text, mode).path().to_owned()))
    }

    fn chap(password: &str) -> ChapCredentials {
        ChapCredentials { username: "me".into(), password: Secret::new(password) }
    }

    #[test]
    fn the_first_line_that_fits_counts() {
        let text = "# arrays\niqn.a:one first secret-one\n\niqn.a:* second secret-two\ndiscovery third secret-three\n";
        let accounts = read(text, 0o600).unwrap();
        let user = |iqn: &str| accounts.of_target(iqn).map(|account| account.username.as_str());
        assert_eq!((user("iqn.a:one"), user("iqn.a:two"), user("iqn.b")), (Some("first"), Some("second"), None));
        assert_eq!(accounts.of_discovery().unwrap().password.expose(), "secret-three");
        assert!(TargetAccounts::read(None).unwrap().of_target("iqn.a:one").is_none());
    }

    #[test]
    fn a_file_that_others_can_read_or_that_makes_no_sense_is_refused_without_its_secrets() {
        for (text, mode, word) in [("iqn.a u hush", 0o640, "chmod 600"), ("iqn.a u hush\niqn.b hush", 0o600, "line 2")] {
            let error = read(text, mode).unwrap_err();
            assert!(error.to_string().contains(word) && !format!("{error:?}").contains("hush"), "{error}");
        }
        assert!(TargetAccounts::read(Some(&"/nonexistent".into())).is_err());
    }

    #[test]
    fn nothing_is_done_with_less_than_the_account_asks_for() {
        let accounts = read("iqn.a array theirs", 0o600).unwrap();
        assert!(accounts.check("iqn.a", Some(&chap("mine")), Initiator::Kernel).is_ok());
        assert!(accounts.check("iqn.b", None, Initiator::Qemu).is_ok());
        for (chap, initiator) in
            [(Some(chap("mine")), Initiator::Qemu), (None, Initiator::Kernel), (Some(chap("theirs")), Initiator::Kernel)]
        {
            assert!(accounts.check("iqn.a", chap.as_ref(), initiator).is_err(), "{initiator:?}");
        }
    }
}
