//! Writes a disk, and the controller it may need, as libvirt reads them.

use super::{domain_xml::network_source, error::LibvirtError, guest::DriveAddress};
use crate::model::{DiskAuth, DiskBus, DiskFormat, DiskSource, DiskSpec, Portal, disk_alias};
use quick_xml::{Writer, events::BytesText};
use std::io;

type Xml = Writer<Vec<u8>>;

/// The `<disk>` of a volume at `target`, which may differ from the one in `spec`; `address` is for the SCSI bus.
pub(super) fn disk(spec: &DiskSpec, target: &str, address: Option<DriveAddress>) -> Result<String, LibvirtError> {
    let kind = match spec.source {
        DiskSource::Block { .. } => "block",
        DiskSource::Iscsi { .. } | DiskSource::Rbd { .. } => "network",
        DiskSource::File { .. } => "file",
    };
    let source = source_name(&spec.source)?;
    build(|xml| {
        xml.create_element("disk").with_attributes([("type", kind), ("device", "disk")]).write_inner_content(|xml| {
            driver(xml, spec)?;
            xml.create_element("alias").with_attribute(("name", disk_alias(spec.volume).as_str())).write_empty()?;
            write_source(xml, &spec.source, &source)?;
            xml.create_element("target").with_attributes([("dev", target), ("bus", spec.bus.as_str())]).write_empty()?;
            xml.create_element("serial").write_text_content(BytesText::new(&spec.serial()))?;
            if spec.read_only {
                xml.create_element("readonly").write_empty()?;
            }
            if spec.shareable {
                xml.create_element("shareable").write_empty()?;
            }
            if let (DiskBus::Scsi, Some(DriveAddress { controller, unit })) = (spec.bus, address) {
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

/// A virtio-scsi controller. Without one libvirt would give the machine an emulated HBA, which is slow and which many
/// guests have no driver for.
pub(super) fn controller(index: u32) -> Result<String, LibvirtError> {
    build(|xml| {
        xml.create_element("controller")
            .with_attributes([("type", "scsi"), ("index", index.to_string().as_str()), ("model", "virtio-scsi")])
            .write_empty()?;
        Ok(())
    })
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
        DiskSource::Rbd { monitors, .. } => {
            let monitors: Vec<_> = monitors.iter().map(ToString::to_string).collect();
            network_source("rbd", &name, &monitors.join(","))
        }
    })
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

/// No host cache, since a volume may turn up on another host next. Block devices and files get native AIO; QEMU's own iSCSI
/// and RBD clients do their I/O themselves and take no such choice. The format is always said: libvirt must never guess it.
fn driver(xml: &mut Xml, spec: &DiskSpec) -> io::Result<()> {
    let format = match &spec.source {
        DiskSource::File { format, .. } => format.as_str(),
        _ => DiskFormat::Raw.as_str(),
    };
    let mut element = xml.create_element("driver").with_attributes([("name", "qemu"), ("type", format), ("cache", "none")]);
    if matches!(spec.source, DiskSource::Block { .. } | DiskSource::File { .. }) {
        element = element.with_attribute(("io", "native"));
    }
    if spec.discard {
        element = element.with_attribute(("discard", "unmap"));
    }
    element.write_empty()?;
    Ok(())
}

fn write_source(xml: &mut Xml, source: &DiskSource, name: &str) -> io::Result<()> {
    match source {
        DiskSource::Block { .. } => {
            xml.create_element("source").with_attribute(("dev", name)).write_empty()?;
        }
        DiskSource::File { .. } => {
            xml.create_element("source").with_attribute(("file", name)).write_empty()?;
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
                    Ok(())
                },
            )?;
        }
        DiskSource::Rbd { monitors, auth, conf_file, .. } => {
            xml.create_element("source").with_attributes([("protocol", "rbd"), ("name", name)]).write_inner_content(|xml| {
                for monitor in monitors {
                    write_host(xml, monitor)?;
                }
                if let Some(file) = conf_file {
                    let file = file.display().to_string();
                    xml.create_element("config").with_attribute(("file", file.as_str())).write_empty()?;
                }
                write_auth(xml, "ceph", auth.as_ref())
            })?;
        }
    }
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
mod tests {
    use super::*;
    use crate::libvirt::{domain_xml::DomainXml, samples};

    #[test]
    fn a_block_disk() {
        let mut spec = samples::block_spec("/run/bowline/a&'b");
        spec.discard = true;
        assert_eq!(
            disk(&spec, "vdb", None).unwrap(),
            "<disk type=\"block\" device=\"disk\"><driver name=\"qemu\" type=\"raw\" cache=\"none\" io=\"native\" \
             discard=\"unmap\"/><alias name=\"ua-94333fbd-2aab-4a5a-befd-e30c2f7377fd\"/>\
             <source dev=\"/run/bowline/a&amp;&apos;b\"/><target dev=\"vdb\" bus=\"virtio\"/>\
             <serial>94333fbd-2aab-4a5a-befd-e30c2f7377fd</serial></disk>"
        );
    }

    #[test]
    fn a_network_disk_on_the_scsi_bus_names_its_secret_and_its_address() {
        let mut spec = samples::iscsi_spec("::1");
        spec.bus = DiskBus::Scsi;
        spec.read_only = true;
        spec.shareable = true;
        assert_eq!(
            disk(&spec, "sdb", Some(DriveAddress { controller: 1, unit: 9 })).unwrap(),
            "<disk type=\"network\" device=\"disk\"><driver name=\"qemu\" type=\"raw\" cache=\"none\"/>\
             <alias name=\"ua-94333fbd-2aab-4a5a-befd-e30c2f7377fd\"/>\
             <source protocol=\"iscsi\" name=\"iqn.2026-01.org.example:t/1\"><host name=\"::1\" port=\"3260\"/>\
             <auth username=\"user\"><secret type=\"iscsi\" uuid=\"11111111-1111-4111-8111-111111111111\"/></auth>\
             <initiator><iqn name=\"iqn.2026-01.org.example:i\"/></initiator></source>\
             <target dev=\"sdb\" bus=\"scsi\"/><serial>94333fbd-2aab-4a5a-befd-e30c2f7377fd</serial><readonly/><shareable/>\
             <address type=\"drive\" controller=\"1\" bus=\"0\" target=\"0\" unit=\"9\"/></disk>"
        );
    }

    #[test]
    fn an_rbd_image_names_every_monitor_and_reads_back_as_it_was_written() {
        let mut spec = samples::rbd_spec(&["10.0.0.1:6789", "[fd00::1]:3300"]);
        spec.discard = true;
        let xml = disk(&spec, "vdb", None).unwrap();
        assert_eq!(
            xml,
            "<disk type=\"network\" device=\"disk\"><driver name=\"qemu\" type=\"raw\" cache=\"none\" discard=\"unmap\"/>\
             <alias name=\"ua-94333fbd-2aab-4a5a-befd-e30c2f7377fd\"/>\
             <source protocol=\"rbd\" name=\"volumes/volume-1\"><host name=\"10.0.0.1\" port=\"6789\"/>\
             <host name=\"fd00::1\" port=\"3300\"/><auth username=\"cinder\">\
             <secret type=\"ceph\" uuid=\"11111111-1111-4111-8111-111111111111\"/></auth></source>\
             <target dev=\"vdb\" bus=\"virtio\"/><serial>94333fbd-2aab-4a5a-befd-e30c2f7377fd</serial></disk>"
        );
        let domain =
            format!("<domain><name>g</name><uuid>0d1f2e3c-4b5a-4678-9abc-def012345678</uuid><devices>{xml}</devices></domain>");
        let read = DomainXml::parse(&domain).unwrap();
        assert_eq!(read.disk_of(spec.volume).unwrap().source, Some(source_text(&spec.source).unwrap()));
    }

    #[test]
    fn a_path_that_libvirt_could_not_take_is_refused() {
        for path in ["relative", "/nul\0byte"] {
            let error = disk(&samples::block_spec(path), "vdb", None).unwrap_err();
            assert!(matches!(error, LibvirtError::DiskXml { .. }), "{error}");
        }
    }
}
