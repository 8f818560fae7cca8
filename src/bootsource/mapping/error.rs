//! What is wrong with a mapping: which entry, and which field of it.

use crate::model::ErrorKind;

/// A mapping that cannot be booted from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// It is not a list of entries at all.
    #[error("the block device mapping{place} is not a JSON list of objects: {problem}")]
    Form {
        /// ` of image ID`, or nothing.
        place: String,
        /// Why not.
        problem: String,
    },
    /// A field of an entry breaks a rule.
    #[error("block device mapping, {entry}, {field}: {problem}")]
    Field {
        /// `entry 2`, `entry 1 of the image's own`, …
        entry: String,
        /// As Nova's API spells it.
        field: String,
        /// The rule.
        problem: String,
    },
    /// A field of an entry asks for what this version cannot do.
    #[error("block device mapping, {entry}, {field}: {problem}")]
    Unsupported {
        /// Which entry.
        entry: String,
        /// As Nova's API spells it.
        field: String,
        /// What is not there, and what to do instead.
        problem: String,
    },
    /// No entry by itself is wrong, but all together are.
    #[error("the block device mapping cannot be booted from: {problem}")]
    Whole {
        /// Why not.
        problem: String,
    },
    /// An image cannot be a disk.
    #[error("image {image} cannot be booted from: {problem}")]
    Image {
        /// Id.
        image: String,
        /// Why not, and what to do.
        problem: String,
        /// Nothing is wrong with it, but this version cannot.
        is_unsupported: bool,
    },
}

impl MappingError {
    /// What sort of failure this is.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Unsupported { .. } | Self::Image { is_unsupported: true, .. } => ErrorKind::Unsupported,
            _ => ErrorKind::InvalidInput,
        }
    }
}
