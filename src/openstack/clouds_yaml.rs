//! Finds and reads `clouds.yaml` and `secure.yaml`, and knows on which line each setting stands.
//!
//! Search order and merging follow openstacksdk: `$OS_CLIENT_CONFIG_FILE`, the working directory, `~/.config/openstack`,
//! `/etc/openstack`; then a `secure.yaml` laid over it. A cloud becomes a flat map of dotted keys (`auth.password`), so that
//! every later complaint can name file, line and key. Errors never quote a value.

use super::OpenstackError;
use crate::model::Secret;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_saphyr::Spanned;
use std::{
    collections::BTreeMap,
    env, fmt, fs,
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// One cloud's settings, from all files that speak of it.
#[derive(Debug)]
pub(super) struct Settings {
    values: BTreeMap<String, Setting>,
    file: PathBuf,
    line: u64,
}

#[derive(Debug)]
struct Setting {
    value: Secret,
    file: Arc<Path>,
    line: u64,
}

impl Settings {
    /// The text of a setting; `None` when absent or empty.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|setting| setting.value.expose()).filter(|text| !text.is_empty())
    }

    /// The first of several spellings that is there.
    pub(super) fn first<'k>(&self, keys: &[&'k str]) -> Option<(&'k str, &str)> {
        keys.iter().find_map(|key| self.text(key).map(|text| (*key, text)))
    }

    /// A setting that must be yes or no.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, OpenstackError> {
        match self.text(key).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(None),
            Some("true" | "yes" | "on" | "1") => Ok(Some(true)),
            Some("false" | "no" | "off" | "0") => Ok(Some(false)),
            Some(_) => Err(self.wrong(key, "must be true or false")),
        }
    }

    /// A setting that cannot be done without.
    pub(super) fn required(&self, key: &str) -> Result<&str, OpenstackError> {
        self.text(key).ok_or_else(|| self.wrong(key, "is missing"))
    }

    /// The complaint that `key` is wrong, at the line where it stands, or at the cloud's when it is absent.
    pub(super) fn wrong(&self, key: &str, problem: &str) -> OpenstackError {
        let (file, line) = match self.values.get(key) {
            Some(setting) => (setting.file.to_path_buf(), setting.line),
            None => (self.file.clone(), self.line),
        };
        OpenstackError::CloudsFile { file, line: Some(line), problem: format!("`{key}` {problem}") }
    }
}

/// Where credentials are looked for.
pub(super) struct SearchPath {
    clouds: Vec<PathBuf>,
    secure: Vec<PathBuf>,
    cloud_from_environment: Option<String>,
}

impl SearchPath {
    /// Just this file, and the `secure.yaml` beside it.
    pub(super) fn explicit(file: &Path) -> Self {
        let folder = file.parent().unwrap_or(Path::new(""));
        Self {
            clouds: vec![file.to_path_buf()],
            secure: in_folders(&[folder.to_path_buf()], "secure"),
            cloud_from_environment: env::var("OS_CLOUD").ok(),
        }
    }

    /// The places every OpenStack client looks at.
    pub(super) fn usual() -> Self {
        let mut folders = vec![PathBuf::from(".")];
        let config = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
        let config = config.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
        folders.extend(config.map(|config| config.join("openstack")));
        folders.push(PathBuf::from("/etc/openstack"));
        let with_override = |variable, name| {
            let mut paths: Vec<PathBuf> = env::var_os(variable).map(PathBuf::from).into_iter().collect();
            paths.extend(in_folders(&folders, name));
            paths
        };
        Self {
            clouds: with_override("OS_CLIENT_CONFIG_FILE", "clouds"),
            secure: with_override("OS_CLIENT_SECURE_FILE", "secure"),
            cloud_from_environment: env::var("OS_CLOUD").ok(),
        }
    }

    /// Reads the settings of `cloud`; an empty name means `$OS_CLOUD`, or the only cloud there is.
    pub(super) fn read(self, cloud: &str) -> Result<(String, Settings), OpenstackError> {
        let (file, mut clouds) = match self.clouds.as_slice() {
            [only] => (only.clone(), read_file(only)?.ok_or_else(|| missing(only))?),
            several => first_file(several)?.ok_or_else(|| OpenstackError::NoCloudsFile { searched: several.to_vec() })?,
        };
        let known = clouds.keys().cloned().collect::<Vec<_>>().join(", ");
        let wanted = match (cloud, &self.cloud_from_environment) {
            ("", Some(name)) if !name.is_empty() => name.clone(),
            ("", _) if clouds.len() == 1 => known.clone(),
            ("", _) => {
                let problem = format!("has several clouds ({known}): name the one to use");
                return Err(OpenstackError::CloudsFile { file, line: None, problem });
            }
            (name, _) => name.to_owned(),
        };
        let Some(found) = clouds.remove(&wanted) else {
            let problem = format!("has no cloud {wanted:?}; it has: {known}");
            return Err(OpenstackError::CloudsFile { file, line: None, problem });
        };
        let mut settings = Settings { values: BTreeMap::new(), line: found.referenced.line(), file: file.clone() };
        lay_over(&mut settings, &file, found.value);
        if let Some((secure_file, mut secure)) = first_file(&self.secure)?
            && let Some(over) = secure.remove(&wanted)
        {
            lay_over(&mut settings, &secure_file, over.value);
        }
        Ok((wanted, settings))
    }
}

fn in_folders(folders: &[PathBuf], name: &str) -> Vec<PathBuf> {
    folders.iter().flat_map(|folder| ["yaml", "yml"].map(|ending| folder.join(format!("{name}.{ending}")))).collect()
}

fn lay_over(settings: &mut Settings, file: &Path, cloud: Cloud) {
    let file: Arc<Path> = file.into();
    for (key, Spanned { value, referenced, .. }) in cloud.0 {
        if let Some(value) = value.0 {
            settings.values.insert(key, Setting { value, file: file.clone(), line: referenced.line() });
        }
    }
}

fn missing(file: &Path) -> OpenstackError {
    OpenstackError::UnreadableFile { file: file.to_path_buf(), source: Arc::new(ErrorKind::NotFound.into()) }
}

type Clouds = BTreeMap<String, Spanned<Cloud>>;

fn first_file(paths: &[PathBuf]) -> Result<Option<(PathBuf, Clouds)>, OpenstackError> {
    for path in paths {
        if let Some(clouds) = read_file(path)? {
            return Ok(Some((path.clone(), clouds)));
        }
    }
    Ok(None)
}

fn read_file(file: &Path) -> Result<Option<Clouds>, OpenstackError> {
    let text = match fs::read_to_string(file) {
        Ok(text) => zeroize::Zeroizing::new(text),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenstackError::UnreadableFile { file: file.to_path_buf(), source: Arc::new(error) }),
    };
    if fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0) {
        tracing::warn!(file = %file.display(), "every user of this host can read these credentials: chmod o-r");
    }
    // No snippet: it would show the lines around the error, passwords among them.
    let options = serde_saphyr::options! { with_snippet: false };
    let parsed: Result<File, _> = serde_saphyr::from_str_with_options(&text, options);
    parsed.map(|file| Some(file.clouds)).map_err(|error| OpenstackError::CloudsFile {
        file: file.to_path_buf(),
        line: error.location().map(|location| location.line()).filter(|line| *line > 0),
        problem: format!("is not a valid clouds file: {}", super::fault::printable(&error.to_string(), 300)),
    })
}

/// The document; other keys are other clients' business.
#[derive(Deserialize)]
struct File {
    clouds: Clouds,
}

/// One cloud's scalars by dotted key.
struct Cloud(BTreeMap<String, Spanned<Scalar>>);

/// Settings that this agent reads beside `auth`.
const SCALARS: [&str; 16] = [
    "auth_type",
    "region_name",
    "interface",
    "endpoint_type",
    "verify",
    "insecure",
    "cacert",
    "cert",
    "key",
    "profile",
    "volume_api_version",
    "block_storage_endpoint_override",
    "volume_endpoint_override",
    "volumev3_endpoint_override",
    "image_endpoint_override",
    "key_manager_endpoint_override",
];

impl<'de> Deserialize<'de> for Cloud {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CloudVisitor;

        impl<'de> Visitor<'de> for CloudVisitor {
            type Value = Cloud;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of settings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Cloud, A::Error> {
                let mut values = BTreeMap::new();
                while let Some(key) = access.next_key::<String>()? {
                    if key == "auth" {
                        for (inner, value) in access.next_value::<BTreeMap<String, Spanned<Scalar>>>()? {
                            values.insert(format!("auth.{inner}"), value);
                        }
                    } else if SCALARS.contains(&key.as_str()) {
                        values.insert(key, access.next_value()?);
                    } else {
                        access.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Cloud(values))
            }
        }

        deserializer.deserialize_map(CloudVisitor)
    }
}

/// The text of a scalar as it stands in the file, whatever YAML would take it for: a password `0123` keeps its zero.
struct Scalar(Option<Secret>);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Option::<String>::deserialize(deserializer)?.map(Secret::new)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(clouds: &str, secure: Option<&str>, cloud: &str) -> Result<Settings, OpenstackError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clouds.yaml");
        fs::write(&file, clouds).unwrap();
        if let Some(secure) = secure {
            fs::write(folder.path().join("secure.yaml"), secure).unwrap();
        }
        let search = SearchPath { cloud_from_environment: None, ..SearchPath::explicit(&file) };
        search.read(cloud).map(|(_, settings)| settings)
    }

    const TWO: &str = "clouds:\n  a:\n    auth: {username: u, password: 0123}\n    verify: no\n    networks: [{name: x}]\n  b: {auth_type: none}\n";

    #[test]
    fn scalars_keep_their_text_and_secure_yaml_wins() {
        let settings = read(TWO, Some("clouds: {a: {auth: {password: hunter2}}}"), "a").unwrap();
        assert_eq!((settings.text("auth.username"), settings.text("auth.password")), (Some("u"), Some("hunter2")));
        assert_eq!(settings.flag("verify").unwrap(), Some(false));
        assert_eq!(read(TWO, None, "a").unwrap().text("auth.password"), Some("0123"));
        assert!(!format!("{settings:?}").contains("hunter2"));
    }

    #[test]
    fn a_complaint_names_file_line_and_key() {
        let settings = read(TWO, None, "a").unwrap();
        let text = settings.wrong("verify", "must not be off").to_string();
        assert!(text.ends_with("clouds.yaml:4: `verify` must not be off"), "{text}");
        let text = settings.required("auth.auth_url").unwrap_err().to_string();
        assert!(text.contains("clouds.yaml:2: `auth.auth_url` is missing") || text.contains("clouds.yaml:3:"), "{text}");
    }

    #[test]
    fn unknown_and_unnamed_clouds_are_told_with_what_there_is() {
        for cloud in ["c", ""] {
            let text = read(TWO, None, cloud).unwrap_err().to_string();
            assert!(text.contains("clouds.yaml") && text.contains("a, b"), "{text}");
        }
        assert_eq!(read("clouds: {only: {auth_type: none}}", None, "").unwrap().text("auth_type"), Some("none"));
    }

    #[test]
    fn malformed_files_are_refused_with_their_line_and_without_their_secrets() {
        for (text, line) in [
            ("clouds:\n  a:\n    auth: {password: hunter2\n", ":"),
            ("clouds:\n  a:\n    auth: hunter2\n", ":3"),
            ("clouds:\n  a: hunter2\n", ":2"),
            ("clouds: hunter2\n", ":1"),
            ("clouds:\n  a:\n    auth:\n      password: [hunter2]\n", ":4"),
            ("clouds:\n  a:\n    auth:\n      password: hunter2\n      password: hunter2\n", ":5"),
            ("clouds:\n  a:\n    auth:\n      password: \"hunter2\n", ":"),
            ("{}\n", ":"),
        ] {
            let error = read(text, None, "a").unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(matches!(error, OpenstackError::CloudsFile { .. }), "{shown}");
            assert!(shown.contains(&format!("clouds.yaml{line}")), "{text}: {shown}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn a_file_asked_for_and_absent_is_named() {
        let search = SearchPath::explicit(Path::new("/nonexistent/clouds.yaml"));
        let text = search.read("a").unwrap_err().to_string();
        assert_eq!(text, "cannot read /nonexistent/clouds.yaml");
    }
}
