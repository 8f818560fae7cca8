//! Whether a portal accepts connections, told quickly and in the kernel's own words.

use super::ConnectorError;
use crate::model::IscsiPath;
use std::{io, time::Duration};
use tokio::{net::TcpStream, time::timeout};

/// Opens a connection to the path's portal.
pub(super) async fn portal(path: &IscsiPath, timeout_s: u64) -> Result<TcpStream, ConnectorError> {
    let address = (path.portal.host.as_str(), path.portal.port);
    let connected = match timeout(Duration::from_secs(timeout_s), TcpStream::connect(address)).await {
        Ok(connected) => connected,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {timeout_s} s"))),
    };
    connected.map_err(|source| ConnectorError::PortalUnreachable { path: path.clone(), source })
}
