//! Ways in for the fuzz targets: what `rbd` is asked and answers, and keyrings.

use super::{RbdError, info, tool};
use crate::model::{ObservedIdentity, RbdConnection, RbdImage, ceph_key_of};

/// The argument list of `rbd info` for a connection.
pub fn arguments(connection: &RbdConnection) -> Vec<String> {
    let auth = connection.auth.as_ref();
    let access = tool::Access {
        image: &connection.image,
        monitors: &connection.monitors,
        cluster: &connection.cluster,
        conf_file: None,
        user: auth.map(|auth| auth.username.as_str()),
        key: auth.and_then(|auth| auth.key.as_ref()),
    };
    access.arguments(&["--format", "json", "info"])
}

/// Reads the answer of `rbd info`.
///
/// # Errors
/// An answer that proves nothing.
pub fn identity(image: &RbdImage, said: &str) -> Result<ObservedIdentity, RbdError> {
    info::parse(image, said)
}

/// The key of a user in a keyring.
pub fn key_of<'text>(keyring: &'text str, user: &str) -> Option<&'text str> {
    ceph_key_of(keyring, user)
}
