//! Looking after what is attached: is it healthy, degraded or lost, since when, and can it be mended?
//!
//! Each attachment has a task of its own ([`watch`]), so that one whose server is dead delays no other. It looks when an event
//! concerns its attachment ([`concern`]), and otherwise ever more seldom ([`schedule`]), since not everything tells events. What a look
//! found is weighed against what was known ([`weigh`]), and only a difference is told.

mod concern;
mod schedule;
#[cfg(test)]
mod tests;
mod watch;
mod weigh;

pub use watch::{Sources, watch};

use crate::agent::api::{AgentEvent, HealthView};
use crate::model::{AttachmentId, ConnectedDevice, GuestUuid, Health, VolumeId};
use async_trait::async_trait;
use std::time::Duration;
use tokio::sync::broadcast;

/// An attachment that is looked after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Its id.
    pub id: AttachmentId,
    /// The volume.
    pub volume: VolumeId,
    /// The guest that has it.
    pub guest: GuestUuid,
    /// How it is connected: tells which events concern it.
    pub device: ConnectedDevice,
}

/// What an attempt to mend came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Nothing that could be done.
    NothingToDo,
    /// An operation has the volume: it may be about to change all this.
    Busy,
    /// Something was done; a look will tell whether it helped.
    Tried,
}

/// What the looking needs of the agent.
#[async_trait]
pub trait Wards: Send + Sync + 'static {
    /// Everything attached now.
    fn watched(&self) -> Vec<Watched>;

    /// Looks at one. Bounded by the caller: it may be dropped at any await. The error says why nothing could be found out.
    async fn look(&self, id: AttachmentId) -> Result<Health, String>;

    /// Mends one where that is safe, never while an operation has its volume. The error says what went wrong.
    async fn repair(&self, id: AttachmentId) -> Result<Repair, String>;

    /// Takes in how one is doing now.
    fn publish(&self, id: AttachmentId, health: HealthView);

    /// Tells when attachments come and go.
    fn changes(&self) -> broadcast::Receiver<AgentEvent>;
}

/// When to look, and how long a look may take.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Between looks at what tells no event, at most.
    pub interval: Duration,
    /// For one look.
    pub limit: Duration,
}
