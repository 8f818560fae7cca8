//! Who asks: what every handler knows of the one it answers.

use crate::domain::Asker;
use crate::secret::Secret;

/// What a user is in a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// May look.
    Reader,
    /// May use what the project has.
    Member,
    /// May look after the project's own things; here no more than a member may.
    Manager,
    /// May do what concerns all projects.
    Admin,
    /// Another service of the cloud.
    Service,
}

impl Role {
    /// The role of that name; others are not known here and give nothing.
    pub fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "reader" => Some(Self::Reader),
            "member" | "_member_" => Some(Self::Member),
            "manager" => Some(Self::Manager),
            "admin" => Some(Self::Admin),
            "service" => Some(Self::Service),
            _ => None,
        }
    }
}

/// The roles somebody has: each implies the lesser ones, but that of a service implies none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    highest: Option<Role>,
    service: bool,
}

impl Roles {
    /// From role names.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut roles = Self::default();
        for role in names.into_iter().filter_map(Role::parse) {
            match role {
                Role::Service => roles.service = true,
                other => roles.highest = roles.highest.max(Some(other)),
            }
        }
        roles
    }

    /// Whether these include a role.
    pub fn include(self, role: Role) -> bool {
        match role {
            Role::Service => self.service,
            other => self.highest >= Some(other),
        }
    }
}

/// One request's asker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The user.
    pub user_id: String,
    /// The project the token is scoped to.
    pub project_id: String,
    /// What the user is there.
    pub roles: Roles,
    /// Whether a service of the cloud vouches for the request (`X-Service-Token`).
    pub by_service: bool,
    /// The token it was asked with, for services that judge for themselves.
    pub token: Secret,
    /// The request's id.
    pub request_id: String,
}

impl Context {
    /// Whether the asker looks after the whole service.
    pub fn is_admin(&self) -> bool {
        self.roles.include(Role::Admin)
    }

    /// Whether another service of the cloud asks, by its own token or beside a user's.
    pub fn is_service(&self) -> bool {
        self.by_service || self.roles.include(Role::Service)
    }

    /// What operations and messages remember.
    pub fn asker(&self) -> Asker {
        Asker { project_id: self.project_id.clone(), user_id: self.user_id.clone(), request_id: Some(self.request_id.clone()) }
    }

    /// The project whose things a list shows: the asker's own, or all for an administrator who asks for all.
    pub fn listed_project(&self, all: bool) -> Option<String> {
        if all && self.is_admin() { None } else { Some(self.project_id.clone()) }
    }
}
