//! What an audit tells.

use std::fmt;

use serde::Serialize;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its kind, as a word that never changes: `orphan_volume`, `missing_volume`, `wrong_size` …
    pub kind: &'static str,
    /// Where it was found: a backend, `images` or `database`.
    pub place: String,
    /// What it is about.
    pub object: String,
    /// What it means, and what can be done.
    pub meaning: String,
    /// What was done about it, where something was.
    pub mended: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} on {}: {}", self.kind, self.object, self.place, self.meaning)?;
        match &self.mended {
            Some(mended) => write!(f, " Mended: {mended}."),
            None => Ok(()),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Every difference.
    pub differences: Vec<Difference>,
    /// What could not be compared, and why.
    pub not_looked_at: Vec<String>,
}

impl Report {
    /// How many differences were not mended.
    pub fn left(&self) -> usize {
        self.differences.iter().filter(|one| one.mended.is_none()).count()
    }

    pub(super) fn add(&mut self, kind: &'static str, place: &str, object: impl fmt::Display, meaning: impl Into<String>) {
        let (place, object, meaning) = (place.to_owned(), object.to_string(), meaning.into());
        self.differences.push(Difference { kind, place, object, meaning, mended: None });
    }

    /// What was added last is mended.
    pub(super) fn mended(&mut self, how: impl Into<String>) {
        if let Some(last) = self.differences.last_mut() {
            last.mended = Some(how.into());
        }
    }
}
