//! What goes wrong with backups.

use uuid::Uuid;

use crate::drivers::DriverError;

/// A backup that could not be made, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// The volume's storage.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The name of a container is none.
    #[error("'{name}' cannot be a container: it must be a word of letters, digits, '.', '_' and '-'")]
    Container {
        /// The name.
        name: String,
    },
    /// An object is not there.
    #[error("{object} is missing in the backup store")]
    Missing {
        /// Its name.
        object: String,
    },
    /// An object is not what was put there.
    #[error("{object} in the backup store is not what was put there: {why}")]
    Damaged {
        /// Its name.
        object: String,
        /// How that was seen.
        why: String,
    },
    /// A manifest or a page says what cannot be.
    #[error("{object} in the backup store cannot be used: {why}")]
    Nonsense {
        /// Its name.
        object: String,
        /// What it says.
        why: String,
    },
    /// The backup was never finished.
    #[error("backup {0} was never finished: it has no manifest")]
    Unfinished(Uuid),
    /// A piece of the volume lies beyond its end.
    #[error("the volume's storage gave bytes beyond the volume's end")]
    BeyondEnd,
    /// The process is ending.
    #[error("the service is stopping")]
    Stopping,
}

/// A store that could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    /// A directory's file.
    #[error("backup store: cannot {operation} {path}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A secret could not be read.
    #[error("backup store: cannot read {path}, which should hold its password or secret key")]
    SecretFile {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A server could not be reached, or did not answer.
    #[error("backup store: cannot {operation} {object}")]
    Request {
        /// What was tried.
        operation: &'static str,
        /// With which object.
        object: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A server said no.
    #[error("backup store: cannot {operation} {object}: it answers {status}{}", told(.said))]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// With which object.
        object: String,
        /// The HTTP status.
        status: u16,
        /// Its own words.
        said: String,
    },
    /// A server answers what cannot be understood.
    #[error("backup store: cannot {operation}: {problem}")]
    Answer {
        /// What was tried.
        operation: &'static str,
        /// What is wrong with the answer.
        problem: String,
    },
}

fn told(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(" ({said})") }
}
