//! What a target can answer wrongly.

use crate::model::ErrorKind;
use std::io;

/// Why a LUN could not be identified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// No connection.
    #[error("cannot connect to the portal")]
    Connect(#[source] io::Error),
    /// The connection broke.
    #[error("the connection to the target broke")]
    Broken(#[source] io::Error),
    /// The deadline passed.
    #[error("the target did not answer everything within {timeout_s} s")]
    TimedOut {
        /// The deadline, seconds.
        timeout_s: u64,
    },
    /// CHAP failed.
    #[error("the target does not accept the CHAP credentials the volume service gave")]
    AuthenticationRefused,
    /// The target wants CHAP and there are no credentials.
    #[error("the target wants authentication, and the volume service gave no CHAP credentials")]
    CredentialsMissing,
    /// Mutual CHAP is wanted, and the target did not do its part.
    #[error("the target did not prove itself with the account of iscsi.target_accounts_file: {what}")]
    TargetNotProven {
        /// What it did instead.
        what: &'static str,
    },
    /// Only CHAP with MD5 is spoken.
    #[error("the target wants authentication by {wanted:?}: only CHAP with MD5 is supported")]
    UnsupportedAuthentication {
        /// What it wants.
        wanted: String,
    },
    /// The portal has no such target.
    #[error("the portal has no such target, or does not show it to this initiator")]
    TargetNotFound,
    /// The login was refused for another reason.
    #[error("the target refused the login: status class {class}, detail {detail} (RFC 7143, 11.13.5)")]
    LoginRefused {
        /// Status class.
        class: u8,
        /// Status detail.
        detail: u8,
    },
    /// It sends us in circles.
    #[error("the target redirects the login again and again")]
    RedirectedTooOften,
    /// The target has no such LUN.
    #[error("LUN {lun} does not exist on the target")]
    NoSuchLun {
        /// The LUN.
        lun: u64,
    },
    /// The LUN is there and is no disk.
    #[error("LUN {lun} is no disk: its SCSI peripheral type is {device_type:#04x}")]
    NotADisk {
        /// The LUN.
        lun: u64,
        /// Its type.
        device_type: u8,
    },
    /// A SCSI command failed.
    #[error("{command} failed with status {status:#04x}, sense {key:x}/{asc:02x}/{ascq:02x}")]
    Command {
        /// Its name.
        command: &'static str,
        /// SCSI status.
        status: u8,
        /// Sense key.
        key: u8,
        /// Additional sense code.
        asc: u8,
        /// Its qualifier.
        ascq: u8,
    },
    /// The answer makes no sense.
    #[error("the target's answer makes no sense: {what}")]
    Malformed {
        /// What is wrong with it.
        what: &'static str,
    },
}

impl ProbeError {
    /// The target answers, and lets nobody in by these credentials, or no second session of one initiator.
    pub(in crate::connectors::iscsi) const fn is_refusal(&self) -> bool {
        /// "Initiator error" (RFC 7143, 11.13.5); 3 is the target's own trouble.
        const INITIATOR: u8 = 2;
        matches!(
            self,
            Self::AuthenticationRefused
                | Self::CredentialsMissing
                | Self::TargetNotProven { .. }
                | Self::UnsupportedAuthentication { .. }
                | Self::LoginRefused { class: INITIATOR, .. }
        )
    }

    /// The stable kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Connect(_) | Self::Broken(_) | Self::Command { .. } | Self::LoginRefused { .. } => ErrorKind::Unavailable,
            Self::TimedOut { .. } => ErrorKind::Timeout,
            Self::AuthenticationRefused | Self::CredentialsMissing | Self::TargetNotProven { .. } => {
                ErrorKind::AuthenticationFailed
            }
            Self::UnsupportedAuthentication { .. } => ErrorKind::Unsupported,
            Self::TargetNotFound | Self::NoSuchLun { .. } => ErrorKind::NotFound,
            Self::NotADisk { .. } => ErrorKind::IdentityMismatch,
            Self::RedirectedTooOften | Self::Malformed { .. } => ErrorKind::Internal,
        }
    }
}
