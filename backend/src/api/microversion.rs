//! Which answer a client understands: `OpenStack-API-Version: volume 3.N`. None is 3.0, `latest` is the newest.

use std::fmt;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::errors::ApiError;

const HEADER: HeaderName = HeaderName::from_static("openstack-api-version");

/// The minor number of a 3.N version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Microversion(pub u32);

impl Microversion {
    /// The newest whose changes, where they concern what this service has, are implemented.
    ///
    /// | since | what changed | here |
    /// | --- | --- | --- |
    /// | 3.55 | transfers take snapshots along | yes; `no_snapshots` only where there are none |
    /// | 3.56 | backups tell their user | yes |
    /// | 3.57 | transfers tell projects and `accepted` | yes |
    /// | 3.58 | groups tell their project | there are no groups |
    /// | 3.59 | transfers in pages | yes |
    /// | 3.60 | `created_at`, `updated_at` compared in lists | yes |
    /// | 3.61 | volumes tell their cluster | yes: none |
    /// | 3.62 | default types of projects | yes |
    /// | 3.63 | volumes tell their type's id | yes |
    /// | 3.64 | volumes tell their encryption key | yes: where they have one |
    /// | 3.65 | `consumes_quota` told and filtered by | yes |
    /// | 3.66 | snapshots of volumes in use need no `force` | yes |
    /// | 3.67 | paths without a project id | yes, at every version |
    /// | 3.68 | `os-reimage` | yes |
    /// | 3.69 | `shared_targets` may be null | never: it is always known |
    /// | 3.70 | encrypted volumes are transferred | yes, where their keys are the service's own |
    /// | 3.71 | `os-extend_volume_completion` | yes: refused, for no volume waits for it |
    pub const MAX: Self = Self(71);
    /// The summary tells metadata.
    pub const SUMMARY_METADATA: Self = Self(36);
    /// A volume can go back to its latest snapshot.
    pub const REVERT: Self = Self(40);
    /// Types are found by their extra specs.
    pub const TYPES_BY_SPECS: Self = Self(52);
    /// Transfers take snapshots along.
    pub const TRANSFER_SNAPSHOTS: Self = Self(55);
    /// Transfers tell projects.
    pub const TRANSFER_PROJECTS: Self = Self(57);
    /// Lists compare times.
    pub const TIME_FILTERS: Self = Self(60);
    /// Volumes tell their cluster.
    pub const CLUSTER_NAME: Self = Self(61);
    /// Projects have default types.
    pub const DEFAULT_TYPES: Self = Self(62);
    /// Encrypted volumes tell their key's id.
    pub const ENCRYPTION_KEY: Self = Self(64);
    /// Encrypted volumes are transferred.
    pub const TRANSFER_ENCRYPTED: Self = Self(70);
    /// An image is written over what a volume has.
    pub const REIMAGE: Self = Self(68);
    /// A host says that it has seen an extend.
    pub const EXTEND_COMPLETION: Self = Self(71);
    /// Backups can be changed.
    pub const BACKUP_UPDATE: Self = Self(9);
    /// Backups tell their project.
    pub const BACKUP_PROJECT: Self = Self(18);
    /// Backups have metadata.
    pub const BACKUP_METADATA: Self = Self(43);
    /// A volume is made from a backup.
    pub const VOLUME_FROM_BACKUP: Self = Self(47);
    /// A backup is made in an availability zone.
    pub const BACKUP_ZONE: Self = Self(51);
    /// Backups tell their user.
    pub const BACKUP_USER: Self = Self(56);
    /// Volumes tell their group.
    pub const GROUP_ID: Self = Self(13);
    /// Volumes tell their provider's id.
    pub const PROVIDER_ID: Self = Self(21);
    /// There are attachments.
    pub const ATTACHMENTS: Self = Self(27);
    /// Names can be searched in part: `name~`.
    pub const LIKE_FILTER: Self = Self(34);
    /// A volume can be migrated to a cluster.
    pub const MIGRATE_CLUSTER: Self = Self(16);
    /// A volume in use can be extended.
    pub const EXTEND_IN_USE: Self = Self(42);
    /// An attachment can be completed.
    pub const COMPLETE: Self = Self(44);
    /// Lists can tell how many there are in all.
    pub const WITH_COUNT: Self = Self(45);
    /// Services tell whether their storage can be used.
    pub const BACKEND_STATE: Self = Self(49);
    /// Volumes tell whether targets are shared, and by which service.
    pub const SHARED_TARGETS: Self = Self(48);
    /// Unknown fields are refused.
    pub const STRICT_BODIES: Self = Self(53);
    /// Snapshots tell their group.
    pub const GROUP_SNAPSHOT_ID: Self = Self(14);
    /// Snapshots tell who made them.
    pub const SNAPSHOT_USER: Self = Self(41);
    /// Volumes tell their type's id.
    pub const VOLUME_TYPE_ID: Self = Self(63);
    /// A snapshot is made of a volume in use without being forced.
    pub const SNAPSHOT_ALWAYS_FORCED: Self = Self(66);
    /// Volumes and snapshots tell whether a quota pays for them.
    pub const CONSUMES_QUOTA: Self = Self(65);
    /// Attachments have a mode.
    pub const ATTACH_MODE: Self = Self(54);
}

impl fmt::Display for Microversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "3.{}", self.0)
    }
}

/// Reads the request's version, refuses what is not there, and says in the answer which it was.
pub(super) async fn negotiate(mut request: Request, next: Next) -> Response {
    let wanted = wanted(request.headers());
    let (mut response, spoken) = match wanted {
        Ok(version) => {
            request.extensions_mut().insert(version);
            (next.run(request).await, version.to_string())
        }
        Err((error, asked)) => (error.into_response(), asked),
    };
    if let Ok(value) = HeaderValue::try_from(format!("volume {spoken}")) {
        response.headers_mut().insert(HEADER, value);
        response.headers_mut().append(header::VARY, HeaderValue::from_static("OpenStack-API-Version"));
    }
    response
}

fn wanted(headers: &HeaderMap) -> Result<Microversion, (ApiError, String)> {
    let text = match headers.get(HEADER).map(HeaderValue::to_str) {
        None => return Ok(Microversion(0)),
        Some(Err(_)) => "?",
        Some(Ok(text)) => text,
    };
    // One header may name versions of several services.
    let Some(asked) = text.split(',').find_map(|part| part.trim().strip_prefix("volume ")).map(str::trim) else {
        return Ok(Microversion(0));
    };
    if asked == "latest" {
        return Ok(Microversion::MAX);
    }
    let number = |text: &str| (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok());
    match asked.split_once('.').map(|(major, minor)| (number(major), number(minor))) {
        Some((Some(Some(3u32)), Some(Some(minor)))) if minor <= Microversion::MAX.0 => Ok(Microversion(minor)),
        Some((Some(_), Some(_))) => Err((ApiError::VersionNotThere(asked.to_owned()), asked.to_owned())),
        _ => Err((ApiError::VersionUnreadable(asked.to_owned()), Microversion(0).to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(value: &str) -> Result<Microversion, String> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, value.parse().unwrap());
        wanted(&headers).map_err(|(error, _)| error.to_string())
    }

    #[test]
    fn versions_are_read_as_the_field_writes_them() {
        assert_eq!(wanted(&HeaderMap::new()).unwrap(), Microversion(0));
        assert_eq!(asked("volume 3.44").unwrap(), Microversion(44));
        assert_eq!(asked("volume latest").unwrap(), Microversion::MAX);
        assert_eq!(asked("compute 2.90, volume 3.27").unwrap(), Microversion(27));
        assert_eq!(asked("compute 2.90").unwrap(), Microversion(0));
    }

    #[test]
    fn versions_that_are_not_there_are_refused() {
        let text = asked("volume 3.999").unwrap_err();
        assert_eq!(text, "Version 3.999 is not supported by the API. Minimum is 3.0 and maximum is 3.71.");
        assert!(asked("volume 2.0").unwrap_err().contains("not supported"));
        assert!(asked("volume 3.99999999999999999999").unwrap_err().contains("not supported"));
        for nonsense in ["volume x", "volume 3", "volume 3.-1", "volume ."] {
            assert!(asked(nonsense).unwrap_err().contains("invalid format"), "{nonsense}");
        }
    }
}
