//! Bytes that a guest is to boot from: mappings, which images bring along, and images.

use super::assert_one_line;
use crate::{
    bootsource::fuzzing,
    model::{DiskFormat, ForeignFormat},
};

/// A clause and a JSON mapping, with a line feed between them.
pub(super) fn mapping(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (clause, json) = text.split_once('\n').unwrap_or((&text, ""));
    match fuzzing::mapping(json, clause) {
        Ok(names) => {
            for name in names {
                assert!(!name.is_empty(), "a thing without a name is looked up");
                assert_one_line(&name, "a name that is looked up");
            }
        }
        Err(error) => assert_one_line(&error.to_string(), "a complaint"),
    }
}

/// An image: what begins as another format is never taken for raw, and neither a qcow2 nor a vmdk leads anywhere else.
pub(super) fn image(data: &[u8]) {
    if fuzzing::image(data, DiskFormat::Raw).is_some() {
        for magic in [b"QFI\xfb".as_slice(), b"KDMV", b"COWD", b"QED\0", b"vhdxfile", b"conectix", b"# Disk DescriptorFile"] {
            assert!(!data.starts_with(magic), "{magic:?} was taken for raw");
        }
    }
    if let Some(bytes) = fuzzing::image(data, DiskFormat::Qcow2) {
        assert!(bytes > 0 && data.starts_with(b"QFI\xfb"), "no qcow2 was taken for one");
        assert_eq!(data.get(8..20), Some([0; 12].as_slice()), "a backing file was taken");
    }
    for format in [ForeignFormat::Vmdk, ForeignFormat::Vhd, ForeignFormat::Vhdx] {
        let taken = fuzzing::foreign_image(data, format);
        assert_ne!(taken, Some(0), "a disk without bytes was taken");
        let read_by_qemu = data.get(512..).unwrap_or_default();
        let read_by_qemu = read_by_qemu.get(..20 * 512).unwrap_or(read_by_qemu);
        if taken.is_some() && format == ForeignFormat::Vmdk {
            let hint = b"parentFileNameHint";
            assert!(!read_by_qemu.windows(hint.len()).any(|window| window == hint), "a parent was taken");
        }
    }
}
