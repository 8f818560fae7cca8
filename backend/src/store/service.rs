//! What this installation is called: ids that clients may keep, so they are chosen once and stay.

use sqlx::Row as _;
use uuid::Uuid;

use super::{Store, StoreError};

/// The ids of this installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceIdentity {
    /// The one project, 32 hex digits as the identity service writes them.
    pub project_id: String,
    /// The one user, 32 hex digits.
    pub user_id: String,
    /// The volume service itself.
    pub service_uuid: String,
    /// The one volume type.
    pub type_id: String,
}

impl Store {
    /// The ids of this installation, chosen at the first call.
    pub async fn service_identity(&self) -> Result<ServiceIdentity, StoreError> {
        let op = StoreError::query;
        sqlx::query("INSERT OR IGNORE INTO service (only, project_id, user_id, service_uuid, type_id) VALUES (1, ?, ?, ?, ?)")
            .bind(Uuid::new_v4().simple().to_string())
            .bind(Uuid::new_v4().simple().to_string())
            .bind(Uuid::new_v4().to_string())
            .bind(Uuid::new_v4().to_string())
            .execute(&self.writer)
            .await
            .map_err(op("choose the service's ids"))?;
        let row = sqlx::query("SELECT project_id, user_id, service_uuid, type_id FROM service")
            .fetch_one(&self.writer)
            .await
            .map_err(op("read the service's ids"))?;
        let column = |name: &'static str| row.try_get(name).map_err(op("read the service's ids"));
        Ok(ServiceIdentity {
            project_id: column("project_id")?,
            user_id: column("user_id")?,
            service_uuid: column("service_uuid")?,
            type_id: column("type_id")?,
        })
    }
}
