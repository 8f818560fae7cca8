//! What attaching a disk means for a guest as it is. Pure, so that repeating and half-done states can be tested.

use super::{
    disk_xml,
    domain_xml::DomainXml,
    error::LibvirtError,
    guest::{DriveAddress, GuestDisk, Sides},
    iothreads::IoThreadPlan,
};
use crate::model::{DiskBus, DiskSpec, GuestUuid};
use std::collections::HashSet;

/// Units on a virtio-scsi controller that every QEMU takes (LUNs 0 to 255).
const SCSI_UNITS: u32 = 256;

/// What to do on each side, and where the disk goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AttachPlan {
    /// Plug it in now.
    pub(super) live: bool,
    /// Put it into the persistent definition.
    pub(super) config: bool,
    /// The definition holds an older description of this volume at that target and bus, to be taken out first.
    pub(super) stale: Option<(String, String)>,
    /// Target name.
    pub(super) target: String,
    /// Address, on the SCSI bus.
    pub(super) address: Option<DriveAddress>,
    /// A virtio-scsi controller with the address's index has to be plugged in first.
    pub(super) live_controller: bool,
    /// The same, into the persistent definition.
    pub(super) config_controller: bool,
    /// The disk's thread, or its controller's where one is made for it.
    pub(super) iothreads: IoThreadPlan,
}

/// Where a disk sits in its guest, beside its target name.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    /// Address, on the SCSI bus.
    pub(super) address: Option<DriveAddress>,
    /// I/O thread, of a virtio-blk disk.
    pub(super) iothread: Option<u32>,
}

impl AttachPlan {
    pub(super) fn new(guest: GuestUuid, sides: &Sides, spec: &DiskSpec) -> Result<Self, LibvirtError> {
        let wanted = disk_xml::source_text(&spec.source)?;
        let same = |disk: &&GuestDisk| disk.source.as_deref() == Some(wanted.as_str());
        let in_live = sides.live.as_ref().and_then(|side| side.disk_of(spec.volume));
        if let Some(disk) = in_live.filter(|disk| !same(disk)) {
            return Err(LibvirtError::OtherSource {
                guest,
                volume: spec.volume,
                target: disk.target.clone(),
                found: disk.source.clone().unwrap_or_default(),
                wanted,
            });
        }
        let configured = sides.config.as_ref().and_then(|side| side.disk_of(spec.volume));
        let in_config = configured.filter(same);
        let stale = configured.filter(|disk| !same(disk)).map(|disk| (disk.target.clone(), disk.bus.clone()));
        let target = in_live.or(in_config).map_or(&spec.target, |disk| &disk.target).clone();
        let mut plan = Self {
            live: sides.live.is_some() && in_live.is_none(),
            config: sides.config.is_some() && in_config.is_none(),
            stale,
            target,
            address: None,
            live_controller: false,
            config_controller: false,
            iothreads: IoThreadPlan::default(),
        };
        if !plan.changes() {
            return Ok(plan);
        }
        if let (Some(order), None) = (spec.boot_order, in_live.or(in_config)) {
            check_boot_order(guest, sides, order)?;
        }
        match spec.bus {
            DiskBus::Virtio => plan.iothreads = IoThreadPlan::new(sides, &spec.tuning),
            DiskBus::Scsi => {
                plan.find_address(sides, in_live.or(in_config));
                // The disk shares its controller's thread, which was chosen when that was made.
                if plan.live_controller || plan.config_controller {
                    plan.iothreads = IoThreadPlan::new(sides, &spec.tuning);
                }
            }
        }
        Ok(plan)
    }

    pub(super) fn changes(&self) -> bool {
        self.live || self.config
    }

    pub(super) fn place(&self) -> Place {
        let own_thread = self.address.is_none();
        Place { address: self.address, iothread: self.iothreads.thread.filter(|_| own_thread) }
    }

    /// Gives the disk one address for both sides, so that the guest finds it where it was after a restart: the first free unit of
    /// the first virtio-scsi controller that has one, else the first of a new controller.
    fn find_address(&mut self, sides: &Sides, other_side: Option<&GuestDisk>) {
        let has = |side: &DomainXml, index: u32| side.scsi_controllers.iter().any(|c| c.index == index && c.is_virtio);
        let fits = |side: &DomainXml, index: u32| {
            has(side, index) || side.scsi_controllers.iter().all(|controller| controller.index != index)
        };
        let taken: HashSet<DriveAddress> = sides
            .each()
            .flat_map(|side| &side.disks)
            .filter(|disk| disk.bus == "scsi")
            .filter_map(|disk| disk.address)
            .collect();
        let mut known: Vec<u32> =
            sides.each().flat_map(|side| &side.scsi_controllers).filter(|c| c.is_virtio).map(|c| c.index).collect();
        known.sort_unstable();
        let next = sides.each().flat_map(|side| &side.scsi_controllers).map(|c| c.index.saturating_add(1)).max().unwrap_or(0);
        let free = |controller: u32| {
            (0..SCSI_UNITS).map(|unit| DriveAddress { controller, unit }).find(|address| !taken.contains(address))
        };
        let address = other_side
            .and_then(|disk| disk.address)
            .or_else(|| known.into_iter().filter(|index| sides.each().all(|side| fits(side, *index))).find_map(free))
            .unwrap_or(DriveAddress { controller: next, unit: 0 });
        let controller = address.controller;
        self.live_controller = self.live && sides.live.as_ref().is_some_and(|side| !has(side, controller));
        self.config_controller = self.config && sides.config.as_ref().is_some_and(|side| !has(side, controller));
        self.address = Some(address);
    }
}

/// libvirt refuses both, the second only when the guest is started next.
fn check_boot_order(guest: GuestUuid, sides: &Sides, order: u32) -> Result<(), LibvirtError> {
    let refuse = |problem| Err(LibvirtError::BootOrder { guest, order, problem });
    if sides.each().any(|side| side.boots_by_os) {
        return refuse(
            "its definition says <os><boot>, beside which no device can have an order; give its devices <boot order> instead",
        );
    }
    if sides.each().any(|side| side.boot_orders.contains(&order)) {
        return refuse("another device has that place; choose one that is free");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::libvirt::{domain_xml::ScsiController, samples};

    const HERE: &str = "/run/bowline/here";

    fn disk(target: &str, source: &str) -> GuestDisk {
        GuestDisk {
            target: target.into(),
            bus: "virtio".into(),
            serial: None,
            alias: None,
            source: Some(source.into()),
            volume: Some(samples::volume()),
            address: None,
        }
    }

    fn side(disks: Vec<GuestDisk>, controllers: &[(u32, bool)]) -> Option<DomainXml> {
        let scsi_controllers = controllers.iter().map(|&(index, is_virtio)| ScsiController { index, is_virtio }).collect();
        Some(DomainXml { disks, scsi_controllers, ..DomainXml::default() })
    }

    fn plan(live: Option<DomainXml>, config: Option<DomainXml>, spec: &DiskSpec) -> Result<AttachPlan, LibvirtError> {
        AttachPlan::new(GuestUuid(uuid::Uuid::nil()), &Sides { live, config }, spec)
    }

    fn scsi() -> DiskSpec {
        let mut spec = samples::block_spec(HERE);
        spec.bus = DiskBus::Scsi;
        spec
    }

    #[test]
    fn a_new_disk_goes_where_the_guest_has_sides() {
        let spec = samples::block_spec(HERE);
        let none = || side(vec![], &[]);
        for (live, config) in [(none(), none()), (none(), None), (None, none())] {
            let expected = (live.is_some(), config.is_some());
            let plan = plan(live, config, &spec).unwrap();
            assert_eq!((plan.live, plan.config), expected);
            assert_eq!((plan.target.as_str(), plan.stale), ("vdb", None));
        }
    }

    #[test]
    fn a_disk_that_is_there_is_left_alone() {
        let there = || side(vec![disk("vdc", HERE)], &[]);
        assert!(!plan(there(), there(), &samples::block_spec(HERE)).unwrap().changes());
    }

    #[test]
    fn a_half_attached_disk_is_completed_at_the_same_target() {
        let spec = samples::block_spec(HERE);
        let there = || side(vec![disk("vdc", HERE)], &[]);
        let plan_a = plan(there(), side(vec![], &[]), &spec).unwrap();
        assert_eq!((plan_a.live, plan_a.config, plan_a.target.as_str()), (false, true, "vdc"));
        let plan_b = plan(side(vec![], &[]), there(), &spec).unwrap();
        assert_eq!((plan_b.live, plan_b.config, plan_b.target.as_str()), (true, false, "vdc"));
    }

    #[test]
    fn an_old_description_in_the_definition_is_replaced() {
        let plan = plan(side(vec![], &[]), side(vec![disk("vdc", "/dev/old")], &[]), &samples::block_spec(HERE)).unwrap();
        assert_eq!((plan.live, plan.config, plan.stale), (true, true, Some(("vdc".into(), "virtio".into()))));
    }

    #[test]
    fn a_running_guest_with_the_volume_from_elsewhere_is_a_conflict() {
        let error = plan(side(vec![disk("vdc", "/dev/old")], &[]), None, &samples::block_spec(HERE)).unwrap_err();
        assert!(matches!(&error, LibvirtError::OtherSource { found, .. } if found == "/dev/old"), "{error}");
    }

    #[test]
    fn a_guest_without_virtio_scsi_gets_a_controller_beside_the_ones_it_has() {
        let plan = plan(side(vec![], &[(0, false)]), side(vec![], &[(0, false)]), &scsi()).unwrap();
        assert_eq!(plan.address, Some(DriveAddress { controller: 1, unit: 0 }));
        assert!(plan.live_controller && plan.config_controller);
    }

    #[test]
    fn a_controller_of_one_side_is_given_to_the_other() {
        let plan = plan(side(vec![], &[(0, true)]), side(vec![], &[]), &scsi()).unwrap();
        assert_eq!(plan.address, Some(DriveAddress { controller: 0, unit: 0 }));
        assert!(!plan.live_controller && plan.config_controller);
    }

    #[test]
    fn a_unit_is_free_only_if_no_side_uses_it() {
        let at = |unit| {
            let mut disk = disk("sda", "/dev/other");
            disk.volume = None;
            disk.bus = "scsi".into();
            disk.address = Some(DriveAddress { controller: 0, unit });
            disk
        };
        let controllers = &[(0, true)];
        let found = plan(side(vec![at(0)], controllers), side(vec![at(1)], controllers), &scsi()).unwrap();
        assert_eq!(found.address, Some(DriveAddress { controller: 0, unit: 2 }));
        let with_a_hole = || side((0..SCSI_UNITS).filter(|unit| *unit != 77).map(at).collect(), controllers);
        let found = plan(with_a_hole(), with_a_hole(), &scsi()).unwrap();
        assert_eq!(found.address, Some(DriveAddress { controller: 0, unit: 77 }));
        let full = || side((0..SCSI_UNITS).map(at).collect(), controllers);
        let found = plan(full(), full(), &scsi()).unwrap();
        assert_eq!(found.address, Some(DriveAddress { controller: 1, unit: 0 }));
        assert!(found.live_controller && found.config_controller);
        let second = &[(0, true), (1, true)];
        let full = || side((0..SCSI_UNITS).map(at).collect(), second);
        let found = plan(full(), full(), &scsi()).unwrap();
        assert_eq!((found.address, found.live_controller), (Some(DriveAddress { controller: 1, unit: 0 }), false));
    }

    #[test]
    fn a_boot_order_that_libvirt_would_refuse_is_refused_with_the_reason() {
        let mut spec = samples::block_spec(HERE);
        spec.boot_order = Some(2);
        let booting = |boots_by_os, boot_orders| Some(DomainXml { boots_by_os, boot_orders, ..DomainXml::default() });
        for (side, word) in [(booting(true, vec![]), "<os><boot>"), (booting(false, vec![2]), "another device")] {
            let error = plan(None, side, &spec).unwrap_err().to_string();
            assert!(error.contains("number 2") && error.contains(word), "{error}");
        }
        assert!(plan(None, booting(false, vec![1]), &spec).is_ok());
    }
}
