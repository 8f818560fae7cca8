//! Images of formats that are converted: what tools make is taken, and each trick that leads elsewhere is refused by our own look.

use super::*;
use std::{path::Path, process::Command};

const SECTOR: usize = 512;
const DISK: u64 = 8 << 20;

/// What qemu-img makes of 8 MiB, in this format and with these options.
fn made(format: &str, options: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let (raw, path) = (dir.path().join("raw"), dir.path().join("image"));
    std::fs::write(&raw, [[7; 4096].as_slice(), &vec![0; DISK as usize - 4096]].concat()).unwrap();
    let mut making = Command::new("qemu-img");
    making.args(["convert", "-f", "raw", "-O", format, "-o", options]).args([&raw, &path]);
    assert!(making.status().unwrap().success(), "{format} {options}");
    std::fs::read(&path).unwrap()
}

fn vmdk() -> Vec<u8> {
    made("vmdk", "subformat=monolithicSparse")
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn spoilt(mut bytes: Vec<u8>, at: usize, value: &[u8]) -> Vec<u8> {
    put(&mut bytes, at, value);
    bytes
}

/// The same with another text for a descriptor.
fn described(from: &str, to: &str) -> Vec<u8> {
    let mut bytes = vmdk();
    let text = String::from_utf8(bytes[SECTOR..21 * SECTOR].to_vec()).unwrap();
    assert!(text.contains(from), "{from} in {text}");
    let text = text.trim_end_matches('\0').replace(from, to);
    put(&mut bytes, SECTOR, &[0; 20 * SECTOR]);
    put(&mut bytes, SECTOR, text.as_bytes());
    bytes
}

#[track_caller]
fn refused(bytes: &[u8], format: ForeignFormat, word: &str) {
    let error = inspect_foreign(bytes, format).unwrap_err();
    assert!(error.to_string().contains(word), "{error} instead of {word}");
}

#[test]
fn what_qemu_img_makes_is_taken_and_nothing_else_by_its_name() {
    for (format, options, declared) in [
        ("vmdk", "subformat=monolithicSparse", ForeignFormat::Vmdk),
        ("vmdk", "subformat=streamOptimized", ForeignFormat::Vmdk),
        ("vpc", "subformat=dynamic,force_size=on", ForeignFormat::Vhd),
        ("vpc", "subformat=fixed,force_size=on", ForeignFormat::Vhd),
        ("vhdx", "subformat=dynamic", ForeignFormat::Vhdx),
        ("vhdx", "subformat=fixed", ForeignFormat::Vhdx),
    ] {
        let bytes = made(format, options);
        assert_eq!(inspect_foreign(bytes.as_slice(), declared).unwrap(), DISK, "{format} {options}");
        for other in [ForeignFormat::Vmdk, ForeignFormat::Vhd, ForeignFormat::Vhdx] {
            if other != declared {
                refused(&bytes, other, "its record says");
            }
        }
        for other in [DiskFormat::Raw, DiskFormat::Qcow2] {
            assert!(inspect(bytes.as_slice(), other).is_err(), "{format} {options} as {other:?}");
        }
    }
    refused(&vec![0; 1 << 20], ForeignFormat::Vhd, "no known format");
}

#[test]
fn a_vmdk_that_leads_elsewhere_is_refused() {
    let vmdk_is = |bytes: Vec<u8>, word| refused(&bytes, ForeignFormat::Vmdk, word);
    let extent = format!("RW {} SPARSE \"image\"", DISK / 512);
    // CVE-2022-47951: a descriptor alone, or a header without a disk of its own.
    let text =
        "# Disk DescriptorFile\nversion=1\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\nRW 8 FLAT \"/etc/passwd\" 0\n";
    vmdk_is(text.as_bytes().to_vec(), "no sparse disk in one file");
    vmdk_is(spoilt(vmdk(), 12, &[0; 8]), "a list of files");
    for other in [
        "RW 16384 FLAT \"/etc/passwd\" 0".to_owned(),
        extent.replace("image", "/etc/passwd"),
        extent.replace("image", "..\\\\secret"),
        extent.replace("image", "nbd:host"),
        extent.replace("SPARSE", "VMFSSPARSE"),
        extent.replace("16384", "16383"),
    ] {
        vmdk_is(described(&extent, &other), "an extent that is not the file itself");
    }
    vmdk_is(described(&extent, &format!("{extent}\n{extent}")), "one extent");
    vmdk_is(described(&extent, ""), "one extent");
    vmdk_is(described("parentCID=ffffffff", "parentCID=0000000a"), "a parent");
    // QEMU asks for no more than the hint, whatever the id of the parent says.
    vmdk_is(described("version=1", "version=1\nparentFileNameHint=\"/etc/passwd\""), "a parent");
    vmdk_is(described("version=1", "version=1\nchangeTrackPath=\"/etc/passwd\""), "not known");
    vmdk_is(described("monolithicSparse", "twoGbMaxExtentSparse"), "one file");
}

/// QEMU reads of a parent behind the first sector, wherever the header says that the descriptor is.
#[test]
fn a_vmdk_with_one_descriptor_for_us_and_one_for_qemu_is_refused() {
    let mut bytes = described("parentCID=ffffffff", "parentCID=00000001\nparentFileNameHint=\"/etc/passwd\"");
    bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
    let at = (bytes.len() / SECTOR) as u64;
    bytes.extend(&vmdk()[SECTOR..21 * SECTOR]);
    put(&mut bytes, 28, &at.to_le_bytes());
    refused(&bytes, ForeignFormat::Vmdk, "a parent");
    // And with the hint behind the end of the text.
    let hidden = spoilt(vmdk(), 18 * SECTOR, b"parentFileNameHint=\"/etc/passwd\"");
    refused(&hidden, ForeignFormat::Vmdk, "a parent");
}

#[test]
fn a_vmdk_that_makes_no_sense_is_refused() {
    for (at, value, word) in [
        (4, 9_u32.to_le_bytes().as_slice(), "version"),
        (12, &u64::MAX.to_le_bytes(), "table of grains"),
        (20, &3_u64.to_le_bytes(), "grains"),
        (28, &0_u64.to_le_bytes(), "descriptor"),
        (36, &u64::MAX.to_le_bytes(), "descriptor"),
        (44, &0_u32.to_le_bytes(), "grains"),
        (56, &(1_u64 << 60).to_le_bytes(), "table of grains"),
        (56, &u64::MAX.to_le_bytes(), "no sparse disk"),
        (77, &9_u16.to_le_bytes(), "compression"),
    ] {
        refused(&spoilt(vmdk(), at, value), ForeignFormat::Vmdk, word);
    }
    for length in [4, 511, 600, 4096] {
        assert!(inspect_foreign(&vmdk()[..length], ForeignFormat::Vmdk).is_err(), "{length} bytes of it");
    }
}

#[test]
fn a_vhd_that_leads_elsewhere_or_makes_no_sense_is_refused() {
    let dynamic = || made("vpc", "subformat=dynamic,force_size=on");
    let vhd_is = |bytes: Vec<u8>, word| refused(&bytes, ForeignFormat::Vhd, word);
    let header = 512;
    let both = |at: usize, value: &[u8]| {
        let (bytes, end) = (dynamic(), dynamic().len() - 512);
        spoilt(spoilt(bytes, at, value), end + at, value)
    };
    vhd_is(both(60, &4_u32.to_be_bytes()), "a parent");
    vhd_is(spoilt(dynamic(), header + 40, &[1; 16]), "a parent");
    vhd_is(spoilt(dynamic(), header + 64, b"\0/\0e\0t\0c"), "a parent");
    vhd_is(spoilt(dynamic(), header + 576, b"W2ku"), "a parent");
    vhd_is(both(60, &9_u32.to_be_bytes()), "type");
    vhd_is(both(16, &u64::MAX.to_be_bytes()), "dynamic header");
    vhd_is(both(48, &(1_u64 << 50).to_be_bytes()), "table of blocks");
    vhd_is(spoilt(dynamic(), 48, &4096_u64.to_be_bytes()), "otherwise than the copy");
    vhd_is(spoilt(dynamic(), header + 32, &77_u32.to_be_bytes()), "blocks");
    vhd_is(spoilt(dynamic(), header + 28, &u32::MAX.to_be_bytes()), "table of blocks");
    vhd_is(dynamic()[..2048].to_vec(), "footer");
    let fixed = made("vpc", "subformat=fixed,force_size=on");
    let at = fixed.len() - 512 + 48;
    vhd_is(spoilt(fixed, at, &(DISK + 512).to_be_bytes()), "size");
}

#[test]
fn a_vhdx_that_leads_elsewhere_or_makes_no_sense_is_refused() {
    let image = made("vhdx", "subformat=dynamic");
    let vhdx_is = |bytes: Vec<u8>, word| refused(&bytes, ForeignFormat::Vhdx, word);
    let find = |what: &[u8]| image.windows(what.len()).position(|window| window == what).unwrap();
    let metadata = find(b"metadata");
    // Its parameters and its disk's size are the first two items.
    let item = |number: usize| {
        let entry = metadata + 32 * number;
        (entry, metadata + u32::from_le_bytes(image[entry + 16..entry + 20].try_into().unwrap()) as usize)
    };
    let (parameters, size) = (item(1).1, item(2).1);
    assert_eq!(image[size..size + 8], DISK.to_le_bytes(), "the second item is the size");
    vhdx_is(spoilt(image.clone(), parameters + 4, &2_u32.to_le_bytes()), "a parent");
    let parent = [0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45, 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c];
    vhdx_is(spoilt(image.clone(), item(3).0, &parent), "a parent");
    vhdx_is(spoilt(image.clone(), parameters, &77_u32.to_le_bytes()), "blocks");
    vhdx_is(spoilt(image.clone(), size, &u64::MAX.to_le_bytes()), "the most");
    vhdx_is(spoilt(image.clone(), metadata, b"metadatx"), "no metadata");
    vhdx_is(spoilt(image.clone(), metadata + 10, &[0xff; 2]), "impossible length");
    vhdx_is(spoilt(image.clone(), 0x3_0000 + 8, &[0xff; 4]), "differ");
    vhdx_is(spoilt(spoilt(image.clone(), 0x3_0010, &[9; 16]), 0x4_0010, &[9; 16]), "not known");
    vhdx_is(image[..0x3_8000].to_vec(), "region table");
}

/// What passes is what QEMU then opens: of every image above that does, it names no other file.
#[test]
fn what_is_taken_names_no_other_file_to_qemu() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    std::fs::write(&path, vmdk()).unwrap();
    let told = |path: &Path| {
        let out = Command::new("qemu-img").args(["info", "-f", "vmdk", "--output", "json"]).arg(path).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    assert!(!told(&path).contains("backing"), "{}", told(&path));
    // It would open the parent of the one that is refused.
    std::fs::write(&path, described("version=1", "version=1\nparentFileNameHint=\"/etc/passwd\"")).unwrap();
    assert!(told(&path).contains("/etc/passwd"), "{}", told(&path));
}
