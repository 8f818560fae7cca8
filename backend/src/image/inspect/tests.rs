//! Headers by hand, field by field; whole files of qemu-img are tried over HTTP in `backend/tests/service/images.rs`.

use std::io::Write as _;

use super::*;

const LIMITS: ImageLimits = ImageLimits { largest_bytes: 1 << 40, largest_disk_bytes: 1 << 30 };

fn look(format: Format, bytes: &[u8]) -> Result<u64, Unfit> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    inspect(&file, format, &LIMITS).map_err(|error| match error {
        InspectError::Unfit(unfit) => unfit,
        InspectError::Io(error) => panic!("what the header says was read from beyond the end: {error}"),
    })
}

fn put(bytes: &mut [u8], offset: usize, new: &[u8]) {
    bytes[offset..offset + new.len()].copy_from_slice(new);
}

/// A qcow2 of version 3 with clusters of 64 KiB, a disk of 4 MiB and a table of one entry.
fn qcow2() -> Vec<u8> {
    let mut bytes = vec![0; 0x2_0000];
    put(&mut bytes, 0, b"QFI\xfb\0\0\0\x03");
    put(&mut bytes, 20, &16u32.to_be_bytes());
    put(&mut bytes, 24, &(4u64 << 20).to_be_bytes());
    put(&mut bytes, 36, &1u32.to_be_bytes());
    put(&mut bytes, 40, &0x1_0000u64.to_be_bytes());
    put(&mut bytes, 100, &104u32.to_be_bytes());
    bytes
}

/// A VMDK whose header has a capacity of 8192 sectors and whose descriptor, in the second sector, is `text`.
fn vmdk(text: &str) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    put(&mut bytes, 0, b"KDMV\x01\0\0\0");
    put(&mut bytes, 12, &8192u64.to_le_bytes());
    put(&mut bytes, 28, &1u64.to_le_bytes());
    put(&mut bytes, 36, &2u64.to_le_bytes());
    put(&mut bytes, 512, text.as_bytes());
    bytes
}

/// A fixed VHD of 4 KiB.
fn vhd() -> Vec<u8> {
    let mut bytes = vec![0; 4096 + 512];
    put(&mut bytes, 4096, b"conectix");
    put(&mut bytes, 4096 + 48, &4096u64.to_be_bytes());
    put(&mut bytes, 4096 + 60, &2u32.to_be_bytes());
    bytes
}

#[test]
fn a_qcow2_that_needs_nothing_else_is_taken_with_its_disks_size() {
    assert_eq!(look(Format::Qcow2, &qcow2()), Ok(4 << 20));
    let mut dirty = qcow2();
    put(&mut dirty, 72, &1u64.to_be_bytes());
    assert_eq!(look(Format::Qcow2, &dirty), Ok(4 << 20), "refcounts can be made good");
    let mut version_2 = qcow2();
    put(&mut version_2, 4, &2u32.to_be_bytes());
    put(&mut version_2, 72, &[0; 32]);
    assert_eq!(look(Format::Qcow2, &version_2), Ok(4 << 20));
}

#[test]
fn a_qcow2_that_names_another_file_is_refused_wherever_it_does() {
    let elsewhere = |offset: usize, new: &[u8]| {
        let mut bytes = qcow2();
        put(&mut bytes, offset, new);
        let refused = look(Format::Qcow2, &bytes);
        assert!(matches!(refused, Err(Unfit::Elsewhere { .. })), "{offset}: {refused:?}");
    };
    elsewhere(8, &512u64.to_be_bytes());
    elsewhere(16, &11u32.to_be_bytes());
    elsewhere(72, &4u64.to_be_bytes());
    // The name of a data file, behind another extension.
    let mut extensions = Vec::new();
    extensions.extend(0x1234_5678u32.to_be_bytes());
    extensions.extend(3u32.to_be_bytes());
    extensions.extend([0; 8]);
    extensions.extend(*b"DATA");
    extensions.extend(11u32.to_be_bytes());
    extensions.extend(*b"/etc/shadow");
    elsewhere(104, &extensions);
}

#[test]
fn a_qcow2_whose_header_contradicts_itself_is_refused() {
    let with = |offset: usize, new: &[u8]| {
        let mut bytes = qcow2();
        put(&mut bytes, offset, new);
        look(Format::Qcow2, &bytes)
    };
    let broken = |result: Result<u64, Unfit>| matches!(result, Err(Unfit::Broken { .. }));
    assert!(broken(with(20, &8u32.to_be_bytes())), "clusters too small");
    assert!(broken(with(20, &22u32.to_be_bytes())), "clusters too large");
    assert!(broken(with(24, &[0; 8])), "no disk");
    assert!(broken(with(36, &u32::MAX.to_be_bytes())), "a table larger than any");
    assert!(broken(with(40, &u64::MAX.to_be_bytes())), "a table beyond every end");
    assert!(broken(with(72, &2u64.to_be_bytes())), "marked as corrupt");
    assert!(broken(with(100, &103u32.to_be_bytes())), "too short a header");
    assert!(broken(with(100, &u32::MAX.to_be_bytes())), "too long a header");
    assert!(matches!(with(32, &1u32.to_be_bytes()), Err(Unfit::Feature { .. })), "encrypted");
    assert!(matches!(with(72, &(1u64 << 63).to_be_bytes()), Err(Unfit::Feature { .. })), "from the future");
    assert!(matches!(with(24, &(1u64 << 31).to_be_bytes()), Err(Unfit::DiskTooLarge { .. })));
    for length in [8, 71, 90] {
        assert!(broken(look(Format::Qcow2, &qcow2()[..length])), "cut off after {length} bytes");
    }
}

#[test]
fn a_vmdk_has_its_one_extent_in_itself() {
    let one = "createType=\"monolithicSparse\"\nparentCID=ffffffff\nRW 8192 SPARSE \"disk.vmdk\"\n";
    assert_eq!(look(Format::Vmdk, &vmdk(one)), Ok(4 << 20));
    for (text, why) in [
        (one.replace("SPARSE", "FLAT"), "another file"),
        (one.replace("disk.vmdk", "../../etc/shadow"), "another file"),
        (one.replace("disk.vmdk", "/etc/a=b"), "another file"),
        (one.replace("ffffffff", "12345678"), "a parent"),
        (format!("{one}parentFileNameHint=\"other.vmdk\"\n"), "a parent"),
        (format!("{one}RDONLY 8192 SPARSE \"second.vmdk\"\n"), "other than one extent"),
        ("createType=\"monolithicSparse\"\n".to_owned(), "other than one extent"),
    ] {
        let refused = look(Format::Vmdk, &vmdk(&text));
        assert!(matches!(refused, Err(Unfit::Elsewhere { .. })), "{why}: {text}: {refused:?}");
        assert!(refused.unwrap_err().to_string().contains(why), "{why}: {text}");
    }
    let flat = one.replace("monolithicSparse", "monolithicFlat");
    assert!(matches!(look(Format::Vmdk, &vmdk(&flat)), Err(Unfit::Feature { .. })));
    let mut without_capacity = vmdk(one);
    put(&mut without_capacity, 12, &[0; 8]);
    assert!(matches!(look(Format::Vmdk, &without_capacity), Err(Unfit::Elsewhere { .. })), "QEMU reads the text then");
    let mut without_footer = vmdk(one);
    put(&mut without_footer, 56, &u64::MAX.to_le_bytes());
    assert!(matches!(look(Format::Vmdk, &without_footer), Err(Unfit::Broken { .. })));
    // One descriptor for us, and one for QEMU, which looks for a parent where descriptors usually are.
    let mut two_faced = vmdk("createType=\"monolithicSparse\"\nparentFileNameHint=\"/etc/shadow\"\n");
    put(&mut two_faced, 28, &4u64.to_le_bytes());
    put(&mut two_faced, 2048, one.as_bytes());
    assert!(look(Format::Vmdk, &two_faced).is_err(), "its descriptor is elsewhere");
    let mut hidden = vmdk(one);
    put(&mut hidden, 3 * 512, b"parentFileNameHint=\"/etc/shadow\"");
    assert!(matches!(look(Format::Vmdk, &hidden), Err(Unfit::Elsewhere { .. })), "behind the end of the descriptor");
    let mut far = vmdk(one);
    put(&mut far, 28, &u64::MAX.to_le_bytes());
    assert!(matches!(look(Format::Vmdk, &far), Err(Unfit::Broken { .. })));
}

#[test]
fn a_vhd_has_the_size_of_its_data_and_no_parent() {
    assert_eq!(look(Format::Vhd, &vhd()), Ok(4096));
    let with = |offset: usize, new: &[u8]| {
        let mut bytes = vhd();
        put(&mut bytes, offset, new);
        look(Format::Vhd, &bytes)
    };
    assert!(matches!(with(4096, b"nothing!"), Err(Unfit::Broken { .. })));
    assert!(matches!(with(4096 + 48, &8192u64.to_be_bytes()), Err(Unfit::Broken { .. })));
    assert!(matches!(with(4096 + 60, &4u32.to_be_bytes()), Err(Unfit::Elsewhere { .. })));
    assert!(matches!(look(Format::Vhd, &[0; 100]), Err(Unfit::Broken { .. })));
}

#[test]
fn bytes_that_are_something_else_are_told_what_they_are() {
    assert_eq!(look(Format::Raw, &qcow2()), Err(Unfit::OtherFormat { claimed: Format::Raw, found: Format::Qcow2 }));
    assert_eq!(look(Format::Qcow2, &[0; 4096]), Err(Unfit::NoHeader { claimed: Format::Qcow2 }));
    assert_eq!(look(Format::Raw, &[]), Err(Unfit::Empty));
    assert!(matches!(look(Format::Raw, b"# Disk DescriptorFile\n"), Err(Unfit::Foreign(_))));
    let mut both = qcow2();
    put(&mut both, 0x8001, b"CD001");
    assert!(matches!(look(Format::Qcow2, &both), Err(Unfit::Ambiguous { .. })));
    assert_eq!(look(Format::Raw, &[7; 4096]), Ok(4096));
}
