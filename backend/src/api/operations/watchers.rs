//! Room for those who watch: a connection is all that one costs, and others need some too; and no project takes the room of all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many may watch at once, and so many of one project.
const WATCHERS: usize = 128;
const OF_A_PROJECT: usize = 48;

/// Who watches: how many of each project.
#[derive(Clone, Default)]
pub struct Watchers(Arc<Mutex<HashMap<String, usize>>>);

/// One who watches; the room is free again when this is dropped.
pub(super) struct Room {
    watchers: Watchers,
    project_id: String,
}

impl Watchers {
    /// Room for one more of a project, where there is some.
    pub(super) fn room_for(&self, project_id: &str) -> Option<Room> {
        let mut watching = self.watching();
        let of_project = watching.get(project_id).copied().unwrap_or(0);
        if of_project >= OF_A_PROJECT || watching.values().sum::<usize>() >= WATCHERS {
            return None;
        }
        watching.insert(project_id.to_owned(), of_project + 1);
        Some(Room { watchers: self.clone(), project_id: project_id.to_owned() })
    }

    fn watching(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut watching = self.watchers.watching();
        match watching.get_mut(&self.project_id) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(watching.remove(&self.project_id)),
        }
    }
}
