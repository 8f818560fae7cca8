//! Users, projects, roles, and the tokens they were issued. Whatever takes something from a user takes the tokens that said it had
//! it, in the same transaction.

use super::engine::{Row, Session, Sql, Value};
use super::{Store, StoreError, now_us};
use crate::domain::{Assignment, DEFAULT_DOMAIN, IssuedToken, Project, Refusal, User};

impl Store {
    /// The user of this id.
    pub async fn user(&self, id: &str) -> Result<User, StoreError> {
        find_user(&mut self.read().await?, id).await
    }

    /// All users, or the one of this name.
    pub async fn users(&self, name: Option<&str>) -> Result<Vec<User>, StoreError> {
        let mut query = Sql::new("SELECT * FROM users WHERE 1 = 1");
        if let Some(name) = name {
            query.push_bind(" AND name = ", name);
        }
        query.push(" ORDER BY name");
        self.read().await?.all("list users", query).await?.iter().map(user).collect()
    }

    /// Records a user.
    pub async fn create_user(&self, new: &User) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let mut insert = Sql::insert(
            "users",
            [
                ("id", new.id.as_str().into()),
                ("domain_id", DEFAULT_DOMAIN.into()),
                ("name", new.name.as_str().into()),
                ("password_hash", new.password_hash.clone().into()),
                ("enabled", new.enabled.into()),
                ("default_project", new.default_project.clone().into()),
                ("description", new.description.clone().into()),
                ("email", new.email.clone().into()),
            ],
        );
        insert.push(" ON CONFLICT DO NOTHING");
        if tx.execute("record a user", insert).await? == 0 {
            return Err(Refusal::NameTaken { kind: "user", name: new.name.clone() }.into());
        }
        tx.commit().await
    }

    /// Changes a user. Its tokens go with its password, or where it is locked out.
    pub async fn change_user(&self, id: &str, change: impl FnOnce(&mut User) + Send) -> Result<User, StoreError> {
        let mut tx = self.begin().await?;
        let mut changed = find_user(&mut tx, id).await?;
        let before = changed.clone();
        change(&mut changed);
        if changed.name != before.name {
            let taken = Sql::new("SELECT COUNT(*) FROM users").filter("name = ", &changed.name);
            if tx.number("look for a name", taken).await? > 0 {
                return Err(Refusal::NameTaken { kind: "user", name: changed.name }.into());
            }
        }
        let update = Sql::update(
            "users",
            [
                ("name", changed.name.as_str().into()),
                ("password_hash", changed.password_hash.clone().into()),
                ("enabled", changed.enabled.into()),
                ("default_project", changed.default_project.clone().into()),
                ("description", changed.description.clone().into()),
                ("email", changed.email.clone().into()),
            ],
        );
        tx.execute("change a user", update.filter("id = ", id)).await?;
        if changed.password_hash != before.password_hash || !changed.enabled {
            tx.execute("revoke tokens", Sql::new("DELETE FROM tokens").filter("user_id = ", id)).await?;
        }
        tx.commit().await?;
        Ok(changed)
    }

    /// Gives a user its first password, where it has none; whether it had none.
    pub async fn set_first_password(&self, id: &str, hash: &str) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let update = Sql::update("users", [("password_hash", hash.into())]).filter("id = ", id);
        let mut update = update;
        update.push(" AND password_hash IS NULL");
        let set = tx.execute("set a first password", update).await? == 1;
        tx.commit().await?;
        Ok(set)
    }

    /// Forgets a user, its roles and its tokens.
    pub async fn delete_user(&self, id: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        find_user(&mut tx, id).await?;
        tx.execute("revoke tokens", Sql::new("DELETE FROM tokens").filter("user_id = ", id)).await?;
        tx.execute("revoke roles", Sql::new("DELETE FROM role_assignments").filter("user_id = ", id)).await?;
        tx.execute("forget a user", Sql::new("DELETE FROM users").filter("id = ", id)).await?;
        tx.commit().await
    }

    /// The project of this id.
    pub async fn project(&self, id: &str) -> Result<Project, StoreError> {
        find_project(&mut self.read().await?, id).await
    }

    /// All projects, or the one of this name.
    pub async fn projects(&self, name: Option<&str>) -> Result<Vec<Project>, StoreError> {
        let mut query = Sql::new("SELECT * FROM projects WHERE 1 = 1");
        if let Some(name) = name {
            query.push_bind(" AND name = ", name);
        }
        query.push(" ORDER BY name");
        self.read().await?.all("list projects", query).await?.iter().map(project).collect()
    }

    /// Records a project.
    pub async fn create_project(&self, new: &Project) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let mut insert = Sql::insert(
            "projects",
            [
                ("id", new.id.as_str().into()),
                ("domain_id", DEFAULT_DOMAIN.into()),
                ("name", new.name.as_str().into()),
                ("description", new.description.clone().into()),
                ("enabled", new.enabled.into()),
            ],
        );
        insert.push(" ON CONFLICT DO NOTHING");
        if tx.execute("record a project", insert).await? == 0 {
            return Err(Refusal::NameTaken { kind: "project", name: new.name.clone() }.into());
        }
        tx.commit().await
    }

    /// Changes a project. Its tokens go where it is locked.
    pub async fn change_project(&self, id: &str, change: impl FnOnce(&mut Project) + Send) -> Result<Project, StoreError> {
        let mut tx = self.begin().await?;
        let mut changed = find_project(&mut tx, id).await?;
        let before = changed.name.clone();
        change(&mut changed);
        if changed.name != before {
            let taken = Sql::new("SELECT COUNT(*) FROM projects").filter("name = ", &changed.name);
            if tx.number("look for a name", taken).await? > 0 {
                return Err(Refusal::NameTaken { kind: "project", name: changed.name }.into());
            }
        }
        let update = Sql::update(
            "projects",
            [
                ("name", changed.name.as_str().into()),
                ("description", changed.description.clone().into()),
                ("enabled", changed.enabled.into()),
            ],
        );
        tx.execute("change a project", update.filter("id = ", id)).await?;
        if !changed.enabled {
            tx.execute("revoke tokens", Sql::new("DELETE FROM tokens").filter("project_id = ", id)).await?;
        }
        tx.commit().await?;
        Ok(changed)
    }

    /// Forgets a project that has nothing any more, the roles in it and the tokens for it.
    pub async fn delete_project(&self, id: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        find_project(&mut tx, id).await?;
        let volumes = tx.number("count", Sql::new("SELECT COUNT(*) FROM volumes").filter("project_id = ", id)).await?;
        let images = tx.number("count", Sql::new("SELECT COUNT(*) FROM images").filter("project_id = ", id)).await?;
        if volumes + images > 0 {
            return Err(Refusal::ProjectNotEmpty { project_id: id.to_owned(), volumes, images }.into());
        }
        tx.execute("revoke tokens", Sql::new("DELETE FROM tokens").filter("project_id = ", id)).await?;
        tx.execute("revoke roles", Sql::new("DELETE FROM role_assignments").filter("scope = ", id)).await?;
        tx.execute("forget a project", Sql::new("DELETE FROM projects").filter("id = ", id)).await?;
        tx.commit().await
    }

    /// Roles that were given; `None` is any.
    pub async fn assignments(&self, user_id: Option<&str>, scope: Option<&str>) -> Result<Vec<Assignment>, StoreError> {
        let mut query = Sql::new("SELECT * FROM role_assignments WHERE 1 = 1");
        if let Some(user) = user_id {
            query.push_bind(" AND user_id = ", user);
        }
        if let Some(scope) = scope {
            query.push_bind(" AND scope = ", scope);
        }
        query.push(" ORDER BY scope, user_id, role");
        let rows = self.read().await?.all("list roles", query).await?;
        let read =
            |row: &Row| Ok(Assignment { user_id: row.text("user_id")?, scope: row.text("scope")?, role: row.text("role")? });
        rows.iter().map(read).collect()
    }

    /// Gives a user a role; it may have it already.
    pub async fn grant(&self, new: &Assignment) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        find_user(&mut tx, &new.user_id).await?;
        let mut insert = Sql::insert(
            "role_assignments",
            [
                ("user_id", new.user_id.as_str().into()),
                ("scope", new.scope.as_str().into()),
                ("role", new.role.as_str().into()),
            ],
        );
        insert.push(" ON CONFLICT DO NOTHING");
        tx.execute("give a role", insert).await?;
        tx.commit().await
    }

    /// Takes a role from a user, and the tokens that say it has it; false where it had none.
    pub async fn revoke_role(&self, old: &Assignment) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let delete = Sql::new("DELETE FROM role_assignments").filter("user_id = ", &old.user_id);
        let revoked = tx.execute("take a role", delete.filter("scope = ", &old.scope).filter("role = ", &old.role)).await? == 1;
        let tokens = Sql::new("DELETE FROM tokens").filter("user_id = ", &old.user_id).filter("scope = ", &old.scope);
        tx.execute("revoke tokens", tokens).await?;
        tx.commit().await?;
        Ok(revoked)
    }

    /// Keeps an issued token by its digest, in hex, and forgets those that have expired.
    pub async fn keep_token(&self, digest: &str, token: &IssuedToken) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        tx.execute("forget tokens", Sql::new("DELETE FROM tokens").filter("expires_at_us < ", now_us())).await?;
        let insert = Sql::insert(
            "tokens",
            [
                ("digest", digest.into()),
                ("user_id", token.user_id.as_str().into()),
                ("project_id", token.project_id.clone().into()),
                ("scope", token.scope.as_str().into()),
                ("roles", token.roles.join(",").into()),
                ("issued_at_us", token.issued_at_us.into()),
                ("expires_at_us", Value::Int(token.expires_at_us)),
            ],
        );
        tx.execute("keep a token", insert).await?;
        tx.commit().await
    }

    /// An issued token by its digest; none for one that is unknown or expired, or whose user is locked out.
    pub async fn issued_token(&self, digest: &str) -> Result<Option<IssuedToken>, StoreError> {
        let mut query = Sql::new("SELECT t.* FROM tokens t JOIN users u ON u.id = t.user_id WHERE u.enabled = 1");
        query.push_bind(" AND t.digest = ", digest);
        query.push_bind(" AND (t.expires_at_us IS NULL OR t.expires_at_us > ", now_us()).push(")");
        let Some(row) = self.read().await?.optional("look a token up", query).await? else { return Ok(None) };
        let roles = row.text("roles")?;
        Ok(Some(IssuedToken {
            user_id: row.text("user_id")?,
            scope: row.text("scope")?,
            project_id: row.optional_text("project_id")?,
            roles: roles.split(',').filter(|role| !role.is_empty()).map(str::to_owned).collect(),
            issued_at_us: row.int("issued_at_us")?,
            expires_at_us: row.optional_int("expires_at_us")?,
        }))
    }
}

async fn find_user(session: &mut Session, id: &str) -> Result<User, StoreError> {
    let row = session.optional("read a user", Sql::new("SELECT * FROM users").filter("id = ", id)).await?;
    let absent = || Refusal::PersonNotFound { kind: "user", id: id.to_owned() }.into();
    row.as_ref().map(user).transpose()?.ok_or_else(absent)
}

async fn find_project(session: &mut Session, id: &str) -> Result<Project, StoreError> {
    let row = session.optional("read a project", Sql::new("SELECT * FROM projects").filter("id = ", id)).await?;
    let absent = || Refusal::PersonNotFound { kind: "project", id: id.to_owned() }.into();
    row.as_ref().map(project).transpose()?.ok_or_else(absent)
}

fn user(row: &Row) -> Result<User, StoreError> {
    Ok(User {
        id: row.text("id")?,
        name: row.text("name")?,
        password_hash: row.optional_text("password_hash")?,
        enabled: row.flag("enabled")?,
        default_project: row.optional_text("default_project")?,
        description: row.optional_text("description")?,
        email: row.optional_text("email")?,
    })
}

fn project(row: &Row) -> Result<Project, StoreError> {
    Ok(Project {
        id: row.text("id")?,
        name: row.text("name")?,
        description: row.optional_text("description")?,
        enabled: row.flag("enabled")?,
    })
}
