//! Which devices LVM may look at while it looks for the volume group: all but those that this service shows to the machine it
//! runs on.
//!
//! LVM reads from every device it sees. A volume that is attached on this machine is one more of them, and while its target is
//! away (this service is being started again) a read from it hangs: the service would wait for itself. So LVM is told its devices.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::targets::IQN_PREFIX;

/// The devices, as `/dev/NAME`.
pub(super) fn to_look_at() -> Vec<String> {
    Sysfs(PathBuf::from("/sys")).to_look_at()
}

struct Sysfs(PathBuf);

impl Sysfs {
    fn to_look_at(&self) -> Vec<String> {
        let mut found = Vec::new();
        for name in names(&self.0.join("class/block")) {
            let is_empty = self.text(&name, "size").is_none_or(|size| size == "0");
            // LVM does not look into its own volumes either, unless it is told to.
            let is_logical = self.text(&name, "dm/uuid").is_some_and(|uuid| uuid.starts_with("LVM-"));
            if !is_empty && !is_logical && !self.is_shown_here(&name) {
                found.push(format!("/dev/{}", name.replace('!', "/")));
            }
        }
        found
    }

    /// Whether a device, or one that it is made of, is a volume of this service.
    fn is_shown_here(&self, name: &str) -> bool {
        let class = self.0.join("class/block").join(name);
        let Ok(place) = fs::canonicalize(&class) else { return true };
        let sessions =
            place.components().filter_map(|part| part.as_os_str().to_str()).filter(|part| part.starts_with("session"));
        for session in sessions {
            let file = self.0.join("class/iscsi_session").join(session).join("targetname");
            if fs::read_to_string(file).is_ok_and(|target| target.starts_with(IQN_PREFIX)) {
                return true;
            }
        }
        names(&class.join("slaves")).iter().any(|slave| self.is_shown_here(slave))
    }

    fn text(&self, name: &str, attribute: &str) -> Option<String> {
        let text = fs::read_to_string(self.0.join("class/block").join(name).join(attribute)).ok()?;
        Some(text.trim().to_owned())
    }
}

/// The names in a folder, in order; none where there is no such folder.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn volumes_of_this_service_are_left_out_with_what_is_made_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let sys = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(sys.join("class/block")).unwrap();
        let add = |name: &str, place: &str, size: &str, slaves: &[&str]| {
            let place = sys.join("devices").join(place).join(name);
            fs::create_dir_all(place.join("slaves")).unwrap();
            fs::write(place.join("size"), size).unwrap();
            for slave in slaves {
                fs::create_dir(place.join("slaves").join(slave)).unwrap();
            }
            symlink(&place, sys.join("class/block").join(name)).unwrap();
            place
        };
        for (session, target) in [("session1", format!("{IQN_PREFIX}abc")), ("session2", "iqn.2001-05.com.array:1".into())] {
            fs::create_dir_all(sys.join("class/iscsi_session").join(session)).unwrap();
            fs::write(sys.join("class/iscsi_session").join(session).join("targetname"), target).unwrap();
        }
        add("sda", "pci0", "100", &[]);
        add("loop0", "virtual", "100", &[]);
        add("loop1", "virtual", "0", &[]);
        add("sdb", "platform/host2/session1/target2:0:0", "100", &[]);
        add("sdb1", "platform/host2/session1/target2:0:0/sdb", "90", &[]);
        add("sdc", "platform/host3/session2/target3:0:0", "100", &[]);
        add("dm-0", "virtual", "100", &["sdb"]);
        add("dm-1", "virtual", "100", &["sdc"]);
        let volume = add("dm-2", "virtual", "100", &["sda"]);
        fs::create_dir(volume.join("dm")).unwrap();
        fs::write(volume.join("dm/uuid"), "LVM-abc").unwrap();
        add("cciss!c0d0", "pci0", "100", &[]);
        assert_eq!(Sysfs(sys).to_look_at(), ["/dev/cciss/c0d0", "/dev/dm-1", "/dev/loop0", "/dev/sda", "/dev/sdc"]);
    }
}
