//! The HTTP API: Cinder's v3 as its clients know it, with its errors, codes and microversions.
//!
//! ```text
//! serve.rs         answering until told to stop
//! router.rs        every path, as a list
//! auth.rs          nothing but discovery is open without a token; gives each request its context
//! policy.rs        every action by its name, and who may
//! microversion.rs  which answer a client understands
//! project.rs       paths with a project id are the paths without it
//! versions.rs      discovery
//! actions/         what is done to a volume beyond changing its fields
//! backups/         backups
//! types/           volume types, their extra specs, access and defaults
//! discovery.rs     extensions, filters, and what there is none of
//! volumes.rs, metadata.rs, snapshots.rs, snapshot_metadata.rs, qos_specs.rs, quota_sets.rs, transfers.rs,
//! attachments.rs, leases.rs, limits.rs, messages.rs, operations/, services.rs,
//! availability_zones.rs   thin handlers, a file a resource
//! images/          images, in the words of the field's Image API v2
//! identity/        users, projects, roles and tokens, in the words of its Identity API v3
//! path.rs, query.rs, body.rs   what clients send, checked
//! paging.rs        what a page of a list looks like
//! encryption.rs    encrypted volumes: which key one gets, and what is told of it
//! key_manager.rs   those keys, where hosts look for them: a small part of Barbican's API v1
//! volume_images.rs volumes made from images and images made from volumes
//! metrics.rs       figures for Prometheus
//! idempotency/     requests that may come twice and do what they ask for once
//! health.rs        whether it can do its work
//! views.rs         what they get
//! errors.rs        what they get instead
//! ```

mod actions;
mod attachments;
mod auth;
mod availability_zones;
mod backups;
mod body;
mod discovery;
mod encryption;
mod errors;
mod health;
mod idempotency;
mod identity;
mod images;
mod key_manager;
mod leases;
mod limits;
mod messages;
mod metadata;
mod metrics;
mod microversion;
mod operations;
mod paging;
mod path;
mod policy;
mod project;
mod qos_specs;
mod query;
mod quota_sets;
mod request_id;
mod router;
mod serve;
mod services;
mod snapshots;
mod transfers;
mod types;
mod versions;
mod views;
mod volume_images;
mod volumes;

use std::sync::Arc;

use metrics::Metrics;
use tokio::sync::watch;

use crate::accept::Accept;
use crate::auth::Validator;
use crate::identity::People;
use crate::image::{Glance, ImageFiles};
use crate::keys::KeyManager;
use crate::store::{ServiceIdentity, Store};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use body::fuzz_body;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use images::fuzz_image_patch;
pub use microversion::Microversion;
pub use operations::Watchers;
pub use serve::Service;

/// What every handler can reach.
#[derive(Clone)]
struct AppState {
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
}

/// The parts that handlers can reach.
pub struct Shared {
    /// For reading.
    pub store: Store,
    /// For everything that changes something.
    pub accept: Accept,
    /// Whom tokens speak for.
    pub tokens: Arc<dyn Validator>,
    /// What this installation is called.
    pub identity: ServiceIdentity,
    /// Set to true when answers that have no end of their own are to end.
    pub closing: watch::Sender<bool>,
    /// Who watches operations.
    pub watchers: Watchers,
    /// The availability zone of volumes that ask for none.
    pub availability_zone: String,
    /// The bytes of images.
    pub images: ImageFiles,
    /// The Glance that has the images in their place, where one does.
    pub glance: Option<Arc<Glance>>,
    /// The keys of encrypted volumes.
    pub keys: KeyManager,
    /// Users, projects and roles of the service's own; none where an identity service is configured.
    pub people: Option<People>,
}

impl AppState {
    fn new(shared: Shared) -> Self {
        Self { shared: Arc::new(shared), metrics: Arc::default() }
    }
}

impl std::ops::Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}
