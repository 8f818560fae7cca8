//! Ephemeral disks, by the real tools.

use super::*;
use crate::bootsource::{Piece, SourceError};
use crate::model::{DigestAlgorithm, GIB, ImageDigest, ImageId};
use async_trait::async_trait;
use sha2::{Digest, Sha512};
use std::process::Command;
use tokio::sync::mpsc;

struct Source(Vec<u8>);

#[async_trait]
impl ImageSource for Source {
    async fn fetch(&self, _image: ImageId, from: u64, into: mpsc::Sender<Piece>) -> Result<(), SourceError> {
        let _ = into.send(Piece::From(from)).await;
        let _ = into.send(Piece::Bytes(self.0[from as usize..].to_vec())).await;
        Ok(())
    }
}

impl Source {
    fn image(&self, format: DiskFormat) -> ImageFile {
        let hex = Sha512::digest(&self.0).iter().map(|byte| format!("{byte:02x}")).collect();
        let digest = ImageDigest { algorithm: DigestAlgorithm::Sha512, hex };
        ImageFile { id: ImageId(uuid::Uuid::from_u128(1)), format, comes_as: None, size_bytes: self.0.len() as u64, digest }
    }
}

fn guest() -> GuestUuid {
    GuestUuid(uuid::Uuid::from_u128(2))
}

fn maker(dir: &Path, form: DiskForm) -> DiskMaker {
    DiskMaker::new(dir, form, GIB, Duration::from_secs(60))
}

fn plan(target: &str, content: LocalContent) -> LocalDiskPlan {
    LocalDiskPlan { guest: guest(), target: target.into(), content }
}

fn said(program: &str, arguments: &[&str], path: &Path) -> String {
    let output = Command::new(program).args(arguments).arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn a_disk_over_an_image_has_its_bytes_and_the_asked_size_in_both_forms() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, qcow2) = (dir.path().join("raw"), dir.path().join("qcow2"));
    fs::write(&raw, [b"marker".as_slice(), &vec![0; 1 << 20]].concat()).unwrap();
    said("qemu-img", &["convert", "-O", "qcow2", "-f", "raw", raw.to_str().unwrap()], &qcow2);
    for (file, format) in [(&raw, DiskFormat::Raw), (&qcow2, DiskFormat::Qcow2)] {
        for form in [DiskForm::Overlay, DiskForm::Flat] {
            let place = tempfile::tempdir().unwrap();
            let (maker, source) = (maker(place.path(), form.clone()), Source(fs::read(file).unwrap()));
            let content = LocalContent::Image { image: source.image(format), size_bytes: Some(GIB) };
            let disk = maker.make(&plan("vda", content.clone()), DiskBus::Virtio, &source).await.unwrap();
            // A second time, as after a crash.
            let disk =
                (disk == maker.make(&plan("vda", content), DiskBus::Virtio, &source).await.unwrap()).then_some(disk).unwrap();
            let whole = place.path().join("whole");
            said("qemu-img", &["convert", "-O", "raw", "-f", disk.format.as_str(), disk.path.to_str().unwrap()], &whole);
            let bytes = fs::metadata(&whole).unwrap().len();
            assert_eq!((bytes, &fs::read(&whole).unwrap()[..6]), (GIB, b"marker".as_slice()), "{format:?} {form:?}");
            assert_eq!(disk.base.is_some(), form == DiskForm::Overlay);
            if let Some((base, base_format)) = &disk.base {
                let info = said("qemu-img", &["info", "-U", "--output=json", "-f", "qcow2"], &disk.path);
                assert!(info.contains(&format!("\"backing-filename-format\": \"{}\"", base_format.as_str())), "{info}");
                assert!(base.exists());
            }
            maker.remove(guest(), "vda", None).await.unwrap();
            maker.remove(guest(), "vda", None).await.unwrap();
            assert_eq!(fs::read_dir(place.path().join("disks")).unwrap().count(), 0);
        }
    }
}

#[tokio::test]
async fn a_disk_smaller_than_its_image_is_refused_and_leaves_nothing_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let (maker, source) = (maker(dir.path(), DiskForm::Overlay), Source(vec![0; 4 << 20]));
    let image = source.image(DiskFormat::Raw);
    let content = LocalContent::Image { image, size_bytes: Some(1 << 20) };
    let error = maker.make(&plan("vda", content), DiskBus::Virtio, &source).await.unwrap_err();
    assert!(matches!(error, BootSourceError::TooSmall { .. }), "{error}");
    maker.remove(guest(), "vda", None).await.unwrap();
    assert_eq!(fs::read_dir(dir.path().join("disks")).unwrap().count(), 0);
}

#[tokio::test]
async fn blank_disks_have_their_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let (maker, source) = (maker(dir.path(), DiskForm::Overlay), Source(vec![]));
    for (filesystem, word) in [(Some(Filesystem::Ext4), "ext4"), (Some(Filesystem::Swap), "swap"), (None, "")] {
        let content = LocalContent::Blank { size_bytes: GIB, filesystem };
        let disk = maker.make(&plan("vdb", content), DiskBus::Virtio, &source).await.unwrap();
        assert_eq!((disk.format, disk.base), (DiskFormat::Raw, None));
        assert_eq!(fs::metadata(&disk.path).unwrap().len(), GIB);
        if word.is_empty() {
            assert_eq!(fs::metadata(&disk.path).unwrap().permissions().mode() & 0o777, 0o600);
        } else {
            assert_eq!(said("blkid", &["-p", "-o", "value", "-s", "TYPE"], &disk.path).trim(), word);
        }
    }
}
