//! Names and object paths. They are a promise to every client, so they stand in one place.

use crate::model::{AttachmentId, OperationId};
use zbus::OwnedObjectPath;

/// The name the agent owns on the bus.
pub const WELL_KNOWN_NAME: &str = "org.bowline.Agent1";

/// The object that carries the manager, the volumes and the ObjectManager.
pub const ROOT_PATH: &str = "/org/bowline/Agent1";

/// What every D-Bus error name of the agent begins with; the kind in CamelCase follows.
pub const ERROR_PREFIX: &str = "org.bowline.Error.";

/// The object of an operation.
pub fn operation_path(id: OperationId) -> OwnedObjectPath {
    child("operations", &id.to_string())
}

/// The object of an attachment.
pub fn attachment_path(id: AttachmentId) -> OwnedObjectPath {
    child("attachments", &id.to_string())
}

/// Paths allow letters, digits and underscores only, so a UUID's hyphens become underscores.
fn child(folder: &str, uuid: &str) -> OwnedObjectPath {
    let path = format!("{ROOT_PATH}/{folder}/{}", uuid.replace('-', "_"));
    // A UUID cannot make an invalid path; the root stands in only to keep this free of a panic.
    OwnedObjectPath::try_from(path).unwrap_or_else(|_| zbus::ObjectPath::from_static_str_unchecked(ROOT_PATH).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_has_a_valid_path_of_its_own() {
        let id = "94333fbd-2aab-4a5a-befd-e30c2f7377fd".parse().unwrap();
        assert_eq!(operation_path(id).as_str(), "/org/bowline/Agent1/operations/94333fbd_2aab_4a5a_befd_e30c2f7377fd");
    }
}
