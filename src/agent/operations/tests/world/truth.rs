//! What must hold of the world.

use super::{State, World, volume_id};
use crate::model::{GIB, VolumeId};

impl State {
    /// What a guest's disk leads to is its volume, at each moment.
    pub fn watch(&mut self) {
        let (guests, luns, crimes) = (&self.guests, &self.luns, &mut self.crimes);
        self.guest_luns.retain(|(guest, volume), lun| {
            let has_it = guests.get(guest).is_some_and(|guest| guest.disk(*volume).is_some());
            if has_it && luns.get(lun) != Some(volume) && crimes.is_empty() {
                crimes.push(format!("a guest's disk of {volume} leads to what is LUN {lun} now: {:?}", luns.get(lun)));
            }
            has_it
        });
    }

    /// The volume that is really behind what is connected as this one.
    pub fn behind(&self, volume: VolumeId) -> VolumeId {
        self.impostors.get(&volume).copied().unwrap_or(volume)
    }
}

impl World {
    /// Every layer has this size: the service, the host if it is connected, every guest that has the disk.
    pub fn assert_sizes(&self, size_gib: u64, context: &str) {
        let state = self.state.lock().unwrap();
        assert!(state.crimes.is_empty(), "{context}: {:?}", state.crimes);
        assert_eq!(state.volumes[&volume_id()].size_gib, size_gib, "{context}: the service");
        if state.connected.contains(&volume_id()) {
            assert_eq!(state.host_bytes[&volume_id()], size_gib * GIB, "{context}: the host");
        }
        for (guest, bytes) in &state.guest_bytes {
            assert_eq!(*bytes, size_gib * GIB, "{context}: guest {guest:?}");
        }
    }

    /// Nothing forbidden happened, and no connection, attachment or secret is there that no guest's disk needs.
    pub fn assert_clean_of(&self, attached: bool, context: &str) {
        let state = self.state.lock().unwrap();
        assert!(state.crimes.is_empty(), "{context}: {:?}", state.crimes);
        let count = if attached { 2 } else { 0 };
        assert_eq!(state.attachments.len(), count, "{context}: attachments in the service");
        assert_eq!(state.connected.len(), count, "{context}: connections");
        assert_eq!(state.secrets.len(), count, "{context}: secrets");
    }

    /// What must hold when nothing is under way.
    pub fn assert_clean(&self, attached: bool, context: &str) {
        let state = self.state.lock().unwrap();
        assert!(state.crimes.is_empty(), "{context}: {:?}", state.crimes);
        let guest_has = state.guests.values().any(|guest| guest.disk(volume_id()).is_some());
        let status = &state.volumes[&volume_id()].status;
        assert_eq!(guest_has, attached, "{context}: the guest's disk");
        assert_eq!(state.connected.contains(&volume_id()), attached, "{context}: the host's connection");
        assert_eq!(state.attachments.len(), usize::from(attached), "{context}: attachments in the service");
        assert_eq!(status, if attached { "in-use" } else { "available" }, "{context}: the volume's status");
        let each = if state.encrypted { 2 } else { 1 };
        assert_eq!(state.secrets.len(), usize::from(attached) * each, "{context}: secrets");
    }
}
