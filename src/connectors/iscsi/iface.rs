//! open-iscsi's interfaces: by which transport, and from which network device or address, this host logs in.
//!
//! `default` (TCP, any device) and `iser` are built in; any other is a file `ifaces/NAME` that `iscsiadm -m iface` writes, with lines
//! `iface.key = value`. A node record carries a copy of them, and iscsid goes by the copy.

use crate::connectors::ConnectorError;
use std::{fs, path::Path};

/// What goes into every node record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Iface {
    lines: Vec<(String, String)>,
}

impl Default for Iface {
    fn default() -> Self {
        Self::built_in("default", "tcp")
    }
}

impl Iface {
    fn built_in(name: &str, transport: &str) -> Self {
        let line = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        Self { lines: vec![line("iface.iscsi_ifacename", name), line("iface.transport_name", transport)] }
    }

    /// Reads interface `name` of `etc_iscsi`.
    pub(super) fn read(etc_iscsi: &Path, name: &str) -> Result<Self, ConnectorError> {
        match name {
            "default" => return Ok(Self::default()),
            "iser" => return Ok(Self::built_in("iser", "iser")),
            _ => {}
        }
        let bad = |why: String| ConnectorError::Iface { name: name.to_owned(), why };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
        if name.is_empty() || name.starts_with(['.', '-']) || !name.chars().all(plain) {
            return Err(bad("that is no name of an interface".to_owned()));
        }
        let file = etc_iscsi.join("ifaces").join(name);
        let text = fs::read_to_string(&file).map_err(|error| bad(format!("{}: {error}", file.display())))?;
        let mut lines: Vec<(String, String)> = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
            .filter(|(key, value)| key.starts_with("iface.") && !value.is_empty() && value != "<empty>")
            .collect();
        if !lines.iter().any(|(key, _)| key == "iface.transport_name") {
            return Err(bad(format!("{} names no iface.transport_name", file.display())));
        }
        lines.retain(|(key, _)| key != "iface.iscsi_ifacename");
        lines.insert(0, ("iface.iscsi_ifacename".to_owned(), name.to_owned()));
        Ok(Self { lines })
    }

    /// The initiator name of this interface, where it has one of its own.
    pub(super) fn initiator_name(&self) -> Option<&str> {
        self.lines.iter().find(|(key, _)| key == "iface.initiatorname").map(|(_, value)| value.as_str())
    }

    /// Whether its portals are reached by this host's own TCP. iSER listens in RDMA's number space, and a card with an initiator of its
    /// own has its own network.
    pub(super) fn is_tcp(&self) -> bool {
        self.lines.iter().any(|(key, value)| key == "iface.transport_name" && value == "tcp")
    }

    /// Its lines for a node record.
    pub(super) fn lines(&self) -> &[(String, String)] {
        &self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_read_as_iscsiadm_writes_it() {
        let etc = tempfile::tempdir().unwrap();
        fs::create_dir(etc.path().join("ifaces")).unwrap();
        let text = "# BEGIN RECORD 2.1.8\niface.iscsi_ifacename = fabric-a\niface.net_ifacename = eth1\niface.ipaddress = <empty>\n\
                    iface.transport_name = tcp\niface.initiatorname = iqn.x:a\n# END RECORD\n";
        fs::write(etc.path().join("ifaces/fabric-a"), text).unwrap();
        let iface = Iface::read(etc.path(), "fabric-a").unwrap();
        let lines: Vec<String> = iface.lines().iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            lines,
            [
                "iface.iscsi_ifacename=fabric-a",
                "iface.net_ifacename=eth1",
                "iface.transport_name=tcp",
                "iface.initiatorname=iqn.x:a"
            ]
        );
        assert_eq!(iface.initiator_name(), Some("iqn.x:a"));
        assert!(iface.is_tcp() && !Iface::read(etc.path(), "iser").unwrap().is_tcp());
        assert_eq!(Iface::read(etc.path(), "default").unwrap(), Iface::default());
        assert!(Iface::read(etc.path(), "iser").unwrap().lines().iter().any(|(_, value)| value == "iser"));
    }

    #[test]
    fn what_is_not_there_or_no_name_is_told() {
        let etc = tempfile::tempdir().unwrap();
        for name in ["missing", "../nodes", "", "-I", "a b"] {
            let error = Iface::read(etc.path(), name).unwrap_err().to_string();
            assert!(error.contains(&format!("{name:?}")), "{error}");
        }
    }
}
