//! What an operator does beside the running service: make its directory ready, look after users, issue and revoke tokens.

use uuid::Uuid;

use crate::audit::{self, AuditError, Repair, Report};
use crate::auth::TokenDigest;
use crate::config::{Config, ConfigError, KeyManagerKind};
use crate::domain::place::VOLUME_SERVICE;
use crate::domain::{Assignment, Project, User};
use crate::identity::{LoginError, PasswordError, People, Scope, roles};
use crate::secret::Secret;
use crate::server::{ServerError, first_password, open_store};
use crate::state_dir::StateDir;
use crate::status::Status;
use crate::store::{Store, StoreError};

/// It could not be done.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The directory, or the database.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database, or a rule asked in it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Comparing.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A password.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// There is nobody, or nothing, of that name.
    #[error("there is no {kind} {name}")]
    Absent {
        /// `user`, `project` or `role`.
        kind: &'static str,
        /// What was named.
        name: String,
    },
    /// The user has no role there.
    #[error("user {user} has no role in that scope; give it one first: bowline-backend user grant")]
    NoRole {
        /// Who.
        user: String,
    },
}

/// Makes the directory, the database, the first user and `clouds.yaml`, as the first start would.
pub async fn init(config: &Config) -> Result<(), AdminError> {
    config.check()?;
    let state_dir = StateDir::open(&config.state_dir).map_err(ServerError::from)?;
    let store = open_store(config, &state_dir.database()).await?;
    let identity = store.service_identity().await?;
    store.ensure_default_project(&identity).await?;
    store.ensure_default_type(&identity.type_id, &config.volume_type).await?;
    let token = state_dir.token().map_err(ServerError::from)?;
    let password = if config.keystone.auth_url.is_empty() {
        first_password(&state_dir, &store, &People::new(store.clone()), &identity).await?
    } else {
        None
    };
    state_dir
        .write_clouds_yaml(config.listen, &token, password.as_ref(), config.key_manager.kind == KeyManagerKind::Local)
        .map_err(ServerError::from)?;
    store.close().await;
    Ok(())
}

/// Users and tokens of an installation that is there; the service may be running.
pub struct Admin {
    store: Store,
    people: People,
}

impl Admin {
    /// Opens the database.
    pub async fn open(config: &Config) -> Result<Self, AdminError> {
        let store = open_store(config, &config.state_dir.join("volumes.db")).await?;
        Ok(Self { people: People::new(store.clone()), store })
    }

    /// What the installation is doing.
    pub async fn status(&self) -> Result<Status, AdminError> {
        Ok(Status::read(&self.store).await?)
    }

    /// All users, each with what it is where: `name  role@scope …`.
    pub async fn users(&self) -> Result<Vec<String>, AdminError> {
        let projects = self.store.projects(None).await?;
        let mut lines = Vec::new();
        for user in self.store.users(None).await? {
            let mut line = user.name.clone();
            if !user.enabled {
                line.push_str("  (disabled)");
            }
            for one in self.store.assignments(Some(&user.id), None).await? {
                let scope = projects.iter().find(|project| project.id == one.scope).map_or(&one.scope, |project| &project.name);
                line.push_str(&format!("  {}@{scope}", one.role));
            }
            lines.push(line);
        }
        Ok(lines)
    }

    /// Compares what this machine has with what the database says.
    pub async fn audit(&self, config: &Config, repair: Repair) -> Result<Report, AdminError> {
        Ok(audit::audit(config, &self.store, repair).await?)
    }

    /// Says that a volume service, `host@backend`, will not come back.
    pub async fn declare_gone(&self, host: &str) -> Result<(), AdminError> {
        Ok(self.store.declare_gone(VOLUME_SERVICE, host).await?)
    }

    /// Makes a user, and the project where it is new, and gives it a role there.
    pub async fn create_user(&self, name: &str, password: Secret, project: &str, role: &str) -> Result<(), AdminError> {
        let hash = self.people.passwords.hash(password).await?;
        let role = known_role(role)?;
        let project_id = match self.store.projects(Some(project)).await?.into_iter().next() {
            Some(project) => project.id,
            None => {
                let id = Uuid::new_v4().simple().to_string();
                let new = Project { id: id.clone(), name: project.to_owned(), description: None, enabled: true };
                self.store.create_project(&new).await?;
                id
            }
        };
        let user = User {
            id: Uuid::new_v4().simple().to_string(),
            name: name.to_owned(),
            password_hash: Some(hash),
            enabled: true,
            default_project: Some(project_id.clone()),
            description: None,
            email: None,
        };
        self.store.create_user(&user).await?;
        Ok(self.store.grant(&Assignment { user_id: user.id, scope: project_id, role }).await?)
    }

    /// Gives a user a role in a project.
    pub async fn grant(&self, name: &str, project: &str, role: &str) -> Result<(), AdminError> {
        let user_id = self.user(name).await?.id;
        let scope = self.project(project).await?.id;
        Ok(self.store.grant(&Assignment { user_id, scope, role: known_role(role)? }).await?)
    }

    /// Gives a user another password; its tokens are worthless from then on.
    pub async fn set_password(&self, name: &str, password: Secret) -> Result<(), AdminError> {
        let hash = self.people.passwords.hash(password).await?;
        let id = self.user(name).await?.id;
        self.store.change_user(&id, |user| user.password_hash = Some(hash)).await?;
        Ok(())
    }

    /// Forgets a user.
    pub async fn delete_user(&self, name: &str) -> Result<(), AdminError> {
        let id = self.user(name).await?.id;
        Ok(self.store.delete_user(&id).await?)
    }

    /// A token for a user and a project.
    pub async fn issue_token(&self, name: &str, project: &str) -> Result<Secret, AdminError> {
        let (user, project) = (self.user(name).await?, self.project(project).await?);
        match self.people.issue(&user, &Scope::Project(project.id)).await {
            Ok((token, _)) => Ok(token),
            Err(LoginError::Refused | LoginError::TooMany { .. }) => Err(AdminError::NoRole { user: name.to_owned() }),
            Err(LoginError::Store(error)) => Err(error.into()),
            Err(LoginError::Password(error)) => Err(error.into()),
        }
    }

    /// Makes a token worthless.
    pub async fn revoke_token(&self, token: &Secret) -> Result<(), AdminError> {
        Ok(self.store.revoke_token(&TokenDigest::of(token.reveal().trim().as_bytes()).hex()).await?)
    }

    async fn user(&self, name: &str) -> Result<User, AdminError> {
        let found = self.store.users(Some(name)).await?.into_iter().next();
        found.ok_or_else(|| AdminError::Absent { kind: "user", name: name.to_owned() })
    }

    async fn project(&self, name: &str) -> Result<Project, AdminError> {
        let found = self.store.projects(Some(name)).await?.into_iter().next();
        found.ok_or_else(|| AdminError::Absent { kind: "project", name: name.to_owned() })
    }
}

fn known_role(name: &str) -> Result<String, AdminError> {
    roles::find(name).map(str::to_owned).ok_or_else(|| AdminError::Absent { kind: "role", name: name.to_owned() })
}
