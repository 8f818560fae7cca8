//! Waits for an operation to end.
//!
//! ```text
//! subscribe --> read --goes on---> waiting --signal--> read
//!                | \---no agent--> absent ---signal--> read
//!                |                    \---RETURN_S over--> gone
//!                \---final--> ended
//!
//! waiting --Ctrl-C--> Cancel asked, waiting --Ctrl-C--> interrupted
//! absent --Ctrl-C--> interrupted
//! ```
//! A signal only says that there is something to read: of the operation's object, or that the agent's name changed hands.
//! The state is always read from whoever owns the name, so a signal that another client made up can do no more than cause
//! a read. Subscribing comes before the first read, so no change is missed, and nothing is polled.

use super::{
    client::{AGENT, Client},
    error::CliError,
    progress::Progress,
    view::Operation,
};
use futures_util::{
    FutureExt, StreamExt,
    stream::{Select, select},
};
use std::{future::Future, pin::pin, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep_until, timeout_at},
};
use zbus::{MatchRule, MessageStream, message::Type};

/// How long an agent that left may take to come back: a restart and its recovery.
const RETURN_S: u64 = 60;

/// Follows the operation at `path` to its end and shows it.
pub async fn follow(
    client: &Client,
    path: &str,
    progress: &mut Progress,
    timeout_s: Option<u64>,
) -> Result<Operation, CliError> {
    let id = path.rsplit('/').next().unwrap_or(path).replace('_', "-");
    let deadline = timeout_s.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut follower = Follower::subscribe(client, path, id).await?;
    let work = follower.run(progress);
    match deadline {
        None => work.await,
        Some(deadline) => timeout_at(deadline, work).await.unwrap_or_else(|_| {
            Err(CliError::WaitTimeout { operation: follower.id.clone(), timeout_s: timeout_s.unwrap_or_default() })
        }),
    }
}

struct Follower<'c> {
    client: &'c Client,
    path: &'c str,
    id: String,
    signals: Signals,
    interrupts: Signal,
    /// When to give up on an agent that has left.
    absent_until: Option<Instant>,
    cancel_asked: bool,
}

impl<'c> Follower<'c> {
    async fn subscribe(client: &'c Client, path: &'c str, id: String) -> Result<Self, CliError> {
        let interrupts = signal(SignalKind::interrupt())
            .map_err(|error| CliError::BusLost { reason: format!("cannot watch for SIGINT: {error}") })?;
        let signals = Signals::subscribe(client, path).await.map_err(|error| CliError::from_bus("AddMatch", error))?;
        Ok(Self { client, path, id, signals, interrupts, absent_until: None, cancel_asked: false })
    }

    async fn run(&mut self, progress: &mut Progress) -> Result<Operation, CliError> {
        loop {
            let (outcome, outdated) = self.signals.beside(self.client.operation(self.path)).await;
            match outcome {
                Ok(operation) => {
                    if self.absent_until.take().is_some() {
                        progress.remark("the agent is back");
                    }
                    progress.show(&operation)?;
                    if operation.is_final() {
                        return Ok(operation);
                    }
                }
                Err(CliError::NotRunning | CliError::Vanished) => {
                    if self.absent_until.is_none() {
                        progress.remark("the agent left the bus; waiting for it to come back");
                        self.absent_until = Some(Instant::now() + Duration::from_secs(RETURN_S));
                    }
                }
                Err(CliError::NoSuchObject { .. }) => {
                    return Err(CliError::NoSuchObject { what: "operation", id: self.id.clone() });
                }
                Err(error) => return Err(error),
            }
            if !outdated {
                self.wait(progress).await?;
            }
        }
    }

    /// Returns when there may be something new to read.
    async fn wait(&mut self, progress: &Progress) -> Result<(), CliError> {
        let absent_until = self.absent_until;
        let given_up = async {
            match absent_until {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            outcome = self.signals.next() => outcome,
            _ = self.interrupts.recv() => self.interrupted(progress).await,
            () = given_up => Err(CliError::AgentGone { operation: self.id.clone(), waited_s: RETURN_S }),
        }
    }

    /// The first Ctrl-C asks for cancellation; the second leaves, and so does the first when there is nobody to ask.
    async fn interrupted(&mut self, progress: &Progress) -> Result<(), CliError> {
        if self.cancel_asked || self.absent_until.is_some() {
            return Err(CliError::Interrupted { operation: self.id.clone() });
        }
        self.cancel_asked = true;
        progress.remark("cancelling; press Ctrl-C again to leave it to the agent");
        tokio::select! {
            (outcome, _) = self.signals.beside(self.client.cancel(self.path)) => {
                if let Err(error) = outcome {
                    progress.remark(&format!("cannot cancel: {error}"));
                }
                Ok(())
            }
            _ = self.interrupts.recv() => Err(CliError::Interrupted { operation: self.id.clone() }),
        }
    }
}

/// What the operation's object tells, and who has the agent's name.
struct Signals(Select<MessageStream, MessageStream>);

impl Signals {
    async fn subscribe(client: &Client, path: &str) -> zbus::Result<Self> {
        let object = MatchRule::builder().msg_type(Type::Signal).sender(AGENT).path(path).build()?;
        let owner = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender("org.freedesktop.DBus")
            .interface("org.freedesktop.DBus")
            .member("NameOwnerChanged")
            .arg(0, AGENT)
            .build()?;
        let connection = client.connection();
        Ok(Self(select(
            MessageStream::for_match_rule(object, connection, None).await?,
            MessageStream::for_match_rule(owner, connection, None).await?,
        )))
    }

    /// Returns after a signal. What else has come by then is covered by the same read.
    async fn next(&mut self) -> Result<(), CliError> {
        let lost = || CliError::BusLost { reason: "the bus closed the connection".to_owned() };
        self.0.next().await.ok_or_else(lost)?.map_err(|error| CliError::from_bus("signals", error))?;
        while let Some(Some(Ok(_))) = self.0.next().now_or_never() {}
        Ok(())
    }

    /// Does a call, and says whether signals came meanwhile. They must be taken off the connection: a full queue of them
    /// would hold up the reply behind it.
    async fn beside<T>(&mut self, call: impl Future<Output = T>) -> (T, bool) {
        let mut call = pin!(call);
        let mut signalled = false;
        loop {
            tokio::select! {
                output = &mut call => return (output, signalled),
                Some(_) = self.0.next() => signalled = true,
            }
        }
    }
}
