//! What can go wrong for whoever types `bowline`, and the exit code it ends with.

use super::view::Operation;
use crate::model::ErrorKind;
use std::io;
use zbus::fdo;

/// Exit code after Ctrl-C, as shells have it: 128 + SIGINT.
const INTERRUPTED_EXIT: u8 = 130;

/// Exit code when the reader of standard output has left, as shells have it: 128 + SIGPIPE. It is not 0, since an
/// operation that was being followed has not ended yet.
const CLOSED_PIPE_EXIT: u8 = 141;

/// What every D-Bus error name of the agent begins with.
const ERROR_PREFIX: &str = "org.bowline.Error.";

/// The command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// There is no bus.
    #[error("cannot connect to D-Bus at {address}: {reason}")]
    Connect {
        /// The address, or `the system bus`.
        address: String,
        /// Why.
        reason: String,
    },
    /// Nobody has the agent's name.
    #[error("the Bowline agent is not running")]
    NotRunning,
    /// The agent left while it was being asked.
    #[error("the Bowline agent left the bus before it answered")]
    Vanished,
    /// The bus itself went away.
    #[error("the connection to D-Bus was lost: {reason}")]
    BusLost {
        /// Why.
        reason: String,
    },
    /// The bus policy.
    #[error("the D-Bus policy does not let this user talk to the agent: {reason}")]
    BusDenied {
        /// The bus's words.
        reason: String,
    },
    /// The agent said no.
    #[error("{message}")]
    Refused {
        /// Kind.
        kind: ErrorKind,
        /// The agent's words.
        message: String,
    },
    /// There is no such object on the bus.
    #[error("the agent has no {what} {id}")]
    NoSuchObject {
        /// `operation`, …
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// A file of a boot, with a mapping or the guest's XML, that cannot be used.
    #[error("{} cannot be used: {reason}", file.display())]
    File {
        /// The file.
        file: std::path::PathBuf,
        /// Why not.
        reason: String,
    },
    /// An operation ended otherwise than it should.
    #[error("{} of {} {}: {}", .0.kind, .0.object(), .0.ending(), .0.error_message())]
    Operation(Box<Operation>),
    /// Giving up wants to be meant.
    #[error("not given up: {} of {} is {}: {}", .operation.kind, .operation.object(), .operation.state, .operation.error_message())]
    NotConfirmed {
        /// What would be given up.
        operation: Box<Operation>,
    },
    /// The time given for waiting is over.
    #[error("operation {operation} has not ended within {timeout_s} s; it goes on")]
    WaitTimeout {
        /// The operation.
        operation: String,
        /// What was given.
        timeout_s: u64,
    },
    /// The agent left and did not come back.
    #[error("the agent left the bus and did not come back within {waited_s} s; operation {operation} is journalled")]
    AgentGone {
        /// The operation.
        operation: String,
        /// How long was waited.
        waited_s: u64,
    },
    /// Ctrl-C, the second time.
    #[error("interrupted; operation {operation} goes on in the agent")]
    Interrupted {
        /// The operation.
        operation: String,
    },
    /// An answer that this version does not understand.
    #[error("the agent's answer to {what} makes no sense: {reason}")]
    Protocol {
        /// What was asked.
        what: String,
        /// Why.
        reason: String,
    },
    /// The agent is of a version that lacks something.
    #[error("this version of the agent cannot do that: {reason}")]
    Version {
        /// The bus's words.
        reason: String,
    },
    /// The examination found what cannot work.
    #[error("{failures} of what was looked at cannot work")]
    Unwell {
        /// How many.
        failures: usize,
    },
    /// The comparison found what is left to be mended.
    #[error("{differences} differences are left")]
    Differs {
        /// How many.
        differences: usize,
    },
    /// A file could not be written.
    #[error("cannot write {path}: {reason}")]
    WriteFile {
        /// Path.
        path: String,
        /// Why.
        reason: String,
    },
    /// Standard output failed.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    /// Whoever read standard output has left, as `head` does.
    #[error("standard output is closed")]
    ClosedPipe,
}

impl CliError {
    /// The kind; `None` for what has its own exit code.
    pub fn kind(&self) -> Option<ErrorKind> {
        Some(match self {
            Self::Connect { .. } | Self::NotRunning | Self::Vanished | Self::BusLost { .. } | Self::AgentGone { .. } => {
                ErrorKind::Unavailable
            }
            Self::BusDenied { .. } => ErrorKind::PermissionDenied,
            Self::Refused { kind, .. } => *kind,
            Self::NotConfirmed { .. } => ErrorKind::InvalidInput,
            Self::NoSuchObject { .. } => ErrorKind::NotFound,
            Self::File { .. } => ErrorKind::InvalidInput,
            Self::Operation(operation) => operation.error_kind(),
            Self::WaitTimeout { .. } => ErrorKind::Timeout,
            Self::Protocol { .. } => ErrorKind::Internal,
            Self::Version { .. } => ErrorKind::Unsupported,
            Self::Unwell { .. }
            | Self::Differs { .. }
            | Self::WriteFile { .. }
            | Self::Output(_)
            | Self::ClosedPipe
            | Self::Interrupted { .. } => {
                return None;
            }
        })
    }

    /// The word in `--json`.
    pub fn kind_word(&self) -> &'static str {
        match self {
            Self::Interrupted { .. } => "interrupted",
            other => other.kind().map_or("other", ErrorKind::as_str),
        }
    }

    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::ClosedPipe => CLOSED_PIPE_EXIT,
            Self::Interrupted { .. } => INTERRUPTED_EXIT,
            other => other.kind().map_or(1, ErrorKind::exit_code),
        }
    }

    /// What can be done about it; empty when there is nothing to say.
    pub fn remedy(&self) -> String {
        match self {
            Self::NotRunning | Self::Vanished | Self::AgentGone { .. } => {
                "start the agent: systemctl start bowlined (why it ended: journalctl -u bowlined)".to_owned()
            }
            Self::Connect { .. } => "is the system bus running, or --bus-address right?".to_owned(),
            Self::BusDenied { .. } => "run it as root, or let this user through in the D-Bus policy".to_owned(),
            Self::WaitTimeout { operation, .. } | Self::Interrupted { operation } => {
                format!("see it with: bowline show {operation}; stop it with: bowline cancel {operation}")
            }
            Self::NotConfirmed { operation } => format!(
                "give it up only if that can never be mended: what it left stays behind; bowline abandon {} --yes",
                operation.id
            ),
            Self::Operation(operation) => operation.error.as_ref().map(|error| error.remedy.clone()).unwrap_or_default(),
            _ => String::new(),
        }
    }

    /// The operation that failed, if it was one.
    pub fn operation(&self) -> Option<&Operation> {
        match self {
            Self::Operation(operation) => Some(operation),
            _ => None,
        }
    }

    /// Reads the answer to `what`.
    pub fn from_bus(what: &str, error: zbus::Error) -> Self {
        match error {
            zbus::Error::MethodError(name, message, _) => match name.as_str().strip_prefix(ERROR_PREFIX) {
                Some(kind) => Self::Refused { kind: kind_of(kind), message: message.unwrap_or_default() },
                None => Self::Protocol { what: what.to_owned(), reason: format!("{name}: {}", message.unwrap_or_default()) },
            },
            zbus::Error::FDO(error) => Self::from_fdo(what, *error),
            zbus::Error::InputOutput(error) => Self::BusLost { reason: error.to_string() },
            other => Self::Protocol { what: what.to_owned(), reason: other.to_string() },
        }
    }

    fn from_fdo(what: &str, error: fdo::Error) -> Self {
        use fdo::Error as Fdo;
        match error {
            Fdo::ServiceUnknown(_)
            | Fdo::NameHasNoOwner(_)
            | Fdo::SpawnExecFailed(_)
            | Fdo::SpawnChildExited(_)
            | Fdo::SpawnFailed(_)
            | Fdo::SpawnServiceNotFound(_) => Self::NotRunning,
            Fdo::NoReply(_) | Fdo::Disconnected(_) => Self::Vanished,
            Fdo::AccessDenied(reason) | Fdo::AuthFailed(reason) | Fdo::InteractiveAuthorizationRequired(reason) => {
                Self::BusDenied { reason }
            }
            Fdo::UnknownObject(_) => Self::NoSuchObject { what: "object for", id: what.to_owned() },
            Fdo::UnknownMethod(reason) | Fdo::UnknownInterface(reason) | Fdo::UnknownProperty(reason) => {
                Self::Version { reason }
            }
            Fdo::ZBus(error) => Self::Protocol { what: what.to_owned(), reason: error.to_string() },
            other => Self::Protocol { what: what.to_owned(), reason: other.to_string() },
        }
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::ClosedPipe } else { Self::Output(error) }
    }
}

/// The kind behind the last part of an error name; one of a newer agent reads as `Internal`.
fn kind_of(camel_case: &str) -> ErrorKind {
    ErrorKind::ALL
        .into_iter()
        .find(|kind| kind.as_str().replace('-', "").eq_ignore_ascii_case(camel_case))
        .unwrap_or(ErrorKind::Internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_name_gives_its_kind_back() {
        for kind in ErrorKind::ALL {
            assert_eq!(kind_of(&format!("{kind:?}")), kind);
        }
        assert_eq!(kind_of("OfTheFuture"), ErrorKind::Internal);
    }
}
