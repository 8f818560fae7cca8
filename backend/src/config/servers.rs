//! The servers that hold what is known and carry messages, where it is not this process.

use std::fmt;

use serde::Deserialize;

/// The `[database]` table.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// `postgres://user:password@host/database`; a file in the state directory where it is empty.
    pub url: String,
}

/// The URL may hold a password.
impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("is_server", &!self.url.is_empty()).finish()
    }
}

/// The `[bus]` table.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BusConfig {
    /// `amqp://user:password@host:port/vhost`; within the process where it is empty.
    pub url: String,
    /// How long a broker that is not there yet is waited for at the start.
    pub connect_timeout_s: u64,
}

impl Default for BusConfig {
    fn default() -> Self {
        Self { url: String::new(), connect_timeout_s: 60 }
    }
}

/// The URL may hold a password.
impl fmt::Debug for BusConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusConfig")
            .field("is_broker", &!self.url.is_empty())
            .field("connect_timeout_s", &self.connect_timeout_s)
            .finish()
    }
}
