//! Ways in for the fuzz targets (`crate::fuzzing`) and for the connect benchmark, which is a program of its own. In no normal
//! build.

use super::{CloudConfig, ConnectionInfoError, OpenstackError, connection_info, fault, wire};
use crate::model::ConnectionInfo;
use serde_json::Value;
use std::path::Path;

/// Reads connection info as the service gave it.
///
/// # Errors
/// The key that cannot be used.
pub fn connection_info(value: Value) -> Result<Option<ConnectionInfo>, ConnectionInfoError> {
    connection_info::parse(value)
}

/// Reads a clouds.yaml.
///
/// # Errors
/// File, line and key that cannot be used.
pub fn clouds_yaml(file: &Path) -> Result<CloudConfig, OpenstackError> {
    CloudConfig::load(Some(file), "")
}

/// The service's own words in an error's body, as they go into ours.
pub fn fault_message(body: &[u8]) -> String {
    fault::message(body)
}

/// Reads a volume and an attachment as the service writes them; true where one was taken.
pub fn service_answer(body: &[u8]) -> bool {
    let volume = serde_json::from_slice::<wire::WireVolume>(body).map(crate::model::Volume::from);
    let attachment = serde_json::from_slice::<wire::WireAttachment>(body).map(wire::WireAttachment::into_attachment);
    volume.is_ok() || attachment.is_ok()
}
