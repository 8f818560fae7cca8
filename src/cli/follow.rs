//! Waits for an operation to end.
//!
//! ```text
//!            +--signal of the object: read it again--+
//!            v                                       |
//! subscribe -> read --final--> ended       following-+--Ctrl-C--> Cancel asked --Ctrl-C--> interrupted
//!                \--agent left--> absent --name owned again--> read
//!                                    \--deadline--> gone
//! ```
//! A signal only says that there is something to read: the state is always read from whoever owns the agent's name, so a
//! signal that another client made up can do no more than cause a read. Subscribing comes before the first read, so no
//! change is missed, and nothing is polled.

use super::{
    client::{AGENT, Client},
    error::CliError,
    progress::Progress,
    view::Operation,
};
use futures_util::{FutureExt, StreamExt};
use std::time::Duration;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep_until, timeout_at},
};
use zbus::{MatchRule, Message, MessageStream, message::Type};

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
    changes: MessageStream,
    owners: MessageStream,
    interrupts: Signal,
    cancel_asked: bool,
}

enum Event {
    Changed,
    AgentLeft,
    Interrupt,
}

impl<'c> Follower<'c> {
    async fn subscribe(client: &'c Client, path: &'c str, id: String) -> Result<Self, CliError> {
        let fault = |error| CliError::from_bus("subscribing to signals", error);
        let changes = MatchRule::builder().msg_type(Type::Signal).sender(AGENT).path(path).build().map_err(fault)?;
        let owners = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender("org.freedesktop.DBus")
            .interface("org.freedesktop.DBus")
            .member("NameOwnerChanged")
            .arg(0, AGENT)
            .build()
            .map_err(fault)?;
        let connection = client.connection();
        Ok(Self {
            client,
            path,
            id,
            changes: MessageStream::for_match_rule(changes, connection, None).await.map_err(fault)?,
            owners: MessageStream::for_match_rule(owners, connection, None).await.map_err(fault)?,
            interrupts: signal(SignalKind::interrupt())
                .map_err(|error| CliError::BusLost { reason: format!("cannot watch for SIGINT: {error}") })?,
            cancel_asked: false,
        })
    }

    async fn run(&mut self, progress: &mut Progress) -> Result<Operation, CliError> {
        loop {
            let event = match self.client.operation(self.path).await {
                Ok(operation) => {
                    progress.show(&operation)?;
                    if operation.is_final() {
                        return Ok(operation);
                    }
                    self.next_event().await?
                }
                Err(CliError::NotRunning | CliError::Vanished) => Event::AgentLeft,
                Err(CliError::NoSuchObject { .. }) => {
                    return Err(CliError::NoSuchObject { what: "operation", id: self.id.clone() });
                }
                Err(error) => return Err(error),
            };
            match event {
                Event::Changed => {}
                Event::AgentLeft => {
                    progress.remark("the agent left the bus; waiting for it to come back");
                    self.agent_back().await?;
                    progress.remark("the agent is back");
                }
                Event::Interrupt => self.interrupted(progress).await?,
            }
        }
    }

    async fn next_event(&mut self) -> Result<Event, CliError> {
        loop {
            tokio::select! {
                message = self.changes.next() => {
                    message.transpose().map_err(|error| CliError::from_bus("signals", error))?.ok_or_else(bus_lost)?;
                    // What else has come by now is covered by the same read.
                    while let Some(Some(_)) = self.changes.next().now_or_never() {}
                    return Ok(Event::Changed);
                }
                message = self.owners.next() => match new_owner(message)? {
                    Some(owner) if owner.is_empty() => return Ok(Event::AgentLeft),
                    Some(_) => return Ok(Event::Changed),
                    None => {}
                },
                _ = self.interrupts.recv() => return Ok(Event::Interrupt),
            }
        }
    }

    async fn agent_back(&mut self) -> Result<(), CliError> {
        let deadline = Instant::now() + Duration::from_secs(RETURN_S);
        loop {
            tokio::select! {
                message = self.owners.next() => {
                    if new_owner(message)?.is_some_and(|owner| !owner.is_empty()) {
                        return Ok(());
                    }
                }
                _ = self.interrupts.recv() => return Err(CliError::Interrupted { operation: self.id.clone() }),
                () = sleep_until(deadline) => {
                    return Err(CliError::AgentGone { operation: self.id.clone(), waited_s: RETURN_S });
                }
            }
        }
    }

    /// The first Ctrl-C asks for cancellation, the second leaves.
    async fn interrupted(&mut self, progress: &Progress) -> Result<(), CliError> {
        if self.cancel_asked {
            return Err(CliError::Interrupted { operation: self.id.clone() });
        }
        self.cancel_asked = true;
        progress.remark("cancelling; press Ctrl-C again to leave it to the agent");
        tokio::select! {
            outcome = self.client.cancel(self.path) => {
                if let Err(error) = outcome {
                    progress.remark(&format!("cannot cancel: {error}"));
                }
                Ok(())
            }
            _ = self.interrupts.recv() => Err(CliError::Interrupted { operation: self.id.clone() }),
        }
    }
}

/// The new owner a `NameOwnerChanged` tells; `None` when the message is not the bus's own.
fn new_owner(message: Option<zbus::Result<Message>>) -> Result<Option<String>, CliError> {
    let message = message.transpose().map_err(|error| CliError::from_bus("signals", error))?.ok_or_else(bus_lost)?;
    if message.header().sender().is_none_or(|sender| sender.as_str() != "org.freedesktop.DBus") {
        return Ok(None);
    }
    Ok(message.body().deserialize::<(String, String, String)>().ok().map(|(_name, _old, new)| new))
}

fn bus_lost() -> CliError {
    CliError::BusLost { reason: "the bus closed the connection".to_owned() }
}
