//! The manager: the parts together, and volumes.
//!
//! What a client asked for is not undone because the client went away: everything that changes something runs in a task of
//! its own, which the request only waits for.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, mpsc};
use uuid::Uuid;

use super::error::ManagerError;
use super::exports;
use super::locks::Locks;
use super::worker::{self, Job, Queued};
use crate::domain::{NewVolume, Volume};
use crate::drivers::VolumeDriver;
use crate::store::Store;
use crate::targets::Target;

/// Where volumes are and who shows them.
#[derive(Clone)]
pub struct Backends {
    /// The storage.
    pub driver: Arc<dyn VolumeDriver>,
    /// The target.
    pub target: Arc<dyn Target>,
}

/// The volume manager. Cheap to clone.
#[derive(Clone)]
pub struct Manager {
    pub(super) parts: Arc<Parts>,
    running: Arc<Mutex<Option<mpsc::Receiver<()>>>>,
}

/// What every piece of work needs.
pub(super) struct Parts {
    pub(super) store: Store,
    pub(super) driver: Arc<dyn VolumeDriver>,
    pub(super) target: Arc<dyn Target>,
    pub(super) locks: Locks,
    jobs: mpsc::UnboundedSender<Queued>,
    /// A clone is held by each piece of work; when all are dropped, nothing is running any more.
    work: std::sync::Mutex<Option<mpsc::Sender<()>>>,
}

impl Manager {
    /// Takes up what was left unfinished, shows again what was shown, and lets hosts in. When this returns, the service is as
    /// it was before it stopped, but for volumes that cannot be shown just now: those are tried again.
    pub async fn start(store: Store, backends: Backends) -> Result<Self, ManagerError> {
        let (jobs, queue) = mpsc::unbounded_channel();
        let (work, running) = mpsc::channel(1);
        let Backends { driver, target } = backends;
        let work = std::sync::Mutex::new(Some(work));
        let parts = Arc::new(Parts { store, driver, target, locks: Locks::default(), jobs, work });
        let mut generation = parts.target.generation();
        generation.mark_unchanged();
        let failed = exports::restore(&parts).await?;
        tokio::spawn(exports::keep(Arc::downgrade(&parts), generation, failed));
        tokio::spawn(worker::run(Arc::downgrade(&parts), queue));
        for volume in parts.store.unfinished_volumes().await? {
            parts.enqueue(Queued::new(Job::of(&volume)));
        }
        Ok(Self { parts, running: Arc::new(Mutex::new(Some(running))) })
    }

    /// The database, for reading.
    pub fn store(&self) -> &Store {
        &self.parts.store
    }

    /// Where hosts connect to.
    pub fn portals(&self) -> &[String] {
        self.parts.target.portals()
    }

    /// Accepts a volume; its storage is made afterwards.
    pub async fn create_volume(&self, new: NewVolume) -> Result<Volume, ManagerError> {
        self.run(move |parts| {
            Box::pin(async move {
                let volume = parts.store.insert_volume(new).await?;
                parts.enqueue(Queued::new(Job::Create(volume.id)));
                Ok(volume)
            })
        })
        .await
    }

    /// Accepts the deletion of a volume; its storage is removed afterwards.
    pub async fn delete_volume(&self, id: Uuid) -> Result<(), ManagerError> {
        self.run(move |parts| {
            Box::pin(async move {
                parts.store.begin_delete(id).await?;
                parts.enqueue(Queued::new(Job::Delete(id)));
                Ok(())
            })
        })
        .await
    }

    /// Takes no more work and waits for what is running.
    pub async fn stop(&self) {
        drop(self.parts.work.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
        if let Some(mut running) = self.running.lock().await.take() {
            // Nothing is ever sent: this ends when the last piece of work drops its sender.
            while running.recv().await.is_some() {}
        }
    }

    /// Runs something to its end whether or not somebody waits for it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(Arc<Parts>) -> BoxFuture<'static, Result<T, ManagerError>> + Send + 'static,
    ) -> Result<T, ManagerError> {
        let parts = self.parts.clone();
        let Some(guard) = parts.working() else { return Err(ManagerError::Stopping) };
        let task = tokio::spawn(async move {
            let result = work(parts).await;
            drop(guard);
            result
        });
        task.await.unwrap_or(Err(ManagerError::Stopping))
    }
}

impl Parts {
    /// A guard to hold while working; `None` when the service is stopping.
    pub(super) fn working(&self) -> Option<mpsc::Sender<()>> {
        self.work.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    pub(super) fn enqueue(&self, job: Queued) {
        // The receiver goes only when the service stops; then the job is in the database and taken up at the next start.
        let _ = self.jobs.send(job);
    }
}
