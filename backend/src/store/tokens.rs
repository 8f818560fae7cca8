//! Projects, users and tokens of the service's own. A token is kept as its digest: who reads the database cannot use it.

use super::engine::{Sql, Value};
use super::{ServiceIdentity, Store, StoreError, now_us};

/// The id of the one domain there is at first, as the field's identity service has it.
const DEFAULT_DOMAIN: &str = "default";

/// Whom a token speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenOwner {
    /// The user.
    pub user_id: String,
    /// The project it is scoped to.
    pub project_id: Option<String>,
    /// Role names, separated by commas.
    pub roles: String,
    /// When it stops being valid, microseconds since the epoch; `None` is never.
    pub expires_at_us: Option<i64>,
}

impl Store {
    /// Makes sure that the default domain, project and administrator are there.
    pub async fn ensure_default_project(&self, identity: &ServiceIdentity) -> Result<(), StoreError> {
        const OPERATION: &str = "keep the default project";
        let mut tx = self.begin().await?;
        for mut insert in [
            Sql::insert("domains", [("id", DEFAULT_DOMAIN.into()), ("name", "Default".into())]),
            Sql::insert(
                "projects",
                [("id", identity.project_id.as_str().into()), ("domain_id", DEFAULT_DOMAIN.into()), ("name", "bowline".into())],
            ),
            Sql::insert(
                "users",
                [
                    ("id", identity.user_id.as_str().into()),
                    ("domain_id", DEFAULT_DOMAIN.into()),
                    ("name", "bowline".into()),
                    ("default_project", identity.project_id.as_str().into()),
                ],
            ),
            Sql::insert(
                "role_assignments",
                [
                    ("user_id", identity.user_id.as_str().into()),
                    ("scope", identity.project_id.as_str().into()),
                    ("role", "admin".into()),
                ],
            ),
        ] {
            insert.push(" ON CONFLICT DO NOTHING");
            tx.execute(OPERATION, insert).await?;
        }
        tx.commit().await
    }

    /// Keeps a token by its digest, in hex.
    pub async fn insert_token(&self, digest: &str, owner: &TokenOwner) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let scope = owner.project_id.clone().unwrap_or_else(|| "system".into());
        let mut insert = Sql::insert(
            "tokens",
            [
                ("digest", digest.into()),
                ("user_id", owner.user_id.as_str().into()),
                ("project_id", owner.project_id.clone().into()),
                ("scope", scope.into()),
                ("roles", owner.roles.as_str().into()),
                ("issued_at_us", now_us().into()),
                ("expires_at_us", Value::Int(owner.expires_at_us)),
            ],
        );
        insert.push(" ON CONFLICT DO NOTHING");
        tx.execute("keep a token", insert).await?;
        tx.commit().await
    }

    /// Whom a token speaks for, by its digest; none for one that is unknown, expired, or whose user is locked out.
    pub async fn token_owner(&self, digest: &str) -> Result<Option<TokenOwner>, StoreError> {
        let mut query = Sql::new("SELECT t.* FROM tokens t JOIN users u ON u.id = t.user_id WHERE u.enabled = 1");
        query.push_bind(" AND t.digest = ", digest);
        query.push_bind(" AND (t.expires_at_us IS NULL OR t.expires_at_us > ", now_us()).push(")");
        let Some(row) = self.read().await?.optional("look a token up", query).await? else { return Ok(None) };
        Ok(Some(TokenOwner {
            user_id: row.text("user_id")?,
            project_id: row.optional_text("project_id")?,
            roles: row.text("roles")?,
            expires_at_us: row.optional_int("expires_at_us")?,
        }))
    }

    /// Makes a token worthless.
    pub async fn revoke_token(&self, digest: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        tx.execute("revoke a token", Sql::new("DELETE FROM tokens").filter("digest = ", digest)).await?;
        tx.commit().await
    }

    /// Records a project.
    pub async fn insert_project(&self, id: &str, name: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let insert = Sql::insert("projects", [("id", id.into()), ("domain_id", DEFAULT_DOMAIN.into()), ("name", name.into())]);
        tx.execute("record a project", insert).await?;
        tx.commit().await
    }

    /// Records a user.
    pub async fn insert_user(&self, id: &str, name: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let insert = Sql::insert("users", [("id", id.into()), ("domain_id", DEFAULT_DOMAIN.into()), ("name", name.into())]);
        tx.execute("record a user", insert).await?;
        tx.commit().await
    }
}
