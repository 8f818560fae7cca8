//! No target, for a machine whose volumes hosts reach themselves: nothing is started, and nothing listens.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::{Access, Export, Target, TargetError};

/// It shows nothing to anybody.
#[derive(Debug)]
pub struct NoTarget {
    generation: watch::Sender<u64>,
}

impl Default for NoTarget {
    fn default() -> Self {
        Self { generation: watch::Sender::new(1) }
    }
}

fn refused<'a>(export: &Export) -> BoxFuture<'a, Result<(), TargetError>> {
    std::future::ready(Err(TargetError::None { volume_id: export.volume_id })).boxed()
}

impl Target for NoTarget {
    fn export<'a>(&'a self, export: &'a Export) -> BoxFuture<'a, Result<(), TargetError>> {
        refused(export)
    }

    fn revoke<'a>(&'a self, export: &'a Export, _access: &'a Access) -> BoxFuture<'a, Result<(), TargetError>> {
        refused(export)
    }

    fn grow<'a>(&'a self, export: &'a Export) -> BoxFuture<'a, Result<(), TargetError>> {
        refused(export)
    }

    fn remove<'a>(&'a self, export: &'a Export) -> BoxFuture<'a, Result<(), TargetError>> {
        refused(export)
    }

    fn portals(&self) -> &[String] {
        &[]
    }

    fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    fn open(&self) -> BoxFuture<'_, Result<(), TargetError>> {
        std::future::ready(Ok(())).boxed()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
}
