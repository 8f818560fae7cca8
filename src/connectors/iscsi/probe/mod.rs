//! Probe.
use crate::model::{ChapCredentials, ErrorKind, IscsiPath, ObservedIdentity};
/// E.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// x
    #[error("x")]
    X,
}
impl ProbeError {
    /// k
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}
pub(super) async fn identify(
    _: &IscsiPath,
    _: &str,
    _: Option<&ChapCredentials>,
    _: u64,
) -> Result<ObservedIdentity, ProbeError> {
    Err(ProbeError::X)
}
