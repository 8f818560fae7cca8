//! A guest as Bowline sees it.

use super::{domain_xml::DomainXml, error::LibvirtError, error::failed};
use crate::model::{GuestRun, GuestUuid, VolumeId};
use std::{fs, time::UNIX_EPOCH};
use uuid::Uuid;
use virt::{connect::Connect, domain::Domain, error::ErrorNumber, sys};

/// A libvirt domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// Its UUID.
    pub uuid: GuestUuid,
    /// Its name.
    pub name: String,
    /// It runs (or is paused).
    pub active: bool,
    /// As this; `None` when it does not.
    pub run: Option<GuestRun>,
    /// It has a persistent definition, so it comes back after it is shut off.
    pub persistent: bool,
    /// The memory that it may have when it is started, MiB.
    pub memory_mib: Option<u64>,
    /// The disks it has now; empty when it does not run.
    pub live_disks: Vec<GuestDisk>,
    /// The disks of its persistent definition; empty when it has none.
    pub config_disks: Vec<GuestDisk>,
}

/// A disk of a guest, whoever attached it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestDisk {
    /// Target name such as `vdb`.
    pub target: String,
    /// Bus, in libvirt's word: `virtio`, `scsi`, `sata`, …
    pub bus: String,
    /// The serial given to the guest.
    pub serial: Option<String>,
    /// Its alias; a definition has only those that a user gave.
    pub alias: Option<String>,
    /// Where the data comes from, in short: a path, or `protocol:name at host:port`.
    pub source: Option<String>,
    /// The volume, by the alias `ua-<volume id>` or else by a serial that is a UUID.
    pub volume: Option<VolumeId>,
    pub(super) address: Option<DriveAddress>,
}

/// Where a disk sits on a SCSI controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct DriveAddress {
    pub(super) controller: u32,
    pub(super) unit: u32,
}

/// A guest's two descriptions: what it has now, and what it will have when it is started again.
pub(super) struct Sides {
    pub(super) live: Option<DomainXml>,
    pub(super) config: Option<DomainXml>,
}

impl Sides {
    pub(super) fn read(domain: &Domain) -> Result<Self, LibvirtError> {
        let told = |what: &str| failed(format!("{what} of guest {}", domain.uuid().unwrap_or_default()));
        let read = |flags| DomainXml::parse(&domain.xml_desc(flags).map_err(told("read the definition"))?);
        let now = read(0)?;
        if now.id.is_none() {
            return Ok(Self { live: None, config: Some(now) });
        }
        let persistent = domain.is_persistent().map_err(told("read the persistence"))?;
        let config = if persistent { Some(read(sys::VIR_DOMAIN_XML_INACTIVE)?) } else { None };
        Ok(Self { live: Some(now), config })
    }

    pub(super) fn each(&self) -> impl Iterator<Item = &DomainXml> {
        self.live.iter().chain(&self.config)
    }
}

impl Guest {
    pub(super) fn read(domain: &Domain) -> Result<Self, LibvirtError> {
        let uuid = GuestUuid(domain.uuid().map_err(failed("read the guest's UUID"))?);
        let sides = Sides::read(domain)?;
        let name = sides.each().next().map(|side| side.name.clone()).unwrap_or_default();
        Ok(Self {
            uuid,
            name,
            active: sides.live.is_some(),
            run: sides.live.as_ref().and_then(|side| Some(run(side.id?, &side.name))),
            persistent: sides.config.is_some(),
            memory_mib: sides.config.as_ref().or(sides.live.as_ref()).and_then(|side| side.memory_mib),
            live_disks: sides.live.map(|side| side.disks).unwrap_or_default(),
            config_disks: sides.config.map(|side| side.disks).unwrap_or_default(),
        })
    }
}

/// The id alone comes again: QEMU writes its file as it starts, and nobody after it. A driver that has no such file has the id alone.
fn run(id: u32, name: &str) -> GuestRun {
    let written = fs::metadata(format!("/run/libvirt/qemu/{name}.pid")).and_then(|file| file.modified());
    let since_epoch = written.ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    GuestRun { id, started_at_ns: since_epoch.and_then(|since| u64::try_from(since.as_nanos()).ok()) }
}

/// Finds a guest by its UUID, or by its name if no guest has that UUID.
pub(super) fn find(connect: &Connect, name_or_uuid: &str) -> Result<Domain, LibvirtError> {
    if let Ok(uuid) = Uuid::try_parse(name_or_uuid)
        && let Some(domain) = by_uuid(connect, GuestUuid(uuid))?
    {
        return Ok(domain);
    }
    let missing = || LibvirtError::GuestNotFound { guest: name_or_uuid.to_owned() };
    if name_or_uuid.is_empty() || name_or_uuid.contains('\0') {
        return Err(missing());
    }
    match connect.lookup_domain_by_name(name_or_uuid) {
        Err(error) if error.code().is(ErrorNumber::NoDomain) => Err(missing()),
        found => found.map_err(failed(format!("look up guest {name_or_uuid:?}"))),
    }
}

pub(super) fn by_uuid(connect: &Connect, guest: GuestUuid) -> Result<Option<Domain>, LibvirtError> {
    match connect.lookup_domain_by_uuid(guest.0) {
        Ok(domain) => Ok(Some(domain)),
        Err(error) if error.code().is(ErrorNumber::NoDomain) => Ok(None),
        Err(error) => Err(failed(format!("look up guest {guest}"))(error)),
    }
}
