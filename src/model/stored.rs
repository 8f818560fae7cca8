//! What this host keeps of ephemeral disks, whoever still knows of it.

use super::{GuestUuid, ImageId};
use std::path::PathBuf;

/// Something that is where Bowline keeps ephemeral disks, or what is caught of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Where it is kept.
    pub store: Store,
    /// What it is found by: a file, a device.
    pub path: PathBuf,
    /// What it is.
    pub part: Part,
    /// Why it must stay, even if nobody has it.
    pub stays: Option<String>,
}

/// Where ephemeral disks are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// Files, in the folders of this host.
    Files,
    /// A volume group (LVM), by its name.
    VolumeGroup(String),
}

/// What is kept. All but the last is named, marked and shaped as Bowline does it, and as nobody else would by chance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A disk of a guest, whole as far as its shape tells.
    Disk(GuestUuid, String),
    /// A disk that was being made.
    Unfinished(GuestUuid, String),
    /// The image below a disk.
    Base(GuestUuid, String),
    /// A guest's folder, with nothing in it.
    Folder(GuestUuid),
    /// What was caught of a disk for an image.
    Capture(ImageId),
    /// It is not Bowline's: why not, in words.
    Foreign(&'static str),
}

impl Stored {
    /// The guest whose it is or was.
    pub const fn guest(&self) -> Option<GuestUuid> {
        match self.part {
            Part::Disk(guest, _) | Part::Unfinished(guest, _) | Part::Base(guest, _) | Part::Folder(guest) => Some(guest),
            Part::Capture(_) | Part::Foreign(_) => None,
        }
    }

    /// What a definition that names it would have in it: of a file its name with its folder's, which also begins what lies over
    /// it or below it; of anything else its name, as it is and as device mapper spells it.
    pub fn words(&self) -> Vec<String> {
        match (&self.part, self.path.file_name().and_then(|name| name.to_str())) {
            (Part::Folder(_) | Part::Foreign(_), _) | (_, None) => vec![],
            (Part::Disk(guest, name) | Part::Unfinished(guest, name) | Part::Base(guest, name), Some(_))
                if self.store == Store::Files =>
            {
                vec![format!("{guest}/{name}")]
            }
            (Part::Capture(image), Some(_)) => vec![format!("snapshots/{image}")],
            (_, Some(name)) => vec![name.to_owned(), name.replace('-', "--")],
        }
    }
}

/// The disk that a name means, in the form `bowline-GUEST-DISK`.
pub fn disk_of_name(name: &str) -> Option<(GuestUuid, String)> {
    let (guest, disk) = name.strip_prefix("bowline-")?.split_at_checked(GUEST_LETTERS)?;
    let disk = disk.strip_prefix('-').filter(|disk| is_disk_name(disk))?;
    Some((guest.parse().ok()?, disk.to_owned()))
}

/// A UUID, in the form that has lines in it.
const GUEST_LETTERS: usize = 36;

/// Whether a disk can be called so: by its target name (`vda`), the same with what a rebuild adds (`vda-0123abcd`), or `rescue`.
pub fn is_disk_name(name: &str) -> bool {
    let (target, suffix) = name.split_once('-').map_or((name, None), |(target, suffix)| (target, Some(suffix)));
    let letters = ["vd", "sd"].iter().find_map(|bus| target.strip_prefix(bus));
    let is_target =
        letters.is_some_and(|letters| (1..=3).contains(&letters.len()) && letters.bytes().all(|c| c.is_ascii_lowercase()));
    let is_suffix = |suffix: &str| suffix.len() == 8 && suffix.bytes().all(|c| c.is_ascii_hexdigit());
    name == "rescue" || (is_target && suffix.is_none_or(is_suffix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_disk_is_known_by_its_name_and_nothing_else_is() {
        let guest = GuestUuid(Uuid::from_u128(2));
        for disk in ["vda", "sdaa", "vda-0123abcd", "rescue"] {
            let name = super::super::ephemeral_disk_name(guest, disk);
            assert_eq!(disk_of_name(&name), Some((guest, disk.to_owned())));
        }
        for name in
            ["", "bowline-", "bowline-vda", &format!("bowline-{guest}"), &format!("bowline-{guest}-"), &format!("{guest}-vda")]
        {
            assert_eq!(disk_of_name(name), None, "{name}");
        }
        for name in ["vd", "vdA", "vdaaaa", "vda.snap", "vda-1", "vda-0123abcx", "hda", "vda-0123abcd-", "rescue2", ".."] {
            assert!(!is_disk_name(name), "{name}");
        }
    }

    #[test]
    fn a_definition_names_a_volume_by_either_of_its_devices() {
        let guest = GuestUuid(Uuid::from_u128(2));
        let path = PathBuf::from("/dev/fast").join(super::super::ephemeral_disk_name(guest, "vda"));
        let part = Part::Disk(guest, "vda".into());
        let volume = Stored { store: Store::VolumeGroup("fast".into()), path, part: part.clone(), stays: None };
        let [plain, mapped] = volume.words().try_into().unwrap();
        assert!(format!("/dev/fast/{plain}").ends_with("0002-vda") && mapped.ends_with("0002--vda"), "{plain} {mapped}");
        let file = Stored { store: Store::Files, path: "/d/x/vda".into(), part, stays: None };
        assert_eq!(file.words(), [format!("{guest}/vda")]);
    }
}
