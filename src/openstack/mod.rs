//! HTTP clients for OpenStack: credentials from `clouds.yaml`, a Keystone session, Cinder's volumes and attachments, Glance's images.
//!
//! ```text
//! clouds_yaml -> cloud_config -> session (keystone, endpoint) --token, endpoint--> volume_service -> volumes, attachments
//!                                            \                                        /
//!                                             +---------------- http ----------------+      fault, error: what went wrong
//! ```
//! Wire forms are converted at this edge (`wire`, `connection_info`); nothing of reqwest or of a service's JSON leaves the
//! folder. Formats and status codes follow the Block Storage API v3 and Identity API v3 references.

mod attachments;
mod cloud_config;
mod clouds_yaml;
mod connection_info;
mod encryption;
mod endpoint;
mod error;
mod examine;
mod fault;
mod http;
mod image_upload;
mod images;
mod key_manager;
mod keystone;
mod leases;
mod messages;
mod qos;
mod session;
mod snapshots;
mod volume_service;
mod volumes;
mod wire;

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;

#[cfg(test)]
mod behaviour_tests;
#[cfg(test)]
mod test_server;

pub use cloud_config::{ApplicationCredential, AuthMethod, CloudConfig, Domain, Interface, NamedOrId, PasswordUser, Scope};
pub use connection_info::ConnectionInfoError;
pub use error::{OpenstackError, Operation};
pub use examine::Examined;
pub use http::HttpOptions;
pub use image_upload::Sent;
pub use images::{Chunk, ImageService};
pub use key_manager::KeyManager;
pub use volume_service::{Outcome, VolumeService};
