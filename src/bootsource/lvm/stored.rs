//! What a volume group has of ephemeral disks, whoever still knows of it.

use super::{
    VolumeGroup,
    group::{KIND_AT, TAG},
    group_of,
};
use crate::bootsource::{BootSourceError, stored::kept};
use crate::model::{LocalDisk, LocalPlace, Part, Store, Stored, disk_of_name};
use std::path::PathBuf;

/// Where the letters of `vg_attr` say that other hosts may have the group (vgs(8)).
const SHARED_AT: usize = 5;

/// The groups to look into: of the settings, and of disks that were made before those were others.
pub(in crate::bootsource) fn groups(configured: Option<&VolumeGroup>, known: &[LocalDisk]) -> Vec<VolumeGroup> {
    let volumes = known.iter().filter(|disk| disk.place == LocalPlace::LogicalVolume);
    let mut names: Vec<_> = volumes.filter_map(|disk| group_of(&disk.path)).collect();
    names.extend(configured.map(|group| group.name().to_owned()));
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|name| VolumeGroup::new(name, None)).collect()
}

/// The device of a disk whose volume is not there any more. One that is there and not active, or whose group is not seen, is no such.
pub(in crate::bootsource) async fn missing(disk: &LocalDisk) -> Result<Option<PathBuf>, BootSourceError> {
    let names = group_of(&disk.path).zip(disk.path.file_name().and_then(|name| name.to_str()));
    let Some((group, volume)) = names.filter(|_| !disk.path.exists()) else { return Ok(None) };
    let found = VolumeGroup::new(group, None).select(&format!("lv_name=\"{volume}\""), "lv_name").await?;
    Ok(found.is_empty().then(|| disk.path.clone()))
}

impl VolumeGroup {
    /// Its volumes that are Bowline's, or called so.
    pub(in crate::bootsource) async fn stored(&self) -> Result<Vec<Stored>, BootSourceError> {
        let selection = format!("lv_tags={{\"{TAG}\"}} || lv_name=~\"^bowline-\"");
        let listed = self.select(&selection, "lv_name,lv_attr,vg_attr,lv_tags").await?;
        let mut found: Vec<_> = listed.iter().filter_map(|line| self.judge(line)).collect();
        found.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(found)
    }

    /// Takes away a volume that nobody has, if it is what it was.
    pub(in crate::bootsource) async fn remove_stored(&self, stored: &Stored) -> Result<(), BootSourceError> {
        let found = self.stored().await?.into_iter().find(|found| found.path == stored.path);
        match (found, stored.path.file_name().and_then(|name| name.to_str())) {
            (None, _) => Ok(()),
            (Some(found), Some(volume)) if found == *stored && found.stays.is_none() => self.remove(volume).await,
            (Some(found), _) => {
                Err(kept(&found.path, found.stays.unwrap_or_else(|| "it is not what it was a moment ago".to_owned())))
            }
        }
    }

    fn judge(&self, line: &[String]) -> Option<Stored> {
        let [name, attributes, group_attributes, tags] = line else { return None };
        let is_tagged = tags.split(',').any(|tag| tag == TAG);
        let part = match disk_of_name(name) {
            Some((guest, disk)) if is_tagged => Part::Disk(guest, disk),
            Some(_) => Part::Foreign("it is called as Bowline calls its volumes, and has not their tag"),
            None if is_tagged => Part::Foreign("it has the tag of Bowline's volumes, and another name than those"),
            None => return None,
        };
        let letter = |attributes: &str, at: usize| attributes.as_bytes().get(at).copied();
        let stays = match (letter(attributes, KIND_AT), letter(group_attributes, SHARED_AT)) {
            (_, Some(b'c' | b's')) => Some("its group is shared with other hosts, and may be one of theirs has it"),
            // Linear or thin, and no snapshot taken of it that would go with it.
            (Some(b'-' | b'V'), _) => None,
            _ => Some("somebody has made more of it than a plain volume (lvs -o lv_attr)"),
        };
        let store = Store::VolumeGroup(self.name().to_owned());
        Some(Stored { store, path: self.device(name), part, stays: stays.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::GuestUuid;

    #[test]
    fn only_a_plain_volume_with_name_and_tag_is_bowlines_own() {
        let guest = GuestUuid(uuid::Uuid::from_u128(2));
        let ours = format!("bowline-{guest}-vda");
        let judged = |name: &str, attributes: &str, group: &str, tags: &str| {
            let line: Vec<_> = [name, attributes, group, tags].map(str::to_owned).into();
            VolumeGroup::new("fast".into(), None).judge(&line)
        };
        let disk = judged(&ours, "Vwi-a-tz--", "wz--n-", "a,bowline.ephemeral").unwrap();
        assert_eq!((disk.part, disk.stays), (Part::Disk(guest, "vda".into()), None));
        assert_eq!(disk.path, PathBuf::from(format!("/dev/fast/{ours}")));
        assert!(judged(&ours, "-wi-------", "wz--n-", "bowline.ephemeral").unwrap().stays.is_none(), "not active");
        for (attributes, group) in [("owi-aos---", "wz--n-"), ("-wi-a-----", "wz--ns"), ("", "wz--n-")] {
            assert!(judged(&ours, attributes, group, "bowline.ephemeral").unwrap().stays.is_some(), "{attributes} {group}");
        }
        let is_foreign = |found: Option<Stored>| matches!(found.unwrap().part, Part::Foreign(_));
        assert!(is_foreign(judged(&ours, "-wi-a-----", "wz--n-", "bowline.ephemerals")));
        assert!(is_foreign(judged("renamed", "-wi-a-----", "wz--n-", "bowline.ephemeral")));
        assert_eq!(judged("bowline-else", "-wi-a-----", "wz--n-", ""), None);
    }
}
