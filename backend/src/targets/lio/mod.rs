//! iSCSI targets by the kernel itself (LIO), through configfs: no daemon to keep alive, and no tool in between.
//!
//! ```text
//! configfs.rs   folders, attributes and links of the kernel
//! backstore.rs  a volume's bytes, and the LUN's identity
//! access.rs     initiators, their accounts, their sessions
//! exports.rs    a volume's target, made of these
//! ```
//!
//! What the kernel shows it goes on showing while this service is away, so a restart of it is nothing that a host notices. A reboot
//! takes all of it; the next start makes it anew. There is only one life of it to count, therefore.

mod access;
mod backstore;
mod configfs;
mod error;
mod exports;

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, TryFutureExt as _};
use tokio::sync::watch;
use uuid::Uuid;

use super::{Access, Export, Target, TargetError};
use backstore::Backstores;
pub use error::LioError;
use exports::Exports;

/// Where the kernel is configured.
const CONFIGFS: &str = "/sys/kernel/config";

/// The kernel waits for the commands of a session that it cuts, and those for their disk.
const WITHIN: Duration = Duration::from_secs(60);

/// The kernel's targets.
#[derive(Debug)]
pub struct LioTarget {
    exports: Arc<Exports>,
    /// Volumes whose targets are being changed. Work that did not come to an end in time still has its volume: nothing else may touch
    /// that meanwhile.
    at_work: Arc<Mutex<HashSet<Uuid>>>,
    generation: watch::Sender<u64>,
}

impl LioTarget {
    /// Targets that hosts reach at these portals. `owner` tells this service's from others': letters and digits, the same at
    /// each start.
    pub fn open(owner: &str, portals: Vec<String>) -> Result<Self, LioError> {
        let root = Path::new(CONFIGFS).join("target");
        check(&root)?;
        let stores = Backstores { core: root.join("core"), prefix: format!("bowline-{owner}-") };
        let exports = Arc::new(Exports::new(root.join("iscsi"), stores, portals));
        Ok(Self { exports, at_work: Arc::default(), generation: watch::Sender::new(1) })
    }

    fn run<'a>(
        &self,
        work: impl FnOnce(&Exports) -> Result<(), LioError> + Send + 'static,
    ) -> BoxFuture<'a, Result<(), LioError>> {
        let exports = self.exports.clone();
        async move {
            let work = tokio::task::spawn_blocking(move || work(&exports));
            match tokio::time::timeout(WITHIN, work).await {
                Ok(Ok(done)) => done,
                Ok(Err(_)) | Err(_) => Err(LioError::Deadline { limit_s: WITHIN.as_secs() }),
            }
        }
        .boxed()
    }

    fn run_for<'a>(
        &self,
        export: &'a Export,
        operation: &'static str,
        work: impl FnOnce(&Exports, &Export) -> Result<(), LioError> + Send + 'static,
    ) -> BoxFuture<'a, Result<(), TargetError>> {
        let volume_id = export.volume_id;
        let (export, at_work) = (export.clone(), self.at_work.clone());
        self.run(move |exports| {
            let _turn = Turn::take(at_work, volume_id)?;
            work(exports, &export)
        })
        .map_err(move |source| TargetError::Kernel { volume_id, operation, source })
        .boxed()
    }
}

/// Having a volume's target to oneself.
struct Turn(Arc<Mutex<HashSet<Uuid>>>, Uuid);

impl Turn {
    fn take(at_work: Arc<Mutex<HashSet<Uuid>>>, volume_id: Uuid) -> Result<Self, LioError> {
        let is_free = at_work.lock().unwrap_or_else(PoisonError::into_inner).insert(volume_id);
        if is_free { Ok(Self(at_work, volume_id)) } else { Err(LioError::AtWork) }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// Makes sure that the kernel's iSCSI targets can be configured. The kernel fetches the modules of its own accord where it can.
fn check(root: &Path) -> Result<(), LioError> {
    let path = root.parent().unwrap_or(root).to_owned();
    if !root.exists() {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let is_mounted = mounts.lines().any(|mount| mount.split(' ').nth(1).is_some_and(|at| Path::new(at) == path));
        return Err(if is_mounted { LioError::NoModule } else { LioError::NotMounted { path } });
    }
    let iscsi = root.join("iscsi");
    match configfs::make(&iscsi) {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.source.kind() {
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => LioError::Forbidden { path: iscsi },
            _ => LioError::NoModule,
        }),
    }
}

impl Target for LioTarget {
    fn export<'a>(&'a self, export: &'a Export) -> BoxFuture<'a, Result<(), TargetError>> {
        self.run_for(export, "show it", Exports::export)
    }

    fn revoke<'a>(&'a self, export: &'a Export, access: &'a Access) -> BoxFuture<'a, Result<(), TargetError>> {
        let access = access.clone();
        self.run_for(export, "take it away from a host", move |exports, export| exports.revoke(export, &access))
    }

    fn grow<'a>(&'a self, export: &'a Export) -> BoxFuture<'a, Result<(), TargetError>> {
        self.run_for(export, "show its new size", Exports::grow)
    }

    fn remove<'a>(&'a self, export: &'a Export) -> BoxFuture<'a, Result<(), TargetError>> {
        self.run_for(export, "take its target away", |exports, export| exports.remove(export.volume_id))
    }

    fn keep_only<'a>(&'a self, all: &'a [Export]) -> BoxFuture<'a, Result<(), TargetError>> {
        let all = all.to_vec();
        self.run(move |exports| exports.keep_only(&all)).map_err(TargetError::from).boxed()
    }

    fn portals(&self) -> &[String] {
        self.exports.portals()
    }

    fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    fn open(&self) -> BoxFuture<'_, Result<(), TargetError>> {
        self.run(Exports::open).map_err(TargetError::from).boxed()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        // Hosts go on with what they have.
        std::future::ready(()).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_the_kernel_still_works_on_is_touched_by_nobody_else() {
        let (at_work, id) = (Arc::default(), Uuid::new_v4());
        let stuck = Turn::take(Arc::clone(&at_work), id).unwrap();
        assert!(matches!(Turn::take(at_work.clone(), id), Err(LioError::AtWork)));
        assert!(Turn::take(at_work.clone(), Uuid::new_v4()).is_ok(), "another volume");
        drop(stuck);
        assert!(Turn::take(at_work, id).is_ok());
    }
}
