//! Block device mapping v2: all entries of a boot put together, and the rules that hold among them.
//!
//! Sources: Nova's API reference (`block_device_mapping_v2`) and its `nova/block_device.py`, `nova/compute/api.py`. What a user
//! asks for wins over what the image brings along, device name by device name; an image becomes the root disk where neither has one.

mod clause;
mod entry;
mod error;
mod instance;
mod legacy;
#[cfg(test)]
mod tests;

pub use entry::Source;
pub(super) use entry::{Destination, Entry};
pub use error::MappingError;
pub use instance::of_instance;

use crate::model::{BootRequest, Filesystem, Image};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// More entries than any guest has disks; a bound on what a hostile image can ask for.
const ENTRIES_MAX: usize = 64;

/// What an entry names, to be looked up before the mapping can be resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Among what to look.
    pub source: Source,
    /// Id or unique name.
    pub name: String,
}

/// All entries of a boot, together free of contradictions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// Root disk first, then in boot order, then as they were given.
    pub(super) entries: Vec<Entry>,
}

impl Mapping {
    /// The image whose own mapping counts, by id or name: the one that is booted, or else the one that the root disk is made of.
    ///
    /// # Errors
    /// As [`Mapping::of`].
    pub fn image_of(request: &BootRequest) -> Result<Option<String>, MappingError> {
        if request.image.is_some() {
            return Ok(request.image.clone());
        }
        let root = asked(request)?.into_iter().find(|entry| is_root(entry) && entry.source == Source::Image);
        Ok(root.and_then(|root| root.uuid))
    }

    /// Puts together what a request asks for and what `image` ([`Mapping::image_of`]) brings along.
    ///
    /// # Errors
    /// The entry and the field that break a rule.
    pub fn of(request: &BootRequest, image: Option<&Image>) -> Result<Self, MappingError> {
        let mut asked = asked(request)?;
        let brought = match image {
            Some(image) => of_image(image)?,
            None => vec![],
        };
        // Clients put the image into the mapping as the root disk; one that brings a root disk along boots from that.
        let own_root = brought.iter().find(|entry| is_root(entry)).map(|entry| entry.name.clone());
        let mut put_in = vec![];
        if let (Some(image), Some(_)) = (image, &own_root) {
            (put_in, asked) = asked.into_iter().partition(|entry| is_root_of(entry, image));
        }
        let mut entries = merge(asked, brought);
        let own_root = own_root.and_then(|name| entries.iter_mut().find(|entry| entry.name == name));
        if let Some(own_root) = own_root {
            put_in.iter().for_each(|wish| own_root.heed(wish));
            own_root.size_gib = request.image_size_gib.or(own_root.size_gib);
        } else if let Some(image) = image
            && entries.iter().all(|entry| entry.boot_index != Some(0))
        {
            entries.push(root(image, request.image_size_gib));
        } else if request.image_size_gib.is_some() {
            let problem = "a size was given for the image's disk, but the mapping has another root disk".to_owned();
            return Err(MappingError::Whole { problem });
        }
        check(&entries)?;
        entries.sort_by_key(|entry| entry.boot_index.unwrap_or(u32::MAX));
        Ok(Self { entries })
    }

    /// What the entries name, each once.
    pub fn references(&self) -> Vec<Reference> {
        let mut seen = HashSet::new();
        let named = self
            .entries
            .iter()
            .filter_map(|entry| entry.uuid.as_ref().map(|uuid| Reference { source: entry.source, name: uuid.clone() }));
        named.filter(|reference| seen.insert(reference.clone())).collect()
    }
}

/// The entries of a request.
fn asked(request: &BootRequest) -> Result<Vec<Entry>, MappingError> {
    let listed = list(&request.mapping, "")?.into_iter().enumerate();
    let listed = listed.map(|(index, fields)| Entry::read(format!("entry {}", index + 1), fields));
    let clauses = request.clauses.iter().enumerate();
    let clauses = clauses.map(|(index, clause)| clause::read(format!("--block-device {}", index + 1), clause));
    listed.chain(clauses).collect()
}

fn is_root(entry: &Entry) -> bool {
    entry.boot_index == Some(0) && !entry.no_device
}

/// The entry has the guest boot from this very image.
fn is_root_of(entry: &Entry, image: &Image) -> bool {
    let names_it = |uuid: &String| *uuid == image.id.to_string() || *uuid == image.name;
    is_root(entry) && entry.source == Source::Image && entry.uuid.as_ref().is_some_and(names_it)
}

fn list(text: &str, place: &str) -> Result<Vec<Map<String, Value>>, MappingError> {
    if text.trim().is_empty() {
        return Ok(vec![]);
    }
    let wrong = |problem: String| MappingError::Form { place: place.to_owned(), problem };
    let entries: Vec<Map<String, Value>> = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    if entries.len() > ENTRIES_MAX {
        return Err(wrong(format!("it has {} entries, and {ENTRIES_MAX} are the most", entries.len())));
    }
    Ok(entries)
}

/// The mapping in an image's properties: that of the instance it was made of.
fn of_image(image: &Image) -> Result<Vec<Entry>, MappingError> {
    let Some(text) = &image.mapping else { return Ok(vec![]) };
    let fields = list(text, &format!(" of image {}", image.id))?;
    let mut entries = vec![];
    for (index, mut fields) in fields.into_iter().enumerate() {
        let name = format!("entry {} of image {}'s own", index + 1, image.id);
        if !image.is_mapping_v2 {
            let root = image.root_device_name.as_deref().unwrap_or(legacy::DEFAULT_ROOT);
            match legacy::convert(&name, fields, root)? {
                Some(converted) => fields = converted,
                None => continue,
            }
        }
        // Nova writes every column of its table; these are the ones its own API does not take either.
        fields.retain(|field, _| KNOWN.contains(&field.as_str()));
        // Nova's table has the id under the name of its kind.
        let source = fields.get("source_type").and_then(Value::as_str).map(str::to_owned);
        for (kind, id) in [("snapshot", "snapshot_id"), ("volume", "volume_id"), ("image", "image_id")] {
            let id = fields.remove(id);
            if source.as_deref() == Some(kind) && fields.get("uuid").is_none_or(Value::is_null) {
                fields.extend(id.map(|id| ("uuid".to_owned(), id)));
            }
        }
        // Whatever Nova's table had for it: such a disk goes with its guest.
        let is_local = fields.get("destination_type").and_then(Value::as_str) == Some("local");
        if is_local && source.as_deref() == Some("blank") {
            fields.remove("delete_on_termination");
        }
        entries.push(Entry::read(name, fields)?);
    }
    Ok(entries)
}

/// Fields of an image's mapping that are read; the rest of Nova's table has no meaning for another guest.
const KNOWN: [&str; 16] = [
    "source_type",
    "destination_type",
    "uuid",
    "snapshot_id",
    "volume_id",
    "image_id",
    "boot_index",
    "volume_size",
    "volume_type",
    "device_name",
    "disk_bus",
    "device_type",
    "guest_format",
    "delete_on_termination",
    "tag",
    "no_device",
];

/// The request wins, by device name; what says `no_device` is left out on both sides.
fn merge(asked: Vec<Entry>, brought: Vec<Entry>) -> Vec<Entry> {
    let named: HashSet<String> = asked.iter().filter_map(|entry| entry.device_name.clone()).collect();
    let kept = brought.into_iter().filter(|entry| entry.device_name.as_ref().is_none_or(|name| !named.contains(name)));
    let kept: Vec<_> = kept.collect();
    asked.into_iter().chain(kept).filter(|entry| !entry.no_device).collect()
}

/// The image itself as the root disk.
fn root(image: &Image, size_gib: Option<u64>) -> Entry {
    Entry {
        name: "the image's own disk".to_owned(),
        source: Source::Image,
        destination: Destination::Local,
        uuid: Some(image.id.to_string()),
        boot_index: Some(0),
        size_gib,
        swap_mib: None,
        volume_type: None,
        device_name: None,
        disk_bus: None,
        filesystem: None,
        delete_on_termination: None,
        tag: None,
        no_device: false,
    }
}

/// The rules among entries.
fn check(entries: &[Entry]) -> Result<(), MappingError> {
    if entries.len() > ENTRIES_MAX {
        let problem = format!("it has {} entries, and {ENTRIES_MAX} are the most", entries.len());
        return Err(MappingError::Whole { problem });
    }
    let mut indices: Vec<u32> = entries.iter().filter_map(|entry| entry.boot_index).collect();
    indices.sort_unstable();
    if indices.first() != Some(&0) {
        return Err(MappingError::Whole { problem: "no entry has boot_index 0, so there is no root disk".to_owned() });
    }
    let (mut names, mut volumes, mut tags, mut boot) = (HashSet::new(), HashSet::new(), HashSet::new(), HashSet::new());
    let mut has_swap = false;
    for entry in entries {
        if entry.device_name.as_ref().is_some_and(|name| !names.insert(name)) {
            return Err(entry.wrong("device_name", "is that of another entry"));
        }
        if entry.tag.as_ref().is_some_and(|tag| !tags.insert(tag)) {
            return Err(entry.wrong("tag", "is that of another entry"));
        }
        if entry.source == Source::Volume && entry.uuid.as_ref().is_some_and(|uuid| !volumes.insert(uuid)) {
            return Err(entry.wrong("uuid", "is that of another entry: a guest has a volume once"));
        }
        if let Some(index) = entry.boot_index {
            if !boot.insert(index) {
                return Err(entry.wrong("boot_index", format!("{index} is that of another entry")));
            }
            if usize::try_from(index).is_ok_and(|index| index >= indices.len()) {
                return Err(entry.wrong("boot_index", format!("{index} leaves a gap: they are counted from 0 without one")));
            }
        }
        if entry.filesystem == Some(Filesystem::Swap) && std::mem::replace(&mut has_swap, true) {
            return Err(entry.wrong("guest_format", "is swap for a second disk: a guest has one at most"));
        }
    }
    Ok(())
}
