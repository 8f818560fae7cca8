//! Asks everybody, side by side and each for a bounded time. Changes nothing.

use super::{Judged, judge};
use crate::agent::journal::AttachmentRecord;
use crate::agent::operations::{
    Shared,
    examine::{self, within},
    locks::Key,
    ports::PortResult,
};
use crate::model::VolumeId;
use futures_util::{StreamExt, stream};
use std::{collections::HashSet, time::Duration};

/// Attachments looked at side by side.
const WIDTH: usize = 8;

/// For each of those who are asked of one attachment: somebody waits for the answer.
const LIMIT: Duration = Duration::from_secs(20);

pub(super) async fn differences(shared: &Shared) -> PortResult<Vec<Judged>> {
    let guests = within(LIMIT, shared.hypervisor.guests()).await?;
    let secrets = within(LIMIT, shared.hypervisor.examine()).await?.secrets;
    let names = within(LIMIT, shared.connectors.own_names()).await?;
    let operations = shared.registry.records();
    let attachments = shared.registry.attachments();
    let mut known: HashSet<VolumeId> = attachments.iter().map(|record| record.volume).collect();
    known.extend(operations.iter().filter(|record| !record.state.is_over()).map(|record| record.task.volume()));

    let mut found: Vec<Judged> =
        stream::iter(attachments).map(|record| of_attachment(shared, record)).buffered(WIDTH).concat().await;
    found.extend(names.iter().filter_map(|name| judge::name(name, &known)));
    found.extend(guests.iter().flat_map(|guest| judge::foreign_disks(guest, &known)));
    found.extend(examine::forgotten_secrets(shared, secrets).into_iter().map(judge::secret));
    found.extend(operations.iter().filter_map(judge::operation));
    found.extend(shared.registry.booted_guests().iter().filter_map(|booted| judge::booted(booted, &guests)));
    Ok(found)
}

async fn of_attachment(shared: &Shared, seen: AttachmentRecord) -> Vec<Judged> {
    // An operation on it is about to change all this.
    let Some(_turn) = shared.locks.try_lock(Key::Volume(seen.volume)) else { return vec![] };
    let Some(record) = shared.registry.still_attached(&seen) else { return vec![] };
    let guest = record.guest.to_string();
    let (guest, presence, service) = tokio::join!(
        within(LIMIT, shared.hypervisor.guest(&guest)),
        within(LIMIT, shared.connectors.presence(record.volume, &record.device, &record.observed.identity)),
        within(LIMIT, shared.volumes.attachments(record.volume)),
    );
    judge::attachment(&record, &judge::Sayings { guest, presence, service })
}
