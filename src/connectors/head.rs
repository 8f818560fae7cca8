//! The first bytes of a connected device, read from a process of its own: storage that does not answer hangs its reader until it is
//! killed, and a thread of the agent cannot be.

use super::{
    ConnectorError,
    command::{self, Finished},
};
use std::{ffi::OsStr, path::Path, time::Duration};

/// Reads at most `bytes`; fewer, if there are no more.
pub(super) async fn read(path: &Path, bytes: usize, limit: Duration) -> Result<Vec<u8>, ConnectorError> {
    let unreadable = |problem: String| ConnectorError::UnreadableStart { path: path.to_owned(), problem };
    let length = format!("--bytes={bytes}");
    match command::run("head", &[OsStr::new(&length), OsStr::new("--"), path.as_os_str()], limit).await {
        Ok(Finished { code: Some(0), stdout, .. }) => Ok(stdout),
        Ok(Finished { stderr, .. }) => Err(unreadable(stderr)),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_start_is_read_and_what_cannot_be_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v");
        let limit = Duration::from_secs(5);
        assert!(read(&path, 4, limit).await.unwrap_err().to_string().contains("No such file"));
        std::fs::write(&path, [0, 255, 7]).unwrap();
        assert_eq!(read(&path, 2, limit).await.unwrap(), [0, 255]);
        assert_eq!(read(&path, 9, limit).await.unwrap(), [0, 255, 7]);
    }
}
