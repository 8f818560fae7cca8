//! The storage of each backend: measured, as the service would, and left as it was.

use std::time::Duration;

use super::Finding;
use crate::config::{Config, DriverKind};
use crate::drivers;
use crate::volume::chain;

/// How long each may take.
const WITHIN: Duration = Duration::from_secs(20);

/// All backends, side by side.
pub(super) async fn findings(config: &Config) -> Vec<Finding> {
    let own = config.state_dir.join("volumes");
    let mut backends = config.all_backends();
    // The first start makes it.
    backends.retain(|_, backend| backend.driver != DriverKind::Files || backend.directory.is_some() || own.exists());
    let own = &own;
    futures_util::future::join_all(backends.iter().map(|(name, backend)| async move {
        let check = format!("backends.{name}");
        let driver = drivers::open(backend, own.clone(), &config.state_dir.join("mnt"));
        let measured = tokio::time::timeout(WITHIN, driver.capacity()).await;
        driver.leave().await;
        match measured {
            Ok(Ok(capacity)) => {
                Finding::ok(check, format!("{} of {} GiB free", capacity.free_bytes >> 30, capacity.total_bytes >> 30))
            }
            Ok(Err(error)) => Finding::failed(check, format!("its storage cannot be used: {}", chain(&error)), MEND),
            Err(_) => Finding::failed(check, format!("its storage did not answer within {} s", WITHIN.as_secs()), MEND),
        }
    }))
    .await
}

/// The error itself says what mends it, where that is known.
const MEND: &str =
    "mend the storage; the service takes it up by itself within a minute, and serves its other backends meanwhile";
