//! A fragment as it is written: every key optional, unknown keys refused.

use crate::model::{DiskBus, DiskCache, DiskFormat, DiskIo, IoThreads};
use serde::Deserialize;
use std::path::PathBuf;

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(super) struct $name {
            $($(#[$field_doc])* pub(super) $field: Option<$type>,)*
        }

        impl $name {
            fn merge(&mut self, later: Self) {
                $(if later.$field.is_some() { self.$field = later.$field; })*
            }
        }
    };
}

section!(
    /// `[cloud]`: whose volumes, with which credentials.
    Cloud { name: String, file: PathBuf, service_name: String, connect_timeout_s: u64, request_timeout_s: u64 }
);
section!(
    /// `[host]`: what this host calls itself.
    Host { name: String, my_ip: String }
);
section!(
    /// `[iscsi]`
    Iscsi {
        initiator: Initiator,
        multipath: Multipath,
        login_timeout_s: u64,
        device_timeout_s: u64,
        logout_timeout_s: u64,
        initiator_name_file: PathBuf,
        iface: String,
        target_accounts_file: PathBuf,
    }
);
section!(
    /// `[nfs]`
    Nfs { mount_options: String, mount_timeout_s: u64 }
);
section!(
    /// `[rbd]`
    Rbd {
        client: RbdClient,
        conf_file: PathBuf,
        user: String,
        keyring_file: PathBuf,
        map_options: String,
        allow_open_elsewhere: bool,
        info_timeout_s: u64,
        map_timeout_s: u64,
    }
);
section!(
    /// `[libvirt]`
    Libvirt {
        uri: String,
        connect_timeout_s: u64,
        call_timeout_s: u64,
        attach_timeout_s: u64,
        detach_timeout_s: u64,
        detach_request_interval_s: u64,
        shutdown_timeout_s: u64,
    }
);
section!(
    /// `[guest]`: how disks are given to guests.
    Guest { disk_bus: DiskBus, cache: DiskCache, io: DiskIo, iothreads: IoThreads, iothread_count: u32, queues: u16, freeze_timeout_s: u64 }
);
section!(
    /// `[key_manager]`: where the keys of encrypted volumes are.
    KeyManager { cloud: String, endpoint: String }
);
section!(
    /// `[operations]`
    Operations { step_timeout_s: u64, recovery_timeout_s: u64, keep_finished: usize }
);
section!(
    /// `[volumes]`: waits on the volume service.
    Volumes { create_timeout_s: u64, delete_timeout_s: u64, extend_timeout_s: u64, watch_interval_s: u64 }
);
section!(
    /// `[images]`: images and ephemeral disks of this host.
    Images {
        dir: PathBuf,
        limit_gib: u64,
        disks_on: DisksOn,
        disk_format: DiskFormat,
        volume_group: String,
        thin_pool: String,
        rbd_pool: String,
        download_timeout_s: u64,
        stall_timeout_s: u64,
    }
);
section!(
    /// `[paths]`
    Paths { state_dir: PathBuf, run_dir: PathBuf }
);
section!(
    /// `[health]`: looking after what is attached.
    Health { interval_s: u64, look_timeout_s: u64 }
);
section!(
    /// `[metrics]`
    Metrics { listen: String }
);
section!(
    /// `[bus]`
    Bus { address: String }
);

/// `iscsi.initiator`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Initiator {
    /// The kernel where it can, else QEMU.
    Auto,
    /// open-iscsi.
    Kernel,
    /// QEMU's own.
    Qemu,
}

impl Initiator {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Kernel => "kernel",
            Self::Qemu => "qemu",
        }
    }
}

/// `iscsi.multipath`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Multipath {
    /// One path.
    Off,
    /// All paths where there are several and multipathd runs.
    Preferred,
    /// All paths through multipathd, or an error.
    Required,
}

/// `rbd.client`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RbdClient {
    /// QEMU's own.
    Qemu,
    /// The kernel's, which makes a block device of the image.
    Kernel,
}

/// `images.disks_on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DisksOn {
    /// Files in `images.dir`.
    Files,
    /// Logical volumes.
    Lvm,
    /// RBD images.
    Rbd,
}

/// A whole fragment.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Inputs {
    pub(super) cloud: Cloud,
    pub(super) host: Host,
    pub(super) iscsi: Iscsi,
    pub(super) nfs: Nfs,
    pub(super) rbd: Rbd,
    pub(super) libvirt: Libvirt,
    pub(super) guest: Guest,
    pub(super) key_manager: KeyManager,
    pub(super) operations: Operations,
    pub(super) volumes: Volumes,
    pub(super) images: Images,
    pub(super) paths: Paths,
    pub(super) bus: Bus,
    pub(super) health: Health,
    pub(super) metrics: Metrics,
}

impl Inputs {
    /// Lays a later fragment over this.
    pub(super) fn merge(&mut self, later: Self) {
        self.cloud.merge(later.cloud);
        self.host.merge(later.host);
        self.iscsi.merge(later.iscsi);
        self.nfs.merge(later.nfs);
        self.rbd.merge(later.rbd);
        self.libvirt.merge(later.libvirt);
        self.guest.merge(later.guest);
        self.key_manager.merge(later.key_manager);
        self.operations.merge(later.operations);
        self.volumes.merge(later.volumes);
        self.images.merge(later.images);
        self.paths.merge(later.paths);
        self.bus.merge(later.bus);
        self.health.merge(later.health);
        self.metrics.merge(later.metrics);
    }
}
