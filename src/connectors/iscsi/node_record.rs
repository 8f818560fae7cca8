//! open-iscsi's node records, written and removed by Bowline itself.
//!
//! A record tells iscsid how to log in; `iscsiadm --login` needs one. Having it made by `iscsiadm --op new` and `--op update` would
//! take three processes more, each with the CHAP secret on its argument list. So it is written here, in the form that
//! `iscsiadm --op new` itself uses for a target without a portal group tag: one file `nodes/IQN/HOST,PORT` with lines
//! `key = value` (open-iscsi `usr/idbm.c`, 2.0 to 2.1). What the administrator set in `iscsid.conf` goes in as well, since
//! iscsid takes it from the record alone.
//!
//! - Each change is one `rename` or `unlink`, so that no reader ever sees half a record, and so that a crash leaves no
//!   lock behind. open-iscsi's own lock (`/run/lock/iscsi/lock.write`) is not taken: it guards a single read or write and not the
//!   walk through the folders, so it would protect nothing that the rename does not, and a crash would leave it for ever.
//! - The second line marks the record as Bowline's. A session whose record is not so marked is somebody else's: it
//!   may be shared, but Bowline never logs it out and never touches its record.

use super::{accounts::TargetAccounts, iface::Iface};
use crate::model::{ChapCredentials, IscsiPath, Secret};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// How Bowline knows its own. open-iscsi skips lines with `#`, and drops them when somebody updates the record: from
/// then on it is theirs.
const MARK: &str = "# Written by bowline, removed by it at logout.";

/// Where open-iscsi keeps its settings and records.
#[derive(Debug, Clone)]
pub(super) struct NodeRecords {
    etc_iscsi: PathBuf,
    login_timeout_s: u64,
    logout_timeout_s: u64,
    iface: Iface,
    accounts: TargetAccounts,
}

/// Whose a record is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// There is none.
    Nobody,
    /// Bowline wrote it.
    Bowline,
    /// Somebody else did; the file or folder.
    Other(PathBuf),
}

impl NodeRecords {
    /// Records below `etc_iscsi` (`/etc/iscsi`), with these timeouts for each.
    pub(super) fn new(etc_iscsi: &Path, login_timeout_s: u64, logout_timeout_s: u64) -> Self {
        let etc_iscsi = etc_iscsi.to_owned();
        Self { etc_iscsi, login_timeout_s, logout_timeout_s, iface: Iface::default(), accounts: TargetAccounts::default() }
    }

    /// With this interface in each record.
    pub(super) fn with_iface(self, iface: Iface) -> Self {
        Self { iface, ..self }
    }

    /// With what targets must prove themselves with.
    pub(super) fn with_accounts(self, accounts: TargetAccounts) -> Self {
        Self { accounts, ..self }
    }

    /// What targets must prove themselves with.
    pub(super) fn accounts(&self) -> &TargetAccounts {
        &self.accounts
    }

    /// The CHAP credentials in the record, if it is Bowline's and has any.
    pub(super) fn credentials(&self, path: &IscsiPath) -> io::Result<Option<ChapCredentials>> {
        let text = match fs::read_to_string(self.file(path)).map(Zeroizing::new) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) => return Ok(None),
            Err(error) => return Err(error),
        };
        if !text.lines().any(|line| line == MARK) {
            return Ok(None);
        }
        let value = |key: &str| {
            // A later line wins, as for iscsid.
            text.lines().rev().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))
        };
        Ok(match (value("node.session.auth.username"), value("node.session.auth.password")) {
            (Some(username), Some(password)) => {
                Some(ChapCredentials { username: username.to_owned(), password: Secret::new(password) })
            }
            _ => None,
        })
    }

    fn target_folder(&self, path: &IscsiPath) -> PathBuf {
        self.etc_iscsi.join("nodes").join(&path.iqn)
    }

    fn file(&self, path: &IscsiPath) -> PathBuf {
        self.target_folder(path).join(format!("{},{}", path.portal.host, path.portal.port))
    }

    /// Whose record there is for this target and portal, in any of open-iscsi's forms.
    pub(super) fn owner(&self, path: &IscsiPath) -> io::Result<Owner> {
        match fs::read_to_string(self.file(path)).map(Zeroizing::new) {
            Ok(text) if text.lines().any(|line| line == MARK) || is_blank(&text) => return Ok(Owner::Bowline),
            Ok(_) => return Ok(Owner::Other(self.file(path))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => return Ok(Owner::Other(self.file(path))),
            Err(error) => return Err(error),
        }
        // With a portal group tag the record is a folder HOST,PORT,TAG with a file per interface.
        let prefix = format!("{},{},", path.portal.host, path.portal.port);
        let entries = match fs::read_dir(self.target_folder(path)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Owner::Nobody),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)) {
                return Ok(Owner::Other(entry.path()));
            }
        }
        Ok(Owner::Nobody)
    }

    /// Writes the record for a login, over an older one of Bowline's.
    pub(super) fn write(&self, path: &IscsiPath, chap: Option<&ChapCredentials>) -> io::Result<()> {
        let text = self.text(path, chap)?;
        // Outside of `nodes`, so that no walk through the records meets it; on the same filesystem, so that it can be renamed.
        let draft = self.etc_iscsi.join(format!(".bowline-{}.new", uuid::Uuid::new_v4().simple()));
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(text.as_bytes())?;
            let mut folders = DirBuilder::new();
            folders.recursive(true).mode(0o700).create(self.target_folder(path))?;
            fs::rename(&draft, self.file(path))
        })();
        if written.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_file(&draft);
        }
        written
    }

    /// Removes the record if it is Bowline's, and the target's folder with it when that is then empty.
    pub(super) fn remove(&self, path: &IscsiPath) -> io::Result<bool> {
        let removed = self.owner(path)? == Owner::Bowline;
        if removed {
            fs::remove_file(self.file(path))?;
        }
        if matches!(self.owner(path)?, Owner::Nobody) {
            // Fails, as it should, while another portal's record is in it.
            let _ = fs::remove_dir(self.target_folder(path));
        }
        Ok(removed)
    }

    fn text(&self, path: &IscsiPath, chap: Option<&ChapCredentials>) -> io::Result<Zeroizing<String>> {
        // Each value becomes one line: a line break in it would become a setting of the attacker's choice.
        let parts = chap.map(|chap| [chap.username.as_str(), chap.password.expose()]).unwrap_or_default();
        if parts.iter().chain([&path.iqn.as_str(), &path.portal.host.as_str()]).any(|part| part.contains(char::is_control)) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a name or secret in the connection info has control characters",
            ));
        }
        let mut text = Zeroizing::new(format!("# BEGIN RECORD 2.1\n{MARK}\n"));
        for (key, value) in self.administrators_settings()? {
            text.push_str(&format!("{key} = {value}\n"));
        }
        // A later line wins over an earlier one.
        text.push_str(&format!(
            "node.name = {}\nnode.tpgt = -1\nnode.startup = manual\nnode.leading_login = No\n\
             node.discovery_type = static\n\
             node.session.scan = manual\nnode.session.nr_sessions = 1\n\
             node.session.initial_login_retry_max = 1\n\
             node.conn[0].address = {}\nnode.conn[0].port = {}\nnode.conn[0].startup = manual\n\
             node.conn[0].timeo.login_timeout = {}\nnode.conn[0].timeo.logout_timeout = {}\n",
            path.iqn, path.portal.host, path.portal.port, self.login_timeout_s, self.logout_timeout_s
        ));
        for (key, value) in self.iface.lines() {
            text.push_str(&format!("{key} = {value}\n"));
        }
        if let Some(chap) = chap {
            text.push_str("node.session.auth.authmethod = CHAP\nnode.session.auth.username = ");
            text.push_str(&chap.username);
            text.push_str("\nnode.session.auth.password = ");
            text.push_str(chap.password.expose());
            text.push('\n');
        }
        if let Some(account) = self.accounts.of_target(&path.iqn) {
            text.push_str("node.session.auth.username_in = ");
            text.push_str(&account.username);
            text.push_str("\nnode.session.auth.password_in = ");
            text.push_str(account.password.expose());
            text.push('\n');
        }
        text.push_str("# END RECORD\n");
        Ok(text)
    }

    /// The `node.` settings of `iscsid.conf`.
    fn administrators_settings(&self) -> io::Result<Vec<(String, String)>> {
        let text = match fs::read_to_string(self.etc_iscsi.join("iscsid.conf")) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let settings = text.lines().filter_map(|line| {
            let (key, value) = line.split_once('=')?;
            let (key, value) = (key.trim(), value.trim());
            (key.starts_with("node.") && !value.is_empty()).then(|| (key.to_owned(), value.to_owned()))
        });
        Ok(settings.collect())
    }
}

/// What a power loss may leave of a record, which is not worth waiting for a disk at each login. There is nothing in it to be lost.
fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c == '\0' || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Secret;
    use std::os::unix::fs::PermissionsExt;

    fn records(etc: &tempfile::TempDir) -> NodeRecords {
        NodeRecords::new(etc.path(), 15, 10)
    }

    fn path() -> IscsiPath {
        IscsiPath { portal: "10.0.0.1:3260".parse().unwrap(), iqn: "iqn.2010-10.org.openstack:volume-1".into(), lun: 1 }
    }

    fn chap(password: &str) -> ChapCredentials {
        ChapCredentials { username: "user".into(), password: Secret::new(password) }
    }

    #[test]
    fn a_record_is_private_marked_and_keeps_the_administrators_settings() {
        let etc = tempfile::tempdir().unwrap();
        fs::write(
            etc.path().join("iscsid.conf"),
            "#node.x = 1\nnode.session.queue_depth = 77\ndiscovery.y = 2\nnode.session.scan = auto\n",
        )
        .unwrap();
        records(&etc).write(&path(), Some(&chap("s3cret"))).unwrap();
        let file = etc.path().join("nodes/iqn.2010-10.org.openstack:volume-1/10.0.0.1,3260");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        let text = fs::read_to_string(&file).unwrap();
        assert!(
            text.contains("node.session.queue_depth = 77\n") && text.contains("node.session.auth.password = s3cret\n"),
            "{text}"
        );
        assert!(!text.contains("discovery.y") && !text.contains("node.x"), "{text}");
        assert!(text.rfind("node.session.scan = manual") > text.rfind("node.session.scan = auto"), "{text}");
        let names: Vec<_> = fs::read_dir(etc.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "no draft is left: {names:?}");
    }

    #[test]
    fn credentials_are_read_back_from_its_own_record_alone() {
        let etc = tempfile::tempdir().unwrap();
        fs::write(etc.path().join("iscsid.conf"), "node.session.auth.username = of-the-administrator\n").unwrap();
        let records = records(&etc);
        assert!(records.credentials(&path()).unwrap().is_none());
        records.write(&path(), Some(&chap("s3 cret"))).unwrap();
        let found = records.credentials(&path()).unwrap().unwrap();
        assert_eq!((found.username.as_str(), found.password.expose()), ("user", "s3 cret"));
        let file = records.file(&path());
        fs::write(&file, fs::read_to_string(&file).unwrap().replace(MARK, "# somebody's")).unwrap();
        assert!(records.credentials(&path()).unwrap().is_none());
    }

    #[test]
    fn its_own_record_is_replaced_and_removed_with_its_folder() {
        let etc = tempfile::tempdir().unwrap();
        let records = records(&etc);
        assert_eq!(records.owner(&path()).unwrap(), Owner::Nobody);
        records.write(&path(), None).unwrap();
        records.write(&path(), Some(&chap("again"))).unwrap();
        assert_eq!(records.owner(&path()).unwrap(), Owner::Bowline);
        assert!(records.remove(&path()).unwrap());
        assert!(!records.remove(&path()).unwrap(), "a second time changes nothing");
        assert_eq!(fs::read_dir(etc.path().join("nodes")).unwrap().count(), 0);
    }

    #[test]
    fn anothers_record_is_known_in_both_forms_and_left_alone() {
        for name in ["10.0.0.1,3260", "10.0.0.1,3260,1/default"] {
            let etc = tempfile::tempdir().unwrap();
            let file = etc.path().join("nodes").join(path().iqn).join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "# BEGIN RECORD 2.1.8\nnode.startup = automatic\n").unwrap();
            assert!(matches!(records(&etc).owner(&path()).unwrap(), Owner::Other(_)), "{name}");
            assert!(!records(&etc).remove(&path()).unwrap());
            assert!(file.exists(), "{name}");
        }
    }

    #[test]
    fn what_a_power_loss_left_of_a_record_is_written_anew_and_removed() {
        let etc = tempfile::tempdir().unwrap();
        let records = records(&etc);
        for left in ["", "\0\0\0\n"] {
            records.write(&path(), None).unwrap();
            fs::write(records.file(&path()), left).unwrap();
            assert_eq!(records.owner(&path()).unwrap(), Owner::Bowline, "{left:?}");
            assert!(records.remove(&path()).unwrap());
        }
    }

    #[test]
    fn a_secret_cannot_smuggle_in_a_setting() {
        let etc = tempfile::tempdir().unwrap();
        assert!(records(&etc).write(&path(), Some(&chap("x\nnode.startup = automatic"))).is_err());
        assert_eq!(fs::read_dir(etc.path()).unwrap().count(), 0);
    }
}
