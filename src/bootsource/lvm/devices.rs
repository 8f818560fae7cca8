//! Which devices LVM may look at: all but those that came from a storage server.
//!
//! LVM reads from every device it sees. A volume that a guest has is one of them: what its owner wrote there may call itself the very
//! volume group that disks are made in, and a read from one whose server is dead hangs.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The devices, as `/dev/NAME`.
pub(super) fn of_this_host() -> Vec<String> {
    Sysfs(PathBuf::from("/sys")).of_this_host()
}

struct Sysfs(PathBuf);

impl Sysfs {
    fn of_this_host(&self) -> Vec<String> {
        let names = names(&self.0.join("class/block"));
        let wanted = names.iter().filter(|name| {
            let is_empty = self.text(name, "size").is_none_or(|size| size == "0");
            // LVM does not look into its own volumes either.
            let is_logical = self.text(name, "dm/uuid").is_some_and(|uuid| uuid.starts_with("LVM-"));
            !is_empty && !is_logical && !self.is_of_a_server(name)
        });
        wanted.map(|name| format!("/dev/{}", name.replace('!', "/"))).collect()
    }

    /// Whether a device, or one that it is made of, is over iSCSI, RBD or NBD.
    fn is_of_a_server(&self, name: &str) -> bool {
        let class = self.0.join("class/block").join(name);
        let Ok(place) = fs::canonicalize(&class) else { return true };
        let mut parts = place.components().filter_map(|part| part.as_os_str().to_str());
        name.starts_with("rbd")
            || name.starts_with("nbd")
            || parts.any(|part| part.starts_with("session"))
            || names_in_slaves(&class).iter().any(|slave| self.is_of_a_server(slave))
    }

    fn text(&self, name: &str, attribute: &str) -> Option<String> {
        let text = fs::read_to_string(self.0.join("class/block").join(name).join(attribute)).ok()?;
        Some(text.trim().to_owned())
    }
}

fn names_in_slaves(class: &Path) -> BTreeSet<String> {
    names(&class.join("slaves"))
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
    fn what_a_server_shows_is_left_out_with_what_is_made_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let sys = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(sys.join("class/block")).unwrap();
        let add = |name: &str, place: &str, size: &str, slaves: &[&str], dm_uuid: &str| {
            let place = sys.join("devices").join(place).join(name);
            fs::create_dir_all(place.join("slaves")).unwrap();
            fs::write(place.join("size"), size).unwrap();
            slaves.iter().for_each(|slave| fs::create_dir(place.join("slaves").join(slave)).unwrap());
            if !dm_uuid.is_empty() {
                fs::create_dir(place.join("dm")).unwrap();
                fs::write(place.join("dm/uuid"), dm_uuid).unwrap();
            }
            symlink(&place, sys.join("class/block").join(name)).unwrap();
        };
        add("sda", "pci0", "100", &[], "");
        add("cciss!c0d0", "pci0", "100", &[], "");
        add("loop1", "virtual", "0\n", &[], "");
        add("rbd0", "virtual", "100", &[], "");
        add("nbd0", "virtual", "100", &[], "");
        add("sdb", "platform/host2/session1/target2:0:0", "100", &[], "");
        add("dm-0", "virtual", "100", &["sdb"], "mpath-1");
        add("dm-1", "virtual", "100", &["sda"], "CRYPT-1");
        add("dm-2", "virtual", "100", &["dm-1"], "LVM-abc");
        assert_eq!(Sysfs(sys).of_this_host(), ["/dev/cciss/c0d0", "/dev/dm-1", "/dev/sda"]);
    }
}
