//! What one cloud's settings mean: how to authenticate, where the volume service is, which TLS roots to trust.

use super::{
    OpenstackError,
    clouds_yaml::{SearchPath, Settings},
};
use crate::model::Secret;
use reqwest::Url;
use std::path::{Path, PathBuf};

/// Which of a service's addresses to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// The address for everyone; the default.
    Public,
    /// The address inside the cloud.
    Internal,
    /// The address for administrators.
    Admin,
}

impl Interface {
    /// The word the catalog uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Admin => "admin",
        }
    }
}

/// A Keystone user with a password.
#[derive(Debug, Clone)]
pub struct PasswordUser {
    /// `user_id`, or the name with its domain.
    pub user: NamedOrId,
    /// The password.
    pub password: Secret,
}

/// A Keystone object by id, or by name within a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedOrId {
    /// By its id.
    Id(String),
    /// By its name.
    Name {
        /// The name.
        name: String,
        /// Id of the domain it is in, or the name of that domain.
        domain: Domain,
    },
}

/// A Keystone domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Domain {
    /// By id.
    Id(String),
    /// By name.
    Name(String),
}

/// What a token is to be valid for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// A project, the usual case.
    Project(NamedOrId),
    /// A domain.
    Domain(Domain),
    /// The whole system (`system_scope: all`).
    System,
    /// Whatever Keystone chooses: the user's default project.
    Unscoped,
}

/// How to authenticate (`auth_type`).
#[derive(Debug, Clone)]
pub enum AuthMethod {
    /// `password`, `v3password`.
    Password {
        /// Keystone's address.
        auth_url: String,
        /// Who.
        user: PasswordUser,
        /// For what.
        scope: Scope,
    },
    /// `v3applicationcredential`.
    ApplicationCredential {
        /// Keystone's address.
        auth_url: String,
        /// Id of the credential, or its name and the user it belongs to.
        credential: ApplicationCredential,
        /// Its secret.
        secret: Secret,
    },
    /// `token`, `v3token`: an existing token, exchanged for one of the wanted scope.
    Token {
        /// Keystone's address.
        auth_url: String,
        /// The token.
        token: Secret,
        /// For what.
        scope: Scope,
    },
    /// `admin_token`: a fixed token, sent as it is; no Keystone.
    FixedToken {
        /// The token.
        token: Secret,
        /// The volume service.
        endpoint: String,
    },
    /// `none`: no token at all; no Keystone.
    NoToken {
        /// The volume service.
        endpoint: String,
    },
}

/// Names an application credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplicationCredential {
    /// By its id.
    Id(String),
    /// By its name.
    Name {
        /// The name.
        name: String,
        /// Whose it is.
        user: NamedOrId,
    },
}

/// One cloud of `clouds.yaml`, read and checked.
#[derive(Debug, Clone)]
pub struct CloudConfig {
    /// Its name in the file.
    pub name: String,
    /// How to authenticate.
    pub auth: AuthMethod,
    /// Region to use; `None` takes the first that the catalog lists.
    pub region_name: Option<String>,
    /// Which of a service's addresses to use.
    pub interface: Interface,
    /// CA bundle to trust instead of the system's (`cacert`).
    pub cacert: Option<PathBuf>,
    /// Address of the volume service, instead of the catalog's; may hold `%(project_id)s`.
    pub volume_endpoint: Option<String>,
    /// The image service's address instead of the catalog's.
    pub image_endpoint: Option<String>,
    /// The key manager's address instead of the catalog's.
    pub key_manager_endpoint: Option<String>,
}

impl CloudConfig {
    /// Reads the cloud named `cloud` from `file`, or from the first `clouds.yaml` of the usual places, with `secure.yaml`
    /// laid over it. An empty name means `$OS_CLOUD`, or the only cloud in the file.
    ///
    /// Fails with the file, line and key at fault.
    pub fn load(file: Option<&Path>, cloud: &str) -> Result<Self, OpenstackError> {
        let search = file.map_or_else(SearchPath::usual, SearchPath::explicit);
        let (name, settings) = search.read(cloud)?;
        Self::from_settings(name, &settings)
    }

    fn from_settings(name: String, settings: &Settings) -> Result<Self, OpenstackError> {
        refuse_what_is_unsafe_or_unknown(settings)?;
        let (override_key, volume_endpoint) = settings
            .first(&["block_storage_endpoint_override", "volumev3_endpoint_override", "volume_endpoint_override"])
            .map_or(("", None), |(key, url)| (key, Some(url.to_owned())));
        if let Some(url) = &volume_endpoint {
            check_url(settings, override_key, url)?;
        }
        let further = |key: &str| match settings.text(key) {
            Some(url) => check_url(settings, key, url).map(|()| Some(url.to_owned())),
            None => Ok(None),
        };
        let image_endpoint = further("image_endpoint_override")?;
        let key_manager_endpoint = further("key_manager_endpoint_override")?;
        let interface = settings.first(&["interface", "endpoint_type"]);
        let interface = match interface.map(|(_, word)| word.trim_end_matches("URL")) {
            None | Some("public") => Interface::Public,
            Some("internal") => Interface::Internal,
            Some("admin") => Interface::Admin,
            Some(_) => return Err(settings.wrong(interface.map_or("", |(key, _)| key), "must be public, internal or admin")),
        };
        Ok(Self {
            name,
            auth: auth_method(settings, volume_endpoint.as_deref())?,
            region_name: settings.text("region_name").map(str::to_owned),
            interface,
            cacert: settings.text("cacert").map(PathBuf::from),
            volume_endpoint,
            image_endpoint,
            key_manager_endpoint,
        })
    }
}

fn refuse_what_is_unsafe_or_unknown(settings: &Settings) -> Result<(), OpenstackError> {
    if settings.flag("verify")? == Some(false) {
        return Err(
            settings.wrong("verify", "turns certificate checks off, which is never done: give the CA bundle as `cacert`")
        );
    }
    if settings.flag("insecure")? == Some(true) {
        return Err(
            settings.wrong("insecure", "turns certificate checks off, which is never done: give the CA bundle as `cacert`")
        );
    }
    for key in ["cert", "key"] {
        if settings.text(key).is_some() {
            return Err(settings.wrong(key, "asks for a TLS client certificate, which is not supported"));
        }
    }
    match settings.text("volume_api_version") {
        Some(version) if version != "3" && !version.starts_with("3.") => {
            Err(settings.wrong("volume_api_version", "must be 3: older versions of the API have no attachments"))
        }
        _ => Ok(()),
    }
}

fn auth_method(settings: &Settings, volume_endpoint: Option<&str>) -> Result<AuthMethod, OpenstackError> {
    let endpoint = || match volume_endpoint {
        Some(url) => Ok(url.to_owned()),
        None => {
            let (key, url) = settings.first(&["auth.endpoint", "auth.url"]).ok_or_else(|| {
                settings.wrong("auth.endpoint", "is missing: without Keystone the volume service's address must be given")
            })?;
            check_url(settings, key, url).map(|()| url.to_owned())
        }
    };
    let auth_url = || {
        if settings.text("auth.auth_url").is_none() && settings.text("profile").is_some() {
            return Err(settings.wrong("profile", "is not supported: write `auth.auth_url` out"));
        }
        let url = settings.required("auth.auth_url")?;
        check_url(settings, "auth.auth_url", url).map(|()| url.to_owned())
    };
    let secret = |key| settings.required(key).map(Secret::new);
    match settings.text("auth_type").unwrap_or("password") {
        "password" | "v3password" => Ok(AuthMethod::Password {
            auth_url: auth_url()?,
            user: PasswordUser { user: user(settings)?, password: secret("auth.password")? },
            scope: scope(settings),
        }),
        "v3applicationcredential" => Ok(AuthMethod::ApplicationCredential {
            auth_url: auth_url()?,
            credential: match settings.text("auth.application_credential_id") {
                Some(id) => ApplicationCredential::Id(id.to_owned()),
                None => ApplicationCredential::Name {
                    name: settings
                        .first(&["auth.application_credential_name"])
                        .ok_or_else(|| settings.wrong("auth.application_credential_id", "is missing"))?
                        .1
                        .to_owned(),
                    user: user(settings)?,
                },
            },
            secret: secret("auth.application_credential_secret")?,
        }),
        "token" | "v3token" => {
            Ok(AuthMethod::Token { auth_url: auth_url()?, token: secret("auth.token")?, scope: scope(settings) })
        }
        "admin_token" => Ok(AuthMethod::FixedToken { token: secret("auth.token")?, endpoint: endpoint()? }),
        "none" => Ok(AuthMethod::NoToken { endpoint: endpoint()? }),
        // cinderclient's plugin: the token is "user:project", which a Cinder with auth_strategy noauth takes at its word.
        "noauth" => {
            let user = settings.first(&["auth.user_id", "auth.username"]).map_or("admin", |(_, user)| user);
            let project = settings.first(&["auth.project_id", "auth.project_name"]).map_or("admin", |(_, project)| project);
            Ok(AuthMethod::FixedToken { token: Secret::new(format!("{user}:{project}")), endpoint: endpoint()? })
        }
        _ => Err(settings
            .wrong("auth_type", "is not supported: use password, v3applicationcredential, token, admin_token, none or noauth")),
    }
}

fn user(settings: &Settings) -> Result<NamedOrId, OpenstackError> {
    match (settings.text("auth.user_id"), settings.first(&["auth.username", "auth.user_name"])) {
        (Some(id), _) => Ok(NamedOrId::Id(id.to_owned())),
        (None, Some((_, name))) => Ok(NamedOrId::Name { name: name.to_owned(), domain: domain(settings, "user") }),
        (None, None) => Err(settings.wrong("auth.username", "is missing")),
    }
}

/// What the clients of openstacksdk fall back to, in their order; the last resort is Keystone's first domain.
fn domain(settings: &Settings, of: &str) -> Domain {
    for prefix in [of, "default", ""] {
        let key = |what| if prefix.is_empty() { format!("auth.domain_{what}") } else { format!("auth.{prefix}_domain_{what}") };
        if let Some(id) = settings.text(&key("id")) {
            return Domain::Id(id.to_owned());
        }
        if let Some(name) = settings.text(&key("name")) {
            return Domain::Name(name.to_owned());
        }
    }
    settings.text("auth.default_domain").map_or_else(|| Domain::Id("default".to_owned()), |id| Domain::Id(id.to_owned()))
}

fn scope(settings: &Settings) -> Scope {
    if settings.text("auth.system_scope").is_some() {
        return Scope::System;
    }
    if let Some((_, id)) = settings.first(&["auth.project_id", "auth.tenant_id"]) {
        return Scope::Project(NamedOrId::Id(id.to_owned()));
    }
    if let Some((_, name)) = settings.first(&["auth.project_name", "auth.tenant_name"]) {
        return Scope::Project(NamedOrId::Name { name: name.to_owned(), domain: domain(settings, "project") });
    }
    match settings.first(&["auth.domain_id", "auth.domain_name"]) {
        Some(("auth.domain_id", id)) => Scope::Domain(Domain::Id(id.to_owned())),
        Some((_, name)) => Scope::Domain(Domain::Name(name.to_owned())),
        None => Scope::Unscoped,
    }
}

fn check_url(settings: &Settings, key: &str, url: &str) -> Result<(), OpenstackError> {
    match Url::parse(url) {
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() => {
            if parsed.username().is_empty() && parsed.password().is_none() {
                Ok(())
            } else {
                Err(settings.wrong(key, "must not carry a user or password"))
            }
        }
        _ => Err(settings.wrong(key, "is not an http:// or https:// address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(cloud: &str) -> Result<CloudConfig, OpenstackError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clouds.yaml");
        let lines: String = cloud.lines().map(|line| format!("    {line}\n")).collect();
        std::fs::write(&file, format!("clouds:\n  c:\n{lines}")).unwrap();
        CloudConfig::load(Some(&file), "c")
    }

    #[test]
    fn a_password_cloud_is_read_as_every_client_reads_it() {
        let config = load(
            "auth: {auth_url: 'http://k:5000', username: u, password: p, project_name: pr, user_domain_name: D}\n\
             region_name: R\ninterface: internalURL\ncacert: /ca.pem\nvolume_api_version: 3.70",
        )
        .unwrap();
        let AuthMethod::Password { auth_url, user, scope } = &config.auth else { panic!("{config:?}") };
        assert_eq!(auth_url, "http://k:5000");
        assert_eq!(user.user, NamedOrId::Name { name: "u".into(), domain: Domain::Name("D".into()) });
        let project = NamedOrId::Name { name: "pr".into(), domain: Domain::Id("default".into()) };
        assert_eq!(*scope, Scope::Project(project));
        assert_eq!((config.region_name.as_deref(), config.interface), (Some("R"), Interface::Internal));
        assert_eq!(config.cacert.as_deref(), Some(Path::new("/ca.pem")));
    }

    #[test]
    fn the_other_ways_to_authenticate_are_read() {
        let token = "auth_type: admin_token\nauth: {token: t}\nblock_storage_endpoint_override: 'http://127.0.0.1:8776/v3'";
        let AuthMethod::FixedToken { token, endpoint } = load(token).unwrap().auth else { panic!() };
        assert_eq!((token.expose(), endpoint.as_str()), ("t", "http://127.0.0.1:8776/v3"));
        let none = load("auth_type: none\nauth: {endpoint: 'http://127.0.0.1:1'}").unwrap();
        assert!(matches!(none.auth, AuthMethod::NoToken { .. }));
        let noauth = load("auth_type: noauth\nauth: {endpoint: 'http://127.0.0.1:1', user_id: u, project_id: p}").unwrap();
        let AuthMethod::FixedToken { token, .. } = noauth.auth else { panic!() };
        assert_eq!(token.expose(), "u:p");
        let application = "auth_type: v3applicationcredential\n\
             auth: {auth_url: 'http://k', application_credential_id: i, application_credential_secret: s}";
        assert!(matches!(load(application).unwrap().auth, AuthMethod::ApplicationCredential { .. }));
        let token = "auth_type: token\nauth: {auth_url: 'http://k', token: t, project_id: p}";
        assert!(matches!(load(token).unwrap().auth, AuthMethod::Token { .. }));
    }

    #[test]
    fn what_cannot_be_used_is_refused_at_its_line() {
        let auth = "auth: {auth_url: 'http://k', username: u, password: p}\n";
        for (cloud, want) in [
            (format!("{auth}verify: false"), ":4: `verify` turns certificate checks off"),
            (format!("{auth}insecure: true"), ":4: `insecure` turns certificate checks off"),
            (format!("{auth}interface: outer"), ":4: `interface` must be"),
            (format!("{auth}volume_api_version: 2"), ":4: `volume_api_version` must be 3"),
            (format!("{auth}auth_type: kerberos"), ":4: `auth_type` is not supported"),
            (format!("{auth}volume_endpoint_override: 'ftp://x'"), ":4: `volume_endpoint_override` is not an http"),
            ("auth: {auth_url: 'http://k', username: u}".into(), "`auth.password` is missing"),
            ("auth: {username: u, password: p}".into(), "`auth.auth_url` is missing"),
            ("auth: {auth_url: 'http://u:hunter2@k', username: u, password: p}".into(), "`auth.auth_url` must not carry"),
            ("auth_type: none".into(), "`auth.endpoint` is missing"),
        ] {
            let text = load(&cloud).unwrap_err().to_string();
            assert!(text.contains("clouds.yaml:") && text.contains(want), "{cloud}: {text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
