//! Ways in for the fuzz targets: domain XML read, disk XML written.

use super::{LibvirtError, attach_plan::Place, disk_xml, domain_xml::DomainXml};
use crate::model::DiskSpec;

/// How many disks a domain's definition has.
///
/// # Errors
/// It is no definition.
pub fn disks(xml: &str) -> Result<usize, LibvirtError> {
    DomainXml::parse(xml).map(|domain| domain.disks.len())
}

/// The XML of a disk.
///
/// # Errors
/// A name that libvirt could not take.
pub fn disk(spec: &DiskSpec) -> Result<String, LibvirtError> {
    disk_xml::disk(spec, &spec.target, Place::default())
}
