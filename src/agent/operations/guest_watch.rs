//! What becomes of guests that have storage of Bowline's, whoever sees to it: noticed, told, and nothing else.
//!
//! ```text
//!            Started                 Stopped, Crashed
//! off ------------------> running ------------------> off      volumes stay attached and connected, ephemeral disks stay
//!  \                         |
//!   \------ Undefined ------/---> gone --- Defined ---> off    the same: nobody has said that they are not to be used again
//! ```
//! Storage is given and taken by requests alone; a request that the guest answers late is gone on with ([`super::late_unplug`]). A guest that goes while it runs is gone once it has ended. What happened while
//! nobody listened is found by looking.

use super::{Agent, boot::has_storage, fill::is_being_filled};
use crate::agent::api::GuestChange;
use crate::model::{ErrorKind, GuestUuid};
use std::collections::{BTreeSet, HashMap};
use tokio::sync::mpsc;

/// What libvirt told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestNews {
    /// It told this of a guest.
    Changed(GuestUuid, GuestChange),
    /// A running guest has let go of a device.
    LetGo(GuestUuid),
    /// Something may have happened untold.
    LookAgain,
}

/// A guest as it was seen last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Running,
    Off,
    Gone,
}

/// What there is to tell of a guest that was `before`, and is found so now. One that is met for the first time is news only where it
/// is gone.
const fn difference(before: Option<Seen>, now: Seen) -> Option<GuestChange> {
    match (before, now) {
        (None | Some(Seen::Running | Seen::Off), Seen::Gone) => Some(GuestChange::Undefined),
        (Some(Seen::Off | Seen::Gone), Seen::Running) => Some(GuestChange::Started),
        (Some(Seen::Running), Seen::Off) => Some(GuestChange::Stopped),
        (Some(Seen::Gone), Seen::Off) => Some(GuestChange::Defined),
        (None, _) | (Some(Seen::Running), Seen::Running) | (Some(Seen::Off), Seen::Off) | (Some(Seen::Gone), Seen::Gone) => {
            None
        }
    }
}

impl Agent {
    /// Tells what becomes of guests with storage of Bowline's, for as long as there is news.
    pub async fn watch_guests(&self, mut news: mpsc::Receiver<GuestNews>) {
        let mut seen = HashMap::new();
        let mut next = Some(GuestNews::LookAgain);
        while let Some(now) = next {
            match now {
                GuestNews::LookAgain => {
                    self.look_at_guests(&mut seen).await;
                    self.go_on_with_detaches(None).await;
                }
                GuestNews::LetGo(guest) => self.go_on_with_detaches(Some(guest)).await,
                GuestNews::Changed(guest, change) if has_storage(&self.shared, guest) => {
                    self.hear(&mut seen, guest, change).await;
                    if matches!(change, GuestChange::Stopped | GuestChange::Crashed) {
                        self.go_on_with_detaches(Some(guest)).await;
                    }
                }
                GuestNews::Changed(..) => {}
            }
            next = tokio::select! {
                told = news.recv() => told,
                () = self.shared.wanted_gone.notified() => Some(GuestNews::LookAgain),
            };
        }
    }

    async fn look_at_guests(&self, seen: &mut HashMap<GuestUuid, Seen>) {
        let registry = &self.shared.registry;
        let attached = registry.attachments().into_iter().map(|record| record.guest);
        let ours: BTreeSet<_> = attached.chain(registry.booted_guests().into_iter().map(|record| record.guest)).collect();
        seen.retain(|guest, _| ours.contains(guest));
        for guest in ours {
            let Some(now) = self.look_at_guest(guest).await else { continue };
            if let Some(change) = difference(seen.insert(guest, now), now) {
                self.tell(guest, change);
            }
        }
    }

    /// Takes in what libvirt told. What a look has found already is not told twice.
    async fn hear(&self, seen: &mut HashMap<GuestUuid, Seen>, guest: GuestUuid, change: GuestChange) {
        let before = seen.get(&guest).copied();
        let now = match change {
            GuestChange::Started => Seen::Running,
            GuestChange::Stopped | GuestChange::Crashed if before == Some(Seen::Gone) => return,
            GuestChange::Stopped | GuestChange::Crashed => Seen::Off,
            // It may still run.
            GuestChange::Undefined if self.look_at_guest(guest).await == Some(Seen::Gone) => Seen::Gone,
            // It runs as before, as far as its storage is concerned.
            GuestChange::Paused | GuestChange::Resumed => return self.tell(guest, change),
            // One that was there has a new definition.
            GuestChange::Defined if before == Some(Seen::Gone) => Seen::Off,
            GuestChange::Undefined | GuestChange::Defined => return,
        };
        if seen.insert(guest, now) == Some(now) {
            return;
        }
        self.tell(guest, change);
        // One without a definition goes with its end.
        if matches!(change, GuestChange::Stopped | GuestChange::Crashed) && self.look_at_guest(guest).await == Some(Seen::Gone)
        {
            seen.insert(guest, Seen::Gone);
            self.tell(guest, GuestChange::Undefined);
        }
    }

    /// Nothing where libvirt cannot be asked: its return is told.
    async fn look_at_guest(&self, guest: GuestUuid) -> Option<Seen> {
        match self.shared.hypervisor.guest(&guest.to_string()).await {
            Ok(facts) if facts.active => Some(Seen::Running),
            Ok(_) => Some(Seen::Off),
            Err(error) if error.kind == ErrorKind::NotFound => Some(Seen::Gone),
            Err(_) => None,
        }
    }

    fn tell(&self, guest: GuestUuid, change: GuestChange) {
        let name = self.guest_name(guest);
        match change {
            GuestChange::Undefined => tracing::warn!(
                %guest, name,
                "is not defined any more: its volumes stay attached and its disks stay, until they are detached or deleted"
            ),
            GuestChange::Paused if is_being_filled(&self.shared, guest) => tracing::warn!(
                %guest, name,
                "is paused, for its I/O could not be done: it goes on by itself where it waits for its image (bowline operations shows the fill); \
                 virsh domblkerror tells whether it is another disk, or the room on this host: mend that, and virsh resume"
            ),
            GuestChange::Paused => {
                tracing::warn!(%guest, name, "is paused, for its I/O could not be done: mend its storage, and virsh resume");
            }
            GuestChange::Crashed => tracing::warn!(%guest, name, "crashed: its volumes stay attached"),
            _ => tracing::info!(%guest, name, change = change.as_str(), "its volumes stay attached"),
        }
        self.shared.registry.tell_guest(guest, name, change);
    }

    /// As it was called when it got its storage: one that is gone cannot be asked.
    fn guest_name(&self, guest: GuestUuid) -> String {
        let registry = &self.shared.registry;
        let booted = registry.booted(guest).map(|record| record.guest_name);
        let attached =
            || registry.attachments().into_iter().find(|record| record.guest == guest).map(|record| record.guest_name);
        booted.or_else(attached).unwrap_or_default()
    }
}
