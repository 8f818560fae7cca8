//! Encrypted volumes on their host. Only the making of one needs its key: copies of it are copies of its bytes.

use futures_util::StreamExt as _;
use serde_json::Value;
use uuid::Uuid;

use super::error::VolumeError;
use super::host::{Parts, stored};
use crate::domain::Volume;
use crate::drivers::VolumeDriver;
use crate::luks::Container;

impl Parts {
    /// Makes a volume of zeros; of an encrypted one the header.
    pub(super) async fn make_empty(&self, volume: &Volume) -> Result<Option<Value>, VolumeError> {
        let (driver, wanted) = (self.driver(&volume.host)?, stored(volume));
        match self.container(volume).await? {
            None => Ok(driver.create(&wanted).await?),
            Some(container) => {
                let header = container.header();
                self.fill(&wanted, driver.as_ref(), futures_util::stream::once(async { Ok(header) }).boxed()).await
            }
        }
    }

    /// The container of a volume that is to be encrypted, new each time: what a try before has written is written again.
    pub(super) async fn container(&self, volume: &Volume) -> Result<Option<Container>, VolumeError> {
        let Some(id) = &volume.encryption_key_id else { return Ok(None) };
        let absent = || VolumeError::NoKey(volume.id);
        let id = Uuid::parse_str(id).map_err(|_| absent())?;
        Self::check_storage(volume, self.driver(&volume.host)?.as_ref())?;
        let sealed = self.store.sealed_key(id).await?.ok_or_else(absent)?;
        Ok(Some(Container::new(&self.vault.open(id, &sealed)?)?))
    }

    /// Refuses an encrypted volume where its storage here cannot keep one. What is not encrypted may be anywhere.
    pub(super) fn check_storage(volume: &Volume, driver: &dyn VolumeDriver) -> Result<(), VolumeError> {
        match volume.encryption_key_id {
            Some(_) => Ok(driver.may_encrypt(volume.id)?),
            None => Ok(()),
        }
    }
}
