//! Which format bytes begin, or end, as: all that QEMU 7 to 10 would guess. Sources: the `*_probe` functions of QEMU's
//! `block/` folder, and each format's own description.

use super::Look;
use std::io;

/// qcow2 by its magic, whatever its version.
pub(super) const QCOW2: &str = "qcow2";

/// Bytes that tell most formats.
const HEAD_BYTES: usize = 4096;
/// A VHD's footer, and an Apple disk image's trailer.
const TAIL_BYTES: u64 = 512;

/// Formats by what stands at an offset of the head.
const MAGICS: [(usize, &[u8], &str); 13] = [
    (0, b"QFI\xfb", QCOW2),
    (0, b"QED\0", "qed"),
    (0, b"KDMV", "vmdk"),
    (0, b"COWD", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vhd"),
    (0x40, b"\x7f\x10\xda\xbe", "vdi"),
    (0, b"WithoutFreeSpace", "parallels"),
    (0, b"WithouFreSpacExt", "parallels"),
    (0, b"LUKS\xba\xbe", "luks"),
    (0, b"Bochs Virtual HD Image", "bochs"),
    (0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop", "cloop"),
];

/// The format, or `None` for what can only be raw: a partitioned disk, a file system, a CD.
pub(super) fn find(image: &(impl Look + ?Sized)) -> io::Result<Option<&'static str>> {
    let head = image.bytes(0, HEAD_BYTES)?;
    let known = MAGICS.iter().find(|(at, magic, _)| head.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    if let Some((_, _, format)) = known {
        return Ok(Some(format));
    }
    if is_vmdk_text(&head) {
        return Ok(Some("vmdk"));
    }
    let tail = image.bytes(image.length()?.saturating_sub(TAIL_BYTES), TAIL_BYTES as usize)?;
    Ok(if tail.starts_with(b"conectix") {
        Some("vhd")
    } else if tail.starts_with(b"koly") {
        Some("dmg")
    } else {
        None
    })
}

/// QEMU takes a text for a VMDK descriptor when its first line that is neither empty nor a comment is a version.
fn is_vmdk_text(head: &[u8]) -> bool {
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.find(|line| !line.is_empty() && !line.starts_with(b"#")).is_some_and(|line| line.starts_with(b"version="))
}
