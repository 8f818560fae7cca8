//! Holding a guest's filesystems still, by the agent in the guest, and letting them go again.
//!
//! libvirt waits for that agent without end unless it is told otherwise, so it is. A call that has hung is no reason to leave the guest
//! frozen: thawing does not wait for its turn behind other calls on the guest.

use super::{
    Outcome,
    connection::{Call, Connection},
    domain_xml::AgentChannel,
    error::{LibvirtError, failed},
    ffi,
    guest::{self, Sides},
};
use crate::model::GuestUuid;
use std::{sync::Arc, time::Duration};
use virt::{connect::Connect, domain::Domain};

/// What became of the wish to freeze.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frozen {
    /// So many filesystems stand still.
    Yes(u32),
    /// The guest is off, or no agent of it listens.
    NobodyToAsk,
}

/// Freezes all filesystems of the guest.
pub(super) async fn freeze(connection: &Arc<Connection>, uuid: GuestUuid, limit: Duration) -> Result<Frozen, LibvirtError> {
    let operation = format!("freeze the filesystems of guest {uuid}");
    // The agent is given up first, and then libvirt.
    let call = Call::new(operation.clone(), None, limit.as_secs() + connection.config.call_timeout_s);
    let limit_s = i32::try_from(limit.as_secs()).unwrap_or(i32::MAX);
    let work = move |connect: &Connect| {
        let Some(domain) = listening(connect, uuid)? else { return Ok(Frozen::NobodyToAsk) };
        ffi::set_agent_timeout(&domain, limit_s).map_err(failed(operation.clone()))?;
        ffi::freeze(&domain).map(Frozen::Yes).map_err(failed(operation.clone()))
    };
    connection.run(call, work).await
}

/// Thaws them. Twice is fine, and so is a guest that is off or that nobody can be asked in.
pub(super) async fn thaw(connection: &Arc<Connection>, uuid: GuestUuid) -> Result<Outcome, LibvirtError> {
    let operation = format!("thaw the filesystems of guest {uuid}");
    let timeout_s = connection.config.call_timeout_s;
    let call = Call::new(operation.clone(), None, timeout_s);
    // Less than libvirt has, so that it is the agent that is named as silent.
    let agent_s = i32::try_from(timeout_s.div_ceil(2)).unwrap_or(i32::MAX);
    let work = move |connect: &Connect| {
        let Some(domain) = listening(connect, uuid)? else { return Ok(Outcome::Unchanged) };
        ffi::set_agent_timeout(&domain, agent_s).map_err(failed(operation.clone()))?;
        let thawed = ffi::thaw(&domain).map_err(failed(operation.clone()))?;
        Ok(if thawed == 0 { Outcome::Unchanged } else { Outcome::Changed })
    };
    connection.read(call, work).await
}

/// The guest, if an agent in it listens. A guest's agent that has gone away cannot thaw what it froze, and nobody else can.
fn listening(connect: &Connect, uuid: GuestUuid) -> Result<Option<Domain>, LibvirtError> {
    let Some(domain) = guest::by_uuid(connect, uuid)? else { return Ok(None) };
    let listens = Sides::read(&domain)?.live.is_some_and(|live| live.agent == AgentChannel::Listening);
    Ok(listens.then_some(domain))
}
