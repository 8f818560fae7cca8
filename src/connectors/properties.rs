//! What this host tells the volume service about itself, read from files and the kernel without starting a process.
//!
//! The keys and where each value comes from follow os-brick's `get_connector_properties`, which Cinder's drivers are written
//! against.

use super::{ConnectorError, ConnectorsConfig};
use crate::model::ConnectorProperties;
use std::{
    env, fs,
    net::{IpAddr, UdpSocket},
    path::Path,
};

/// Reads them now: names and addresses may change while the agent runs.
pub(super) fn read(config: &ConnectorsConfig, initiator: Option<String>) -> Result<ConnectorProperties, ConnectorError> {
    let host = match &config.host {
        Some(host) => host.clone(),
        None => {
            let name =
                nix::unistd::gethostname().map_err(|errno| ConnectorError::system("read the host name")(errno.into()))?;
            name.to_string_lossy().into_owned()
        }
    };
    let ip = config.my_ip.clone().unwrap_or_else(|| source_address().unwrap_or(IpAddr::from([127, 0, 0, 1])).to_string());
    Ok(ConnectorProperties {
        host,
        ip,
        initiator,
        multipath: false,
        enforce_multipath: false,
        platform: env::consts::ARCH.to_owned(),
        os_type: env::consts::OS.to_owned(),
        system_uuid: line(&config.sysfs.join("class/dmi/id/product_uuid")).map(|uuid| uuid.to_lowercase()),
        nqn: line(Path::new("/etc/nvme/hostnqn")),
        nvme_native_multipath: line(&config.sysfs.join("module/nvme_core/parameters/multipath")).as_deref() == Some("Y"),
        do_local_attach: false,
        mode: None,
        mountpoint: None,
    })
}

/// The address packets to the outside leave from. Connecting a UDP socket asks the routing table and sends nothing; the
/// destinations are of the ranges reserved for documentation (RFC 5737, RFC 3849).
fn source_address() -> Option<IpAddr> {
    [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")].into_iter().find_map(|(from, to)| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        let address = socket.local_addr().ok()?.ip();
        (!address.is_unspecified()).then_some(address)
    })
}

/// A file's first line; `None` when there is no such file or it is empty.
fn line(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let first = text.lines().next()?.trim();
    (!first.is_empty()).then(|| first.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_have_the_keys_and_types_cinder_drivers_read() {
        let sysfs = tempfile::tempdir().unwrap();
        fs::create_dir_all(sysfs.path().join("class/dmi/id")).unwrap();
        fs::write(sysfs.path().join("class/dmi/id/product_uuid"), "94333FBD-2AAB-4A5A-BEFD-E30C2F7377FD\n").unwrap();
        fs::create_dir_all(sysfs.path().join("module/nvme_core/parameters")).unwrap();
        fs::write(sysfs.path().join("module/nvme_core/parameters/multipath"), "Y\n").unwrap();
        let config = ConnectorsConfig { sysfs: sysfs.path().to_owned(), host: Some("node-1".into()), ..Default::default() };
        let found = read(&config, Some("iqn.1993-08.org.debian:01:abc".into())).unwrap();
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!(json["host"], "node-1");
        assert_eq!(json["initiator"], "iqn.1993-08.org.debian:01:abc");
        assert_eq!(json["system uuid"], "94333fbd-2aab-4a5a-befd-e30c2f7377fd");
        assert_eq!((&json["os_type"], &json["multipath"]), (&"linux".into(), &false.into()));
        assert_eq!((&json["nvme_native_multipath"], &json["do_local_attach"]), (&true.into(), &false.into()));
        assert!(json["ip"].as_str().unwrap().parse::<IpAddr>().is_ok(), "{json}");
    }

    #[test]
    fn what_is_configured_wins() {
        let config = ConnectorsConfig { my_ip: Some("10.1.2.3".into()), ..Default::default() };
        assert_eq!(read(&config, None).unwrap().ip, "10.1.2.3");
    }
}
