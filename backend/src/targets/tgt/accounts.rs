//! CHAP accounts of a target.
//!
//! tgtd keeps a target's accounts in a table of slots, and after one is unbound every account in a later slot fails to log in
//! (seen with tgt 1.0.85). Binding takes the first free slot, so the accounts that stay are bound anew, each into the gap that
//! the one before it left. Meanwhile a login may be refused, and the initiator tries again; a guard account that nobody knows
//! keeps the target from ever being without one, which would let hosts in unasked.

use zeroize::Zeroizing;

use super::client::Client;
use super::error::{TgtError, TgtRefusal};
use super::protocol::{Mode, Operation, Request};
use crate::domain::ChapAccount;

/// Makes an account and binds it to the target, where that is not so already.
pub(super) async fn bind(client: &Client, tid: i32, account: &ChapAccount) -> Result<(), TgtError> {
    let text = Zeroizing::new(format!("user={},password={}", account.username, account.password.reveal()));
    client.ensure(Request::new(Mode::Account, Operation::New).parameters(&text), TgtRefusal::UserExists).await?;
    bind_existing(client, tid, &account.username).await
}

/// Unbinds and forgets an account. `staying` are the users of the accounts that must go on working.
pub(super) async fn forget(client: &Client, tid: i32, username: &str, staying: &[&str]) -> Result<(), TgtError> {
    if staying.is_empty() {
        unbind(client, tid, username).await?;
        return delete(client, username).await;
    }
    let guard = ChapAccount::random();
    bind(client, tid, &guard).await?;
    unbind(client, tid, username).await?;
    delete(client, username).await?;
    for user in staying {
        unbind(client, tid, user).await?;
        bind_existing(client, tid, user).await?;
    }
    unbind(client, tid, &guard.username).await?;
    delete(client, &guard.username).await
}

async fn bind_existing(client: &Client, tid: i32, username: &str) -> Result<(), TgtError> {
    let user = format!("user={username}");
    let request = Request::new(Mode::Account, Operation::Bind).target(tid).parameters(&user);
    client.ensure(request, TgtRefusal::UserExists).await
}

async fn unbind(client: &Client, tid: i32, username: &str) -> Result<(), TgtError> {
    let user = format!("user={username}");
    let request = Request::new(Mode::Account, Operation::Unbind).target(tid).parameters(&user);
    match client.ensure(request, TgtRefusal::NoUser).await {
        Err(TgtError::Refused(TgtRefusal::NoTarget)) => Ok(()),
        other => other,
    }
}

async fn delete(client: &Client, username: &str) -> Result<(), TgtError> {
    let user = format!("user={username}");
    client.ensure(Request::new(Mode::Account, Operation::Delete).parameters(&user), TgtRefusal::NoUser).await
}
