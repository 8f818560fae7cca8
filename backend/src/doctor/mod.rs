//! `bowline-backend doctor`: what keeps the service from working on this machine, in plain words, each with what mends it. Nothing is
//! changed, and it may be asked while the service runs.
//!
//! ```text
//! machine.rs  programs, the state directory, room on the disk, the clock, ports
//! servers.rs  PostgreSQL, RabbitMQ, Keystone, where they are configured
//! storage.rs  the storage of each backend
//! ```

mod machine;
mod servers;
mod storage;

use std::fmt;

use serde::Serialize;

use crate::config::Config;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and may not for long or not for everything.
    Warning,
    /// The service cannot do its work like this.
    Failed,
}

/// What one look found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// At what was looked.
    pub check: String,
    /// How bad it is.
    pub verdict: Verdict,
    /// What was found.
    pub says: String,
    /// What mends it, a command where there is one.
    pub mend: Option<String>,
}

impl Finding {
    fn ok(check: impl Into<String>, says: impl Into<String>) -> Self {
        Self { check: check.into(), verdict: Verdict::Ok, says: says.into(), mend: None }
    }

    fn warning(check: impl Into<String>, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check: check.into(), verdict: Verdict::Warning, says: says.into(), mend: Some(mend.into()) }
    }

    fn failed(check: impl Into<String>, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check: check.into(), verdict: Verdict::Failed, says: says.into(), mend: Some(mend.into()) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "FAILED",
        };
        write!(f, "{word:<8} {}: {}", self.check, self.says)?;
        match &self.mend {
            Some(mend) => write!(f, "\n         -> {mend}"),
            None => Ok(()),
        }
    }
}

/// Looks at everything that this configuration needs.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let mut found = machine::findings(config);
    found.extend(storage::findings(config).await);
    found.extend(servers::findings(config).await);
    found
}
