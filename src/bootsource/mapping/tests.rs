//! Each rule of a mapping, by what breaks it: the entry and the field are named. And what a mapping that breaks none comes to.

use super::super::resolve::Facts;
use super::*;
use crate::model::*;
use proptest::prelude::*;
use serde_json::json;

const IMAGE: &str = "94333fbd-2aab-4a5a-befd-e30c2f7377fd";
const SNAPSHOT: &str = "0d1f2e3c-4b5a-4678-9abc-def012345678";

fn image() -> Image {
    Image {
        id: IMAGE.parse().unwrap(),
        name: "debian".into(),
        status: "active".into(),
        disk_format: "qcow2".into(),
        container_format: "bare".into(),
        size_bytes: 100,
        min_disk_gib: 2,
        min_ram_mib: 0,
        virtual_bytes: None,
        digest: Some(ImageDigest { algorithm: DigestAlgorithm::Sha512, hex: "0".repeat(128) }),
        mapping: None,
        is_mapping_v2: false,
        root_device_name: None,
        disk_bus: None,
    }
}

fn volume(bootable: bool, status: &str) -> Volume {
    Volume {
        id: VolumeId(uuid::Uuid::from_u128(7)),
        name: "v".into(),
        size_gib: 3,
        status: status.into(),
        multiattach: false,
        bootable,
        encrypted: false,
        volume_type: None,
        created_at: String::new(),
        attachments: vec![],
    }
}

fn request(mapping: Value, clauses: &[&str]) -> BootRequest {
    BootRequest {
        guest: "g".into(),
        image: None,
        image_size_gib: None,
        mapping: mapping.to_string(),
        clauses: clauses.iter().map(ToString::to_string).collect(),
        lazy: false,
        definition: None,
    }
}

fn facts() -> Facts {
    let snapshot = VolumeSnapshot {
        id: SNAPSHOT.parse().unwrap(),
        volume: VolumeId(uuid::Uuid::nil()),
        name: String::new(),
        status: "available".into(),
        size_gib: 4,
    };
    Facts {
        images: [(IMAGE.to_owned(), image()), ("debian".to_owned(), image())].into(),
        volumes: [
            ("v".to_owned(), volume(true, "available")),
            ("plain".to_owned(), Volume { id: VolumeId(uuid::Uuid::from_u128(8)), ..volume(false, "available") }),
            ("busy".to_owned(), Volume { id: VolumeId(uuid::Uuid::from_u128(9)), ..volume(true, "in-use") }),
        ]
        .into(),
        snapshots: [(SNAPSHOT.to_owned(), snapshot)].into(),
        guest_name: "g".into(),
        suffix: "abcd".into(),
        ..Facts::default()
    }
}

fn plan(request: &BootRequest, image: Option<&Image>) -> Result<Vec<PlannedDisk>, MappingError> {
    Mapping::of(request, image)?.resolve(&facts()).map(|plan| plan.disks)
}

/// The second of two entries, whose first is a good root disk.
fn second(fields: Value) -> Value {
    json!([{"source_type": "volume", "uuid": "v", "boot_index": 0}, fields])
}

#[test]
fn every_rule_names_the_entry_and_the_field() {
    for (fields, field) in [
        (json!({"source_type": "floppy"}), "source_type"),
        (json!({"uuid": "v"}), "source_type"),
        (json!({"source_type": "blank", "destination_type": "cloud", "volume_size": 1}), "destination_type"),
        (json!({"source_type": "volume", "destination_type": "local", "uuid": "v"}), "destination_type"),
        (json!({"source_type": "snapshot", "destination_type": "local", "uuid": SNAPSHOT}), "destination_type"),
        (json!({"source_type": "volume"}), "uuid"),
        (json!({"source_type": "blank", "uuid": "v", "volume_size": 1}), "uuid"),
        (json!({"source_type": "volume", "uuid": "v"}), "uuid"),
        (json!({"source_type": "volume", "uuid": "nobody"}), "uuid"),
        (json!({"source_type": "volume", "uuid": "busy"}), "uuid"),
        (json!({"source_type": "image", "destination_type": "local", "uuid": IMAGE}), "boot_index"),
        (json!({"source_type": "volume", "uuid": "plain", "boot_index": 0}), "boot_index"),
        (json!({"source_type": "volume", "uuid": "plain", "boot_index": 2}), "boot_index"),
        (json!({"source_type": "volume", "uuid": "plain", "boot_index": "first"}), "boot_index"),
        (json!({"source_type": "blank", "volume_size": 1, "guest_format": "swap", "boot_index": 1}), "boot_index"),
        (json!({"source_type": "blank", "destination_type": "volume"}), "volume_size"),
        (json!({"source_type": "blank"}), "volume_size"),
        (json!({"source_type": "image", "uuid": IMAGE, "volume_size": 1}), "volume_size"),
        (json!({"source_type": "image", "uuid": IMAGE, "volume_size": 0}), "volume_size"),
        (json!({"source_type": "image", "uuid": IMAGE, "volume_size": 9_000_000_000_000_000_000_u64}), "volume_size"),
        (json!({"source_type": "snapshot", "uuid": SNAPSHOT, "volume_size": 3}), "volume_size"),
        (json!({"source_type": "volume", "uuid": "plain", "volume_type": "fast"}), "volume_type"),
        (json!({"source_type": "blank", "volume_size": 1, "volume_type": "fast"}), "volume_type"),
        (
            json!({"source_type": "blank", "destination_type": "volume", "volume_size": 1, "guest_format": "ext4"}),
            "guest_format",
        ),
        (json!({"source_type": "blank", "volume_size": 1, "delete_on_termination": false}), "delete_on_termination"),
        (json!({"source_type": "blank", "volume_size": 1, "delete_on_termination": "perhaps"}), "delete_on_termination"),
        (json!({"source_type": "blank", "volume_size": 1, "device_name": "/dev/../x"}), "device_name"),
        (json!({"source_type": "blank", "volume_size": 1, "device_name": "sdb", "disk_bus": "virtio"}), "device_name"),
        (json!({"no_device": true}), "device_name"),
        (json!({"source_type": "blank", "volume_size": 1, "tag": "a,b"}), "tag"),
        (json!({"source_type": "blank", "volume_size": 1, "size": 1}), "size"),
    ] {
        let error = plan(&request(second(fields.clone()), &[]), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{fields}: {error}");
        let MappingError::Field { entry, field: named, .. } = &error else { panic!("{fields}: {error}") };
        // Of two that contradict each other either may be the one that is named.
        assert!(entry == "entry 2" || named == "boot_index" || named == "uuid", "{fields}: {error}");
        assert_eq!(named, field, "{fields}: {error}");
    }
}

#[test]
fn what_this_version_cannot_do_is_told_as_that() {
    for (fields, word) in [
        (json!({"source_type": "blank", "volume_size": 1, "device_type": "cdrom"}), "device_type"),
        (json!({"source_type": "blank", "volume_size": 1, "disk_bus": "ide"}), "disk_bus"),
        (json!({"source_type": "blank", "volume_size": 1, "guest_format": "ntfs"}), "guest_format"),
    ] {
        let error = plan(&request(second(fields), &[]), None).unwrap_err();
        assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains(word), "{error}");
    }
}

#[test]
fn rules_among_entries() {
    let blank = |more: Value| {
        let mut entry = json!({"source_type": "blank", "volume_size": 1});
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        entry
    };
    let root = json!({"source_type": "volume", "uuid": "v", "boot_index": 0});
    let named_root = json!({"source_type": "volume", "uuid": "v", "boot_index": 0, "device_name": "vdb"});
    for (entries, word) in [
        (json!([]), "boot_index 0"),
        (json!([blank(json!({}))]), "boot_index 0"),
        (json!([root, blank(json!({"tag": "x"})), blank(json!({"tag": "x"}))]), "tag"),
        (json!([root, blank(json!({"device_name": "vdb"})), blank(json!({"device_name": "/dev/vdb"}))]), "device_name"),
        (json!([root, blank(json!({"guest_format": "swap"})), blank(json!({"guest_format": "swap"}))]), "guest_format"),
        (json!([{"source_type": "volume", "uuid": "plain", "boot_index": 0}]), "bootable"),
        (Value::Array(vec![blank(json!({})); 65]), "65 entries"),
        (json!([named_root, blank(json!({"device_name": "vda"}))]), "would boot from vda"),
        (json!({"source_type": "blank"}), "JSON list"),
        (json!([3]), "JSON list"),
    ] {
        let error = plan(&request(entries, &[]), None).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
    let taken = Facts { taken: vec!["vdb".into()], ..facts() };
    let mapping = Mapping::of(&request(json!([root, blank(json!({"device_name": "vdb"}))]), &[]), None).unwrap();
    assert!(mapping.resolve(&taken).unwrap_err().to_string().contains("has a disk vdb already"));
    // What the guest has already is booted before the root disk, or behind it; a drive on the other bus may be a CD's.
    let mapping = Mapping::of(&request(json!([root]), &[]), None).unwrap();
    for (there, refused) in [("vda", true), ("vdb", false), ("sda", false)] {
        let resolved = mapping.resolve(&Facts { taken: vec![there.into()], ..facts() });
        assert_eq!(resolved.is_err(), refused, "{there}: {resolved:?}");
    }
}

#[test]
fn every_pair_of_source_and_destination_comes_to_its_disk() {
    let mapping = json!([
        {"source_type": "snapshot", "uuid": SNAPSHOT, "boot_index": "0"},
        {"source_type": "image", "uuid": "debian", "volume_size": 5, "volume_type": "fast", "delete_on_termination": true},
        {"source_type": "blank", "destination_type": "volume", "volume_size": 6, "disk_bus": "scsi"},
        {"source_type": "blank", "volume_size": 1, "guest_format": "swap", "boot_index": -1},
        {"source_type": "volume", "uuid": "v", "device_name": "/dev/vdh", "boot_index": 1, "tag": "data", "no_device": null},
    ]);
    let disks = plan(&request(mapping, &["source=blank,size=2,format=ext4,device=vdc"]), None).unwrap();
    let targets: Vec<_> = disks.iter().map(|disk| disk.target.as_str()).collect();
    assert_eq!(targets, ["vda", "vdh", "vdb", "sda", "vdd", "vdc"], "the root first, then by boot index, then as given");
    let kept: Vec<_> = disks.iter().map(|disk| disk.delete_on_termination).collect();
    assert_eq!(kept, [false, false, true, false, true, true]);
    let new = |target: &str, size_gib, volume_type: Option<&str>, origin| PlannedStorage::NewVolume {
        name: format!("g-{target}-abcd"),
        size_gib,
        volume_type: volume_type.map(str::to_owned),
        origin,
    };
    assert_eq!(disks[0].storage, new("vda", 4, None, VolumeOrigin::Snapshot(SNAPSHOT.parse().unwrap())));
    assert_eq!(disks[1].storage, PlannedStorage::Volume(VolumeId(uuid::Uuid::from_u128(7))));
    assert_eq!(disks[1].tag.as_deref(), Some("data"));
    assert_eq!(disks[2].storage, new("vdb", 5, Some("fast"), VolumeOrigin::Image(IMAGE.parse().unwrap())));
    assert_eq!(disks[3].storage, new("sda", 6, None, VolumeOrigin::Blank));
    let blank = |size_gib: u64, filesystem| {
        PlannedStorage::Local(LocalContent::Blank { size_bytes: size_gib * GIB, filesystem: Some(filesystem) })
    };
    let swap = LocalContent::Blank { size_bytes: MIB, filesystem: Some(Filesystem::Swap) };
    assert_eq!(disks[4].storage, PlannedStorage::Local(swap), "as Nova and its clients count it");
    assert_eq!(disks[5].storage, blank(2, Filesystem::Ext4));
}

#[test]
fn an_image_is_the_root_disk_where_nothing_else_is() {
    let asked = |size| BootRequest { image: Some("debian".into()), image_size_gib: size, ..request(json!([]), &[]) };
    let named = Image { root_device_name: Some("/dev/sda".into()), disk_bus: Some(DiskBus::Scsi), ..image() };
    let facts = Facts {
        images: [(IMAGE.to_owned(), named.clone())].into(),
        root_device_name: named.root_device_name.clone(),
        ..facts()
    };
    let disks = Mapping::of(&asked(None), Some(&named)).unwrap().resolve(&facts).unwrap().disks;
    assert_eq!((disks[0].target.as_str(), disks[0].bus), ("sda", DiskBus::Scsi));
    let PlannedStorage::Local(LocalContent::Image { image: file, size_bytes }) = &disks[0].storage else { panic!("{disks:?}") };
    assert_eq!((file.format, *size_bytes), (DiskFormat::Qcow2, Some(2 * GIB)), "as large as it asks for");
    assert!(disks[0].delete_on_termination);
    let vhd = Image { disk_format: "vhd".into(), ..image() };
    let facts = Facts { images: [(IMAGE.to_owned(), vhd.clone())].into(), ..facts };
    let disks = Mapping::of(&asked(None), Some(&vhd)).unwrap().resolve(&facts).unwrap().disks;
    let PlannedStorage::Local(LocalContent::Image { image: file, .. }) = &disks[0].storage else { panic!("{disks:?}") };
    assert_eq!((file.format, file.comes_as), (DiskFormat::Qcow2, Some(ForeignFormat::Vhd)), "converted to that, and from that");

    let too_small = plan(&asked(Some(1)), Some(&image())).unwrap_err();
    assert!(too_small.to_string().contains("volume_size"), "{too_small}");
    let with_root =
        BootRequest { image: Some("debian".into()), ..request(second(json!({"source_type": "blank", "volume_size": 1})), &[]) };
    let disks = plan(&with_root, Some(&image())).unwrap();
    assert!(disks.iter().all(|disk| !matches!(&disk.storage, PlannedStorage::Local(LocalContent::Image { .. }))), "{disks:?}");
    assert!(plan(&BootRequest { image_size_gib: Some(5), ..with_root }, Some(&image())).is_err());
}

#[test]
fn images_that_cannot_be_an_ephemeral_disk_are_refused() {
    let asked = BootRequest { image: Some("debian".into()), ..request(json!([]), &[]) };
    for (spoil, kind, word) in [
        (Image { status: "queued".into(), ..image() }, ErrorKind::InvalidInput, "queued"),
        (Image { disk_format: "vdi".into(), ..image() }, ErrorKind::Unsupported, "vdi"),
        (Image { container_format: "ova".into(), ..image() }, ErrorKind::Unsupported, "ova"),
        (Image { digest: None, ..image() }, ErrorKind::InvalidInput, "digest"),
        (Image { size_bytes: 0, ..image() }, ErrorKind::InvalidInput, "no data"),
    ] {
        let facts = Facts { images: [(IMAGE.to_owned(), spoil.clone())].into(), ..facts() };
        let error = Mapping::of(&asked, Some(&spoil)).unwrap().resolve(&facts).unwrap_err();
        assert!(error.kind() == kind && error.to_string().contains(word), "{error}");
    }
}

/// What Nova writes for an instance with two volumes.
fn snapshot_of_an_instance() -> Image {
    let row = |device: &str, index: Value| {
        json!({
            "source_type": "snapshot", "destination_type": "volume", "snapshot_id": SNAPSHOT, "volume_id": null,
            "image_id": IMAGE, "boot_index": index, "device_name": device, "volume_size": 4, "delete_on_termination": false,
            "disk_bus": "virtio", "device_type": "disk", "guest_format": null, "no_device": null, "tag": null, "volume_type": null,
            "encrypted": null, "attachment_id": null, "uuid": null,
        })
    };
    Image {
        size_bytes: 0,
        mapping: Some(json!([row("/dev/vda", json!(0)), row("/dev/vdb", Value::Null)]).to_string()),
        is_mapping_v2: true,
        root_device_name: Some("/dev/vda".into()),
        ..image()
    }
}

#[test]
fn an_instances_snapshot_brings_all_its_disks_and_the_request_wins() {
    let asked = |mapping| BootRequest { image: Some("debian".into()), ..request(mapping, &[]) };
    let image = snapshot_of_an_instance();
    let disks = plan(&asked(json!([])), Some(&image)).unwrap();
    let targets: Vec<_> = disks.iter().map(|disk| disk.target.as_str()).collect();
    assert_eq!(targets, ["vda", "vdb"]);
    assert!(disks.iter().all(|disk| matches!(disk.storage, PlannedStorage::NewVolume { size_gib: 4, .. })), "{disks:?}");

    let mine = json!([{"source_type": "blank", "volume_size": 1, "device_name": "vdb"}]);
    let disks = plan(&asked(mine), Some(&image)).unwrap();
    assert!(matches!(disks[1].storage, PlannedStorage::Local(_)) && disks.len() == 2, "{disks:?}");
    let disks = plan(&asked(json!([{"no_device": true, "device_name": "/dev/vdb"}])), Some(&image)).unwrap();
    assert_eq!(disks.len(), 1, "{disks:?}");

    let broken = Image { mapping: Some("{".into()), ..image };
    assert!(plan(&asked(json!([])), Some(&broken)).unwrap_err().to_string().contains(IMAGE));
}

#[test]
fn the_root_disk_of_an_instances_snapshot_is_its_own_however_the_image_is_asked_for() {
    let image = snapshot_of_an_instance();
    let sizes = |request: &BootRequest| -> Vec<(u64, bool)> {
        let disks = plan(request, Some(&image)).unwrap().into_iter();
        disks
            .map(|disk| match disk.storage {
                PlannedStorage::NewVolume { size_gib, origin: VolumeOrigin::Snapshot(_), .. } => {
                    (size_gib, disk.delete_on_termination)
                }
                other => panic!("{other:?}"),
            })
            .collect()
    };
    // As `--to volume` puts it.
    let onto = |size: u64| {
        json!([{"source_type": "image", "destination_type": "volume", "uuid": "debian", "boot_index": 0, "volume_size": size,
                "delete_on_termination": true}])
    };
    let request_onto = |size| request(onto(size), &[]);
    assert_eq!(Mapping::image_of(&request_onto(4)).unwrap().as_deref(), Some("debian"));
    assert_eq!(sizes(&request_onto(4)), [(4, true), (4, false)]);
    assert_eq!(sizes(&request_onto(9)), [(9, true), (4, false)], "only the root disk is larger");
    let too_small = plan(&request_onto(3), Some(&image)).unwrap_err().to_string();
    assert!(too_small.contains("less than the snapshot's"), "{too_small}");
    // As clients of Nova put it beside the image.
    let inserted = json!([{"source_type": "image", "destination_type": "local", "uuid": IMAGE, "boot_index": 0,
                           "delete_on_termination": true}]);
    let beside = BootRequest { image: Some("debian".into()), ..request(inserted, &[]) };
    assert_eq!(sizes(&beside), [(4, false), (4, false)]);
    assert_eq!(sizes(&BootRequest { image_size_gib: Some(6), ..beside }), [(6, false), (4, false)]);
    let other = json!([{"source_type": "image", "uuid": "other", "boot_index": 0, "volume_size": 1}]);
    let both = BootRequest { image: Some("debian".into()), ..request(other, &[]) };
    assert!(plan(&both, Some(&image)).unwrap_err().to_string().contains("boot_index"), "two root disks");
}

#[test]
fn an_images_mapping_of_the_older_form_is_read_by_novas_rules() {
    let rows = json!([
        {"device_name": "/dev/vda", "snapshot_id": SNAPSHOT, "volume_size": null, "delete_on_termination": true, "no_device": null},
        {"device_name": "vdb", "virtual_name": "swap", "volume_size": 64},
        {"device_name": "vdc", "virtual_name": "ephemeral0", "volume_size": 1, "delete_on_termination": false},
        {"device_name": "vdd", "virtual_name": "ephemeral1"},
        {"device_name": "vde", "no_device": true},
    ]);
    let older = |rows: Value| Image { size_bytes: 0, mapping: Some(rows.to_string()), ..image() };
    let asked = BootRequest { image: Some("debian".into()), ..request(json!([]), &[]) };
    let disks = plan(&asked, Some(&older(rows))).unwrap();
    let targets: Vec<_> = disks.iter().map(|disk| disk.target.as_str()).collect();
    assert_eq!(targets, ["vda", "vdb", "vdc"], "what has no size, or no device, is none");
    assert!(matches!(disks[0].storage, PlannedStorage::NewVolume { size_gib: 4, .. }) && disks[0].delete_on_termination);
    let blank =
        |size_bytes, filesystem| PlannedStorage::Local(LocalContent::Blank { size_bytes, filesystem: Some(filesystem) });
    assert_eq!(disks[1].storage, blank(64 * MIB, Filesystem::Swap));
    assert_eq!(disks[2].storage, blank(GIB, Filesystem::Ext4));
    assert!(disks[2].delete_on_termination, "an ephemeral disk goes, whatever the table had");
    let unknown = plan(&asked, Some(&older(json!([{"device_name": "vda"}])))).unwrap_err().to_string();
    assert!(unknown.contains("virtual_name") && unknown.contains(IMAGE), "{unknown}");
}

#[test]
fn sizes_that_are_not_given_are_those_that_are_known() {
    let onto_volume = request(json!([{"source_type": "image", "uuid": "debian", "boot_index": 0}]), &[]);
    let size = |spoil: Image| -> Result<u64, MappingError> {
        let facts = Facts { images: [("debian".to_owned(), spoil.clone())].into(), ..facts() };
        let plan = Mapping::of(&onto_volume, Some(&spoil)).unwrap().resolve(&facts)?;
        match plan.disks[0].storage {
            PlannedStorage::NewVolume { size_gib, .. } => Ok(size_gib),
            _ => panic!("{plan:?}"),
        }
    };
    assert_eq!(size(image()).unwrap(), 2);
    assert_eq!(size(Image { virtual_bytes: Some(5 * GIB + 1), ..image() }).unwrap(), 6);
    let unknown = size(Image { min_disk_gib: 0, ..image() }).unwrap_err().to_string();
    assert!(unknown.contains("volume_size") && unknown.contains("--size"), "{unknown}");

    // As Nova, which puts the volume's own in its place.
    let sized = request(json!([{"source_type": "volume", "uuid": "v", "boot_index": 0, "volume_size": 99}]), &[]);
    let plan = Mapping::of(&sized, None).unwrap().resolve(&facts()).unwrap();
    assert!(plan.remarks.len() == 1 && plan.remarks[0].contains("volume_size: has no effect"), "{plan:?}");
}

#[test]
fn clauses_say_what_they_lack() {
    for (clause, word) in [
        ("source_type", "has no value"),
        ("source_type=blank,source=image", "twice"),
        ("source=blank,size=1,shutdown=maybe", "remove or preserve"),
        ("source=blank,size=big", "volume_size"),
        ("uuid=v,colour=red,source_type=volume", "colour"),
    ] {
        let error = plan(&request(json!([]), &[clause]), None).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("--block-device 1"), "{error}");
    }
    let disks = plan(&request(json!([]), &["uuid=v,source_type=volume,boot_index=0,shutdown=remove"]), None).unwrap();
    assert!(disks[0].delete_on_termination);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(mapping in any::<String>(), clause in any::<String>(), field in "[a-z_]{1,20}", value in any::<String>()) {
        let _ = Mapping::of(&BootRequest { mapping, ..request(json!([]), &[&clause]) }, None);
        let _ = plan(&request(json!([{"source_type": "blank", field: value}]), &[]), None);
    }
}
