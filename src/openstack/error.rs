//! The one error type of the OpenStack clients, and what each failure means to the caller.
//!
//! Every variant says what was being done and with which ids. Answers that were accepted are never quoted (they hold CHAP
//! passwords and tokens); of refusals only the service's own message is.

use super::connection_info::ConnectionInfoError;
use crate::model::{AttachmentId, ErrorKind, GuestUuid, ImageId, SnapshotId, VolumeId};
use std::{error::Error, fmt, path::PathBuf, sync::Arc};
use uuid::Uuid;

/// What was asked of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Get a token from Keystone.
    Authenticate {
        /// `user` or `service user`: whose credentials.
        role: &'static str,
    },
    /// `GET /volumes/{id}`.
    ShowVolume(VolumeId),
    /// `GET /volumes/detail?name=…`.
    FindVolume(String),
    /// `GET /volumes/detail`.
    ListVolumes,
    /// `POST /volumes`, with the new volume's name.
    CreateVolume(String),
    /// `DELETE /volumes/{id}`.
    DeleteVolume(VolumeId),
    /// `POST /volumes/{id}/action` with `os-extend`.
    ExtendVolume {
        /// Which volume.
        volume: VolumeId,
        /// The size it is to have, GiB.
        size_gib: u64,
    },
    /// `POST /volumes/{id}/action` with `os-reimage`.
    ReimageVolume {
        /// Which volume.
        volume: VolumeId,
        /// What is written over it.
        image: ImageId,
    },
    /// `POST /attachments`.
    CreateAttachment {
        /// For which volume.
        volume: VolumeId,
        /// For which guest.
        guest: GuestUuid,
    },
    /// `PUT /attachments/{id}`.
    UpdateAttachment(AttachmentId),
    /// `POST /attachments/{id}/action` with `os-complete`.
    CompleteAttachment(AttachmentId),
    /// `GET /attachments/{id}`.
    ShowAttachment(AttachmentId),
    /// `GET /attachments`, of one volume or of all.
    ListAttachments(Option<VolumeId>),
    /// `DELETE /attachments/{id}`.
    DeleteAttachment(AttachmentId),
    /// `GET /volumes/{id}/encryption`.
    ShowEncryption(VolumeId),
    /// `GET /secrets/{id}/payload` of the key manager.
    FetchKey(Uuid),
    /// `GET /snapshots/{id}`, or a list of those with a name.
    FindSnapshot(String),
    /// `GET /images/{id}` of the image service, or a list of those with a name.
    FindImage(String),
    /// `GET /images/{id}/file` of the image service.
    FetchImage(ImageId),
    /// `PUT /hosts/{host}/lease` of a bundled service.
    RenewLeases,
    /// `GET /snapshots/detail`.
    ListSnapshots,
    /// `GET /messages` about something, by its id.
    ReadMessages(String),
    /// `POST /snapshots`, with the new snapshot's name.
    CreateSnapshot(String),
    /// `DELETE /snapshots/{id}`.
    DeleteSnapshot(SnapshotId),
    /// `POST /images` of the image service.
    CreateImage(ImageId),
    /// `PUT /images/{id}/file` of the image service.
    UploadImage(ImageId),
    /// `DELETE /images/{id}` of the image service.
    DeleteImage(ImageId),
}

impl Operation {
    /// Whether the service changes something when it carries this out.
    pub fn changes_something(&self) -> bool {
        !matches!(
            self,
            Self::Authenticate { .. }
                | Self::ShowVolume(_)
                | Self::FindVolume(_)
                | Self::ListVolumes
                | Self::ShowAttachment(_)
                | Self::ListAttachments(_)
                | Self::ShowEncryption(_)
                | Self::FetchKey(_)
                | Self::FindSnapshot(_)
                | Self::FindImage(_)
                | Self::FetchImage(_)
                | Self::RenewLeases
                | Self::ListSnapshots
                | Self::ReadMessages(_)
        )
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authenticate { role } => write!(f, "authenticate the {role} with Keystone"),
            Self::ShowVolume(id) => write!(f, "look up volume {id}"),
            Self::FindVolume(name) => write!(f, "look up the volume named {name:?}"),
            Self::ListVolumes => f.write_str("list volumes"),
            Self::CreateVolume(name) => write!(f, "create volume {name:?}"),
            Self::DeleteVolume(id) => write!(f, "delete volume {id}"),
            Self::ExtendVolume { volume, size_gib } => write!(f, "extend volume {volume} to {size_gib} GiB"),
            Self::ReimageVolume { volume, image } => write!(f, "write image {image} over volume {volume}"),
            Self::CreateAttachment { volume, guest } => write!(f, "create an attachment of volume {volume} for guest {guest}"),
            Self::UpdateAttachment(id) => write!(f, "give attachment {id} this host's connector"),
            Self::CompleteAttachment(id) => write!(f, "complete attachment {id}"),
            Self::ShowAttachment(id) => write!(f, "look up attachment {id}"),
            Self::ListAttachments(Some(volume)) => write!(f, "list the attachments of volume {volume}"),
            Self::ListAttachments(None) => f.write_str("list attachments"),
            Self::DeleteAttachment(id) => write!(f, "delete attachment {id}"),
            Self::ShowEncryption(id) => write!(f, "look up how volume {id} is encrypted"),
            Self::FetchKey(id) => write!(f, "get key {id} from the key manager"),
            Self::FindSnapshot(name) => write!(f, "look up snapshot {name:?}"),
            Self::FindImage(name) => write!(f, "look up image {name:?}"),
            Self::FetchImage(id) => write!(f, "download image {id}"),
            Self::RenewLeases => f.write_str("renew the leases of this host's attachments"),
            Self::ReadMessages(id) => write!(f, "read the service's messages about {id}"),
            Self::ListSnapshots => f.write_str("list snapshots"),
            Self::CreateSnapshot(name) => write!(f, "create snapshot {name:?}"),
            Self::DeleteSnapshot(id) => write!(f, "delete snapshot {id}"),
            Self::CreateImage(id) => write!(f, "create image {id}"),
            Self::UploadImage(id) => write!(f, "upload image {id}"),
            Self::DeleteImage(id) => write!(f, "delete image {id}"),
        }
    }
}

/// Why something asked of OpenStack did not happen.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum OpenstackError {
    /// No `clouds.yaml` in any of the usual places.
    #[error("no clouds.yaml found; looked for {}", list_paths(searched))]
    NoCloudsFile {
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// A credentials file, CA bundle or the like cannot be read.
    #[error("cannot read {}", file.display())]
    UnreadableFile {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// A credentials file says something that cannot be used.
    #[error("{}{}: {problem}", file.display(), line_suffix(*line))]
    CloudsFile {
        /// Which file.
        file: PathBuf,
        /// Line, counted from 1, where one can be named.
        line: Option<u64>,
        /// What is wrong, naming the key. Never holds a value that could be secret.
        problem: String,
    },
    /// The TLS side of the HTTP client cannot be set up.
    #[error("cannot set up HTTPS{}", bundle.as_ref().map(|path| format!(" with the CA bundle {}", path.display())).unwrap_or_default())]
    Tls {
        /// The CA bundle in use, if one is configured.
        bundle: Option<PathBuf>,
        /// What the TLS library said.
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The service catalog has no usable block storage endpoint.
    #[error("Keystone's catalog has no {interface} block storage v3 endpoint{}; it offers: {offered}", region.as_ref().map(|region| format!(" in region {region}")).unwrap_or_default())]
    NoEndpoint {
        /// The region that was asked for.
        region: Option<String>,
        /// The interface that was asked for.
        interface: &'static str,
        /// What is in the catalog instead.
        offered: String,
    },
    /// There is no key manager to ask.
    #[error(
        "cloud {cloud:?} has no usable key manager: {problem}; set key_manager.endpoint or key_manager.cloud, or key_manager_endpoint_override in clouds.yaml"
    )]
    NoKeyManager {
        /// Entry of clouds.yaml.
        cloud: String,
        /// What is missing.
        problem: String,
    },
    /// There is no image service to ask.
    #[error("cloud {cloud:?} has no usable image service: {problem}; set image_endpoint_override in clouds.yaml")]
    NoImageService {
        /// Entry of clouds.yaml.
        cloud: String,
        /// What is missing.
        problem: String,
    },
    /// No image or snapshot has this id or name, or several have the name.
    #[error("{count} {what} have the id or name {name:?}{}", if *count > 1 { ": use the id" } else { "" })]
    NotOne {
        /// `images` or `snapshots`.
        what: &'static str,
        /// What was looked for.
        name: String,
        /// How many there are.
        count: usize,
    },
    /// A volume is encrypted in a way that cannot be carried out here.
    #[error("volume {volume} cannot be decrypted: {problem}")]
    Encryption {
        /// Which volume.
        volume: VolumeId,
        /// Why not.
        problem: String,
    },
    /// The peer could not be reached, or the connection broke.
    #[error("cannot {operation}: {} {peer}", if *sent { "lost the connection to" } else { "cannot reach" })]
    Unreachable {
        /// What was being done.
        operation: Operation,
        /// Scheme, host and port.
        peer: String,
        /// The request may have reached the service.
        sent: bool,
        /// What the HTTP client said.
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("cannot {operation}: {peer} did not answer within {timeout_s} s")]
    NoAnswer {
        /// What was being done.
        operation: Operation,
        /// Scheme, host and port.
        peer: String,
        /// The request may have reached the service.
        sent: bool,
        /// The deadline that passed.
        timeout_s: u64,
    },
    /// The service answered with an error.
    #[error("cannot {operation}: HTTP {status}: {message}{}{}", quota_hint(*status), request_suffix(request_id))]
    Refused {
        /// What was being done.
        operation: Operation,
        /// HTTP status.
        status: u16,
        /// The service's own words, made safe to print.
        message: String,
        /// The service's name for this request, to find it in its logs.
        request_id: Option<String>,
    },
    /// The service answered with success, but the answer makes no sense.
    #[error("cannot {operation}: the service answered HTTP {status} with {problem}{}", request_suffix(request_id))]
    Unintelligible {
        /// What was being done.
        operation: Operation,
        /// HTTP status.
        status: u16,
        /// What is wrong with the answer; never the answer itself.
        problem: String,
        /// The service's name for this request.
        request_id: Option<String>,
    },
    /// The connection info of an attachment cannot be used.
    #[error("the connection info of attachment {attachment} cannot be used")]
    ConnectionInfo {
        /// Whose.
        attachment: AttachmentId,
        /// Which key, and why.
        #[source]
        source: ConnectionInfoError,
    },
    /// No volume has this id or name.
    #[error("no volume has the id or name {name:?}")]
    NoSuchVolume {
        /// What was looked for.
        name: String,
    },
    /// A name is not unique.
    #[error("{count} volumes are named {name:?}: use the id")]
    AmbiguousName {
        /// The name.
        name: String,
        /// How many have it.
        count: usize,
    },
    /// A volume ended in an error state while it was waited for.
    #[error("volume {volume} went to status {status:?} instead of {wanted:?}: {}", told(cause.as_deref()))]
    VolumeFailed {
        /// Which volume.
        volume: VolumeId,
        /// Where it ended.
        status: String,
        /// What was waited for.
        wanted: String,
        /// What the service says of the cause.
        cause: Option<String>,
    },
    /// The deadline of a wait passed.
    #[error("volume {volume} is not {wanted:?} in time: its status is {status:?}")]
    WaitedTooLong {
        /// Which volume.
        volume: VolumeId,
        /// Its last known status.
        status: String,
        /// What was waited for.
        wanted: String,
    },
    /// A snapshot ended in an error state, or was not there in time.
    #[error("snapshot {snapshot} is {status:?} instead of {wanted:?}{}{}", if *in_time { ": " } else { ", and the time is up" }, if *in_time { told(cause.as_deref()) } else { "" })]
    Snapshot {
        /// Which snapshot.
        snapshot: SnapshotId,
        /// Its last known status.
        status: String,
        /// What was waited for.
        wanted: &'static str,
        /// It is an end; else it was waited for in vain.
        in_time: bool,
        /// What the service says of the cause.
        cause: Option<String>,
    },
    /// What is to be uploaded cannot be read.
    #[error("cannot read {}", file.display())]
    UnreadableUpload {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The image service has other bytes than those it was sent.
    #[error("image {image} did not arrive as it was sent: the image service says {found} of it, and {sent} was sent")]
    Upload {
        /// Which image.
        image: ImageId,
        /// Status, size or digest that it has.
        found: String,
        /// What it should be.
        sent: String,
    },
}

/// How a bundled service says that the first request with a key is not answered yet.
const KEY_IN_HAND: &str = "request with this Idempotency-Key is still under way";

fn told(cause: Option<&str>) -> &str {
    cause.unwrap_or("see the volume service's log")
}

impl OpenstackError {
    /// What sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoCloudsFile { .. } | Self::UnreadableFile { .. } | Self::CloudsFile { .. } | Self::Tls { .. } => {
                ErrorKind::InvalidInput
            }
            Self::NoEndpoint { .. } | Self::NoKeyManager { .. } | Self::NoImageService { .. } | Self::Encryption { .. } => {
                ErrorKind::Unsupported
            }
            Self::Unreachable { .. } => ErrorKind::Unavailable,
            Self::NoAnswer { .. } | Self::WaitedTooLong { .. } | Self::Snapshot { in_time: false, .. } => ErrorKind::Timeout,
            Self::Snapshot { .. } | Self::UnreadableUpload { .. } => ErrorKind::Internal,
            Self::Upload { .. } => ErrorKind::IdentityMismatch,
            Self::Refused { operation, status, message, .. } => refusal_kind(operation, *status, message),
            Self::Unintelligible { .. } | Self::ConnectionInfo { .. } | Self::VolumeFailed { .. } => ErrorKind::Internal,
            Self::NoSuchVolume { .. } | Self::NotOne { count: 0, .. } => ErrorKind::NotFound,
            Self::AmbiguousName { .. } | Self::NotOne { .. } => ErrorKind::Conflict,
        }
    }

    /// Whether the service may have done what was asked although no usable answer came. The caller must look before it
    /// asks again: creating an attachment twice would hold the volume twice.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::Unreachable { operation, sent, .. } | Self::NoAnswer { operation, sent, .. } => {
                *sent && operation.changes_something()
            }
            // 503 comes from a proxy or a service that turned the request away; the other three can follow the effect.
            Self::Refused { operation, status: 500 | 502 | 504, .. } | Self::Unintelligible { operation, .. } => {
                operation.changes_something()
            }
            // An earlier try arrived, and nobody knows yet what comes of it.
            _ => self.is_key_in_hand(),
        }
    }

    /// Whether the service has this request's first try still in hand: what a bundled service answers to a key that comes again.
    pub(super) fn is_key_in_hand(&self) -> bool {
        matches!(self, Self::Refused { status: 409, message, .. } if message.contains(KEY_IN_HAND))
    }

    /// Explains a refused detach to an operator whose agent has no service user: Cinder answers 409, or 500 where it cannot
    /// ask Nova, and says nothing of the token it misses.
    pub(super) fn wanting_service_user(mut self) -> Self {
        if let Self::Refused { status: 409 | 500, message, .. } = &mut self {
            message.push_str("; the service may insist on a service token here: configure a service user");
        }
        self
    }

    /// Tells what a service lacks that does not know the microversion of `os-reimage`.
    pub(super) fn wanting_reimage(mut self) -> Self {
        if let Self::Refused { status: 406, message, .. } = &mut self {
            message
                .push_str("; an image is written over a volume by API version 3.68, which Cinder has since the release Yoga");
        }
        self
    }

    /// The HTTP status of a refusal.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

fn refusal_kind(operation: &Operation, status: u16, message: &str) -> ErrorKind {
    let authenticating = matches!(operation, Operation::Authenticate { .. });
    match status {
        // Cinder refuses a wrong state with 400, told apart from malformed input only by its words.
        400 if message.starts_with("Invalid volume") || message.contains("status must be") => ErrorKind::Conflict,
        400 => ErrorKind::InvalidInput,
        401 => ErrorKind::AuthenticationFailed,
        403 => ErrorKind::PermissionDenied,
        // Keystone has nothing to not find: the auth_url is wrong.
        404 | 405 if authenticating => ErrorKind::InvalidInput,
        404 => ErrorKind::NotFound,
        408 => ErrorKind::Timeout,
        // 413 is how Cinder says that a quota is used up.
        409 | 413 => ErrorKind::Conflict,
        406 | 501 => ErrorKind::Unsupported,
        500 if message.contains("Invalid volume") => ErrorKind::Conflict,
        429 | 500..=599 => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}

fn quota_hint(status: u16) -> &'static str {
    if status == 413 { " (free some, or have the project's quota raised)" } else { "" }
}

fn request_suffix(request_id: &Option<String>) -> String {
    request_id.as_ref().map(|id| format!(" (request {id})")).unwrap_or_default()
}

fn line_suffix(line: Option<u64>) -> String {
    line.map(|line| format!(":{line}")).unwrap_or_default()
}

fn list_paths(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(operation: Operation, status: u16, message: &str) -> OpenstackError {
        OpenstackError::Refused { operation, status, message: message.into(), request_id: Some("req-1".into()) }
    }

    #[test]
    fn a_wrong_state_is_a_conflict_and_bad_input_is_not() {
        for (status, message, kind) in [
            (400, "Invalid volume: Volume x status must be available or downloading to reserve", ErrorKind::Conflict),
            (400, "Invalid input for field/attribute size. Value: 0.", ErrorKind::InvalidInput),
            (401, "The request you have made requires authentication.", ErrorKind::AuthenticationFailed),
            (403, "Policy doesn't allow it", ErrorKind::PermissionDenied),
            (404, "Volume type with name nope could not be found.", ErrorKind::NotFound),
            (406, "Version 3.54 is not supported by the API.", ErrorKind::Unsupported),
            (409, "ConflictNovaUsingAttachment", ErrorKind::Conflict),
            (413, "VolumeLimitExceeded", ErrorKind::Conflict),
            (500, "The server has either erred", ErrorKind::Unavailable),
            (503, "", ErrorKind::Unavailable),
            (302, "", ErrorKind::Internal),
        ] {
            assert_eq!(refused(Operation::ListVolumes, status, message).kind(), kind, "{status} {message}");
        }
        assert_eq!(refused(Operation::Authenticate { role: "user" }, 404, "").kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn the_message_names_operation_status_words_and_request() {
        let id: VolumeId = "94333fbd-2aab-4a5a-befd-e30c2f7377fd".parse().unwrap();
        let text = refused(Operation::ShowVolume(id), 404, "could not be found").to_string();
        assert_eq!(
            text,
            "cannot look up volume 94333fbd-2aab-4a5a-befd-e30c2f7377fd: HTTP 404: could not be found (request req-1)"
        );
    }

    #[test]
    fn only_a_change_whose_answer_was_lost_has_an_unknown_outcome() {
        let create = Operation::CreateVolume("v".into());
        assert!(refused(create.clone(), 504, "").outcome_unknown());
        assert!(!refused(create.clone(), 503, "").outcome_unknown());
        assert!(!refused(create, 400, "").outcome_unknown());
        assert!(!refused(Operation::ListVolumes, 504, "").outcome_unknown());
    }
}
