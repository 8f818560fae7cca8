//! How to reach a volume, as the volume service told it, checked and typed.

use super::Secret;
use serde::{Deserialize, Serialize};
use std::{fmt, net::Ipv6Addr, str::FromStr};
use uuid::Uuid;

/// How to connect one volume. Parsed from the service's JSON in `openstack`; holds secrets, so it is never journalled:
/// recovery asks the service for it again.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ConnectionInfo {
    /// An iSCSI LUN, over one path or several.
    Iscsi(IscsiConnection),
    /// An image of a Ceph cluster.
    Rbd(RbdConnection),
    /// A file of an NFS export.
    Nfs(NfsConnection),
    /// A `driver_volume_type` this version has no connector for.
    Unsupported {
        /// The service's word for it.
        driver_volume_type: String,
    },
}

impl ConnectionInfo {
    /// The volume may only be read (`access_mode` `ro`).
    pub fn read_only(&self) -> bool {
        match self {
            Self::Iscsi(iscsi) => iscsi.read_only,
            Self::Rbd(rbd) => rbd.read_only,
            Self::Nfs(nfs) => nfs.read_only,
            Self::Unsupported { .. } => false,
        }
    }

    /// Whatever the volume allows, this attachment may only be read.
    pub fn make_read_only(&mut self) {
        match self {
            Self::Iscsi(iscsi) => iscsi.read_only = true,
            Self::Rbd(rbd) => rbd.read_only = true,
            Self::Nfs(nfs) => nfs.read_only = true,
            Self::Unsupported { .. } => {}
        }
    }

    /// The volume may be in several places at once, which only the agent knows: it is multiattach.
    pub fn make_shared(&mut self) {
        if let Self::Rbd(rbd) = self {
            rbd.shared = true;
        }
    }

    /// The backend wants discards passed through.
    pub fn discard(&self) -> bool {
        match self {
            Self::Iscsi(iscsi) => iscsi.discard,
            Self::Rbd(rbd) => rbd.discard,
            Self::Nfs(nfs) => nfs.discard,
            Self::Unsupported { .. } => false,
        }
    }

    /// The serial number that the service vouches for, where it does.
    pub fn expected_serial(&self) -> Option<&str> {
        match self {
            Self::Iscsi(iscsi) => iscsi.serial.as_deref(),
            Self::Rbd(_) | Self::Nfs(_) | Self::Unsupported { .. } => None,
        }
    }

    /// The secret that QEMU needs where it logs in itself, and what kind of secret libvirt must hold it as.
    pub fn disk_secret(&self) -> Option<(SecretKind, &Secret)> {
        match self {
            Self::Iscsi(iscsi) => iscsi.chap.as_ref().map(|chap| (SecretKind::Iscsi, &chap.password)),
            Self::Rbd(rbd) => rbd.auth.as_ref()?.key.as_ref().map(|key| (SecretKind::Ceph, key)),
            Self::Nfs(_) | Self::Unsupported { .. } => None,
        }
    }

    /// The service's word for the protocol (`driver_volume_type`).
    pub fn protocol(&self) -> &str {
        match self {
            Self::Iscsi(_) => "iscsi",
            Self::Rbd(_) => "rbd",
            Self::Nfs(_) => "nfs",
            Self::Unsupported { driver_volume_type } => driver_volume_type,
        }
    }
}

/// Connection info with `driver_volume_type` `iscsi`.
#[derive(Debug, Clone)]
pub struct IscsiConnection {
    /// Every path the service named, the singular one first. Empty only while `discovery` has yet to tell them.
    pub paths: Vec<IscsiPath>,
    /// Where to ask for paths that the service did not name; none where it lists them all, and once it was asked.
    pub discovery: Option<IscsiDiscovery>,
    /// CHAP, when `auth_method` is `CHAP`.
    pub chap: Option<ChapCredentials>,
    /// The volume may only be read (`access_mode` `ro`).
    pub read_only: bool,
    /// The backend wants discards passed through.
    pub discard: bool,
    /// The service says the data is encrypted.
    pub encrypted: bool,
    /// SCSI unit serial number (VPD page 0x80) the device must have, where the service vouches for one.
    pub serial: Option<String>,
}

/// Whom to ask by which ways a LUN can be reached (`SendTargets`).
#[derive(Debug, Clone)]
pub struct IscsiDiscovery {
    /// The portal to ask.
    pub portal: Portal,
    /// The target, where the service names it.
    pub iqn: Option<String>,
    /// The LUN, as this host's kernel numbers it.
    pub lun: u64,
    /// CHAP of the discovery session, when `discovery_auth_method` is `CHAP`. Not the target's own.
    pub chap: Option<ChapCredentials>,
}

/// What a libvirt secret is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretKind {
    /// A CHAP password; libvirt is given its bytes.
    Iscsi,
    /// A cephx key, written in base64; libvirt is given the bytes it stands for.
    Ceph,
    /// The passphrase of an encrypted volume; libvirt is given its bytes.
    Passphrase,
}

/// Connection info with `driver_volume_type` `rbd`.
#[derive(Debug, Clone)]
pub struct RbdConnection {
    /// The image.
    pub image: RbdImage,
    /// The cluster's monitors, in the service's order. Never empty.
    pub monitors: Vec<Portal>,
    /// `cluster_name`; `ceph` where the service names none.
    pub cluster: String,
    /// cephx, when `auth_enabled`.
    pub auth: Option<CephAuth>,
    /// The volume may only be read.
    pub read_only: bool,
    /// The backend wants discards passed through.
    pub discard: bool,
    /// The service says the data is encrypted.
    pub encrypted: bool,
    /// The image may be open elsewhere too.
    pub shared: bool,
}

/// An RBD image. The same name in another pool or namespace is another image.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RbdImage {
    /// Pool.
    pub pool: String,
    /// RADOS namespace, where there is one.
    pub namespace: Option<String>,
    /// Image name.
    pub name: String,
}

impl fmt::Display for RbdImage {
    /// As Ceph writes it: `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}/{namespace}/{}", self.pool, self.name),
            None => write!(f, "{}/{}", self.pool, self.name),
        }
    }
}

/// A cephx user, and how QEMU gets its key.
#[derive(Debug, Clone)]
pub struct CephAuth {
    /// `auth_username`, without `client.`.
    pub username: String,
    /// `secret_uuid`: a libvirt secret that the operator has defined on every host.
    pub secret_uuid: Option<Uuid>,
    /// The key itself, where the service gives it (`keyring`).
    pub key: Option<Secret>,
}

/// Connection info with `driver_volume_type` `nfs`.
#[derive(Debug, Clone)]
pub struct NfsConnection {
    /// `SERVER:/PATH`.
    pub export: NfsExport,
    /// The volume's file, a name directly below the export.
    pub file: String,
    /// Its format as the service says it. It is never probed: a guest can write any header into its disk.
    pub format: DiskFormat,
    /// Mount options the service asks for, as it wrote them.
    pub options: Option<String>,
    /// The volume may only be read.
    pub read_only: bool,
    /// The backend wants discards passed through.
    pub discard: bool,
    /// The service says the data is encrypted.
    pub encrypted: bool,
}

/// What an NFS server shares.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NfsExport {
    /// Host name, IPv4 address, or IPv6 address without brackets.
    pub server: String,
    /// Absolute path on the server.
    pub path: String,
}

impl fmt::Display for NfsExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.server.contains(':') {
            true => write!(f, "[{}]:{}", self.server, self.path),
            false => write!(f, "{}:{}", self.server, self.path),
        }
    }
}

/// How a disk's bytes are laid out in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskFormat {
    /// As they are.
    Raw,
    /// QEMU's copy-on-write format.
    Qcow2,
}

impl DiskFormat {
    /// libvirt's and the service's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// One way to one LUN.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IscsiPath {
    /// Where the target listens.
    pub portal: Portal,
    /// Target name.
    pub iqn: String,
    /// Logical unit number, as the service counts it.
    pub lun: u64,
}

impl fmt::Display for IscsiPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lun {} at {}", self.iqn, self.lun, self.portal)
    }
}

impl IscsiPath {
    /// Reads what its `Display` writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (iqn, rest) = text.split_once(" lun ")?;
        let (lun, portal) = rest.split_once(" at ")?;
        Some(Self { portal: portal.parse().ok()?, iqn: iqn.to_owned(), lun: lun.parse().ok()? })
    }
}

/// CHAP user and password.
#[derive(Debug, Clone)]
pub struct ChapCredentials {
    /// `auth_username`.
    pub username: String,
    /// `auth_password`.
    pub password: Secret,
}

/// An iSCSI portal: a host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Portal {
    /// IPv4 address, IPv6 address without brackets, or host name.
    pub host: String,
    /// TCP port; 3260 when the service named none.
    pub port: u16,
}

/// A portal that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an iSCSI portal: expected HOST:PORT, or [IPV6]:PORT")]
pub struct PortalError {
    text: String,
}

impl FromStr for Portal {
    type Err = PortalError;

    fn from_str(text: &str) -> Result<Self, PortalError> {
        let bad = || PortalError { text: text.chars().take(128).collect() };
        // Cinder may append ",TPGT" as sendtargets prints it.
        let text_without_tag = text.split(',').next().unwrap_or(text);
        let (host, port) = if let Some(rest) = text_without_tag.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
            host.parse::<Ipv6Addr>().map_err(|_| bad())?;
            if !(rest.is_empty() || rest.starts_with(':')) {
                return Err(bad());
            }
            (host, rest.strip_prefix(':'))
        } else {
            match text_without_tag.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    text_without_tag.parse::<Ipv6Addr>().map_err(|_| bad())?;
                    (text_without_tag, None)
                }
                Some((host, port)) => (host, Some(port)),
                None => (text_without_tag, None),
            }
        };
        let port = match port {
            Some(port) => port.parse().map_err(|_| bad())?,
            None => 3260,
        };
        // What a host may consist of is kept narrow: it becomes a folder name and an argument further down.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_');
        if host.is_empty() || port == 0 || host.starts_with(['-', '.']) || !host.chars().all(plain) {
            return Err(bad());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Portal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portals_are_read_in_every_form_the_service_writes() {
        for (text, host, port) in [
            ("127.0.0.1:3270", "127.0.0.1", 3270),
            ("10.0.0.1", "10.0.0.1", 3260),
            ("[fd00::1]:3260", "fd00::1", 3260),
            ("fd00::1", "fd00::1", 3260),
            ("filer.example.org:3260,1", "filer.example.org", 3260),
        ] {
            assert_eq!(text.parse::<Portal>().unwrap(), Portal { host: host.into(), port }, "{text}");
        }
    }

    #[test]
    fn portals_that_could_become_a_path_or_an_option_are_refused() {
        for text in
            ["", ":3260", "a:b", "../../etc:3260", "-p:3260", "[fd00::1:3260", "h:0", "h:70000", "a b:3260", "[::1]3260x"]
        {
            assert!(text.parse::<Portal>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_ipv6_portal_prints_in_brackets() {
        assert_eq!("[fd00::1]:3260".parse::<Portal>().unwrap().to_string(), "[fd00::1]:3260");
    }
}
