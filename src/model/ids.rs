//! Identifiers. Each is a UUID of its own type, so that one can never be passed for another.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// A text that should have been a UUID and is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {what}: expected a UUID such as 0d1f2e3c-4b5a-4678-9abc-def012345678")]
pub struct IdError {
    what: &'static str,
    text: String,
}

macro_rules! uuid_newtype {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::try_parse(text)
                    .map(Self)
                    .map_err(|_| IdError { what: $what, text: text.chars().take(64).collect() })
            }
        }
    };
}

uuid_newtype!(
    /// A volume of the volume service.
    VolumeId, "volume id"
);
uuid_newtype!(
    /// An attachment record of the volume service (API v3, since microversion 3.27).
    AttachmentId, "attachment id"
);
uuid_newtype!(
    /// A libvirt domain's UUID; in OpenStack it is the instance's id.
    GuestUuid, "guest UUID"
);
uuid_newtype!(
    /// One operation of the agent, from its request to its end.
    OperationId, "operation id"
);

uuid_newtype!(
    /// An image of the image service.
    ImageId, "image id"
);
uuid_newtype!(
    /// A snapshot of a volume.
    SnapshotId, "snapshot id"
);

impl OperationId {
    /// A new random id.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_id_is_named_in_the_error() {
        let error = "vol-1".parse::<VolumeId>().unwrap_err().to_string();
        assert!(error.contains("\"vol-1\"") && error.contains("volume id"), "{error}");
    }

    #[test]
    fn ids_print_as_they_are_parsed() {
        let text = "94333fbd-2aab-4a5a-befd-e30c2f7377fd";
        assert_eq!(text.parse::<VolumeId>().unwrap().to_string(), text);
    }
}
