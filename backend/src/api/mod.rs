//! The HTTP API: Cinder's v3 as its clients know it, with its errors, codes and microversions.
//!
//! ```text
//! serve.rs         answering until told to stop
//! router.rs        every path, as a list
//! auth.rs          nothing but discovery is open without the token
//! microversion.rs  which answer a client understands
//! project.rs       paths with a project id are the paths without it
//! versions.rs      discovery
//! volumes.rs, actions.rs, metadata.rs, attachments.rs, types.rs, limits.rs   thin handlers
//! path.rs, query.rs, body.rs   what clients send, checked
//! views.rs         what they get
//! errors.rs        what they get instead
//! ```

mod actions;
mod attachments;
mod auth;
mod body;
mod errors;
mod limits;
mod metadata;
mod microversion;
mod path;
mod project;
mod query;
mod request_id;
mod router;
mod serve;
mod types;
mod versions;
mod views;
mod volumes;

use std::sync::Arc;

use crate::store::ServiceIdentity;
use crate::volume::Manager;

pub use auth::TokenDigest;
pub use microversion::Microversion;
pub use serve::Service;

/// What every handler can reach.
#[derive(Clone)]
struct AppState(Arc<Shared>);

/// The parts that handlers can reach.
pub struct Shared {
    /// Who does the work.
    pub manager: Manager,
    /// What this installation is called.
    pub identity: ServiceIdentity,
    /// The token clients must bring.
    pub token: TokenDigest,
    /// The name of the one volume type.
    pub volume_type: String,
    /// The one availability zone.
    pub availability_zone: String,
    /// `host@backend#pool`, as administrators see it.
    pub host: String,
}

impl AppState {
    fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }
}

impl std::ops::Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}
