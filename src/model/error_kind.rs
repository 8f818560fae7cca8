//! The small, stable set of error kinds.
//!
//! Every subsystem's error maps to exactly one. D-Bus error names, exit codes and what an operator is told to do derive
//! from the kind alone, so a kind is never renamed and never reused.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What sort of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request itself is malformed or contradicts itself.
    InvalidInput,
    /// The volume, guest, attachment or operation does not exist.
    NotFound,
    /// It exists, but its state forbids the request (in use elsewhere, busy, already attached).
    Conflict,
    /// The caller may not do this (polkit, D-Bus policy) or the service refused the agent's role.
    PermissionDenied,
    /// Credentials were refused (Keystone, CHAP).
    AuthenticationFailed,
    /// A peer could not be reached or said it cannot serve now (volume service, target, libvirtd).
    Unavailable,
    /// A deadline passed.
    Timeout,
    /// The device that was found is not the volume that was asked for.
    IdentityMismatch,
    /// This host, peer or version cannot do what is asked.
    Unsupported,
    /// The guest refused or ignored the request.
    GuestRefused,
    /// The operation was cancelled by request and undone.
    Cancelled,
    /// Something was left behind that Bowline could not undo by itself; the operation tells what.
    Stuck,
    /// A peer answered something that makes no sense, or the agent's own state is broken.
    Internal,
}

impl ErrorKind {
    /// The stable word for the kind, as in `--json` and in the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid-input",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::PermissionDenied => "permission-denied",
            Self::AuthenticationFailed => "authentication-failed",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::IdentityMismatch => "identity-mismatch",
            Self::Unsupported => "unsupported",
            Self::GuestRefused => "guest-refused",
            Self::Cancelled => "cancelled",
            Self::Stuck => "stuck",
            Self::Internal => "internal",
        }
    }

    /// All kinds, for the tables derived from them.
    pub const ALL: [Self; 13] = [
        Self::InvalidInput,
        Self::NotFound,
        Self::Conflict,
        Self::PermissionDenied,
        Self::AuthenticationFailed,
        Self::Unavailable,
        Self::Timeout,
        Self::IdentityMismatch,
        Self::Unsupported,
        Self::GuestRefused,
        Self::Cancelled,
        Self::Stuck,
        Self::Internal,
    ];

    /// The kind behind a word of [`ErrorKind::as_str`]; a word of a newer version reads as `Internal`.
    pub fn from_word(word: &str) -> Self {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word).unwrap_or(Self::Internal)
    }

    /// The exit code of the `bowline` command. 1 is left for what has no kind, 2 is clap's for usage.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::InvalidInput => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::PermissionDenied => 5,
            Self::AuthenticationFailed => 6,
            Self::Unavailable => 7,
            Self::Timeout => 8,
            Self::IdentityMismatch => 9,
            Self::Unsupported => 10,
            Self::GuestRefused => 11,
            Self::Cancelled => 12,
            Self::Stuck => 13,
            Self::Internal => 70,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn exit_codes_and_words_tell_kinds_apart() {
        let codes: HashSet<_> = ErrorKind::ALL.iter().map(|kind| kind.exit_code()).collect();
        let words: HashSet<_> = ErrorKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!((codes.len(), words.len()), (ErrorKind::ALL.len(), ErrorKind::ALL.len()));
        for kind in ErrorKind::ALL {
            assert_eq!(ErrorKind::from_word(kind.as_str()), kind);
        }
    }
}
