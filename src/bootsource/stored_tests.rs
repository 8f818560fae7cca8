//! What is found in the folders, by real files.

use super::*;
use crate::bootsource::DiskForm;
use crate::model::ImageId;
use std::{fs::Permissions, os::unix::fs::symlink, time::Duration};
use uuid::Uuid;

const GUEST: GuestUuid = GuestUuid(Uuid::from_u128(2));

/// Disks of the guest with these names, and a maker at their folder.
fn made(dir: &Path, names: &[&str]) -> (DiskMaker, PathBuf) {
    let folder = dir.join("disks").join(GUEST.to_string());
    fs::create_dir_all(&folder).unwrap();
    for name in names {
        fs::write(folder.join(name), "x").unwrap();
        fs::set_permissions(folder.join(name), Permissions::from_mode(DISK_MODE)).unwrap();
    }
    (DiskMaker::new(dir, DiskForm::Overlay, 1 << 30, Duration::from_secs(60)), folder)
}

async fn found(maker: &DiskMaker) -> Vec<Stored> {
    maker.stored(&[]).await.remove(0).unwrap()
}

#[tokio::test]
async fn what_is_bowlines_own_is_told_from_what_only_lies_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(found(&made(dir.path(), &[]).0).await.len(), 1, "an empty folder");
    let (maker, folder) = made(dir.path(), &["vda", "vda.base", "vdb.new", "vdc-0123abcd", "rescue"]);
    let image = ImageId(Uuid::from_u128(4));
    fs::create_dir(dir.path().join("snapshots")).unwrap();
    fs::write(dir.path().join("snapshots").join(image.to_string()), "x").unwrap();
    let vda = |part: fn(GuestUuid, String) -> Part, name: &str| part(GUEST, name.to_owned());
    let parts = [
        vda(Part::Disk, "rescue"),
        vda(Part::Disk, "vda"),
        vda(Part::Base, "vda"),
        vda(Part::Unfinished, "vdb"),
        vda(Part::Disk, "vdc-0123abcd"),
        Part::Capture(image),
    ];
    let told = found(&maker).await;
    assert_eq!(told.iter().map(|stored| stored.part.clone()).collect::<Vec<_>>(), parts);
    assert!(told.iter().all(|stored| stored.stays.is_none()));

    // A snapshot by hand lies over a disk, so nothing beside it is known to be of no use.
    fs::write(folder.join("vda.before"), "x").unwrap();
    fs::write(dir.path().join("disks/notes"), "x").unwrap();
    let told = found(&maker).await;
    let is_foreign = |stored: &&Stored| matches!(stored.part, Part::Foreign(_));
    assert_eq!(told.iter().filter(is_foreign).count(), 2, "{told:?}");
    for stored in told.iter().filter(|stored| stored.guest().is_some()) {
        assert!(stored.stays.as_ref().unwrap().contains("vda.before"), "{stored:?}");
        maker.remove_stored(stored).await.unwrap_err();
    }
    assert_eq!(found(&maker).await, told, "nothing was taken away");
}

#[tokio::test]
async fn what_has_another_shape_than_bowline_gives_is_foreign() {
    let dir = tempfile::tempdir().unwrap();
    let (maker, folder) = made(dir.path(), &["vda", "vdb", "other"]);
    fs::set_permissions(folder.join("vda"), Permissions::from_mode(0o644)).unwrap();
    fs::hard_link(folder.join("vdb"), dir.path().join("somebody-holds-it")).unwrap();
    symlink("/etc/passwd", folder.join("vdc")).unwrap();
    fs::create_dir(folder.join("vdd")).unwrap();
    let told = found(&maker).await;
    assert!(told.len() == 5 && told.iter().all(|stored| matches!(stored.part, Part::Foreign(_))), "{told:?}");
    for stored in &told {
        maker.remove_stored(stored).await.unwrap_err();
    }
    assert_eq!(found(&maker).await, told);
}

#[tokio::test]
async fn what_nobody_has_goes_with_its_folder_but_not_what_a_program_has_open() {
    let dir = tempfile::tempdir().unwrap();
    let (maker, folder) = made(dir.path(), &["vda", "vdb"]);
    let [vda, vdb] = found(&maker).await.try_into().unwrap();
    let open = fs::File::open(&vda.path).unwrap();
    let mut lock = libc::flock { l_type: libc::F_RDLCK as i16, l_whence: 0, l_start: 100, l_len: 1, l_pid: 0 };
    fcntl(&open, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
    let error = maker.remove_stored(&vda).await.unwrap_err();
    assert!(error.to_string().contains("has it open"), "{error}");
    lock.l_type = libc::F_UNLCK as i16;
    fcntl(&open, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
    maker.remove_stored(&vda).await.unwrap();
    maker.remove_stored(&vda).await.unwrap();
    fs::write(&vdb.path, "x").unwrap();
    fs::set_permissions(&vdb.path, Permissions::from_mode(0o640)).unwrap();
    let error = maker.remove_stored(&vdb).await.unwrap_err();
    assert!(error.to_string().contains("a moment ago"), "{error}");
    fs::set_permissions(&vdb.path, Permissions::from_mode(DISK_MODE)).unwrap();
    maker.remove_stored(&vdb).await.unwrap();
    assert!(!folder.exists());
}
