//! Users, projects, and who is what where.

/// The id and the name of the one domain there is.
pub const DEFAULT_DOMAIN: &str = "default";

/// One user.
#[derive(Clone, Debug)]
pub struct User {
    /// Its id, 32 hex digits.
    pub id: String,
    /// By what it logs in.
    pub name: String,
    /// A salted, slow hash of its password; none for one who cannot log in.
    pub password_hash: Option<String>,
    /// Whether it may log in.
    pub enabled: bool,
    /// The project of a token that asks for none.
    pub default_project: Option<String>,
    /// Words about it.
    pub description: Option<String>,
    /// Where it is written to.
    pub email: Option<String>,
}

/// One project.
#[derive(Clone, Debug)]
pub struct Project {
    /// Its id, 32 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Words about it.
    pub description: Option<String>,
    /// Whether tokens are given for it.
    pub enabled: bool,
}

/// A role that a user was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// To whom.
    pub user_id: String,
    /// A project's id, `domain:<id>` or `system`.
    pub scope: String,
    /// The role's name.
    pub role: String,
}

/// A token as it was issued.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    /// Whom it speaks for.
    pub user_id: String,
    /// A project's id, `domain:<id>`, `system` or `unscoped`.
    pub scope: String,
    /// The project it is scoped to.
    pub project_id: Option<String>,
    /// Role names.
    pub roles: Vec<String>,
    /// When it was issued, microseconds since the epoch.
    pub issued_at_us: i64,
    /// When it stops being valid, microseconds since the epoch; `None` is never.
    pub expires_at_us: Option<i64>,
}
