//! Why bytes are not taken for an image. The texts are for whoever uploaded them.

use super::Format;

/// Bytes that are not what they are said to be, or that must not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Nothing was said about what they are.
    #[error("set disk_format and container_format before uploading data")]
    FormatMissing,
    /// A format there is no check for.
    #[error("disk_format {0} is not supported here")]
    FormatUnknown(String),
    /// They are wrapped in something.
    #[error("container_format {0} is not supported here; only bare (and ami, ari, aki) are")]
    Container(String),
    /// They are something else.
    #[error("the data is not {claimed} but {found}; say disk_format={found}, or convert it")]
    OtherFormat {
        /// What was said.
        claimed: Format,
        /// What it is.
        found: Format,
    },
    /// They are not what was said, and nothing else that is known.
    #[error("the data is not {claimed}: its header is missing")]
    NoHeader {
        /// What was said.
        claimed: Format,
    },
    /// They are two things at once.
    #[error("the data looks like {first} and like {second}; which one it is would depend on who reads it")]
    Ambiguous {
        /// One.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// They are something that no image may be.
    #[error("the data is {0}, which is not supported here")]
    Foreign(&'static str),
    /// Their bytes are in another file.
    #[error("the {format} has {what}: it would read another file of the server")]
    Elsewhere {
        /// What it is.
        format: Format,
        /// `a backing file` …
        what: &'static str,
    },
    /// They need something that this service does not know.
    #[error("the {format} has {what}, which is not supported here")]
    Feature {
        /// What it is.
        format: Format,
        /// What it needs.
        what: String,
    },
    /// Their header contradicts itself.
    #[error("the {format} is broken: {what}")]
    Broken {
        /// What it is.
        format: Format,
        /// Where.
        what: &'static str,
    },
    /// There are none.
    #[error("there is no data")]
    Empty,
    /// A disk made from them would be too large.
    #[error("a disk made from it would have {bytes} bytes; at most {most} are allowed")]
    DiskTooLarge {
        /// How large.
        bytes: u64,
        /// How large it may be.
        most: u64,
    },
    /// There are too many.
    #[error("it is larger than the {most} bytes that are allowed")]
    TooLarge {
        /// How many there may be.
        most: u64,
    },
}
