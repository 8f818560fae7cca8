//! A source of images that tells somebody how far one is that is asked for.

use super::{ImageSource, Piece, SourceError};
use crate::model::ImageId;
use async_trait::async_trait;
use tokio::sync::mpsc;

/// Told how many bytes of an image are here, and how many there are in all.
pub type ImageProgress = dyn Fn(u64, u64) + Send + Sync;

/// Fetches from another, and tells.
pub(super) struct Telling<'a> {
    pub(super) source: &'a dyn ImageSource,
    pub(super) told: &'a ImageProgress,
}

#[async_trait]
impl ImageSource for Telling<'_> {
    async fn fetch(&self, image: ImageId, from: u64, into: mpsc::Sender<Piece>) -> Result<(), SourceError> {
        self.source.fetch(image, from, into).await
    }

    fn came(&self, done: u64, total: u64) {
        (self.told)(done, total);
    }
}
