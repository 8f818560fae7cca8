//! One entry of a mapping: read field by field, and held to the rules that need nothing but the entry itself.

use super::MappingError;
use crate::model::{DiskBus, DiskWishes, Filesystem};
use serde_json::{Map, Value};

/// Names that Nova takes for a device, with its folder.
const DEVICE_NAME_CHARS: usize = 255;
/// The largest size that is taken, GiB: 8 EiB less one, what a signed count of bytes can hold. Of swap space as many MiB.
const SIZE_MAX_GIB: u64 = (1 << 33) - 1;

/// `source_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// An image of the image service.
    Image,
    /// A volume that is there.
    Volume,
    /// A snapshot of a volume.
    Snapshot,
    /// Nothing.
    Blank,
}

/// `destination_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bootsource) enum Destination {
    /// An ephemeral disk of this host.
    Local,
    /// A volume.
    Volume,
}

/// An entry, by itself free of contradictions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::bootsource) struct Entry {
    /// As errors name it.
    pub(in crate::bootsource) name: String,
    pub(in crate::bootsource) source: Source,
    pub(in crate::bootsource) destination: Destination,
    /// Id, or unique name.
    pub(in crate::bootsource) uuid: Option<String>,
    /// `None`: not bootable.
    pub(in crate::bootsource) boot_index: Option<u32>,
    pub(in crate::bootsource) size_gib: Option<u64>,
    /// `volume_size` of swap space, which Nova and its clients count in MiB.
    pub(in crate::bootsource) swap_mib: Option<u64>,
    pub(in crate::bootsource) volume_type: Option<String>,
    /// Without its folder.
    pub(in crate::bootsource) device_name: Option<String>,
    pub(in crate::bootsource) disk_bus: Option<DiskBus>,
    pub(in crate::bootsource) filesystem: Option<Filesystem>,
    pub(in crate::bootsource) delete_on_termination: Option<bool>,
    pub(in crate::bootsource) tag: Option<String>,
    /// It only takes the image's entry of the same device away.
    pub(in crate::bootsource) no_device: bool,
}

/// Fields taken one by one; what is left over is unknown.
struct Fields {
    entry: String,
    left: Map<String, Value>,
}

impl Fields {
    fn wrong(&self, field: &str, problem: impl Into<String>) -> MappingError {
        MappingError::Field { entry: self.entry.clone(), field: field.to_owned(), problem: problem.into() }
    }

    fn unsupported(&self, field: &str, problem: impl Into<String>) -> MappingError {
        MappingError::Unsupported { entry: self.entry.clone(), field: field.to_owned(), problem: problem.into() }
    }

    /// `null` is as good as nothing, as in Nova's API.
    fn take(&mut self, field: &str) -> Option<Value> {
        self.left.remove(field).filter(|value| !value.is_null())
    }

    fn text(&mut self, field: &str) -> Result<Option<String>, MappingError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(text)) if text.chars().any(char::is_control) || text.chars().count() > DEVICE_NAME_CHARS => {
                Err(self.wrong(field, "is too long, or has control characters"))
            }
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(field, "must be a text")),
        }
    }

    /// Nova takes numbers that are written as texts, too.
    fn number(&mut self, field: &str) -> Result<Option<i64>, MappingError> {
        let number = match self.take(field) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_i64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| self.wrong(field, "must be a whole number"))
    }

    fn flag(&mut self, field: &str) -> Result<Option<bool>, MappingError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(Value::String(word)) => match word.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Ok(Some(true)),
                "false" | "0" | "no" | "off" | "" => Ok(Some(false)),
                _ => Err(self.wrong(field, "must be true or false")),
            },
            Some(_) => Err(self.wrong(field, "must be true or false")),
        }
    }

    fn finish(self) -> Result<(), MappingError> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(field) => {
                let field: String = field.chars().filter(|c| !c.is_control()).take(64).collect();
                Err(self.wrong(&field, "is no field of a block device mapping v2"))
            }
        }
    }
}

impl Entry {
    /// Reads an entry that errors call `name`.
    pub(super) fn read(name: String, fields: Map<String, Value>) -> Result<Self, MappingError> {
        let mut fields = Fields { entry: name, left: fields };
        let no_device = fields.flag("no_device")?.unwrap_or(false);
        let device_name = device_name(&mut fields)?;
        let source = source(&mut fields, no_device)?;
        let destination = destination(&mut fields, source)?;
        let filesystem = filesystem(&mut fields)?;
        let is_blank_disk = (source, destination) == (Source::Blank, Destination::Local);
        let is_swap = is_blank_disk && filesystem == Some(Filesystem::Swap);
        let size = size(&mut fields, if is_swap { "MiB" } else { "GiB" })?;
        let entry = Self {
            name: fields.entry.clone(),
            source,
            destination,
            uuid: fields.text("uuid")?,
            // Nova: a negative one is none.
            boot_index: fields.number("boot_index")?.and_then(|index| u32::try_from(index).ok()),
            size_gib: size.filter(|_| !is_swap),
            swap_mib: size.filter(|_| is_swap),
            volume_type: fields.text("volume_type")?,
            device_name,
            disk_bus: disk_bus(&mut fields)?,
            // As Nova does, which has no word for none: it formats every blank disk.
            filesystem: filesystem.or(is_blank_disk.then_some(Filesystem::Ext4)),
            delete_on_termination: fields.flag("delete_on_termination")?,
            tag: tag(&mut fields)?,
            no_device,
        };
        if let Some(kind) = fields.text("device_type")?.filter(|kind| kind != "disk") {
            return Err(fields.unsupported("device_type", format!("{kind:?} is not supported, only disk is")));
        }
        fields.finish()?;
        if !no_device {
            entry.check()?;
        } else if entry.device_name.is_none() {
            return Err(
                entry.wrong("device_name", "must be given with no_device: it tells which of the image's devices is left out")
            );
        }
        Ok(entry)
    }

    pub(in crate::bootsource) fn wrong(&self, field: &str, problem: impl Into<String>) -> MappingError {
        MappingError::Field { entry: self.name.clone(), field: field.to_owned(), problem: problem.into() }
    }

    /// Takes over what `wish`, which has the same disk made on a volume, says of that.
    pub(super) fn heed(&mut self, wish: &Self) {
        if wish.destination == Destination::Volume {
            self.size_gib = wish.size_gib.or(self.size_gib);
            self.volume_type = wish.volume_type.clone().or(self.volume_type.take());
            self.delete_on_termination = wish.delete_on_termination.or(self.delete_on_termination);
        }
    }

    /// The rules of one entry.
    fn check(&self) -> Result<(), MappingError> {
        use Destination::{Local, Volume as ToVolume};
        match (self.source, &self.uuid) {
            (Source::Blank, Some(_)) => return Err(self.wrong("uuid", "must not be given with source_type blank")),
            (Source::Blank, None) | (_, Some(_)) => {}
            (_, None) => return Err(self.wrong("uuid", "is missing: the id of what source_type names")),
        }
        match (self.source, self.destination) {
            (Source::Volume | Source::Snapshot, Local) => {
                return Err(self.wrong("destination_type", "must be volume for a source that is a volume or a snapshot"));
            }
            (Source::Image, Local) if self.boot_index != Some(0) => {
                return Err(self.wrong("boot_index", "must be 0: an image on an ephemeral disk can only be the root disk"));
            }
            (Source::Blank, _) if self.size_gib.or(self.swap_mib).is_none() => {
                return Err(self.wrong("volume_size", "is missing: the size of the new disk, GiB (of swap space MiB)"));
            }
            _ => {}
        }
        let makes_volume = self.destination == ToVolume && self.source != Source::Volume;
        if self.volume_type.is_some() && !makes_volume {
            return Err(self.wrong("volume_type", "can be chosen only for a new volume"));
        }
        if self.filesystem.is_some() && (self.source, self.destination) != (Source::Blank, Local) {
            return Err(self.wrong("guest_format", "can be chosen only for a blank ephemeral disk"));
        }
        if self.filesystem == Some(Filesystem::Swap) && self.boot_index.is_some() {
            return Err(self.wrong("boot_index", "must not be given for swap space"));
        }
        if self.destination == Local && self.delete_on_termination == Some(false) {
            return Err(self.wrong("delete_on_termination", "cannot be false: an ephemeral disk goes with its guest"));
        }
        Ok(())
    }
}

/// As `openstack server create` has it: what names no source is blank.
fn source(fields: &mut Fields, no_device: bool) -> Result<Source, MappingError> {
    Ok(match fields.text("source_type")?.as_deref() {
        Some("image") => Source::Image,
        Some("volume") => Source::Volume,
        Some("snapshot") => Source::Snapshot,
        Some("blank") => Source::Blank,
        None if no_device || !fields.left.contains_key("uuid") => Source::Blank,
        None => return Err(fields.wrong("source_type", "is missing: image, volume, snapshot or blank")),
        Some(_) => return Err(fields.wrong("source_type", "must be image, volume, snapshot or blank")),
    })
}

/// As `openstack server create` has it: blank is an ephemeral disk, everything else a volume.
fn destination(fields: &mut Fields, source: Source) -> Result<Destination, MappingError> {
    Ok(match fields.text("destination_type")?.as_deref() {
        Some("local") => Destination::Local,
        Some("volume") => Destination::Volume,
        None if source == Source::Blank => Destination::Local,
        None => Destination::Volume,
        Some(_) => return Err(fields.wrong("destination_type", "must be local or volume")),
    })
}

fn size(fields: &mut Fields, unit: &str) -> Result<Option<u64>, MappingError> {
    let Some(size) = fields.number("volume_size")? else { return Ok(None) };
    match u64::try_from(size) {
        Ok(size @ 1..=SIZE_MAX_GIB) => Ok(Some(size)),
        _ => Err(fields.wrong("volume_size", format!("must be from 1 to {SIZE_MAX_GIB} {unit}"))),
    }
}

fn device_name(fields: &mut Fields) -> Result<Option<String>, MappingError> {
    let Some(text) = fields.text("device_name")? else { return Ok(None) };
    let name = text.strip_prefix("/dev/").unwrap_or(&text);
    let is_name = [DiskBus::Virtio, DiskBus::Scsi].iter().any(|bus| {
        let letters = name.strip_prefix(bus.target_prefix()).unwrap_or_default();
        (1..=3).contains(&letters.len()) && letters.bytes().all(|byte| byte.is_ascii_lowercase())
    });
    if is_name {
        return Ok(Some(name.to_owned()));
    }
    Err(fields.wrong("device_name", "must be vd or sd and up to three letters, such as /dev/vdb"))
}

fn disk_bus(fields: &mut Fields) -> Result<Option<DiskBus>, MappingError> {
    let Some(text) = fields.text("disk_bus")? else { return Ok(None) };
    text.parse().map(Some).map_err(|problem: String| fields.unsupported("disk_bus", problem))
}

fn filesystem(fields: &mut Fields) -> Result<Option<Filesystem>, MappingError> {
    let Some(text) = fields.text("guest_format")? else { return Ok(None) };
    let known = Filesystem::ALL.into_iter().find(|known| known.as_str() == text);
    known.map(Some).ok_or_else(|| {
        let words: Vec<_> = Filesystem::ALL.iter().map(|known| known.as_str()).collect();
        fields.unsupported("guest_format", format!("{text:?} cannot be made here, only {}", words.join(", ")))
    })
}

fn tag(fields: &mut Fields) -> Result<Option<String>, MappingError> {
    let tag = fields.text("tag")?;
    DiskWishes::checked(tag.clone(), None).map_err(|problem| fields.wrong("tag", problem))?;
    Ok(tag)
}
