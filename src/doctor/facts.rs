//! What the checks go by. `None` and the like mean that it could not be seen, never that it is not there.

use crate::model::{FolderRoom, GroupRoom};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// All facts.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Of the host, as seen from this process.
    pub host: HostFacts,
    /// What only the agent knows.
    pub agent: Option<AgentFacts>,
}

/// A kernel module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Module {
    /// Loaded, or built in.
    Loaded,
    /// Can be loaded.
    Available,
    /// This kernel has none.
    Absent,
}

/// A file that matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileFact {
    /// It is not there.
    Absent,
    /// It is there: permission bits and owner.
    There {
        /// Permission bits, such as 0o600.
        mode: u32,
        /// Owner.
        uid: u32,
    },
}

/// What `initiatorname.iscsi` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InitiatorName {
    /// There is no such file.
    NoFile,
    /// It names none.
    Unnamed,
    /// The name, and how much later than it this host's machine id was made, where it was.
    Named {
        /// The IQN.
        name: String,
        /// Much later means that the host is a copy, which was given an id of its own but not a name.
        machine_id_later: Duration,
    },
}

/// What multipathd runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultipathdConfig {
    /// `find_multipaths`.
    pub find_multipaths: Option<String>,
    /// `user_friendly_names`.
    pub user_friendly_names: Option<String>,
}

/// The host.
#[derive(Debug, Clone, Default)]
pub struct HostFacts {
    /// Programs by name, and whether the path has them.
    pub programs: BTreeMap<&'static str, bool>,
    /// Modules by name. One that is not loaded is left out where the folder of modules cannot be read.
    pub modules: BTreeMap<&'static str, Module>,
    /// Abstract Unix sockets that somebody listens on.
    pub sockets: Option<Vec<String>>,
    /// The initiator's name.
    pub initiator_name: Option<InitiatorName>,
    /// Where multipathd answers.
    pub multipathd: Option<MultipathdConfig>,
    /// Block drivers that QEMU can load; `None` where it has no folder of them, as when they are built in.
    pub qemu_drivers: Option<Vec<String>>,
    /// `/etc/ceph/ceph.conf`.
    pub ceph_conf: Option<FileFact>,
    /// Keyrings of clients in `/etc/ceph`, by file name.
    pub ceph_keyrings: Option<BTreeMap<String, FileFact>>,
    /// The bus policy that lets the agent have its name.
    pub bus_policy: Option<FileFact>,
    /// The polkit actions.
    pub polkit_actions: Option<FileFact>,
}

/// What only the agent knows.
#[derive(Debug, Clone)]
pub struct AgentFacts {
    /// `iscsi.initiator` as a word: `auto`, `kernel` or `qemu`.
    pub initiator: String,
    /// How many volumes are attached, by protocol and initiator, such as `iscsi/kernel`.
    pub attached: BTreeMap<String, usize>,
    /// libvirt's and QEMU's version, or why it cannot be asked.
    pub libvirt: Result<LibvirtFacts, String>,
    /// The volume service, or why it cannot be asked.
    pub cloud: Result<CloudFacts, String>,
    /// The journal's folder, and why it cannot be written to, if so.
    pub journal: (String, Option<String>),
    /// `rbd.client` is the kernel.
    pub rbd_in_kernel: bool,
    /// Ephemeral disks are logical volumes: whether thin ones. `None` where they are files.
    pub thin_disks: Option<bool>,
    /// Ephemeral disks are on RBD: why none can be made in their pool, if so. `None` where they are elsewhere.
    pub disk_pool: Option<Result<(), String>>,
    /// The room for images and for disks that are files, or why that cannot be seen.
    pub folder: Result<FolderRoom, String>,
    /// The volume group of ephemeral disks, where they are made in one, or why it cannot be had.
    pub group: Result<Option<GroupRoom>, String>,
    /// `iscsi.multipath`: required or off; `None` where it is preferred.
    pub wants_multipath: Option<bool>,
    /// Files of Ceph that the settings name: the setting, the path, what is there.
    pub ceph_files: Vec<(&'static str, PathBuf, Option<FileFact>)>,
    /// Why the metrics are not served, though the settings ask for it.
    pub metrics_problem: Option<String>,
}

#[cfg(test)]
impl AgentFacts {
    /// Of an agent that could ask nobody.
    pub(super) fn sample() -> Self {
        Self {
            initiator: "auto".into(),
            attached: BTreeMap::new(),
            libvirt: Err(String::new()),
            cloud: Err(String::new()),
            journal: (String::new(), None),
            rbd_in_kernel: false,
            thin_disks: None,
            disk_pool: None,
            folder: Err(String::new()),
            group: Ok(None),
            wants_multipath: None,
            ceph_files: vec![],
            metrics_problem: None,
        }
    }
}

/// libvirt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibvirtFacts {
    /// `major * 1_000_000 + minor * 1_000 + release`.
    pub version: u32,
    /// The same of QEMU.
    pub hypervisor_version: u32,
    /// Secrets of Bowline's that no attachment and no operation knows.
    pub forgotten_secrets: Vec<String>,
}

/// The volume service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudFacts {
    /// This host's clock minus the service's, seconds, as its answer's `Date` says; good to a second.
    pub skew_s: Option<i64>,
    /// Roles of the service user; `None` where there is none, or where no Keystone tells.
    pub service_roles: Option<Vec<String>>,
    /// A service user is set up.
    pub has_service_user: bool,
    /// Tokens come from a Keystone.
    pub has_keystone: bool,
}

impl Facts {
    /// Volumes attached by a protocol, and by an initiator if given.
    pub(super) fn attached(&self, protocol: &str, initiator: Option<&str>) -> usize {
        let Some(agent) = &self.agent else { return 0 };
        let matches = |key: &str| match initiator {
            Some(initiator) => key == format!("{protocol}/{initiator}"),
            None => key.split('/').next() == Some(protocol),
        };
        agent.attached.iter().filter(|(key, _)| matches(key)).map(|(_, count)| count).sum()
    }

    /// Whether somebody listens on an abstract socket; `None` where that cannot be seen.
    pub(super) fn listens(&self, socket: &str) -> Option<bool> {
        self.host.sockets.as_ref().map(|sockets| sockets.iter().any(|name| name == socket))
    }

    /// Whether QEMU can open such a source; `None` where that cannot be seen.
    pub(super) fn qemu_can(&self, driver: &str) -> Option<bool> {
        self.host.qemu_drivers.as_ref().map(|drivers| drivers.iter().any(|name| name == driver))
    }
}
