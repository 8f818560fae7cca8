//! Leases: a bundled service is told that this host lives, and takes back what a host that does not was never let in to. Cinder has
//! none, and is never asked for one.

use super::{
    OpenstackError, Operation, VolumeService,
    volume_service::{Call, Repeat},
};
use reqwest::Method;
use serde_json::json;

impl VolumeService {
    /// Attachments are made under a lease of this host from now on, where the service has such. A name that cannot be part of a path
    /// and of a header gets none.
    pub fn lease_for(&self, host: &str) {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if (1..=255).contains(&host.len()) && host.bytes().all(plain) {
            // Set once, at the start.
            let _ = self.lease_host().set(host.to_owned());
        }
    }

    /// Says that this host lives. Nothing happens where the service has no leases.
    pub async fn renew_leases(&self) -> Result<(), OpenstackError> {
        let Some(host) = self.lease_host().get() else { return Ok(()) };
        if self.features().is_none() {
            // Nothing was asked since the start, and every answer tells.
            self.call(Call { query: &[("limit", "1")], ..Call::get(Operation::ListVolumes, "volumes") }).await?;
        }
        if !self.features().is_some_and(|features| features.attachment_lease) {
            return Ok(());
        }
        let call = Call {
            method: Method::PUT,
            body: Some(json!({"lease": {}})),
            repeat: Repeat::Idempotent,
            ..Call::get(Operation::RenewLeases, format!("hosts/{host}/lease"))
        };
        self.call(call).await.map(drop)
    }
}
