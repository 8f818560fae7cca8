//! Who may log in to a target: a node ACL an initiator, with its CHAP account, and the LUN mapped into it.
//!
//! An initiator has one account at a target. Attachments of one volume on one host share theirs, so that is enough.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::warn;

use super::configfs;
use super::error::LioError;
use crate::targets::{Access, LUN};

/// What the kernel says of an initiator that is not logged in.
const NOT_LOGGED_IN: &str = "No active iSCSI Session";

/// How long a session whose access is taken away may take to end by itself.
const SESSION_END: Duration = Duration::from_secs(2);

/// The kernel tells nobody when a session ends, so it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// Lets an initiator in. What is there already stays, with its sessions.
pub(super) fn grant(group: &Path, access: &Access) -> Result<(), LioError> {
    let acl = folder(group, &access.initiator)?;
    configfs::make(&acl)?;
    // Before the LUN is mapped. Until it has an account nobody gets in by this name.
    configfs::set(&acl.join("auth/userid"), &access.chap.username)?;
    configfs::set(&acl.join("auth/password"), access.chap.password.reveal())?;
    let mapped = acl.join(format!("lun_{LUN}"));
    configfs::make(&mapped)?;
    if configfs::links(&mapped)?.is_empty() {
        configfs::link(&group.join(format!("lun/lun_{LUN}")), &mapped.join("lun"))?;
    }
    Ok(())
}

/// Shuts an initiator out. Its session gets some time to end, then the kernel cuts it and waits for its commands.
pub(super) fn revoke(group: &Path, initiator: &str) -> Result<(), LioError> {
    let acl = folder(group, initiator)?;
    if !wait_gone(std::slice::from_ref(&acl)) {
        warn!(initiator, target = %group.display(), "still logged in after its attachment was deleted: cutting the session");
    }
    remove(&acl)
}

/// Removes an ACL, cutting its sessions.
pub(super) fn remove(acl: &Path) -> Result<(), LioError> {
    for mapped in configfs::objects(acl)?.into_iter().filter(|object| configfs::name(object).starts_with("lun_")) {
        configfs::unlink_all(&mapped)?;
        configfs::remove(&mapped)?;
    }
    Ok(configfs::remove(acl)?)
}

/// The ACLs of a target.
pub(super) fn all(group: &Path) -> Result<Vec<PathBuf>, LioError> {
    Ok(configfs::objects(&group.join("acls"))?)
}

/// Waits until nobody is logged in by these ACLs, for a while; whether that is so then.
pub(super) fn wait_gone(acls: &[PathBuf]) -> bool {
    let deadline = Instant::now() + SESSION_END;
    loop {
        if !acls.iter().any(|acl| is_logged_in(acl)) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(ASK_AGAIN);
    }
}

fn is_logged_in(acl: &Path) -> bool {
    // One that is not there has no session.
    configfs::get(&acl.join("info")).is_ok_and(|info| !info.starts_with(NOT_LOGGED_IN))
}

fn folder(group: &Path, initiator: &str) -> Result<PathBuf, LioError> {
    // Names are letters, digits, `-`, `.`, `:` and `_`; of these, two are names of other folders.
    if matches!(initiator, "." | "..") || initiator.contains('/') {
        return Err(LioError::Initiator { name: initiator.to_owned() });
    }
    Ok(group.join("acls").join(initiator))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_session_is_seen_in_what_the_kernel_says_of_the_initiator() {
        let acl = tempfile::tempdir().unwrap();
        let says = |text: &str| {
            fs::write(acl.path().join("info"), text).unwrap();
            is_logged_in(acl.path())
        };
        assert!(!says("No active iSCSI Session for Initiator Endpoint: iqn.x\n"));
        assert!(says("InitiatorName: iqn.x\nInitiatorAlias: a\nLIO Session ID: 1   ISID: 0x00 02 3d 00 00 01\n"));
        assert!(!is_logged_in(Path::new("/nowhere")));
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        for name in [".", "..", "a/b"] {
            assert!(matches!(folder(Path::new("/t"), name), Err(LioError::Initiator { .. })));
        }
        assert_eq!(folder(Path::new("/t"), "iqn.a:b").unwrap(), Path::new("/t/acls/iqn.a:b"));
    }
}
