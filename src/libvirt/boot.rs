//! A guest's ephemeral disks in its definition, and starting and stopping it.

use super::{
    Outcome,
    attach::explain_image,
    connection::{Call, Connection},
    disk_xml,
    domain_xml::DomainXml,
    error::{LibvirtError, failed},
    guest, rewrite,
};
use crate::model::{GuestUuid, LocalDisk, RbdImage};
use std::sync::Arc;
use virt::{domain::Domain, error::ErrorNumber, sys};

/// Puts an ephemeral disk into the guest's definition; the same one again changes nothing.
pub(super) async fn define_disk(
    connection: &Arc<Connection>,
    uuid: GuestUuid,
    disk: &LocalDisk,
) -> Result<Outcome, LibvirtError> {
    let operation = format!("put disk {} into the definition of guest {uuid}", disk.target);
    let call = Call::new(operation.clone(), Some(uuid), connection.config.attach_timeout_s);
    let disk = disk.clone();
    let work = move |connect: &virt::connect::Connect| {
        let domain = guest::by_uuid(connect, uuid)?.ok_or_else(|| LibvirtError::GuestNotFound { guest: uuid.to_string() })?;
        if bus_of(&domain, &disk)?.is_some() {
            return Ok(Outcome::Unchanged);
        }
        let xml = disk_xml::local_disk(&disk, None)?;
        domain.attach_device_flags(&xml, sys::VIR_DOMAIN_AFFECT_CONFIG).map_err(failed(operation.clone()))?;
        Ok(Outcome::Changed)
    };
    connection.read(call, work).await
}

/// Puts an ephemeral disk into the guest's definition in the place of another of that target name, which it may have had before. It
/// keeps its place among the disks, which is what the guest boots by; one that is put in behind them would not.
pub(super) async fn replace_disk(
    connection: &Arc<Connection>,
    uuid: GuestUuid,
    former: &LocalDisk,
    disk: &LocalDisk,
) -> Result<Outcome, LibvirtError> {
    let operation = format!("put disk {} anew into the definition of guest {uuid}", disk.target);
    let call = Call::new(operation.clone(), Some(uuid), connection.config.attach_timeout_s);
    let (former, disk) = (former.clone(), disk.clone());
    let work = move |connect: &virt::connect::Connect| {
        let domain = guest::by_uuid(connect, uuid)?.ok_or_else(|| LibvirtError::GuestNotFound { guest: uuid.to_string() })?;
        let xml = disk_xml::local_disk(&disk, None)?;
        // The same file may be told anew, as where what is below it is another.
        let done = match bus_of(&domain, &former)?.is_some() || bus_of(&domain, &disk)?.is_some() {
            true => domain.update_device_flags(&xml, sys::VIR_DOMAIN_AFFECT_CONFIG),
            false => domain.attach_device_flags(&xml, sys::VIR_DOMAIN_AFFECT_CONFIG),
        };
        done.map_err(failed(operation.clone()))?;
        Ok(Outcome::Changed)
    };
    connection.read(call, work).await
}

/// Takes it out again. A guest that is gone, or that has another disk there, has not got it.
pub(super) async fn undefine_disk(
    connection: &Arc<Connection>,
    uuid: GuestUuid,
    disk: &LocalDisk,
) -> Result<Outcome, LibvirtError> {
    let operation = format!("take disk {} out of the definition of guest {uuid}", disk.target);
    let call = Call::new(operation.clone(), Some(uuid), connection.config.attach_timeout_s);
    let disk = disk.clone();
    let work = move |connect: &virt::connect::Connect| {
        let Some(domain) = guest::by_uuid(connect, uuid)? else { return Ok(Outcome::Unchanged) };
        let Some(bus) = bus_of(&domain, &disk)? else { return Ok(Outcome::Unchanged) };
        let xml = disk_xml::disk_by_target(&disk.target, &bus)?;
        domain.detach_device_flags(&xml, sys::VIR_DOMAIN_AFFECT_CONFIG).map_err(failed(operation.clone()))?;
        Ok(Outcome::Changed)
    };
    connection.read(call, work).await
}

/// Starts the guest; one that runs is left as it is.
pub(super) async fn start(connection: &Arc<Connection>, uuid: GuestUuid) -> Result<Outcome, LibvirtError> {
    let operation = format!("start guest {uuid}");
    let call = Call::new(operation.clone(), Some(uuid), connection.config.attach_timeout_s);
    let work = move |connect: &virt::connect::Connect| {
        let domain = guest::by_uuid(connect, uuid)?.ok_or_else(|| LibvirtError::GuestNotFound { guest: uuid.to_string() })?;
        if domain.is_active().map_err(failed(operation.clone()))? {
            return Ok(Outcome::Unchanged);
        }
        domain.create().map_err(failed(operation.clone())).map_err(|error| explain(error, &domain))?;
        Ok(Outcome::Changed)
    };
    connection.read(call, work).await
}

/// Starts the guest once from one more disk, before all others; its definition stays as it is. One that runs from it is left alone.
pub(super) async fn start_rescue(
    connection: &Arc<Connection>,
    uuid: GuestUuid,
    disk: &LocalDisk,
) -> Result<Outcome, LibvirtError> {
    let operation = format!("start guest {uuid} from its rescue disk");
    let call = Call::new(operation.clone(), Some(uuid), connection.config.attach_timeout_s);
    let disk = disk.clone();
    let work = move |connect: &virt::connect::Connect| {
        let domain = guest::by_uuid(connect, uuid)?.ok_or_else(|| LibvirtError::GuestNotFound { guest: uuid.to_string() })?;
        let read = |flags| domain.xml_desc(flags).map_err(failed("read the guest's definition"));
        if domain.is_active().map_err(failed(operation.clone()))? {
            let (disks, source) = (DomainXml::parse(&read(0)?)?.disks, disk_xml::local_source_text(&disk));
            return match disks.iter().any(|has| has.source == source) {
                true => Ok(Outcome::Unchanged),
                false => Err(LibvirtError::RunsOtherwise { guest: uuid }),
            };
        }
        // Its memory would meet, at its next start, disks that the rescue has written to.
        must_be_unsaved(&domain, uuid)?;
        let definition = read(sys::VIR_DOMAIN_XML_INACTIVE | sys::VIR_DOMAIN_XML_SECURE)?;
        let xml = rewrite::booting_from(&definition, &disk_xml::local_disk(&disk, Some(1))?)?;
        // Of a guest that is defined, libvirt keeps the definition and starts it by this one.
        connect.create_domain_xml(&xml, 0).map_err(failed(operation.clone())).map_err(|error| explain(error, &domain))?;
        Ok(Outcome::Changed)
    };
    connection.read(call, work).await
}

/// Says it where a guest does not start for an RBD image that libvirt cannot name.
fn explain(error: LibvirtError, domain: &Domain) -> LibvirtError {
    let xml = domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE).unwrap_or_default();
    let disks = DomainXml::parse(&xml).map(|definition| definition.disks).unwrap_or_default();
    disks
        .iter()
        .filter_map(|disk| image_in_namespace(disk.source.as_deref()?))
        .fold(error, |error, image| explain_image(error, &image))
}

/// The image that a disk's source names, if it is in a namespace.
fn image_in_namespace(source: &str) -> Option<RbdImage> {
    let (name, _) = source.strip_prefix("rbd:")?.split_once(" at ")?;
    let mut words = name.splitn(3, '/').map(str::to_owned);
    let (pool, namespace, name) = (words.next()?, words.next()?, words.next()?);
    Some(RbdImage { pool, namespace: Some(namespace), name })
}

/// Refuses a guest whose memory was saved: it must not meet, at its next start, other disks than it knows.
pub(super) async fn check_unsaved(connection: &Arc<Connection>, uuid: GuestUuid) -> Result<(), LibvirtError> {
    let operation = format!("see whether the memory of guest {uuid} was saved");
    let call = Call::new(operation, Some(uuid), connection.config.call_timeout_s);
    let work = move |connect: &virt::connect::Connect| match guest::by_uuid(connect, uuid)? {
        Some(domain) => must_be_unsaved(&domain, uuid),
        None => Ok(()),
    };
    connection.read(call, work).await
}

fn must_be_unsaved(domain: &Domain, guest: GuestUuid) -> Result<(), LibvirtError> {
    match domain.has_managed_save(0).map_err(failed(format!("see whether the memory of guest {guest} was saved")))? {
        true => Err(LibvirtError::ManagedSave { guest }),
        false => Ok(()),
    }
}

/// Ends the guest at once, as a power cut would. One that is off, or gone, is fine.
pub(super) async fn stop(connection: &Arc<Connection>, uuid: GuestUuid) -> Result<Outcome, LibvirtError> {
    let operation = format!("stop guest {uuid}");
    let call = Call::new(operation.clone(), Some(uuid), connection.config.attach_timeout_s);
    let work = move |connect: &virt::connect::Connect| {
        let Some(domain) = guest::by_uuid(connect, uuid)? else { return Ok(Outcome::Unchanged) };
        if !domain.is_active().map_err(failed(operation.clone()))? {
            return Ok(Outcome::Unchanged);
        }
        match domain.destroy() {
            Ok(()) => Ok(Outcome::Changed),
            // It ended by itself meanwhile.
            Err(error) if error.code().is(ErrorNumber::OperationInvalid) => Ok(Outcome::Unchanged),
            Err(error) => Err(failed(operation.clone())(error)),
        }
    };
    connection.read(call, work).await
}

/// The bus of the disk in the definition, if it has this very one at its target.
fn bus_of(domain: &Domain, disk: &LocalDisk) -> Result<Option<String>, LibvirtError> {
    let xml = domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE).map_err(failed("read the guest's definition"))?;
    let disks = DomainXml::parse(&xml)?.disks;
    let source = disk_xml::local_source_text(disk);
    let ours = disks.into_iter().find(|has| has.target == disk.target && has.source == source);
    Ok(ours.map(|has| has.bus))
}
