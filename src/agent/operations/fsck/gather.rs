//! Asks everybody, side by side and each for a bounded time. Changes nothing.

use super::{Judged, disks, judge};
use crate::agent::journal::AttachmentRecord;
use crate::agent::operations::{
    Shared,
    examine::{self, within},
    locks::Key,
    ports::{GuestFacts, PortResult},
};
use crate::model::{AttachmentSummary, GuestUuid, Volume, VolumeId};
use futures_util::{StreamExt, stream};
use std::{collections::HashSet, time::Duration};
use uuid::Uuid;

/// Attachments looked at side by side.
const WIDTH: usize = 8;

/// For each of those who are asked of one attachment: somebody waits for the answer.
const LIMIT: Duration = Duration::from_secs(20);

/// What this agent has: volumes, and secrets.
#[derive(Default)]
struct Known {
    volumes: HashSet<VolumeId>,
    secrets: HashSet<Uuid>,
}

impl Known {
    fn add(&mut self, shared: &Shared) {
        let unfinished = shared.registry.records().into_iter().filter(|record| !record.state.is_over());
        self.volumes.extend(unfinished.map(|record| record.task.volume()));
        self.volumes.extend(shared.registry.attachments().into_iter().map(|record| record.volume));
        self.secrets.extend(examine::known_secrets(shared));
    }
}

pub(super) async fn differences(shared: &Shared) -> Vec<Judged> {
    let attachments = shared.registry.attachments();
    // What others say is as old as the asking takes, and operations go on meanwhile: nothing is taken for foreign, or forgotten, that
    // was the agent's at either end of it.
    let mut known = Known::default();
    known.add(shared);
    let (guests, libvirt, names, volumes) = tokio::join!(
        within(LIMIT, shared.hypervisor.guests()),
        within(LIMIT, shared.hypervisor.examine()),
        within(LIMIT, shared.connectors.own_names()),
        within(LIMIT, shared.volumes.volumes()),
    );
    let mut found: Vec<Judged> =
        stream::iter(attachments).map(|record| of_attachment(shared, record)).buffered(WIDTH).concat().await;
    // Without a list of guests nobody can say whose a left attachment is.
    let left = match (&guests, volumes) {
        (Ok(guests), Ok(volumes)) => left_attachments(shared, guests, volumes).await,
        (Err(_), Ok(_)) => Ok(vec![]),
        (_, Err(error)) => Err(error),
    };
    known.add(shared);

    match names {
        Ok(names) => found.extend(names.iter().filter_map(|name| judge::name(name, &known.volumes))),
        Err(error) => found.push(judge::silent("host", &error)),
    }
    match &guests {
        Ok(guests) => {
            found.extend(guests.iter().flat_map(|guest| judge::foreign_disks(guest, &known.volumes)));
            found.extend(shared.registry.booted_guests().iter().filter_map(|booted| judge::booted(booted, guests)));
        }
        Err(error) => found.push(judge::silent("guest", error)),
    }
    match left {
        Ok(left) => {
            let left = left.iter().filter(|(attachment, _)| !known.volumes.contains(&attachment.volume));
            found.extend(left.map(|(attachment, guest)| judge::left_attachment(attachment, guest)));
        }
        Err(error) => found.push(judge::silent("service", &error)),
    }
    match libvirt {
        Ok(facts) => {
            let nobodys = facts.secrets.into_iter().filter(|secret| !known.secrets.contains(secret));
            found.extend(nobodys.map(judge::secret));
        }
        Err(error) => found.push(judge::silent("libvirt", &error)),
    }
    found.extend(disks::differences(shared).await);
    found.extend(shared.registry.records().iter().filter_map(judge::operation));
    found
}

/// Attachments of the service's for guests of this host that have no disk of the volume. Of a volume that is in use the list of volumes
/// tells who uses it; of one that is only reserved it does not.
async fn left_attachments(
    shared: &Shared,
    guests: &[GuestFacts],
    volumes: Vec<Volume>,
) -> PortResult<Vec<(AttachmentSummary, String)>> {
    let here = |guest: Option<GuestUuid>| guests.iter().find(|facts| Some(facts.uuid) == guest);
    let concerns = |volume: &Volume| match volume.status.as_str() {
        "reserved" | "attaching" | "detaching" => true,
        _ => volume.attachments.iter().any(|user| here(user.guest).is_some_and(|guest| guest.disk(volume.id).is_none())),
    };
    let asked = volumes.into_iter().filter(concerns).map(|volume| within(LIMIT, shared.volumes.attachments(volume.id)));
    let answers: Vec<_> = stream::iter(asked).buffered(WIDTH).collect().await;
    let mut left = vec![];
    for answer in answers {
        for attachment in answer? {
            if let Some(guest) = here(attachment.guest).filter(|guest| guest.disk(attachment.volume).is_none()) {
                left.push((attachment, guest.name.clone()));
            }
        }
    }
    Ok(left)
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
