//! Whether something is left over, and what that means. Pure.

use super::{
    super::{Cure, Judged},
    Journalled,
};
use crate::agent::operations::ports::PortResult;
use crate::model::{GuestUuid, LocalDisk, Part, Store, Stored};
use std::{collections::BTreeMap, path::PathBuf};

/// Neither the journal nor an operation has any use for it.
pub(super) fn is_left(stored: &Stored, journal: &Journalled) -> bool {
    if stored.guest().is_some_and(|guest| journal.busy.contains(&guest)) {
        return false;
    }
    // The folder of files may have been moved since; a volume of the same name in another group is another.
    let disk = |guest: &GuestUuid, name: &str| {
        let is_it = |disk: &LocalDisk| disk.name() == name && (stored.store == Store::Files || disk.path == stored.path);
        journal.disks.iter().find(|(owner, _, disk)| owner == guest && is_it(disk)).map(|(_, _, disk)| disk)
    };
    match &stored.part {
        Part::Disk(guest, name) => disk(guest, name).is_none(),
        Part::Base(guest, name) => disk(guest, name).is_none_or(|disk| disk.base.is_none() && disk.lazy.is_none()),
        Part::Capture(image) => !journal.captures.contains(image),
        // A guest's own in another shape than it was made in is that guest's all the same.
        Part::Foreign(_) => journal.disks.iter().all(|(_, _, disk)| disk.path != stored.path),
        Part::Unfinished(..) | Part::Folder(_) => true,
    }
}

/// The guest that names it.
pub(super) fn named_by<'a>(stored: &Stored, named: &'a BTreeMap<String, String>) -> Option<&'a str> {
    stored.words().iter().find_map(|word| named.get(word)).map(String::as_str)
}

/// What is left over.
pub(super) fn left(stored: Stored, named: &PortResult<BTreeMap<String, String>>) -> Judged {
    let path = stored.path.display();
    let found = match &stored.part {
        Part::Disk(guest, _) => format!("{path} is an ephemeral disk of guest {guest}, and the journal has no such disk"),
        Part::Unfinished(guest, _) => format!("{path} is an ephemeral disk of guest {guest} that was never finished"),
        Part::Base(guest, _) => {
            format!("{path} is the image below a disk of guest {guest}, and the journal has none that needs it")
        }
        Part::Folder(guest) => format!("{path} is an empty folder for disks of guest {guest}"),
        Part::Capture(image) => format!("{path} was caught of a guest's disk for image {image}, and nothing uploads it"),
        Part::Foreign(why) => {
            let found = format!("{path} is among Bowline's ephemeral disks: {why}");
            let meaning = "somebody else put it there, or changed it, and knows what for";
            return of_host(found, meaning, "whoever made it takes it away".to_owned(), Cure::Foreign);
        }
    };
    let by_hand = |meaning: &str, remedy: String| of_host(found.clone(), meaning, remedy, Cure::None);
    let named = match named {
        Ok(named) => named_by(&stored, named),
        Err(error) => {
            let meaning = "whether a guest has it could not be asked";
            return by_hand(meaning, format!("look again once libvirt answers ({error})"));
        }
    };
    if let Some(guest) = named {
        let remedy = format!("leave it, or take it out of guest {guest} first (virsh domblklist, virsh snapshot-list)");
        return by_hand("a guest has it all the same, in its definition or a snapshot: it would break without", remedy);
    }
    if let Some(why) = &stored.stays {
        return by_hand("it takes room, and may have a user whom nobody here knows of", format!("left alone, for {why}"));
    }
    let (meaning, remedy) = match &stored.part {
        Part::Disk(..) => (
            "an operation that was cut left it; or the journal is older than the disk, as one from a backup may be",
            "if nobody wants what is on it, bowline fsck --repair removes it",
        ),
        _ => ("an operation that was cut left it: it takes room, and is of no use", "bowline fsck --repair removes it"),
    };
    of_host(found, meaning, remedy.to_owned(), Cure::Remove(Box::new(stored)))
}

/// A disk that the journal has.
pub(super) fn missing(
    (guest, name): (GuestUuid, &str),
    disk: &LocalDisk,
    said: &PortResult<Option<PathBuf>>,
) -> Option<Judged> {
    let judged = match said {
        Ok(None) => return None,
        Ok(Some(path)) => {
            let found = format!("{} is gone, which the guest's ephemeral disk {} needs", path.display(), disk.target);
            let meaning = "the guest cannot be started again, and what was on the disk is lost unless somebody moved it";
            of_host(found, meaning, format!("bring it back, or bowline delete {guest} and boot it anew"), Cure::None)
        }
        Err(error) => {
            let found = format!("ephemeral disk {} of the guest: not known: {error}", disk.target);
            of_host(found, "it could not be looked at", "look again once it can be".to_owned(), Cure::None)
        }
    };
    Some(judged.about_guest(name))
}

fn of_host(found: String, meaning: &str, remedy: String, cure: Cure) -> Judged {
    Judged::new("host", (None, ""), found, meaning, remedy, cure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::operations::ports::PortError;
    use crate::model::{DiskBus, DiskFormat, ErrorKind, ImageId, LocalPlace};
    use uuid::Uuid;

    const GUEST: GuestUuid = GuestUuid(Uuid::from_u128(2));

    fn file(part: Part) -> Stored {
        Stored { store: Store::Files, path: "/d/disks/2/vda".into(), part, stays: None }
    }

    fn disk(base: bool) -> LocalDisk {
        let base = base.then(|| ("/elsewhere/vda.base".into(), DiskFormat::Raw));
        let (target, bus, format) = ("vda".into(), DiskBus::Virtio, DiskFormat::Qcow2);
        LocalDisk { target, bus, path: "/elsewhere/vda".into(), place: LocalPlace::File, format, base, lazy: None }
    }

    fn journal(base: bool) -> Journalled {
        Journalled { disks: vec![(GUEST, "g".into(), disk(base))], ..Journalled::default() }
    }

    #[test]
    fn what_the_journal_has_is_no_left_over_and_what_it_has_not_is() {
        let vda = |part: fn(GuestUuid, String) -> Part| file(part(GUEST, "vda".into()));
        let cases = [
            (vda(Part::Disk), true, false),
            (file(Part::Disk(GUEST, "vdb".into())), true, true),
            (file(Part::Disk(GuestUuid(Uuid::from_u128(3)), "vda".into())), true, true),
            (vda(Part::Base), true, false),
            (vda(Part::Base), false, true),
            (vda(Part::Unfinished), true, true),
            (file(Part::Folder(GUEST)), true, true),
            (Stored { path: "/elsewhere/vda".into(), ..file(Part::Foreign("of another mode")) }, true, false),
            (file(Part::Foreign("a note")), true, true),
            // Another volume has the name.
            (Stored { store: Store::VolumeGroup("fast".into()), ..vda(Part::Disk) }, true, true),
        ];
        for (stored, base, left) in cases {
            assert_eq!(is_left(&stored, &journal(base)), left, "{stored:?} {base}");
        }
        let mut journal = Journalled::default();
        journal.busy.insert(GUEST);
        assert!(!is_left(&vda(Part::Disk), &journal), "an operation is at it");
        let capture = ImageId(Uuid::from_u128(4));
        assert!(is_left(&file(Part::Capture(capture)), &journal));
        journal.captures.insert(capture);
        assert!(!is_left(&file(Part::Capture(capture)), &journal));
    }

    #[test]
    fn only_what_nobody_names_and_nothing_keeps_is_taken_away() {
        let ours = file(Part::Disk(GUEST, "vda".into()));
        let nobody = Ok(BTreeMap::new());
        assert_eq!(left(ours.clone(), &nobody).cure, Cure::Remove(Box::new(ours.clone())));
        let somebody = Ok(BTreeMap::from([(format!("{GUEST}/vda"), "other".to_owned())]));
        let judged = left(ours.clone(), &somebody);
        assert!(judged.cure == Cure::None && judged.difference.remedy.contains("guest other"), "{judged:?}");
        let silent = Err(PortError::new(ErrorKind::Unavailable, "libvirtd is away"));
        let judged = left(ours.clone(), &silent);
        assert!(judged.cure == Cure::None && judged.difference.remedy.contains("libvirtd is away"), "{judged:?}");
        let judged = left(Stored { stays: Some("it is shared".into()), ..ours }, &nobody);
        assert!(judged.cure == Cure::None && judged.difference.remedy.contains("it is shared"), "{judged:?}");
        assert_eq!(left(file(Part::Foreign("it is none of ours")), &nobody).cure, Cure::Foreign);
    }

    #[test]
    fn a_disk_that_is_gone_is_told_with_its_guest() {
        assert_eq!(missing((GUEST, "g"), &disk(true), &Ok(None)), None);
        let judged = missing((GUEST, "g"), &disk(true), &Ok(Some("/d/vda.base".into()))).unwrap();
        assert!(judged.difference.guest == "g" && judged.difference.found.contains("vda.base is gone"), "{judged:?}");
    }
}
