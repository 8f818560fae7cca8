//! Writes a disk, and the controller it may need, as libvirt reads them.

use super::{attach_plan::Place, domain_xml::network_source, error::LibvirtError, guest::DriveAddress};
use crate::model::{
    DiskAuth, DiskBus, DiskCache, DiskEncryption, DiskFormat, DiskIo, DiskSource, DiskSpec, DiskTuning, LocalDisk, LocalPlace,
    LuksVersion, Portal, disk_alias,
};
use quick_xml::{Writer, events::BytesText};
use std::{io, path::Path};

type Xml = Writer<Vec<u8>>;

/// libvirt's word for the protocol by which a coming image is read.
const NBD: &str = "nbd";
/// How long QEMU tries to reach an agent that is gone before reads fail, seconds: longer than its restart.
const RECONNECT_S: &str = "60";

/// The `<disk>` of a volume at `target`, which may differ from the one in `spec`.
pub(super) fn disk(spec: &DiskSpec, target: &str, place: Place) -> Result<String, LibvirtError> {
    let kind = match spec.source {
        DiskSource::Block { .. } => "block",
        DiskSource::Iscsi { .. } | DiskSource::Rbd { .. } => "network",
        DiskSource::File { .. } => "file",
    };
    let source = source_name(&spec.source)?;
    let engine = luks_engine(spec)?;
    build(|xml| {
        xml.create_element("disk").with_attributes([("type", kind), ("device", "disk")]).write_inner_content(|xml| {
            driver(xml, spec, place.iothread)?;
            xml.create_element("alias").with_attribute(("name", disk_alias(spec.volume).as_str())).write_empty()?;
            write_source(xml, spec, &source, engine)?;
            xml.create_element("target").with_attributes([("dev", target), ("bus", spec.bus.as_str())]).write_empty()?;
            xml.create_element("serial").write_text_content(BytesText::new(&spec.serial()))?;
            tuning(xml, &spec.tuning)?;
            if spec.read_only {
                xml.create_element("readonly").write_empty()?;
            }
            if spec.shareable {
                xml.create_element("shareable").write_empty()?;
            }
            if let Some(order) = spec.boot_order {
                xml.create_element("boot").with_attribute(("order", order.to_string().as_str())).write_empty()?;
            }
            if let (DiskBus::Scsi, Some(DriveAddress { controller, unit })) = (spec.bus, place.address) {
                let (controller, unit) = (controller.to_string(), unit.to_string());
                xml.create_element("address")
                    .with_attributes([("type", "drive"), ("controller", controller.as_str()), ("bus", "0")])
                    .with_attributes([("target", "0"), ("unit", unit.as_str())])
                    .write_empty()?;
            }
            Ok(())
        })?;
        Ok(())
    })
}

/// An ephemeral disk: a logical volume, an RBD image, or a file and the file or the coming image below it, each with its format. A chain that is
/// told to its end is never looked into. A file goes through the host's cache, and an image through QEMU's: only this host ever has it, and the
/// guest's flushes reach it. A guest that reads of what
/// does not come is paused, and told of no error: it would take its disk for broken.
/// `boot_order`: its place among what the guest boots from, where devices have one.
pub(super) fn local_disk(disk: &LocalDisk, boot_order: Option<u32>) -> Result<String, LibvirtError> {
    let text = |path: &Path| {
        path.to_str()
            .map(str::to_owned)
            .ok_or_else(|| LibvirtError::DiskXml { problem: format!("{} is no UTF-8 path", path.display()) })
    };
    let path = text(&disk.path)?;
    let base = disk.base.as_ref().map(|(path, format)| Ok((text(path)?, format))).transpose()?;
    let coming = disk.lazy.as_ref().map(|lazy| Ok((text(&lazy.socket)?, lazy.image.format))).transpose()?;
    let (kind, cache) = match disk.place {
        LocalPlace::File => ("file", "writeback"),
        LocalPlace::LogicalVolume => ("block", "none"),
        LocalPlace::Rbd(_) => ("network", "writeback"),
    };
    build(|xml| {
        xml.create_element("disk").with_attributes([("type", kind), ("device", "disk")]).write_inner_content(|xml| {
            let driver = [("name", "qemu"), ("type", disk.format.as_str()), ("cache", cache), ("discard", "unmap")];
            let native = [("io", "native")].into_iter().filter(|_| disk.place == LocalPlace::LogicalVolume);
            let stops = [("error_policy", "stop"), ("rerror_policy", "stop")];
            let stops = stops.into_iter().filter(|_| coming.is_some());
            xml.create_element("driver").with_attributes(driver.into_iter().chain(native).chain(stops)).write_empty()?;
            match &disk.place {
                LocalPlace::File | LocalPlace::LogicalVolume => {
                    let attribute = if disk.place == LocalPlace::File { "file" } else { "dev" };
                    xml.create_element("source").with_attribute((attribute, path.as_str())).write_empty()?;
                }
                LocalPlace::Rbd(device) => {
                    let user = device.username.clone().zip(device.secret);
                    let auth = user.map(|(username, secret)| DiskAuth { username, secret });
                    rbd_source(xml, &path, (&device.monitors, device.conf_file.as_deref(), auth.as_ref()), |_| Ok(()))?;
                }
            }
            if let Some((path, format)) = &base {
                xml.create_element("backingStore").with_attribute(("type", "file")).write_inner_content(|xml| {
                    xml.create_element("format").with_attribute(("type", format.as_str())).write_empty()?;
                    xml.create_element("source").with_attribute(("file", path.as_str())).write_empty()?;
                    xml.create_element("backingStore").write_empty()?;
                    Ok(())
                })?;
            }
            if let Some((socket, format)) = &coming {
                coming_image(xml, socket, *format)?;
            }
            xml.create_element("target")
                .with_attributes([("dev", disk.target.as_str()), ("bus", disk.bus.as_str())])
                .write_empty()?;
            if let Some(order) = boot_order {
                xml.create_element("boot").with_attribute(("order", order.to_string().as_str())).write_empty()?;
            }
            Ok(())
        })?;
        Ok(())
    })
}

/// An image that the agent serves at a socket while it comes.
fn coming_image(xml: &mut Xml, socket: &str, format: DiskFormat) -> io::Result<()> {
    xml.create_element("backingStore").with_attribute(("type", "network")).write_inner_content(|xml| {
        xml.create_element("format").with_attribute(("type", format.as_str())).write_empty()?;
        xml.create_element("source").with_attribute(("protocol", NBD)).write_inner_content(|xml| {
            xml.create_element("host").with_attributes([("transport", "unix"), ("socket", socket)]).write_empty()?;
            xml.create_element("reconnect").with_attribute(("delay", RECONNECT_S)).write_empty()?;
            Ok(())
        })?;
        xml.create_element("backingStore").write_empty()?;
        Ok(())
    })?;
    Ok(())
}

/// A job that copies the disk `target` into a new qcow2 file, and leaves the guest's other disks out.
pub(super) fn backup(target: &str, file: &Path, others: &[String]) -> Result<String, LibvirtError> {
    let file =
        file.to_str().ok_or_else(|| LibvirtError::DiskXml { problem: format!("{} is no UTF-8 path", file.display()) })?;
    build(|xml| {
        xml.create_element("domainbackup").with_attribute(("mode", "push")).write_inner_content(|xml| {
            xml.create_element("disks").write_inner_content(|xml| {
                let disk = [("name", target), ("backup", "yes"), ("type", "file")];
                xml.create_element("disk").with_attributes(disk).write_inner_content(|xml| {
                    xml.create_element("target").with_attribute(("file", file)).write_empty()?;
                    xml.create_element("driver").with_attribute(("type", DiskFormat::Qcow2.as_str())).write_empty()?;
                    Ok(())
                })?;
                for other in others {
                    xml.create_element("disk").with_attributes([("name", other.as_str()), ("backup", "no")]).write_empty()?;
                }
                Ok(())
            })?;
            Ok(())
        })?;
        Ok(())
    })
}

/// A virtio-scsi controller. Without one libvirt would give the machine an emulated HBA, which is slow and which many
/// guests have no driver for.
pub(super) fn controller(index: u32, queues: Option<u16>, iothread: Option<u32>) -> Result<String, LibvirtError> {
    let driver: Vec<(&str, String)> = [("queues", queues.map(u32::from)), ("iothread", iothread)]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value.to_string())))
        .collect();
    build(|xml| {
        let element = xml.create_element("controller").with_attributes([
            ("type", "scsi"),
            ("index", index.to_string().as_str()),
            ("model", "virtio-scsi"),
        ]);
        if driver.is_empty() {
            element.write_empty()?;
        } else {
            element.write_inner_content(|xml| {
                let attributes = driver.iter().map(|(name, value)| (*name, value.as_str()));
                xml.create_element("driver").with_attributes(attributes).write_empty()?;
                Ok(())
            })?;
        }
        Ok(())
    })
}

/// Who decrypts: QEMU's own driver knows LUKS1 on every disk, and its RBD client knows LUKS2, too.
fn luks_engine(spec: &DiskSpec) -> Result<Option<&'static str>, LibvirtError> {
    match (spec.encryption.map(|encryption| encryption.version), &spec.source) {
        (Some(LuksVersion::Luks2), DiskSource::Rbd { .. }) => Ok(Some("librbd")),
        (Some(version @ LuksVersion::Luks2), _) => Err(LibvirtError::NoLuks2 { version: version.name() }),
        _ => Ok(None),
    }
}

fn tuning(xml: &mut Xml, tuning: &DiskTuning) -> io::Result<()> {
    let sizes = [("logical_block_size", tuning.block_sizes.logical), ("physical_block_size", tuning.block_sizes.physical)];
    let sizes: Vec<_> = sizes.iter().filter_map(|(name, size)| size.map(|size| (*name, size.to_string()))).collect();
    if !sizes.is_empty() {
        let attributes = sizes.iter().map(|(name, size)| (*name, size.as_str()));
        xml.create_element("blockio").with_attributes(attributes).write_empty()?;
    }
    if !tuning.iotune.is_empty() {
        xml.create_element("iotune").write_inner_content(|xml| {
            for (limit, value) in tuning.iotune.limits() {
                xml.create_element(limit.key()).write_text_content(BytesText::new(&value.to_string()))?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Just enough of a disk for libvirt to find it in a persistent definition: it compares the target.
pub(super) fn disk_by_target(target: &str, bus: &str) -> Result<String, LibvirtError> {
    build(|xml| {
        xml.create_element("disk").with_attributes([("type", "file"), ("device", "disk")]).write_inner_content(|xml| {
            xml.create_element("target").with_attributes([("dev", target), ("bus", bus)]).write_empty()?;
            Ok(())
        })?;
        Ok(())
    })
}

/// The source as it reads in [`super::GuestDisk::source`], to compare with.
pub(super) fn source_text(source: &DiskSource) -> Result<String, LibvirtError> {
    let name = source_name(source)?;
    Ok(match source {
        DiskSource::Block { .. } | DiskSource::File { .. } => name,
        DiskSource::Iscsi { path, .. } => network_source("iscsi", &name, &path.portal.to_string()),
        DiskSource::Rbd { monitors, .. } => rbd_source_text(&name, monitors),
    })
}

/// The same of an ephemeral disk; `None` where its path is none that libvirt could have.
pub(super) fn local_source_text(disk: &LocalDisk) -> Option<String> {
    let name = disk.path.to_str()?;
    Some(match &disk.place {
        LocalPlace::File | LocalPlace::LogicalVolume => name.to_owned(),
        LocalPlace::Rbd(device) => rbd_source_text(name, &device.monitors),
    })
}

fn rbd_source_text(name: &str, monitors: &[Portal]) -> String {
    let monitors: Vec<_> = monitors.iter().map(ToString::to_string).collect();
    network_source("rbd", name, &monitors.join(","))
}

fn source_name(source: &DiskSource) -> Result<String, LibvirtError> {
    match source {
        DiskSource::Block { path } | DiskSource::File { path, .. } => path
            .to_str()
            .filter(|path| path.starts_with('/'))
            .map(str::to_owned)
            .ok_or_else(|| LibvirtError::DiskXml { problem: format!("{} is no absolute UTF-8 path", path.display()) }),
        DiskSource::Iscsi { path, .. } => Ok(format!("{}/{}", path.iqn, path.lun)),
        DiskSource::Rbd { image, .. } => Ok(image.to_string()),
    }
}

/// By default no host cache, since a volume may turn up on another host next; one that guests share never has one. Block devices
/// and files get native AIO, which QEMU refuses beside a cache; QEMU's own iSCSI and RBD clients do their I/O themselves and take
/// no such choice. The format is always said: libvirt must never guess it.
fn driver(xml: &mut Xml, spec: &DiskSpec, iothread: Option<u32>) -> io::Result<()> {
    let cache = if spec.shareable { DiskCache::None } else { spec.tuning.cache };
    let io = match spec.tuning.io {
        DiskIo::Native if cache.is_buffered() => DiskIo::Threads,
        io => io,
    };
    let format = match &spec.source {
        DiskSource::File { format, .. } => format.as_str(),
        _ => DiskFormat::Raw.as_str(),
    };
    let mut element =
        xml.create_element("driver").with_attributes([("name", "qemu"), ("type", format), ("cache", cache.as_str())]);
    if matches!(spec.source, DiskSource::Block { .. } | DiskSource::File { .. }) {
        element = element.with_attribute(("io", io.as_str()));
    }
    if spec.discard {
        element = element.with_attribute(("discard", "unmap"));
    }
    if let Some(iothread) = iothread {
        element = element.with_attribute(("iothread", iothread.to_string().as_str()));
    }
    // On the SCSI bus they are the controller's.
    if let (DiskBus::Virtio, Some(queues)) = (spec.bus, spec.tuning.queues) {
        element = element.with_attribute(("queues", queues.to_string().as_str()));
    }
    element.write_empty()?;
    Ok(())
}

fn write_source(xml: &mut Xml, spec: &DiskSpec, name: &str, engine: Option<&str>) -> io::Result<()> {
    match &spec.source {
        DiskSource::Block { .. } | DiskSource::File { .. } => {
            let attribute = if matches!(spec.source, DiskSource::Block { .. }) { "dev" } else { "file" };
            let element = xml.create_element("source").with_attribute((attribute, name));
            match spec.encryption {
                Some(encryption) => element.write_inner_content(|xml| write_encryption(xml, encryption, engine))?,
                None => element.write_empty()?,
            };
        }
        DiskSource::Iscsi { path, initiator, auth } => {
            xml.create_element("source").with_attributes([("protocol", "iscsi"), ("name", name)]).write_inner_content(
                |xml| {
                    write_host(xml, &path.portal)?;
                    write_auth(xml, "iscsi", auth.as_ref())?;
                    xml.create_element("initiator").write_inner_content(|xml| {
                        xml.create_element("iqn").with_attribute(("name", initiator.as_str())).write_empty()?;
                        Ok(())
                    })?;
                    spec.encryption.map_or(Ok(()), |encryption| write_encryption(xml, encryption, engine))
                },
            )?;
        }
        DiskSource::Rbd { monitors, auth, conf_file, .. } => {
            rbd_source(xml, name, (monitors, conf_file.as_deref(), auth.as_ref()), |xml| {
                spec.encryption.map_or(Ok(()), |encryption| write_encryption(xml, encryption, engine))
            })?;
        }
    }
    Ok(())
}

/// An RBD image, of the cluster of these monitors, or of that configuration where none is named.
fn rbd_source(
    xml: &mut Xml,
    name: &str,
    (monitors, conf_file, auth): (&[Portal], Option<&Path>, Option<&DiskAuth>),
    inner: impl FnOnce(&mut Xml) -> io::Result<()>,
) -> io::Result<()> {
    xml.create_element("source").with_attributes([("protocol", "rbd"), ("name", name)]).write_inner_content(|xml| {
        for monitor in monitors {
            write_host(xml, monitor)?;
        }
        if let Some(file) = conf_file {
            let file = file.display().to_string();
            xml.create_element("config").with_attribute(("file", file.as_str())).write_empty()?;
        }
        write_auth(xml, "ceph", auth)?;
        inner(xml)
    })?;
    Ok(())
}

fn write_encryption(xml: &mut Xml, encryption: DiskEncryption, engine: Option<&str>) -> io::Result<()> {
    let secret = encryption.secret.hyphenated().to_string();
    let mut element = xml.create_element("encryption").with_attribute(("format", encryption.version.as_str()));
    if let Some(engine) = engine {
        element = element.with_attribute(("engine", engine));
    }
    element.write_inner_content(|xml| {
        xml.create_element("secret").with_attributes([("type", "passphrase"), ("uuid", secret.as_str())]).write_empty()?;
        Ok(())
    })?;
    Ok(())
}

fn write_host(xml: &mut Xml, portal: &Portal) -> io::Result<()> {
    let port = portal.port.to_string();
    xml.create_element("host").with_attributes([("name", portal.host.as_str()), ("port", port.as_str())]).write_empty()?;
    Ok(())
}

fn write_auth(xml: &mut Xml, kind: &str, auth: Option<&DiskAuth>) -> io::Result<()> {
    let Some(auth) = auth else { return Ok(()) };
    let secret = auth.secret.hyphenated().to_string();
    xml.create_element("auth").with_attribute(("username", auth.username.as_str())).write_inner_content(|xml| {
        xml.create_element("secret").with_attributes([("type", kind), ("uuid", secret.as_str())]).write_empty()?;
        Ok(())
    })?;
    Ok(())
}

/// Writes into memory, which cannot fail but by a bug, and refuses what a C string cannot hold.
pub(super) fn build(write: impl FnOnce(&mut Xml) -> io::Result<()>) -> Result<String, LibvirtError> {
    let bad = |problem: String| LibvirtError::DiskXml { problem };
    let mut xml = Writer::new(Vec::new());
    write(&mut xml).map_err(|error| bad(error.to_string()))?;
    let text = String::from_utf8(xml.into_inner()).map_err(|error| bad(error.to_string()))?;
    match text.contains('\0') {
        true => Err(bad("a name contains a null character".to_owned())),
        false => Ok(text),
    }
}

#[cfg(test)]
#[path = "disk_xml_tests.rs"]
mod tests;
