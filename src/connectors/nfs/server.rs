//! Whether an NFS server is there at all, told quickly and in the kernel's own words.
//!
//! The kernel's client takes a refused connection for a server that restarts and goes on trying until it is killed: that would be
//! told as "no answer", and only at the deadline.

use super::NfsError;
use crate::model::NfsExport;
use std::time::Duration;
use tokio::{net::TcpStream, time::timeout};

/// NFS over TCP (RFC 8881, 2.9).
const PORT: u16 = 2049;

/// Opens a connection to the server, where the mount options lead to one by TCP and a known port: version 3 may be asked for its port
/// first, and other transports are not TCP.
pub(super) async fn reach(export: &NfsExport, options: &str, limit: Duration) -> Result<(), NfsError> {
    let Some(port) = port(options) else { return Ok(()) };
    match timeout(limit, TcpStream::connect((export.server.as_str(), port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(source)) => Err(NfsError::Unreachable { export: export.clone(), port, source }),
        Err(_) => Err(NfsError::MountTimeout { export: export.clone(), waited_s: limit.as_secs() }),
    }
}

fn port(options: &str) -> Option<u16> {
    let mut port = PORT;
    for option in options.split(',') {
        match option.split_once('=') {
            Some(("vers" | "nfsvers", version)) if version.starts_with('3') => return None,
            Some(("proto", transport)) if !transport.starts_with("tcp") => return None,
            Some(("port", number)) => port = number.parse().ok()?,
            None if matches!(option, "udp" | "rdma") => return None,
            _ => {}
        }
    }
    Some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_port_that_is_known_is_asked() {
        assert_eq!(port("nosuid,vers=4.1,hard"), Some(2049));
        assert_eq!(port("nosuid,port=20049,proto=tcp6"), Some(20049));
        for options in ["vers=3", "nfsvers=3,port=1", "rdma", "proto=udp", "port=0x"] {
            assert_eq!(port(options), None, "{options}");
        }
    }

    #[tokio::test]
    async fn a_server_that_refuses_is_told_at_once() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let export = NfsExport { server: "127.0.0.1".into(), path: "/".into() };
        let error = reach(&export, &format!("port={free}"), Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(error, NfsError::Unreachable { .. }), "{error}");
        assert_eq!(error.kind(), crate::model::ErrorKind::Unavailable);
    }
}
