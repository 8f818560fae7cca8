//! Who is logged in to a target, read from what tgtd shows of it, and waiting for them to leave.

use std::time::Duration;

use tokio::time::Instant;

use super::client::Client;
use super::error::{TgtError, TgtRefusal};
use super::protocol::{Mode, Operation, Request};

/// tgtd tells nobody when a session ends, so it has to be asked again. Short, because a host that let
/// go properly is gone before it asks for the detach.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(20);

/// One connection of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) session: u64,
    pub(super) connection: u32,
    pub(super) initiator: String,
}

/// The sessions of a target; none where there is no such target.
pub(super) async fn of_target(client: &Client, target: i32) -> Result<Vec<Session>, TgtError> {
    let mut sessions = Vec::new();
    // `show target` names each session's initiator; asked without a number it describes every target.
    match client.ask(Request::new(Mode::Target, Operation::Show)).await {
        Ok(text) => sessions.extend(parse(&text, target)),
        Err(TgtError::Refused(TgtRefusal::NoTarget)) => {}
        Err(error) => return Err(error),
    }
    Ok(sessions)
}

/// Waits until no session of `initiator` (or of anybody) is left, at most until `deadline`; gives those that stayed.
pub(super) async fn wait_gone(
    client: &Client,
    target: i32,
    initiator: Option<&str>,
    wait: Duration,
) -> Result<Vec<Session>, TgtError> {
    let deadline = Instant::now() + wait;
    loop {
        let mut sessions = of_target(client, target).await?;
        sessions.retain(|session| initiator.is_none_or(|name| session.initiator == name));
        if sessions.is_empty() || Instant::now() >= deadline {
            return Ok(sessions);
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Waits until nobody is logged in and no command of anybody who was is in hand, at most so long; whether that is so then.
pub(super) async fn wait_idle(client: &Client, target: i32, wait: Duration) -> Result<bool, TgtError> {
    let deadline = Instant::now() + wait;
    loop {
        // A nexus outlives its connection as long as it has a command.
        let text = client.ask(Request::new(Mode::Target, Operation::Show)).await?;
        if section(&text, target).all(|line| !line.trim_start().starts_with("I_T nexus: ")) {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Cuts a session.
pub(super) async fn cut(client: &Client, target: i32, session: &Session) -> Result<(), TgtError> {
    let request = Request {
        session: session.session,
        connection: session.connection,
        ..Request::new(Mode::Connection, Operation::Delete).target(target)
    };
    match client.ensure(request, TgtRefusal::NoSession).await {
        Err(TgtError::Refused(TgtRefusal::NoConnection)) => Ok(()),
        other => other,
    }
}

/// Reads the `I_T nexus` part of one target:
///
/// ```text
/// Target 7: iqn.…
///     I_T nexus information:
///         I_T nexus: 3
///             Initiator: iqn.… alias: host
///             Connection: 0
///                 IP Address: 127.0.0.1
/// ```
fn parse(text: &str, target: i32) -> Vec<Session> {
    let (mut nexus, mut initiator) = (None, None);
    let mut sessions = Vec::new();
    for line in section(text, target) {
        let line = line.trim();
        if let Some(number) = line.strip_prefix("I_T nexus: ") {
            nexus = number.parse::<u64>().ok();
        } else if let Some(name) = line.strip_prefix("Initiator: ") {
            initiator = name.split_whitespace().next().map(str::to_owned);
        } else if let Some(number) = line.strip_prefix("Connection: ")
            && let (Some(session), Ok(connection)) = (nexus, number.parse())
        {
            sessions.push(Session { session, connection, initiator: initiator.clone().unwrap_or_default() });
        }
    }
    sessions
}

/// The lines about one target.
fn section(text: &str, target: i32) -> impl Iterator<Item = &str> {
    let heading = format!("Target {target}: ");
    text.lines().skip_while(move |line| !line.starts_with(&heading)).skip(1).take_while(|line| !line.starts_with("Target "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_read_from_their_own_target_only() {
        let text = "Target 1: iqn.a\n    I_T nexus information:\n        I_T nexus: 9\n            Initiator: iqn.other alias: x\n            Connection: 0\n\
                    Target 12: iqn.b\n    System information:\n    I_T nexus information:\n        I_T nexus: 3\n            Initiator: iqn.host alias: none\n\
                    \x20           Connection: 2\n                IP Address: 127.0.0.1\n    LUN information:\n        LUN: 0\n";
        let expected = Session { session: 3, connection: 2, initiator: "iqn.host".into() };
        assert_eq!(parse(text, 12), [expected]);
        assert_eq!(parse(text, 1).len(), 1);
        assert_eq!(parse(text, 2), []);
    }
}
