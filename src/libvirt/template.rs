//! The plain guest that Bowline defines where nobody hands a definition over.
//!
//! It boots by its machine's own firmware from its first disk, has a serial console, a way to an agent in it, and random numbers. A guest
//! that wants more is defined by an XML.

use super::{disk_xml::build, error::LibvirtError, new_guest::Machine};
use crate::model::GuestTemplate;
use quick_xml::events::BytesText;

/// Slots that disks can be plugged into while the guest runs, on machines whose bus has none of its own.
const PCIE_PORTS: usize = 16;

/// Its definition, without UUID and disks.
pub(super) fn guest(name: &str, template: &GuestTemplate, machine: &Machine) -> Result<String, LibvirtError> {
    let has_pcie = machine.machine.contains("q35") || machine.machine.starts_with("virt");
    build(|xml| {
        xml.create_element("domain").with_attribute(("type", machine.domain_type.as_str())).write_inner_content(|xml| {
            let number = |number: u64| number.to_string();
            xml.create_element("name").write_text_content(BytesText::new(name))?;
            let memory = xml.create_element("memory").with_attribute(("unit", "MiB"));
            memory.write_text_content(BytesText::new(&number(template.memory_mib)))?;
            xml.create_element("vcpu").write_text_content(BytesText::new(&number(template.vcpus.into())))?;
            xml.create_element("os").write_inner_content(|xml| {
                let kind = [("arch", machine.arch.as_str()), ("machine", machine.machine.as_str())];
                xml.create_element("type").with_attributes(kind).write_text_content(BytesText::new("hvm"))?;
                Ok(())
            })?;
            if machine.arch == "x86_64" || machine.arch == "aarch64" {
                // Without ACPI a guest hears no power button.
                xml.create_element("features").write_inner_content(|xml| {
                    xml.create_element("acpi").write_empty()?;
                    Ok(())
                })?;
            }
            if machine.domain_type == "kvm" {
                xml.create_element("cpu").with_attribute(("mode", "host-passthrough")).write_empty()?;
            }
            xml.create_element("devices").write_inner_content(|xml| {
                for _ in 0..if has_pcie { PCIE_PORTS } else { 0 } {
                    let port = [("type", "pci"), ("model", "pcie-root-port")];
                    xml.create_element("controller").with_attributes(port).write_empty()?;
                }
                for network in &template.networks {
                    xml.create_element("interface").with_attribute(("type", "network")).write_inner_content(|xml| {
                        xml.create_element("source").with_attribute(("network", network.as_str())).write_empty()?;
                        xml.create_element("model").with_attribute(("type", "virtio")).write_empty()?;
                        Ok(())
                    })?;
                }
                xml.create_element("serial").with_attribute(("type", "pty")).write_empty()?;
                xml.create_element("channel").with_attribute(("type", "unix")).write_inner_content(|xml| {
                    let agent = [("type", "virtio"), ("name", "org.qemu.guest_agent.0")];
                    xml.create_element("target").with_attributes(agent).write_empty()?;
                    Ok(())
                })?;
                xml.create_element("rng").with_attribute(("model", "virtio")).write_inner_content(|xml| {
                    let backend = xml.create_element("backend").with_attribute(("model", "random"));
                    backend.write_text_content(BytesText::new("/dev/urandom"))?;
                    Ok(())
                })?;
                Ok(())
            })?;
            Ok(())
        })?;
        Ok(())
    })
}
