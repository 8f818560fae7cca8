//! A volume's target: made, opened, taken away. All of it blocks: the kernel may wait for a session's commands.
//!
//! ```text
//! iscsi/<iqn>/tpgt_1/    one portal group, enabled, CHAP demanded
//!   lun/lun_1 ──────────▶ core/iblock_<n>/bowline-<owner>-<volume id>
//!   acls/<initiator>/     auth/…, lun_1 ──▶ lun/lun_1
//!   np/<address:port>     from `open` on
//! ```

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::info;
use uuid::Uuid;

use super::access;
use super::backstore::Backstores;
use super::configfs::{self, ConfigfsError};
use super::error::LioError;
use crate::targets::{Access, Export, LUN, iqn};

/// The exports of one service.
#[derive(Debug)]
pub(super) struct Exports {
    /// `/sys/kernel/config/target/iscsi`.
    iscsi: PathBuf,
    stores: Backstores,
    portals: Vec<String>,
    /// Whether hosts are let in. Before, targets are made without portals.
    is_open: AtomicBool,
}

impl Exports {
    pub(super) fn new(iscsi: PathBuf, stores: Backstores, portals: Vec<String>) -> Self {
        Self { iscsi, stores, portals, is_open: AtomicBool::new(false) }
    }

    pub(super) fn portals(&self) -> &[String] {
        &self.portals
    }

    pub(super) fn export(&self, export: &Export) -> Result<(), LioError> {
        let target = self.target(export.volume_id);
        let group = target.join("tpgt_1");
        let lun = group.join(format!("lun/lun_{LUN}"));
        self.refuse_foreign(export.volume_id)?;
        let store = self.stores.ensure(export)?;
        configfs::make(&target)?;
        configfs::make(&group)?;
        // Nobody without an ACL, nobody without a password, and names are told to nobody who has neither.
        for (attribute, value) in [("authentication", "1"), ("generate_node_acls", "0"), ("demo_mode_discovery", "0")] {
            configfs::set(&group.join("attrib").join(attribute), value)?;
        }
        configfs::make(&lun)?;
        if configfs::links(&lun)?.is_empty() {
            configfs::link(&store, &lun.join(configfs::name(&store)))?;
        }
        for access in &export.accesses {
            access::grant(&group, access)?;
        }
        let enable = group.join("enable");
        if configfs::get(&enable)? != "1" {
            configfs::set(&enable, "1")?;
        }
        // Only now, so that no host that comes back is told that it may not log in.
        if self.is_open.load(Ordering::Acquire) { self.open_portals(export.volume_id) } else { Ok(()) }
    }

    pub(super) fn revoke(&self, export: &Export, access: &Access) -> Result<(), LioError> {
        self.refuse_foreign(export.volume_id)?;
        if export.accesses.is_empty() {
            return self.remove(export.volume_id);
        }
        let group = self.target(export.volume_id).join("tpgt_1");
        match export.accesses.iter().find(|other| other.initiator == access.initiator) {
            // The host has another attachment of this volume: its one session serves both.
            Some(stays) => access::grant(&group, stays),
            None => access::revoke(&group, &access.initiator),
        }
    }

    pub(super) fn grow(&self, export: &Export) -> Result<(), LioError> {
        self.stores.grow(export)
    }

    /// Takes a volume's target away, with whatever a try before left of it.
    pub(super) fn remove(&self, volume_id: Uuid) -> Result<(), LioError> {
        self.refuse_foreign(volume_id)?;
        let target = self.target(volume_id);
        let group = target.join("tpgt_1");
        let acls = access::all(&group)?;
        access::wait_gone(&acls);
        if group.exists() {
            // Cuts what sessions there are, and lets no other in.
            configfs::set(&group.join("enable"), "0")?;
        }
        for portal in configfs::objects(&group.join("np"))? {
            configfs::remove(&portal)?;
        }
        for acl in acls {
            access::remove(&acl)?;
        }
        for lun in configfs::objects(&group.join("lun"))? {
            configfs::unlink_all(&lun)?;
            configfs::remove(&lun)?;
        }
        configfs::remove(&group)?;
        configfs::remove(&target)?;
        self.stores.remove(volume_id)
    }

    /// Lets hosts in, at the portals that are configured and no others.
    pub(super) fn open(&self) -> Result<(), LioError> {
        for volume_id in self.stores.volumes()? {
            if self.target(volume_id).exists() {
                self.open_portals(volume_id)?;
            }
        }
        self.is_open.store(true, Ordering::Release);
        Ok(())
    }

    /// Takes away what is left from before of this service's: targets of other volumes, and other accesses.
    pub(super) fn keep_only(&self, exports: &[Export]) -> Result<(), LioError> {
        for volume_id in self.stores.volumes()? {
            let Some(export) = exports.iter().find(|export| export.volume_id == volume_id) else {
                info!(volume = %volume_id, "its target is left from before and nobody is to see it: taken away");
                self.remove(volume_id)?;
                continue;
            };
            for acl in access::all(&self.target(volume_id).join("tpgt_1"))? {
                let initiator = configfs::name(&acl);
                if !export.accesses.iter().any(|access| access.initiator == initiator) {
                    info!(volume = %volume_id, initiator, "its access is left from before: taken away");
                    access::remove(&acl)?;
                }
            }
        }
        Ok(())
    }

    fn open_portals(&self, volume_id: Uuid) -> Result<(), LioError> {
        let listening = self.target(volume_id).join("tpgt_1/np");
        for portal in configfs::objects(&listening)? {
            if !self.portals.iter().any(|wanted| wanted == configfs::name(&portal)) {
                configfs::remove(&portal)?;
            }
        }
        for portal in &self.portals {
            configfs::make(&listening.join(portal)).map_err(|error| portal_error(portal, error))?;
        }
        Ok(())
    }

    /// A target of the right name whose LUN is not this service's is somebody else's.
    fn refuse_foreign(&self, volume_id: Uuid) -> Result<(), LioError> {
        let path = self.target(volume_id);
        for lun in configfs::objects(&path.join("tpgt_1/lun"))? {
            for link in configfs::links(&lun)? {
                let store = std::fs::read_link(&link).unwrap_or_default();
                if !self.stores.is_of(&store, volume_id) {
                    let problem = format!("it shows {}", configfs::name(&store));
                    return Err(LioError::Foreign { path, problem });
                }
            }
        }
        Ok(())
    }

    fn target(&self, volume_id: Uuid) -> PathBuf {
        self.iscsi.join(iqn(volume_id))
    }
}

fn portal_error(portal: &str, error: ConfigfsError) -> LioError {
    let portal = portal.to_owned();
    match error.source.kind() {
        ErrorKind::AddrInUse => LioError::PortalTaken { portal },
        ErrorKind::AddrNotAvailable => LioError::PortalAbsent { portal },
        _ => error.into(),
    }
}
