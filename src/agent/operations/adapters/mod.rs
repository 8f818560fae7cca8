//! The real parts behind the ports. Each turns its subsystem's errors into one line with the whole chain of causes.

mod boot_sources;
mod connectors;
mod hypervisor;
mod volume_service;

pub use boot_sources::HostBootSources;
pub use connectors::HostConnectors;
pub use hypervisor::Hypervisor;
pub use volume_service::CloudVolumes;

use std::error::Error;

/// The error and all its causes, as `cause: cause of that: …`.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
