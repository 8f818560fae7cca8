//! Asking a guest to shut down, and waiting until it has.
//!
//! ```text
//!        asked (agent, else power button)          still on
//! on ----------------------------------> waiting ----------> asked again ... until the deadline: left running
//!                                           | its end is told, or seen after libvirtd was away
//!                                           v
//!                                          off
//! ```
//! A guest that is still booting loses the first request, so it is asked again; one that is at it already does not mind.

use super::{
    Outcome,
    connection::{Call, Connection},
    error::{LibvirtError, failed},
    events::{GuestEvent, LifecycleChange},
    guest,
};
use crate::model::GuestUuid;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, timeout_at},
};
use virt::error::ErrorNumber;

/// Between requests: Nova's choice (shutdown_retry_interval).
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// Asks until the guest is off. One that is off, or gone, is fine.
pub(super) async fn shut_down(connection: &Arc<Connection>, guest: GuestUuid) -> Result<Outcome, LibvirtError> {
    // Listening starts before the first request, so that the end cannot come unheard.
    let mut events = connection.events();
    let timeout_s = connection.config.shutdown_timeout_s;
    let deadline = Instant::now() + Duration::from_secs(timeout_s);
    let mut requests = 0;
    loop {
        let may_ask = Instant::now() < deadline;
        match request(connection, guest, may_ask).await {
            Ok(false) => return Ok(if requests == 0 { Outcome::Unchanged } else { Outcome::Changed }),
            Ok(true) => requests += u32::from(may_ask),
            Err(error) if may_ask && error.is_passing() => {}
            Err(error) => return Err(error),
        }
        if !may_ask {
            return Err(LibvirtError::StaysOn { guest, timeout_s, requests });
        }
        wait(&mut events, guest, deadline.min(Instant::now() + ASK_AGAIN)).await;
    }
}

/// Whether the guest is on; if so it is asked to shut down, where it may be.
async fn request(connection: &Arc<Connection>, guest: GuestUuid, may_ask: bool) -> Result<bool, LibvirtError> {
    let call = Call::new(format!("ask guest {guest} to shut down"), Some(guest), connection.config.call_timeout_s);
    let operation = call.operation.clone();
    let ask = move |connect: &virt::connect::Connect| {
        let Some(domain) = guest::by_uuid(connect, guest)? else { return Ok(false) };
        if !domain.is_active().map_err(failed(operation.clone()))? {
            return Ok(false);
        }
        if !may_ask {
            return Ok(true);
        }
        match domain.shutdown() {
            // It ended by itself meanwhile, which the next look finds.
            Err(error) if !error.code().is(ErrorNumber::OperationInvalid) => Err(failed(operation.clone())(error)),
            _ => Ok(true),
        }
    };
    connection.read(call, ask).await
}

/// Until something may have changed.
async fn wait(events: &mut Receiver<GuestEvent>, guest: GuestUuid, until: Instant) {
    loop {
        match timeout_at(until, events.recv()).await {
            Ok(Ok(GuestEvent::Lifecycle { guest: whose, change })) if whose == guest => {
                if matches!(change, LifecycleChange::Stopped | LifecycleChange::Crashed) {
                    return;
                }
            }
            Ok(Ok(GuestEvent::Connected)) | Ok(Err(RecvError::Lagged(_) | RecvError::Closed)) | Err(_) => return,
            Ok(Ok(_)) => {}
        }
    }
}
