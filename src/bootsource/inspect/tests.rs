//! Hostile images, one for each trick that is known: refused by our own look, before any other program opens them.

use super::*;
use std::process::Command;

const CLUSTER: usize = 65536;

/// A qcow2 header of version 3 for a disk of 1 GiB, whose table is in the file.
fn qcow2() -> Vec<u8> {
    let mut bytes = vec![0; 4 * CLUSTER];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"QFI\xfb");
    put(4, &3_u32.to_be_bytes());
    put(20, &16_u32.to_be_bytes());
    put(24, &(1_u64 << 30).to_be_bytes());
    put(36, &2_u32.to_be_bytes());
    put(40, &(3 * CLUSTER as u64).to_be_bytes());
    put(48, &(CLUSTER as u64).to_be_bytes());
    put(56, &1_u32.to_be_bytes());
    put(100, &104_u32.to_be_bytes());
    bytes
}

fn spoilt(at: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = qcow2();
    bytes[at..at + value.len()].copy_from_slice(value);
    bytes
}

fn refused(bytes: &[u8], format: DiskFormat, word: &str) {
    let error = inspect(bytes, format).unwrap_err();
    assert!(error.to_string().contains(word), "{error} instead of {word}");
}

#[test]
fn what_is_what_it_says_is_taken() {
    assert_eq!(inspect(qcow2().as_slice(), DiskFormat::Qcow2).unwrap(), 1 << 30);
    let mut partitioned = vec![0; 1 << 20];
    partitioned[510..512].copy_from_slice(b"\x55\xaa");
    partitioned[512..520].copy_from_slice(b"EFI PART");
    assert_eq!(inspect(partitioned.as_slice(), DiskFormat::Raw).unwrap(), 1 << 20);
}

#[test]
fn what_qemu_img_makes_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    for compat in ["0.10", "1.1"] {
        let path = dir.path().join(compat);
        let compat_option = format!("compat={compat}");
        let mut making = Command::new("qemu-img");
        making.args(["create", "-q", "-f", "qcow2", "-o", &compat_option]).arg(&path).arg("3G");
        assert!(making.status().unwrap().success());
        assert_eq!(inspect(&File::open(&path).unwrap(), DiskFormat::Qcow2).unwrap(), 3 << 30, "compat {compat}");
    }
}

#[test]
fn a_qcow2_that_leads_elsewhere_is_refused() {
    let qcow2 = DiskFormat::Qcow2;
    refused(&spoilt(8, &4096_u64.to_be_bytes()), qcow2, "backing file");
    refused(&spoilt(16, &12_u32.to_be_bytes()), qcow2, "backing file's name");
    // CVE-2024-32498, by the feature bit and by the header extension.
    refused(&spoilt(72, &4_u64.to_be_bytes()), qcow2, "another file");
    refused(&spoilt(104, b"DATA\0\0\0\x0b/etc/passwd"), qcow2, "external data file");
    refused(&spoilt(32, &1_u32.to_be_bytes()), qcow2, "encrypted");
}

#[test]
fn a_qcow2_that_makes_no_sense_is_refused() {
    let qcow2 = DiskFormat::Qcow2;
    for (at, value, word) in [
        (4, 9_u32.to_be_bytes().as_slice(), "version"),
        (20, &40_u32.to_be_bytes(), "clusters"),
        (36, &u32::MAX.to_be_bytes(), "table"),
        (36, &1_u32.to_be_bytes(), "table"),
        (40, &u64::MAX.to_be_bytes(), "table"),
        (24, &u64::MAX.to_be_bytes(), "table"),
        (24, &0_u64.to_be_bytes(), "no bytes"),
        (48, &u64::MAX.to_be_bytes(), "reference counts"),
        (56, &u32::MAX.to_be_bytes(), "reference counts"),
        (60, &1_u32.to_be_bytes(), "snapshots"),
        (72, &2_u64.to_be_bytes(), "damaged"),
        (72, &(1_u64 << 40).to_be_bytes(), "not known"),
        (100, &0_u32.to_be_bytes(), "length"),
        (100, &u32::MAX.to_be_bytes(), "length"),
    ] {
        refused(&spoilt(at, value), qcow2, word);
    }
    refused(&spoilt(0, b"QFI\xfb")[..60], qcow2, "ends within");
    // Extensions without an end.
    let endless: Vec<u8> = [0, 0, 0, 9, 0, 0, 0, 0].repeat(8000);
    refused(&spoilt(104, &endless), qcow2, "more header extensions");
    // A table that covers it, and yet no disk has such a size.
    let mut absurd = spoilt(24, &(1_u64 << 47).to_be_bytes());
    absurd[36..40].copy_from_slice(&(1_u32 << 18).to_be_bytes());
    absurd.resize(4 << 20, 0);
    refused(&absurd, qcow2, "are the most");
}

/// CVE-2024-40767 and CVE-2022-47951: raw by its record, and something with extents or a chain by its bytes.
#[test]
fn what_lies_about_its_format_is_refused() {
    let heads: [(&[u8], &str); 10] = [
        (b"QFI\xfb\0\0\0\x03", "qcow2"),
        (b"QED\0", "qed"),
        (b"KDMV\x01\0\0\0", "vmdk"),
        (b"COWD", "vmdk"),
        (b"# Disk DescriptorFile\nversion=1\ncreateType=\"monolithicFlat\"\nRW 2048 FLAT \"/etc/shadow\" 0\n", "vmdk"),
        (b"# harmless\n\n  version=1\nRW 2048 FLAT \"/etc/shadow\" 0\n", "vmdk"),
        (b"vhdxfile", "vhdx"),
        (b"conectix", "vhd"),
        (b"WithouFreSpacExt", "parallels"),
        (b"LUKS\xba\xbe\0\x01", "luks"),
    ];
    for (head, format) in heads {
        let mut bytes = head.to_vec();
        bytes.resize(1 << 20, 0);
        refused(&bytes, DiskFormat::Raw, format);
        if format != "qcow2" {
            refused(&bytes, DiskFormat::Qcow2, format);
        }
    }
    let mut vdi = vec![0; 1 << 20];
    vdi[0x40..0x44].copy_from_slice(b"\x7f\x10\xda\xbe");
    refused(&vdi, DiskFormat::Raw, "vdi");
    for (tail, format) in [(b"conectix", "vhd"), (b"koly\0\0\0\x04", "dmg")] {
        let mut bytes = vec![0; 1 << 20];
        bytes[(1 << 20) - 512..][..8].copy_from_slice(tail);
        refused(&bytes, DiskFormat::Raw, format);
    }
    refused(&vec![0; 1 << 20], DiskFormat::Qcow2, "of no known format");
    refused(b"", DiskFormat::Raw, "no bytes");
}
