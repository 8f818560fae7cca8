//! Reads the `a{sv}` options of a method, and refuses what it does not know: a misspelt `read_only` must never attach a
//! disk writable.

use super::error::MethodError;
use crate::agent::api::{
    AttachRequest, DeleteRequest, DetachRequest, ExtendRequest, RebuildRequest, RescueRequest, StartRequest, StopRequest,
    UnrescueRequest,
};
use crate::model::{BootRequest, DiskWishes, GuestDefinition, GuestTemplate, SnapshotRequest};
use std::collections::HashMap;
use zbus::{OwnedVariant, Variant};

/// The wire form of options.
pub type Options = HashMap<String, OwnedVariant>;

/// Longest volume or guest designation: the volume service's names end at 255 characters.
const DESIGNATION_CHARS: usize = 255;
/// Longest mapping: a hundred times what any guest has.
const MAPPING_BYTES: usize = 256 * 1024;
/// Longest definition of a guest: ten times what any has.
const XML_BYTES: usize = 256 * 1024;

/// Options that are taken one by one; what is left over at the end is an error.
struct Taker {
    left: Options,
    known: Vec<&'static str>,
}

impl Taker {
    const fn new(left: Options) -> Self {
        Self { left, known: Vec::new() }
    }

    fn take<T>(&mut self, key: &'static str, wanted: &str) -> Result<Option<T>, MethodError>
    where
        T: TryFrom<OwnedVariant>,
    {
        self.known.push(key);
        let Some(value) = self.left.remove(key) else { return Ok(None) };
        let signature = Variant::value_signature(&value).to_string();
        T::try_from(value)
            .map(Some)
            .map_err(|_| MethodError::invalid(format!("option {key:?} must be {wanted}, not of D-Bus type {signature:?}")))
    }

    fn finish(self) -> Result<(), MethodError> {
        let Some(key) = self.left.keys().min() else { return Ok(()) };
        let key: String = key.chars().take(64).collect();
        Err(MethodError::invalid(if self.known.is_empty() {
            format!("unknown option {key:?}: this method takes none")
        } else {
            format!("unknown option {key:?}: expected one of {}", self.known.join(", "))
        }))
    }
}

/// Arguments of `Attach`.
pub fn attach_request(volume: String, guest: String, options: Options) -> Result<AttachRequest, MethodError> {
    let volume = designation("volume", volume)?;
    let guest = designation("guest", guest)?;
    let mut taker = Taker::new(options);
    let bus: Option<String> = taker.take("bus", "a string (s)")?;
    let target: Option<String> = taker.take("target", "a string (s)")?;
    let read_only: Option<bool> = taker.take("read-only", "a boolean (b)")?;
    let tag: Option<String> = taker.take("tag", "a string (s)")?;
    let boot_order: Option<u32> = taker.take("boot-order", "a number (u)")?;
    taker.finish()?;
    let wishes = DiskWishes::checked(tag, boot_order).map_err(MethodError::invalid)?;
    let bus = bus
        .map(|bus| bus.parse())
        .transpose()
        .map_err(|error: String| MethodError::invalid(format!("option \"bus\": {error}")))?;
    if target.as_deref() == Some("") {
        return Err(MethodError::invalid("option \"target\" is empty: leave it out for the first free name"));
    }
    Ok(AttachRequest { volume, guest, bus, target, read_only: read_only.unwrap_or(false), wishes })
}

/// Arguments of `Detach`; an empty guest means the only one.
pub fn detach_request(volume: String, guest: String, options: Options) -> Result<DetachRequest, MethodError> {
    let volume = designation("volume", volume)?;
    let guest = if guest.is_empty() { None } else { Some(designation("guest", guest)?) };
    Taker::new(options).finish()?;
    Ok(DetachRequest { volume, guest })
}

/// Arguments of `Extend`.
pub fn extend_request(volume: String, size_gib: u64, options: Options) -> Result<ExtendRequest, MethodError> {
    let volume = designation("volume", volume)?;
    Taker::new(options).finish()?;
    if size_gib == 0 {
        return Err(MethodError::invalid("the size is 0 GiB: a volume has at least 1"));
    }
    Ok(ExtendRequest { volume, size_gib })
}

/// Arguments of `Plan` for an extend: its size is an option there.
pub fn extend_plan_request(volume: String, guest: &str, options: Options) -> Result<ExtendRequest, MethodError> {
    if !guest.is_empty() {
        return Err(MethodError::invalid("an extend is for all guests that have the volume: leave the guest empty"));
    }
    let mut taker = Taker::new(options);
    let size_gib: Option<u64> = taker.take("size-gib", "a number (t)")?;
    taker.finish()?;
    let size_gib = size_gib.ok_or_else(|| MethodError::invalid("option \"size-gib\" is missing: the size to extend to"))?;
    extend_request(volume, size_gib, Options::new())
}

/// Arguments of `Boot`.
pub fn boot_request(guest: String, mapping: String, options: Options) -> Result<BootRequest, MethodError> {
    let guest = designation("guest", guest)?;
    if mapping.len() > MAPPING_BYTES {
        return Err(MethodError::invalid(format!("the mapping is longer than {MAPPING_BYTES} bytes")));
    }
    let mut taker = Taker::new(options);
    let image: Option<String> = taker.take("image", "a string (s)")?;
    let image_size_gib: Option<u64> = taker.take("image-size-gib", "a number (t)")?;
    let clauses: Option<Vec<String>> = taker.take("block-devices", "an array of strings (as)")?;
    let lazy: Option<bool> = taker.take("lazy", "a boolean (b)")?;
    let definition = guest_definition(&mut taker)?;
    taker.finish()?;
    let image = image.map(|image| designation("image", image)).transpose()?;
    if image_size_gib == Some(0) {
        return Err(MethodError::invalid("option \"image-size-gib\" is 0: a disk has at least 1 GiB"));
    }
    let clauses = clauses.unwrap_or_default();
    if clauses.iter().map(String::len).sum::<usize>() > MAPPING_BYTES {
        return Err(MethodError::invalid(format!("option \"block-devices\" is longer than {MAPPING_BYTES} bytes")));
    }
    if image_size_gib.is_some() && image.is_none() {
        return Err(MethodError::invalid("option \"image-size-gib\" is the size of an image's disk: give the image, too"));
    }
    Ok(BootRequest { guest, image, image_size_gib, mapping, clauses, lazy: lazy.unwrap_or(false), definition })
}

/// By what a boot defines its guest.
fn guest_definition(taker: &mut Taker) -> Result<Option<GuestDefinition>, MethodError> {
    let xml: Option<String> = taker.take("xml", "a string (s)")?;
    let memory_mib: Option<u64> = taker.take("memory-mib", "a number (t)")?;
    let vcpus: Option<u32> = taker.take("vcpus", "a number (u)")?;
    let networks: Option<Vec<String>> = taker.take("networks", "an array of strings (as)")?;
    let virt_type: Option<String> = taker.take("virt-type", "a string (s)")?;
    let arch: Option<String> = taker.take("arch", "a string (s)")?;
    let machine: Option<String> = taker.take("machine", "a string (s)")?;
    let has_more = vcpus.is_some() || networks.is_some() || virt_type.is_some() || arch.is_some() || machine.is_some();
    match (xml, memory_mib) {
        (Some(_), Some(_)) => Err(MethodError::invalid("options \"xml\" and \"memory-mib\" each define the guest: give one")),
        (Some(_), None) if has_more => {
            Err(MethodError::invalid("option \"xml\" is all of the guest: no other option says what it has"))
        }
        (Some(xml), None) if xml.len() > XML_BYTES => {
            Err(MethodError::invalid(format!("option \"xml\" is longer than {XML_BYTES} bytes")))
        }
        (Some(xml), None) => Ok(Some(GuestDefinition::Xml(xml))),
        (None, Some(0)) => Err(MethodError::invalid("option \"memory-mib\" is 0: a guest has some memory")),
        (None, Some(_)) if vcpus == Some(0) => Err(MethodError::invalid("option \"vcpus\" is 0: a guest has at least 1")),
        (None, Some(memory_mib)) => {
            let networks = networks.unwrap_or_default();
            let networks: Vec<_> = networks.into_iter().map(|name| designation("network", name)).collect::<Result<_, _>>()?;
            let vcpus = vcpus.unwrap_or(1);
            Ok(Some(GuestDefinition::Template(GuestTemplate { memory_mib, vcpus, networks, virt_type, arch, machine })))
        }
        (None, None) if has_more => Err(MethodError::invalid(
            "options \"vcpus\", \"networks\", \"virt-type\", \"arch\" and \"machine\" are of a guest that is defined here: give \"memory-mib\", too",
        )),
        (None, None) => Ok(None),
    }
}

/// Arguments of `Plan` for a boot: its mapping is an option there.
pub fn boot_plan_request(guest: String, mut options: Options) -> Result<BootRequest, MethodError> {
    let mapping = match options.remove("mapping") {
        None => String::new(),
        Some(mapping) => {
            mapping.try_into().map_err(|_| MethodError::invalid("option \"mapping\" must be a string (s) with a JSON list"))?
        }
    };
    boot_request(guest, mapping, options)
}

/// Arguments of `Delete`.
pub fn delete_request(guest: String, options: Options) -> Result<DeleteRequest, MethodError> {
    let guest = designation("guest", guest)?;
    Taker::new(options).finish()?;
    Ok(DeleteRequest { guest })
}

/// Arguments of `Rebuild`.
pub fn rebuild_request(guest: String, image: String, options: Options) -> Result<RebuildRequest, MethodError> {
    let guest = designation("guest", guest)?;
    let image = image_or_own(image)?;
    let mut taker = Taker::new(options);
    let size_gib: Option<u64> = taker.take("size-gib", "a number (t)")?;
    taker.finish()?;
    if size_gib == Some(0) {
        return Err(MethodError::invalid("option \"size-gib\" is 0: a disk has at least 1 GiB"));
    }
    Ok(RebuildRequest { guest, image, size_gib })
}

/// Arguments of `Plan` for a rebuild: its image is an option there.
pub fn rebuild_plan_request(guest: String, mut options: Options) -> Result<RebuildRequest, MethodError> {
    let image = image_option(&mut options)?;
    rebuild_request(guest, image, options)
}

/// Arguments of `Rescue`.
pub fn rescue_request(guest: String, image: String, options: Options) -> Result<RescueRequest, MethodError> {
    let guest = designation("guest", guest)?;
    let image = image_or_own(image)?;
    let mut taker = Taker::new(options);
    let size_gib: Option<u64> = taker.take("size-gib", "a number (t)")?;
    let force: Option<bool> = taker.take("force", "a boolean (b)")?;
    taker.finish()?;
    if size_gib == Some(0) {
        return Err(MethodError::invalid("option \"size-gib\" is 0: a disk has at least 1 GiB"));
    }
    Ok(RescueRequest { guest, image, size_gib, force: force.unwrap_or(false) })
}

/// Arguments of `Plan` for a rescue: its image is an option there.
pub fn rescue_plan_request(guest: String, mut options: Options) -> Result<RescueRequest, MethodError> {
    let image = image_option(&mut options)?;
    rescue_request(guest, image, options)
}

/// Arguments of `Unrescue`.
pub fn unrescue_request(guest: String, options: Options) -> Result<UnrescueRequest, MethodError> {
    let StopRequest { guest, force } = stop_request(guest, options)?;
    Ok(UnrescueRequest { guest, force })
}

/// An image as a caller gives it; empty for the guest's own.
fn image_or_own(image: String) -> Result<String, MethodError> {
    if image.is_empty() { Ok(image) } else { designation("image", image) }
}

/// The image, where it is an option.
fn image_option(options: &mut Options) -> Result<String, MethodError> {
    let image = options.remove("image").map(String::try_from).transpose();
    Ok(image.map_err(|_| MethodError::invalid("option \"image\" must be a string (s)"))?.unwrap_or_default())
}

/// Arguments of `Start`.
pub fn start_request(guest: String, options: Options) -> Result<StartRequest, MethodError> {
    let guest = designation("guest", guest)?;
    Taker::new(options).finish()?;
    Ok(StartRequest { guest })
}

/// Arguments of `Stop`.
pub fn stop_request(guest: String, options: Options) -> Result<StopRequest, MethodError> {
    let guest = designation("guest", guest)?;
    let mut taker = Taker::new(options);
    let force: Option<bool> = taker.take("force", "a boolean (b)")?;
    taker.finish()?;
    Ok(StopRequest { guest, force: force.unwrap_or(false) })
}

/// Arguments of `Snapshot`.
pub fn snapshot_request(guest: String, name: String, options: Options) -> Result<SnapshotRequest, MethodError> {
    let guest = designation("guest", guest)?;
    let name = designation("image's name", name)?;
    let mut taker = Taker::new(options);
    let freeze: Option<bool> = taker.take("freeze", "a boolean (b)")?;
    taker.finish()?;
    Ok(SnapshotRequest { guest, name, freeze: freeze.unwrap_or(true) })
}

/// Arguments of `Plan` for a snapshot: the image's name is an option there.
pub fn snapshot_plan_request(guest: String, mut options: Options) -> Result<SnapshotRequest, MethodError> {
    let name = options.remove("name").ok_or_else(|| MethodError::invalid("option \"name\" is missing: the image's name"))?;
    let name = name.try_into().map_err(|_| MethodError::invalid("option \"name\" must be a string (s)"))?;
    snapshot_request(guest, name, options)
}

/// Options of `Create`: the volume type, and whether several guests may have the volume.
pub fn volume_options(options: Options) -> Result<(Option<String>, bool), MethodError> {
    let mut taker = Taker::new(options);
    let volume_type = taker.take("type", "a string (s)")?;
    let multiattach: Option<bool> = taker.take("multiattach", "a boolean (b)")?;
    taker.finish()?;
    Ok((volume_type, multiattach.unwrap_or(false)))
}

/// A name or id as a caller gives it: something, and not a novel.
pub fn designation(what: &str, text: String) -> Result<String, MethodError> {
    if text.is_empty() {
        return Err(MethodError::invalid(format!("the {what} is empty: give its id or name")));
    }
    if text.chars().count() > DESIGNATION_CHARS {
        return Err(MethodError::invalid(format!("the {what} is longer than {DESIGNATION_CHARS} characters")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DiskBus, ErrorKind};

    fn options<const N: usize>(pairs: [(&str, Variant<'_>); N]) -> Options {
        pairs.into_iter().map(|(key, value)| (key.to_owned(), OwnedVariant::try_from(value).unwrap())).collect()
    }

    fn attach<const N: usize>(pairs: [(&str, Variant<'_>); N]) -> Result<AttachRequest, MethodError> {
        attach_request("v".into(), "g".into(), options(pairs))
    }

    #[test]
    fn every_option_is_read() {
        let further = attach([("tag", "db".into()), ("boot-order", 2_u32.into())]).unwrap();
        assert_eq!(further.wishes, DiskWishes { tag: Some("db".into()), boot_order: Some(2) });
        let request = attach([("bus", "scsi".into()), ("target", "sdc".into()), ("read-only", true.into())]).unwrap();
        assert_eq!((request.bus, request.target.as_deref(), request.read_only), (Some(DiskBus::Scsi), Some("sdc"), true));
        assert!(!attach([]).unwrap().read_only);
    }

    #[test]
    fn what_is_unknown_or_of_the_wrong_type_is_named() {
        for (error, word) in [
            (attach([("read_only", true.into())]), "\"read_only\""),
            (attach([("read-only", "yes".into())]), "\"read-only\""),
            (attach([("bus", "ide".into())]), "\"ide\""),
            (attach([("target", 3u32.into())]), "\"target\""),
            (attach([("target", "".into())]), "\"target\""),
            (attach([("tag", "a,b".into())]), "tag"),
            (attach([("boot-order", 0_u32.into())]), "boot order"),
        ] {
            let error = error.unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidInput);
            assert!(error.message.contains(word), "{}", error.message);
        }
        let error = detach_request("v".into(), String::new(), options([("force", true.into())])).unwrap_err();
        assert!(error.message.contains("\"force\""), "{}", error.message);
    }

    #[test]
    fn a_guest_is_defined_by_one_of_two_ways() {
        let boot = |pairs: Options| boot_request("g".into(), String::new(), pairs);
        let xml = || ("xml", "<domain/>".into());
        let template =
            boot(options([("memory-mib", 512_u64.into()), ("networks", vec!["default".to_owned()].into())])).unwrap();
        let Some(GuestDefinition::Template(template)) = template.definition else { panic!("{template:?}") };
        assert_eq!((template.memory_mib, template.vcpus, template.networks), (512, 1, vec!["default".to_owned()]));
        assert_eq!(boot(options([xml()])).unwrap().definition, Some(GuestDefinition::Xml("<domain/>".into())));
        assert_eq!(boot(Options::new()).unwrap().definition, None);
        for (pairs, word) in [
            (options([xml(), ("memory-mib", 1_u64.into())]), "each define"),
            (options([xml(), ("vcpus", 1_u32.into())]), "all of the guest"),
            (options([("xml", " ".repeat(XML_BYTES + 1).into())]), "longer"),
            (options([("vcpus", 1_u32.into())]), "memory-mib"),
            (options([("memory-mib", 0_u64.into())]), "is 0"),
            (options([("memory-mib", 9_u64.into()), ("networks", vec![String::new()].into())]), "network"),
        ] {
            let error = boot(pairs).unwrap_err();
            assert!(error.kind == ErrorKind::InvalidInput && error.message.contains(word), "{}", error.message);
        }
    }

    #[test]
    fn the_plan_of_an_extend_wants_a_size_and_no_guest() {
        let size = || options([("size-gib", 3_u64.into())]);
        assert_eq!(extend_plan_request("v".into(), "", size()).unwrap(), ExtendRequest { volume: "v".into(), size_gib: 3 });
        for (error, word) in [
            (extend_plan_request("v".into(), "g", size()), "guest"),
            (extend_plan_request("v".into(), "", Options::new()), "size-gib"),
            (extend_request("v".into(), 0, Options::new()), "0 GiB"),
            (extend_request("v".into(), 1, size()), "size-gib"),
        ] {
            let error = error.unwrap_err();
            assert!(error.kind == ErrorKind::InvalidInput && error.message.contains(word), "{}", error.message);
        }
    }

    #[test]
    fn empty_and_endless_names_are_refused() {
        assert!(attach_request(String::new(), "g".into(), Options::new()).is_err());
        assert!(attach_request("v".into(), String::new(), Options::new()).is_err());
        assert!(attach_request("v".repeat(256), "g".into(), Options::new()).is_err());
        assert_eq!(detach_request("v".into(), String::new(), Options::new()).unwrap().guest, None);
    }
}
