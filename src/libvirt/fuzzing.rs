//! Ways in for the fuzz targets: domain XML read, disk XML written.

use super::{LibvirtError, attach_plan::Place, disk_xml, domain_xml::DomainXml, new_guest};
use crate::model::DiskSpec;

/// How many disks a domain's definition has.
///
/// # Errors
/// It is no definition.
pub fn disks(xml: &str) -> Result<usize, LibvirtError> {
    DomainXml::parse(xml).map(|domain| domain.disks.len())
}

/// Whether a guest would be defined by an XML that somebody hands over; then what libvirt would get has Bowline's mark.
///
/// # Errors
/// It is refused.
pub fn hand_over(name: &str, xml: &str) -> Result<bool, LibvirtError> {
    let new = new_guest::new_guest(name, xml)?;
    Ok(DomainXml::parse(&new.xml)?.mark == Some(new.mark))
}

/// The XML of a disk.
///
/// # Errors
/// A name that libvirt could not take.
pub fn disk(spec: &DiskSpec) -> Result<String, LibvirtError> {
    disk_xml::disk(spec, &spec.target, Place::default())
}
