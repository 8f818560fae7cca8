//! What can go wrong between the service and tgtd.

use std::path::PathBuf;
use std::time::Duration;

/// A request to tgtd, or tgtd itself, that failed.
#[derive(Debug, thiserror::Error)]
pub enum TgtError {
    /// Nobody answers on the control socket.
    #[error("cannot talk to tgtd at {}", socket.display())]
    Socket {
        /// The control socket.
        socket: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It took too long.
    #[error("tgtd at {} did not answer within {} ms", socket.display(), deadline.as_millis())]
    Deadline {
        /// The control socket.
        socket: PathBuf,
        /// How long was waited.
        deadline: Duration,
    },
    /// It answered something that is not its protocol.
    #[error("tgtd at {} gave an answer that cannot be read", socket.display())]
    Garbled {
        /// The control socket.
        socket: PathBuf,
    },
    /// It said no.
    #[error("tgtd refused: {0}")]
    Refused(TgtRefusal),
    /// Our own tgtd is not running and did not come back in time.
    #[error("tgtd is not running; see the service's log for why it does not start")]
    Down,
    /// The child could not be started.
    #[error("cannot start setpriv (of the package `util-linux`), which starts {program}")]
    Spawn {
        /// What was to be started.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// The child ended before it was ready, or never became ready.
    #[error("tgtd did not become ready (is the package `tgt` installed?); it said: {said}")]
    NotReady {
        /// Its last words.
        said: String,
    },
    /// Paths of sockets are limited by the kernel.
    #[error("the path of tgtd's control socket is longer than {limit} bytes: {}; choose a shorter state directory", socket.display())]
    PathTooLong {
        /// The control socket.
        socket: PathBuf,
        /// The longest that works.
        limit: usize,
    },
    /// A value would break the protocol's parameter list.
    #[error("{what} must not contain a comma or a NUL byte")]
    Unsendable {
        /// Which value.
        what: &'static str,
    },
}

/// tgtd's reasons, by their number on the wire (`tgtadm_error.h` of tgt 1.0.85; the ones this service can meet were
/// confirmed against the daemon).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TgtRefusal {
    /// 4
    #[error("no such target")]
    NoTarget,
    /// 6
    #[error("no such session")]
    NoSession,
    /// 7
    #[error("no such connection")]
    NoConnection,
    /// 9
    #[error("the target exists")]
    TargetExists,
    /// 10
    #[error("the LUN exists")]
    LunExists,
    /// 12
    #[error("the access rule exists")]
    RuleExists,
    /// 13
    #[error("no such access rule")]
    NoRule,
    /// 14
    #[error("the account exists")]
    UserExists,
    /// 15
    #[error("no such account")]
    NoUser,
    /// 17, which it also says where a file cannot be opened or a portal cannot be bound.
    #[error("invalid request (is the file readable and the portal's address free?)")]
    InvalidRequest,
    /// 19
    #[error("the target is in use")]
    TargetActive,
    /// 20
    #[error("the LUN is in use")]
    LunActive,
    /// Any other.
    #[error("error number {0}")]
    Other(u32),
}

impl TgtRefusal {
    /// From the wire.
    pub(super) fn from_number(number: u32) -> Self {
        match number {
            4 => Self::NoTarget,
            6 => Self::NoSession,
            7 => Self::NoConnection,
            9 => Self::TargetExists,
            10 => Self::LunExists,
            12 => Self::RuleExists,
            13 => Self::NoRule,
            14 => Self::UserExists,
            15 => Self::NoUser,
            17 => Self::InvalidRequest,
            19 => Self::TargetActive,
            20 => Self::LunActive,
            other => Self::Other(other),
        }
    }
}
