//! The bus: tells workers which operation is theirs, and waiting clients which one has ended.
//!
//! A message is an operation's id and no more: the operation's row is the truth. So a message that comes twice finds nothing left
//! to do, and one that is lost is sent again from the row.
//!
//! ```text
//! api ──publish──▶ scheduler ──publish──▶ volume.<host@backend> ──▶ worker ──ack, after the work
//!  ▲                                                                   │
//!  └──────────────────────────────announce, tell───────────────────────┘
//! ```
//!
//! `local.rs` is for one process, `rabbit.rs` for several.

mod local;
mod rabbit;

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{broadcast, mpsc, watch};
use uuid::Uuid;

pub use local::LocalBus;
pub use rabbit::RabbitBus;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use rabbit::fuzz_message;

/// So many ended operations are remembered for a client that is slow to listen.
const ENDED_REMEMBERED: usize = 1024;

/// Announced in place of an operation: ends may have been missed, so whoever waits for one asks the database.
pub(crate) const SOME_MISSED: Uuid = Uuid::nil();

/// Carries operations to workers and their ends to whoever waits.
pub trait Bus: Send + Sync {
    /// Puts an operation into a queue. When this returns the bus has it, and keeps it while no worker is there.
    fn publish<'a>(&'a self, queue: &'a str, operation_id: Uuid) -> BoxFuture<'a, Result<(), BusError>>;

    /// Opens a queue for a worker: at most `at_once` operations are handed out that are not acknowledged yet.
    fn consume<'a>(&'a self, queue: &'a str, at_once: u16) -> BoxFuture<'a, Result<mpsc::Receiver<Delivery>, BusError>>;

    /// Tells everybody that an operation has ended.
    fn announce(&self, operation_id: Uuid) -> BoxFuture<'_, Result<(), BusError>>;

    /// Tells everybody that something about an operation is not what it was. Only news: one that is lost does no harm.
    fn tell(&self, operation_id: Uuid) -> BoxFuture<'_, Result<(), BusError>>;

    /// The operations that change from now on, for who watches them. A listener that is too slow hears that it missed some.
    fn changed(&self) -> broadcast::Receiver<Uuid>;

    /// The operations that end from now on. A listener that is too slow hears that it missed some, and asks the database.
    fn ended(&self) -> broadcast::Receiver<Uuid>;

    /// Counts how often the way to the workers was found. What was to be sent while it was lost is to be sent again.
    fn restored(&self) -> watch::Receiver<u64>;
}

/// An operation that was handed out. Dropped without a word, it is handed out again where the bus is another process.
pub struct Delivery {
    /// Which.
    pub operation_id: Uuid,
    receipt: Receipt,
}

enum Receipt {
    Local,
    Rabbit(Box<lapin::message::Delivery>),
}

impl Delivery {
    /// The work is done, or there is none: the bus forgets the message.
    pub async fn ack(self) -> Result<(), BusError> {
        match self.receipt {
            Receipt::Local => Ok(()),
            Receipt::Rabbit(message) => rabbit::ack(&message).await,
        }
    }

    /// Nothing can be made of the message: the bus keeps it aside, where an operator sees it.
    pub async fn bury(self) -> Result<(), BusError> {
        match self.receipt {
            Receipt::Local => Ok(()),
            Receipt::Rabbit(message) => rabbit::bury(&message).await,
        }
    }
}

/// The bus could not do something.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The broker's URL cannot be read.
    #[error("[bus] url is wrong: {problem}")]
    Url {
        /// What about it.
        problem: String,
    },
    /// The broker is not there, and has not come.
    #[error("message broker at {broker}: not reached within {} s; is it running there, or is [bus] url wrong?", within.as_secs())]
    NotThere {
        /// `address:port`.
        broker: String,
        /// How long it was tried.
        within: Duration,
        /// Why not the last time.
        source: Box<BusError>,
    },
    /// The broker cannot be reached.
    #[error("message broker at {broker}: cannot connect")]
    Connect {
        /// `address:port`.
        broker: String,
        /// Why.
        source: Box<lapin::Error>,
    },
    /// The broker is there and does not let this process in.
    #[error("message broker at {broker}: it refuses the user, the password or the vhost of [bus] url")]
    Refused {
        /// `address:port`.
        broker: String,
        /// What it said.
        source: Box<lapin::Error>,
    },
    /// The broker does not answer.
    #[error("message broker: no answer to '{operation}' within {} s", within.as_secs())]
    Silent {
        /// What was asked.
        operation: &'static str,
        /// How long it was waited for.
        within: Duration,
    },
    /// The message broker could not be asked.
    #[error("message broker: cannot {operation}")]
    Broker {
        /// What was tried.
        operation: &'static str,
        /// Why.
        source: Box<lapin::Error>,
    },
    /// The message broker did not take a message.
    #[error("message broker: it did not take the message for queue {0}")]
    NotTaken(String),
    /// A queue of this process has a worker already.
    #[error("queue {0} has a worker already")]
    Taken(String),
}
