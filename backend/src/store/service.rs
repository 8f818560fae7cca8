//! What this installation is called: ids that clients may keep, so they are chosen once and stay.

use uuid::Uuid;

use super::engine::Sql;
use super::{Store, StoreError};

/// The ids of this installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceIdentity {
    /// The default project, 32 hex digits as the identity service writes them.
    pub project_id: String,
    /// Its administrator, 32 hex digits.
    pub user_id: String,
    /// The volume service itself.
    pub service_uuid: String,
    /// The default volume type.
    pub type_id: String,
}

impl Store {
    /// The ids of this installation, chosen at the first call.
    pub async fn service_identity(&self) -> Result<ServiceIdentity, StoreError> {
        const OPERATION: &str = "choose the service's ids";
        let mut tx = self.begin().await?;
        let mut insert = Sql::insert(
            "service",
            [
                ("\"only\"", 1i64.into()),
                ("project_id", Uuid::new_v4().simple().to_string().into()),
                ("user_id", Uuid::new_v4().simple().to_string().into()),
                ("service_uuid", Uuid::new_v4().into()),
                ("type_id", Uuid::new_v4().into()),
            ],
        );
        insert.push(" ON CONFLICT (\"only\") DO NOTHING");
        tx.execute(OPERATION, insert).await?;
        let row = tx.optional(OPERATION, Sql::new("SELECT * FROM service")).await?;
        tx.commit().await?;
        let row = row.ok_or(StoreError::Unreadable { id: "service".into(), column: "only" })?;
        Ok(ServiceIdentity {
            project_id: row.text("project_id")?,
            user_id: row.text("user_id")?,
            service_uuid: row.text("service_uuid")?,
            type_id: row.text("type_id")?,
        })
    }
}
