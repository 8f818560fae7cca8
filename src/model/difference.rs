//! Where what Bowline has written down and what is so are not the same.

use super::VolumeId;
use std::path::PathBuf;

/// What is to become of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mending {
    /// Somebody has to judge; the remedy says how.
    ByHand,
    /// Can be mended without harm, and was not asked to be.
    Possible,
    /// Was mended.
    Done,
    /// Was tried; the message says what came of it.
    Failed,
    /// It is somebody else's, and is never touched.
    Foreign,
}

impl Mending {
    const ALL: [Self; 5] = [Self::ByHand, Self::Possible, Self::Done, Self::Failed, Self::Foreign];

    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ByHand => "by-hand",
            Self::Possible => "possible",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Foreign => "foreign",
        }
    }

    /// The mending of a word; one that this version does not know is left to a person.
    pub fn from_word(word: &str) -> Self {
        Self::ALL.into_iter().find(|mending| mending.as_str() == word).unwrap_or(Self::ByHand)
    }

    /// Nothing is left to be done.
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Done | Self::Foreign)
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Between the journal and whom: `guest`, `host`, `service`, `libvirt`, `operation`.
    pub area: String,
    /// The volume, where it is about one.
    pub volume: Option<VolumeId>,
    /// The guest's name, where it is about one.
    pub guest: String,
    /// What was found.
    pub found: String,
    /// What that means for guest and volume.
    pub meaning: String,
    /// What mends it.
    pub remedy: String,
    /// What is to become of it.
    pub mending: Mending,
}

/// A name of Bowline's own on this host, whoever still knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnName {
    /// Whose.
    pub volume: VolumeId,
    /// The file.
    pub path: PathBuf,
    /// What it says, for a person.
    pub what: String,
    /// A link without a claim whose device is gone: nothing is lost with it.
    pub leads_nowhere: bool,
}
