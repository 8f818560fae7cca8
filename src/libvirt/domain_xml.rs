//! Reads a domain's XML as a stream: name, disks and SCSI controllers, and nothing else. A domain is never written back.

use super::{
    error::LibvirtError,
    guest::{DriveAddress, GuestDisk},
    rewrite,
};
use crate::model::{GuestUuid, MIB, Portal, VolumeId};
use quick_xml::{
    Reader, XmlVersion, escape,
    events::{BytesStart, Event},
};
use uuid::Uuid;

/// What matters of a domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DomainXml {
    pub(super) uuid: Option<GuestUuid>,
    /// There is a `<uuid>`, whatever is in it.
    pub(super) has_uuid: bool,
    /// What Bowline marked the definition with.
    pub(super) mark: Option<Uuid>,
    pub(super) name: String,
    /// Its memory, MiB; `None` where it is not told in a unit of libvirt's.
    pub(super) memory_mib: Option<u64>,
    /// Bytes of the unit that its memory is told in.
    pub(super) memory_unit: Option<u64>,
    /// It runs as this; only a running domain has an id.
    pub(super) id: Option<u32>,
    pub(super) disks: Vec<GuestDisk>,
    pub(super) scsi_controllers: Vec<ScsiController>,
    /// It boots by `<os><boot>`, beside which no device can have an order.
    pub(super) boots_by_os: bool,
    /// Places in the boot order that devices have.
    pub(super) boot_orders: Vec<u32>,
    /// Numbers of its I/O threads.
    pub(super) iothreads: Vec<u32>,
    /// The thread of each disk or controller that has one.
    pub(super) iothread_users: Vec<u32>,
    /// The way to the agent in the guest.
    pub(super) agent: AgentChannel,
    /// Target names of disks that are over something, which libvirt names.
    pub(super) layered: Vec<String>,
}

/// How a guest's agent can be spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum AgentChannel {
    /// There is no channel, or nobody in the guest has it open.
    #[default]
    Silent,
    /// Somebody in the guest listens.
    Listening,
}

/// The name by which libvirt knows the agent's channel.
const AGENT_CHANNEL: &str = "org.qemu.guest_agent.0";

/// More I/O threads than any guest has; a bound on what a definition can have the agent count.
const IOTHREADS_MAX: u32 = 1024;

/// A `<controller type='scsi'>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ScsiController {
    pub(super) index: u32,
    pub(super) is_virtio: bool,
}

impl DomainXml {
    pub(super) fn parse(xml: &str) -> Result<Self, LibvirtError> {
        let mut reader = Reader::from_str(xml);
        reader.config_mut().expand_empty_elements = true;
        let mut domain = Self::default();
        let mut path: Vec<String> = Vec::new();
        let mut text = String::new();
        let mut disk = DiskParts::default();
        let mut iothread_count = 0;
        loop {
            match reader.read_event().map_err(unreadable)? {
                Event::Start(element) => {
                    path.push(element.name().as_ref().to_owned());
                    text.clear();
                    domain.open(&steps(&path), &element, &mut disk)?;
                }
                Event::Text(part) => text.push_str(&part.xml10_content()),
                Event::CData(part) => text.push_str(&part.xml10_content()),
                Event::GeneralRef(entity) => match entity.resolve_char_ref().map_err(unreadable)? {
                    Some(character) => text.push(character),
                    None => text.push_str(escape::resolve_xml_entity(&entity).unwrap_or_default()),
                },
                Event::End(_) => {
                    domain.close(&steps(&path), text.trim(), &mut disk, &mut iothread_count);
                    path.pop();
                    text.clear();
                }
                Event::Eof if path.is_empty() && !domain.name.is_empty() => {
                    domain.number_iothreads(iothread_count);
                    return Ok(domain);
                }
                Event::Eof => return Err(LibvirtError::DomainXml { problem: "it ends early or has no name".to_owned() }),
                _ => {}
            }
        }
    }

    fn open(&mut self, path: &[&str], element: &BytesStart<'_>, disk: &mut DiskParts) -> Result<(), LibvirtError> {
        let attribute = |name: &str| attribute(element, name);
        match path {
            ["domain"] => self.id = attribute("id")?.map(|id| number(Some(id))),
            ["domain", "uuid"] => self.has_uuid = true,
            ["domain", "memory"] => self.memory_unit = unit(attribute("unit")?.as_deref().unwrap_or("KiB")),
            ["domain", "metadata", _] => self.mark = self.mark.or(rewrite::mark_of(element)),
            ["domain", "os", "boot"] => self.boots_by_os = true,
            ["domain", "devices", _, "boot"] => self.boot_orders.push(number(attribute("order")?)),
            ["domain", "iothreadids", "iothread"] => self.iothreads.push(number(attribute("id")?)),
            ["domain", "devices", "disk" | "controller", "driver"] => {
                if let Some(thread) = attribute("iothread")? {
                    self.iothread_users.push(number(Some(thread)));
                }
            }
            ["domain", "devices", "controller"] if attribute("type")?.as_deref() == Some("scsi") => {
                self.scsi_controllers.push(ScsiController {
                    index: number(attribute("index")?),
                    is_virtio: attribute("model")?.is_some_and(|model| model.starts_with("virtio")),
                });
            }
            ["domain", "devices", "channel", "target"]
                if attribute("name")?.as_deref() == Some(AGENT_CHANNEL)
                    && attribute("state")?.as_deref() == Some("connected") =>
            {
                self.agent = AgentChannel::Listening;
            }
            ["domain", "devices", "disk"] => *disk = DiskParts::default(),
            ["domain", "devices", "disk", rest @ ..] => match rest {
                ["source"] => {
                    disk.protocol = attribute("protocol")?;
                    for name in ["dev", "file", "name", "dir", "volume"] {
                        disk.source = disk.source.take().or(attribute(name)?);
                    }
                }
                ["source", "host"] => {
                    disk.hosts.push((attribute("name")?.unwrap_or_default(), attribute("port")?));
                }
                ["target"] => {
                    disk.target = attribute("dev")?.unwrap_or_default();
                    disk.bus = attribute("bus")?.unwrap_or_default();
                }
                ["backingStore", "source"] => disk.is_layered = true,
                ["alias"] => disk.alias = attribute("name")?,
                ["address"] if attribute("type")?.as_deref() == Some("drive") => {
                    disk.address =
                        Some(DriveAddress { controller: number(attribute("controller")?), unit: number(attribute("unit")?) });
                }
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self, path: &[&str], text: &str, disk: &mut DiskParts, iothread_count: &mut usize) {
        match path {
            ["domain", "name"] => text.clone_into(&mut self.name),
            ["domain", "uuid"] => self.uuid = Uuid::try_parse(text).ok().map(GuestUuid),
            ["domain", "memory"] => {
                let bytes = self.memory_unit.zip(text.parse().ok()).map(|(unit, count): (u64, u64)| unit.saturating_mul(count));
                self.memory_mib = bytes.map(|bytes| bytes / MIB);
            }
            ["domain", "iothreads"] => *iothread_count = text.parse().unwrap_or_default(),
            ["domain", "devices", "disk", "serial"] => disk.serial = Some(text.to_owned()),
            ["domain", "devices", "disk"] => {
                let disk = std::mem::take(disk);
                self.layered.extend(disk.is_layered.then(|| disk.target.clone()));
                self.disks.push(disk.finish());
            }
            _ => {}
        }
    }

    /// libvirt writes how many threads there are, and their numbers only where somebody chose them: the others have the lowest
    /// free ones.
    fn number_iothreads(&mut self, count: usize) {
        let free: Vec<u32> = (1..=IOTHREADS_MAX).filter(|id| !self.iothreads.contains(id)).collect();
        self.iothreads.extend(free.into_iter().take(count.saturating_sub(self.iothreads.len())));
    }

    /// The disk of a volume: by the alias that Bowline and Nova give it, else by its serial.
    pub(super) fn disk_of(&self, volume: VolumeId) -> Option<&GuestDisk> {
        self.disks.iter().find(|disk| disk.volume == Some(volume))
    }
}

/// A `<disk>` while it is being read.
#[derive(Default)]
struct DiskParts {
    target: String,
    bus: String,
    alias: Option<String>,
    serial: Option<String>,
    protocol: Option<String>,
    source: Option<String>,
    hosts: Vec<(String, Option<String>)>,
    /// There is something below it.
    is_layered: bool,
    address: Option<DriveAddress>,
}

impl DiskParts {
    fn finish(self) -> GuestDisk {
        let by_alias = self.alias.as_deref().and_then(|alias| alias.strip_prefix("ua-")?.parse().ok());
        let by_serial = || self.serial.as_deref()?.parse().ok();
        let source = self.source.map(|source| match self.protocol {
            None => source,
            Some(protocol) => {
                let port = |port: Option<String>| port.and_then(|port| port.parse().ok()).unwrap_or(default_port(&protocol));
                let hosts: Vec<_> =
                    self.hosts.into_iter().map(|(host, given)| Portal { host, port: port(given) }.to_string()).collect();
                network_source(&protocol, &source, &hosts.join(","))
            }
        });
        GuestDisk {
            volume: by_alias.or_else(by_serial),
            target: self.target,
            bus: self.bus,
            serial: self.serial,
            alias: self.alias,
            source,
            address: self.address,
        }
    }
}

/// How a network source reads in [`GuestDisk::source`].
pub(super) fn network_source(protocol: &str, name: &str, hosts: &str) -> String {
    format!("{protocol}:{name} at {hosts}")
}

/// libvirt leaves a port out that is the protocol's own.
fn default_port(protocol: &str) -> u16 {
    match protocol {
        "iscsi" => 3260,
        "rbd" => 6789,
        _ => 0,
    }
}

fn steps(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Result<Option<String>, LibvirtError> {
    element
        .try_get_attribute(name)
        .map_err(unreadable)?
        .map(|attribute| attribute.normalized_value(XmlVersion::Implicit1_0).map(String::from).map_err(unreadable))
        .transpose()
}

/// Bytes of a unit, as libvirt's definitions have them.
fn unit(word: &str) -> Option<u64> {
    let (kind, base) = match word {
        "b" | "bytes" => return Some(1),
        _ if word.ends_with("iB") || word.len() == 1 => (word.get(..1)?, 1024_u64),
        _ if word.len() == 2 && word.ends_with('B') => (word.get(..1)?, 1000),
        _ => return None,
    };
    let power = ["k", "m", "g", "t", "p"].iter().position(|known| kind.eq_ignore_ascii_case(known))?;
    (0..=power).try_fold(1_u64, |bytes, _| bytes.checked_mul(base))
}

fn number(text: Option<String>) -> u32 {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn unreadable(error: impl std::fmt::Display) -> LibvirtError {
    LibvirtError::DomainXml { problem: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOLUME: &str = "94333fbd-2aab-4a5a-befd-e30c2f7377fd";

    fn domain(devices: &str) -> DomainXml {
        let xml = format!(
            "<domain type='qemu' id='3'><name>a&amp;b</name><uuid>0d1f2e3c-4b5a-4678-9abc-def012345678</uuid>\
             <devices>{devices}</devices></domain>"
        );
        DomainXml::parse(&xml).unwrap()
    }

    #[test]
    fn a_block_disk_is_known_by_its_alias() {
        let domain = domain(&format!(
            "<disk type='block' device='disk'><source dev='/dev/x' index='1'/><backingStore type='file'><source file='/no'/>\
             </backingStore><target dev='vdb' bus='virtio'/><serial>other</serial><alias name='ua-{VOLUME}'/></disk>"
        ));
        assert!(domain.id == Some(3) && domain.name == "a&b", "{domain:?}");
        let disk = domain.disk_of(VOLUME.parse().unwrap()).unwrap();
        assert_eq!((disk.target.as_str(), disk.bus.as_str()), ("vdb", "virtio"));
        assert_eq!(disk.source.as_deref(), Some("/dev/x"), "the backing store's source is not the disk's");
        assert_eq!(disk.serial.as_deref(), Some("other"));
    }

    #[test]
    fn a_network_disk_is_known_by_its_serial() {
        let domain = domain(&format!(
            "<disk type='network' device='disk'><source protocol='iscsi' name='iqn.2026-01.org:a/1'><host name='::1'/>\
             </source><target dev='sda' bus='scsi'/><serial>{VOLUME}</serial><alias name='scsi0-0-0-4'/>\
             <address type='drive' controller='1' bus='0' target='0' unit='4'/></disk>\
             <controller type='scsi' index='1' model='virtio-scsi'/><controller type='scsi' index='0' model='lsilogic'/>"
        ));
        let disk = domain.disk_of(VOLUME.parse().unwrap()).unwrap();
        assert_eq!(disk.source.as_deref(), Some("iscsi:iqn.2026-01.org:a/1 at [::1]:3260"));
        assert_eq!(disk.address, Some(DriveAddress { controller: 1, unit: 4 }));
        assert_eq!(
            domain.scsi_controllers,
            [ScsiController { index: 1, is_virtio: true }, ScsiController { index: 0, is_virtio: false }]
        );
    }

    #[test]
    fn boot_order_and_threads_are_read_wherever_they_stand() {
        let xml = "<domain><name>g</name><iothreads>3</iothreads><iothreadids><iothread id='2'/></iothreadids><os><boot dev='hd'/></os>\
                   <devices><disk><driver iothread='2'/><boot order='1'/></disk><interface><boot order='4'/></interface>\
                   <controller type='scsi' index='0'><driver queues='2' iothread='1'/></controller></devices></domain>";
        let domain = DomainXml::parse(xml).unwrap();
        assert!(domain.boots_by_os);
        assert_eq!((domain.boot_orders, domain.iothreads, domain.iothread_users), (vec![1, 4], vec![2, 1, 3], vec![2, 1]));
    }

    #[test]
    fn memory_is_read_in_every_unit() {
        for (memory, mib) in [
            ("<memory>98304</memory>", Some(96)),
            ("<memory unit='KiB'>1048576</memory>", Some(1024)),
            ("<memory unit='M'>512</memory>", Some(512)),
            ("<memory unit='GiB'>2</memory>", Some(2048)),
            ("<memory unit='GB'>2</memory>", Some(1907)),
            ("<memory unit='bytes'>1048576</memory>", Some(1)),
            ("<memory unit='hogsheads'>2</memory>", None),
            ("<memory>much</memory>", None),
            ("", None),
        ] {
            let xml = format!("<domain><name>g</name>{memory}</domain>");
            assert_eq!(DomainXml::parse(&xml).unwrap().memory_mib, mib, "{memory}");
        }
    }

    #[test]
    fn broken_xml_is_an_error() {
        for xml in
            ["", "<domain", "<domain><name>a</name>", "<domain></x>", "<domain/>", "<domain><name>&#xFFFFFFFF;</name></domain>"]
        {
            assert!(matches!(DomainXml::parse(xml), Err(LibvirtError::DomainXml { .. })), "{xml}");
        }
    }
}
