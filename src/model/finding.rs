//! What an examination of the host found.

/// How a finding is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Could not be looked at from here.
    Unknown,
    /// Something is missing that nothing needs yet, or that may bite later.
    Warning,
    /// Something that is set up, or attached, cannot work.
    Failure,
}

impl Verdict {
    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }

    /// The verdict of a word; one that this version does not know is none.
    pub fn from_word(word: &str) -> Self {
        [Self::Ok, Self::Warning, Self::Failure].into_iter().find(|verdict| verdict.as_str() == word).unwrap_or(Self::Unknown)
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it belongs to: a protocol, `libvirt`, `cloud`, `agent`.
    pub area: String,
    /// What was looked at; unique within the area.
    pub check: String,
    /// How it is to be taken.
    pub verdict: Verdict,
    /// What was found.
    pub message: String,
    /// The command, or the step, that mends it; empty where nothing is to be mended.
    pub remedy: String,
}

impl Finding {
    /// Something that is as it should be.
    pub fn ok(area: &str, check: &str, message: impl Into<String>) -> Self {
        Self::new(area, check, Verdict::Ok, message, "")
    }

    /// Something that could not be looked at, and why.
    pub fn unknown(area: &str, check: &str, message: impl Into<String>) -> Self {
        Self::new(area, check, Verdict::Unknown, message, "")
    }

    /// Anything else.
    pub fn new(area: &str, check: &str, verdict: Verdict, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { area: area.into(), check: check.into(), verdict, message: message.into(), remedy: remedy.into() }
    }
}
