//! Two errors that must not be mixed up: what a caller on the bus is answered, and what went wrong with the bus itself.

use super::names::ERROR_PREFIX;
use crate::{agent::api::ApiError, model::ErrorKind};
use zbus::{
    DBusError, Message,
    message::Header,
    names::{ErrorName, OwnedErrorName},
};

/// The agent cannot serve the bus.
#[derive(Debug, thiserror::Error)]
pub enum DbusError {
    /// The bus is not there, or did not let the agent in.
    #[error("cannot connect to the D-Bus bus at {address}")]
    Connect {
        /// The address, or `the system bus`.
        address: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An object could not be put on the bus.
    #[error("cannot publish the D-Bus object {path}")]
    Publish {
        /// Its path.
        path: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another process has the name.
    #[error("the D-Bus name {name} is taken: another bowlined is running on this bus; stop it first (`busctl status {name}`)")]
    NameTaken {
        /// The name.
        name: &'static str,
    },
    /// The bus did not give the name.
    #[error(
        "the bus does not give the agent the name {name}; is the D-Bus policy file org.bowline.Agent1.conf installed, and does it \
         allow this user to own the name?"
    )]
    RequestName {
        /// The name.
        name: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl DbusError {
    /// The kind of the error.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Connect { .. } => ErrorKind::Unavailable,
            Self::Publish { .. } => ErrorKind::Internal,
            Self::NameTaken { .. } => ErrorKind::Conflict,
            Self::RequestName { .. } => ErrorKind::PermissionDenied,
        }
    }
}

/// What a caller gets instead of an answer: `org.bowline.Error.<Kind>` and a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodError {
    /// Kind; gives the error's name.
    pub kind: ErrorKind,
    /// What was wrong and what to do.
    pub message: String,
}

impl MethodError {
    /// Makes one.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The caller's argument is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// The caller may not do this.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::PermissionDenied, message)
    }

    fn error_name(&self) -> OwnedErrorName {
        // The kinds are plain words, so each makes a valid name: `errors_are_named_by_their_kind` tries them all.
        OwnedErrorName::try_from(error_name(self.kind))
            .unwrap_or_else(|_| ErrorName::from_static_str_unchecked("org.bowline.Error.Internal").into())
    }
}

/// `org.bowline.Error.InvalidInput` for `invalid-input`.
fn error_name(kind: ErrorKind) -> String {
    let mut name = ERROR_PREFIX.to_owned();
    for word in kind.as_str().split('-') {
        let mut letters = word.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}

impl From<ApiError> for MethodError {
    fn from(error: ApiError) -> Self {
        Self { kind: error.kind, message: error.message }
    }
}

impl DBusError for MethodError {
    fn create_reply(&self, call: &Header<'_>) -> zbus::Result<Message> {
        Message::error(call, self.error_name()).build(&(self.message.as_str(),))
    }

    fn name(&self) -> ErrorName<'_> {
        self.error_name().into_inner()
    }

    fn description(&self) -> Option<&str> {
        Some(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_named_by_their_kind() {
        for kind in ErrorKind::ALL {
            let error = MethodError::new(kind, "");
            assert_eq!(error.name().as_str(), format!("org.bowline.Error.{kind:?}"));
        }
    }
}
