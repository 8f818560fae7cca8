//! Who shows volumes to hosts.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

/// Who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetKind {
    /// tgtd.
    #[default]
    Tgt,
    /// The kernel.
    Lio,
}

/// The `[targets]` table.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Targets {
    /// Who it is.
    pub kind: TargetKind,
    /// The `[targets.tgt]` table.
    pub tgt: Tgt,
    /// The `[targets.lio]` table.
    pub lio: Lio,
}

/// tgtd.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tgt {
    /// Whether to start and watch a tgtd of our own. Otherwise `control_socket` names one that runs.
    pub manage: bool,
    /// The program to start.
    pub program: PathBuf,
    /// Where hosts connect to. Our own tgtd listens there.
    pub portal: SocketAddr,
    /// Further addresses of the same, on other networks: hosts that want several paths are told of all.
    pub extra_portals: Vec<SocketAddr>,
    /// The control socket of a tgtd that somebody else runs.
    pub control_socket: PathBuf,
    /// The most that is copied of a volume's data while its hosts are held off, MiB: for a snapshot of a volume that is in use, where the
    /// file system cannot clone files.
    pub copy_held_max_mib: u64,
}

impl Default for Tgt {
    fn default() -> Self {
        Self {
            manage: true,
            program: PathBuf::from("tgtd"),
            portal: SocketAddr::from(([127, 0, 0, 1], 3260)),
            extra_portals: Vec::new(),
            control_socket: PathBuf::from("/var/run/tgtd/socket.0"),
            copy_held_max_mib: 2048,
        }
    }
}

/// The kernel's targets.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lio {
    /// Where hosts connect to.
    pub portal: SocketAddr,
    /// Further addresses of the same, on other networks: hosts that want several paths are told of all.
    pub extra_portals: Vec<SocketAddr>,
}

impl Default for Lio {
    fn default() -> Self {
        Self { portal: SocketAddr::from(([127, 0, 0, 1], 3260)), extra_portals: Vec::new() }
    }
}
