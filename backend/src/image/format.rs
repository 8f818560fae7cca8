//! The formats there are, and which one bytes have by their first ones.

use std::fmt;

use super::Unfit;
use super::inspect::at;

/// What an image's bytes may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// The disk as it is.
    Raw,
    /// QEMU's.
    Qcow2,
    /// VMware's, in one file.
    Vmdk,
    /// VirtualBox's.
    Vdi,
    /// Microsoft's older one.
    Vhd,
    /// Microsoft's newer one.
    Vhdx,
    /// A file system of a disc.
    Iso,
    /// A kernel, ramdisk or root file system of its own: bytes without a header that is known here.
    Part,
}

impl Format {
    /// The format that `disk_format` names.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "raw" => Self::Raw,
            "qcow2" => Self::Qcow2,
            "vmdk" => Self::Vmdk,
            "vdi" => Self::Vdi,
            "vhd" => Self::Vhd,
            "vhdx" => Self::Vhdx,
            "iso" => Self::Iso,
            "ami" | "ari" | "aki" => Self::Part,
            _ => return None,
        })
    }

    /// The name as `disk_format` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vdi => "vdi",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
            Self::Iso => "iso",
            Self::Part => "a kernel, ramdisk or file system",
        }
    }

    /// What qemu-img calls it; none for bytes that are a disk as they are.
    pub fn qemu_name(self) -> Option<&'static str> {
        match self {
            Self::Raw | Self::Iso | Self::Part => None,
            Self::Qcow2 => Some("qcow2"),
            Self::Vmdk => Some("vmdk"),
            Self::Vdi => Some("vdi"),
            Self::Vhd => Some("vpc"),
            Self::Vhdx => Some("vhdx"),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// So many bytes tell the format: an ISO says it after 32 KiB of anything.
pub(super) const HEAD_BYTES: usize = 0x8800;

/// Beginnings that tell formats apart: (where, what, name, the format where it is one of ours). From the formats' own
/// descriptions: QEMU docs/interop/qcow2.rst and qed_spec.rst, VMware's "Virtual Disk Format 1.1", Microsoft's VHD and
/// [MS-VHDX], VirtualBox VDICore.h, ECMA-119, LUKS on-disk formats 1 and 2, QEMU block/parallels.c, bochs.c, cloop.c, dmg.c.
const SIGNATURES: [(usize, &[u8], &str, Option<Format>); 15] = [
    (0, b"QFI\xfb\0\0\0\x02", "qcow2", Some(Format::Qcow2)),
    (0, b"QFI\xfb\0\0\0\x03", "qcow2", Some(Format::Qcow2)),
    (0, b"QFI\xfb", "a qcow of an unknown version", None),
    (0, b"KDMV", "vmdk", Some(Format::Vmdk)),
    (0, b"# Disk DescriptorFile", "a vmdk descriptor, whose data is in other files", None),
    (0, b"COWD", "a vmdk of an ESX server, whose data is in other files", None),
    (0, b"vhdxfile", "vhdx", Some(Format::Vhdx)),
    (0, b"conectix", "vhd", Some(Format::Vhd)),
    (0x40, b"\x7f\x10\xda\xbe", "vdi", Some(Format::Vdi)),
    (0, b"QED\0", "qed", None),
    (0, b"LUKS\xba\xbe", "an encrypted disk (LUKS)", None),
    (0, b"WithoutFreeSpace", "a Parallels disk", None),
    (0, b"WithouFreSpacExt", "a Parallels disk", None),
    (0, b"Bochs Virtual HD Image", "a Bochs disk", None),
    (0x8001, b"CD001", "iso", Some(Format::Iso)),
];

/// What the first [`HEAD_BYTES`] say, or all there are; none for bytes without a header.
pub(super) fn detect(head: &[u8]) -> Result<Option<Format>, Unfit> {
    let mut found: Option<(&'static str, Option<Format>)> = None;
    for (offset, signature, name, format) in SIGNATURES {
        if at(head, offset, signature.len()) != Some(signature) {
            continue;
        }
        match found {
            // The third qcow line matches what the first two did.
            Some((_, first)) if first == Some(Format::Qcow2) && offset == 0 => {}
            Some((first, _)) if first != name => return Err(Unfit::Ambiguous { first, second: name }),
            _ => found = Some((name, format)),
        }
    }
    match found {
        Some((name, None)) => Err(Unfit::Foreign(name)),
        Some((_, format)) => Ok(format),
        None => Ok(None),
    }
}

/// Refuses bytes whose beginning is not what was claimed. A fixed VHD has its signature at its end, so its beginning says nothing.
pub(super) fn check_head(claimed: Format, head: &[u8]) -> Result<(), Unfit> {
    let found = detect(head)?;
    match (claimed, found) {
        (Format::Raw | Format::Part | Format::Vhd, None) => Ok(()),
        (_, Some(found)) if found == claimed => Ok(()),
        (_, Some(found)) => Err(Unfit::OtherFormat { claimed, found }),
        (_, None) => Err(Unfit::NoHeader { claimed }),
    }
}
