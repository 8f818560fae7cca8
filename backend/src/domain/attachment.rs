//! An attachment: one holder of a volume, the host it is for, and the account that host logs in with.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::statuses::{AttachMode, AttachStatus};
use crate::secret::{Secret, random_alphanumeric};

/// One attachment.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// Its id.
    pub id: Uuid,
    /// The volume it holds.
    pub volume_id: Uuid,
    /// The guest it is for, as the client named it.
    pub instance_id: Option<Uuid>,
    /// Where it is in its life.
    pub status: AttachStatus,
    /// What the host may do.
    pub mode: AttachMode,
    /// The project of its volume.
    pub project_id: String,
    /// The host, once known.
    pub connector: Option<Connector>,
    /// What the host is told, but for secrets, once its volume is shown to it.
    pub connection: Option<Map<String, Value>>,
    /// The account the host logs in with, once it is known.
    pub chap: Option<ChapAccount>,
    /// When it was asked for, microseconds since the epoch.
    pub created_at_us: i64,
    /// When the host said it had connected, microseconds since the epoch.
    pub attached_at_us: Option<i64>,
    /// Who said that it would be heard of, where somebody did.
    pub lease: Option<Lease>,
}

/// The word of an attachment's host that it will be heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The host, by its own name.
    pub host: String,
    /// Until when it may be silent, microseconds since the epoch.
    pub until_us: i64,
    /// Since when it is known to have been silent for longer, microseconds since the epoch.
    pub lost_at_us: Option<i64>,
}

impl Attachment {
    /// The initiator that may log in for this attachment.
    pub fn initiator(&self) -> Option<&str> {
        self.connector.as_ref().and_then(Connector::initiator)
    }
}

/// The host's properties as it sent them. One that has no `initiator` cannot log in to a target, but get at storage itself; it has a
/// `host` then.
#[derive(Clone, Debug, PartialEq)]
pub struct Connector {
    properties: Map<String, Value>,
    initiator: Option<String>,
}

impl Connector {
    /// Takes the properties as sent; refused, with the missing or wrong property's name, where no storage could do anything with
    /// them.
    pub fn from_properties(properties: Map<String, Value>) -> Result<Self, &'static str> {
        let text = |key: &str| properties.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let initiator = match properties.get("initiator") {
            Some(Value::String(name)) if is_iscsi_name(name) => Some(name.clone()),
            None | Some(Value::Null) if text("host").is_some() => None,
            _ => return Err("initiator"),
        };
        Ok(Self { properties, initiator })
    }

    /// The initiator's iSCSI name.
    pub fn initiator(&self) -> Option<&str> {
        self.initiator.as_deref()
    }

    /// Whether this is the same host: by its initiator, and by its name where neither has one.
    pub fn is_same_host(&self, other: &Self) -> bool {
        match (self.initiator(), other.initiator()) {
            (None, None) => self.text("host") == other.text("host"),
            (one, another) => one == another,
        }
    }

    /// Everything the host sent.
    pub fn properties(&self) -> &Map<String, Value> {
        &self.properties
    }

    /// A property that is text, such as `host` or `mountpoint`.
    pub fn text(&self, property: &str) -> Option<&str> {
        self.properties.get(property).and_then(Value::as_str)
    }

    /// A property that is yes or no, such as `multipath`; no where it is absent.
    pub fn flag(&self, property: &str) -> bool {
        self.properties.get(property).and_then(Value::as_bool).unwrap_or(false)
    }
}

/// iSCSI names are at most 223 bytes of letters, digits, `-`, `.` and `:` (RFC 3720, 3.2.6). The target daemon
/// separates its parameters by commas, so anything else must not reach it.
fn is_iscsi_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 223
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':' | b'_'))
}

/// A CHAP user and its password, or, where the storage made one for the attachment alone, its user there and that user's key.
#[derive(Clone, Debug, PartialEq)]
pub struct ChapAccount {
    /// 20 letters and digits for CHAP.
    pub username: String,
    /// 16 letters and digits for CHAP: within the 12 to 16 bytes every initiator takes.
    pub password: Secret,
}

impl ChapAccount {
    /// An account nobody can guess.
    pub fn random() -> Self {
        Self { username: random_alphanumeric(20), password: Secret::random(16) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn connector(value: Value) -> Result<Connector, &'static str> {
        match value {
            Value::Object(map) => Connector::from_properties(map),
            _ => unreachable!("the test gives objects"),
        }
    }

    #[test]
    fn a_connector_names_an_initiator_that_the_target_can_take_or_its_host() {
        let a = connector(json!({"initiator": "iqn.2016-04.com.open-iscsi:a", "host": "a"})).unwrap();
        assert_eq!(a.initiator(), Some("iqn.2016-04.com.open-iscsi:a"));
        for wrong in [
            json!({}),
            json!({"initiator": null, "host": ""}),
            json!({"initiator": "", "host": "a"}),
            json!({"initiator": "iqn.x,password=y", "host": "a"}),
        ] {
            assert_eq!(connector(wrong).unwrap_err(), "initiator");
        }
        let without = |host: &str| connector(json!({"initiator": null, "host": host})).unwrap();
        assert!(without("a").is_same_host(&without("a")) && !without("a").is_same_host(&without("b")));
        assert!(!without("a").is_same_host(&a) && a.is_same_host(&a));
    }
}
