//! Bodies that clients send, checked field by field. The messages name the field, its value and what would do.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::errors::ApiError;
use super::microversion::Microversion;
use crate::domain::{Connector, Refusal};

/// The longest name, key or value the field allows, in characters.
const LONGEST_TEXT: usize = 255;

/// What clients may send beside the object.
const SCHEDULER_HINTS: &str = "OS-SCH-HNT:scheduler_hints";

/// How long a body may take; the largest is some 100 KiB.
pub(super) const BODY_WITHIN: Duration = Duration::from_secs(10);

/// A body that is a JSON object.
pub(super) struct Body(pub(super) Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let read = tokio::time::timeout(BODY_WITHIN, Bytes::from_request(request, state));
        let bytes = read.await.map_err(|_| ApiError::TooSlow)?.map_err(|rejection| match rejection {
            BytesRejection::FailedToBufferBody(inner) if inner.status().as_u16() == 413 => ApiError::TooLarge,
            _ => ApiError::BadRequest("Malformed request body".into()),
        })?;
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(map)) => Ok(Self(map)),
            _ => Err(ApiError::BadRequest("Malformed request body".into())),
        }
    }
}

impl Body {
    /// The object under this one key, which every request wraps itself in.
    pub(super) fn object(mut self, key: &str, version: Microversion) -> Result<Fields, ApiError> {
        let Some(Value::Object(map)) = self.0.remove(key) else {
            return Err(ApiError::BadRequest(format!(
                "Invalid input for field/attribute {key}. '{key}' is a required property"
            )));
        };
        // There is one place for a volume, so hints about it choose nothing.
        self.0.remove(SCHEDULER_HINTS);
        Fields(self.0).finish(version)?;
        Ok(Fields(map))
    }
}

impl From<Body> for Fields {
    fn from(body: Body) -> Self {
        Self(body.0)
    }
}

/// The fields of a request, taken out one by one; what is left at the end is unknown.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Whether the field is there at all.
    pub(super) fn has(&self, field: &str) -> bool {
        self.0.contains_key(field)
    }

    /// A field that is not null.
    fn take(&mut self, field: &str) -> Option<Value> {
        self.0.remove(field).filter(|value| !value.is_null())
    }

    /// Text of at most 255 characters.
    pub(super) fn text(&mut self, field: &str) -> Result<Option<String>, ApiError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(text)) => check_text(field, text).map(Some),
            Some(other) => Err(invalid(field, &other, &format!("{other} is not of type 'string', 'null'"))),
        }
    }

    /// True or false, also in the spellings that command lines send.
    pub(super) fn boolean(&mut self, field: &str) -> Result<Option<bool>, ApiError> {
        let Some(value) = self.take(field) else { return Ok(None) };
        let word = match &value {
            Value::Bool(value) => return Ok(Some(*value)),
            Value::String(word) => word.to_ascii_lowercase(),
            other => other.to_string(),
        };
        match word.as_str() {
            "1" | "t" | "true" | "on" | "y" | "yes" => Ok(Some(true)),
            "0" | "f" | "false" | "off" | "n" | "no" => Ok(Some(false)),
            _ => Err(invalid(field, &value, &format!("{value} is not a boolean"))),
        }
    }

    /// A whole number from 1 to 2147483647, as a number or in digits.
    pub(super) fn size(&mut self, field: &str) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.take(field) else { return Ok(None) };
        let number = match &value {
            Value::Number(number) => number.as_i64(),
            Value::String(digits) => digits.parse().ok(),
            _ => None,
        };
        match number {
            Some(number) if number < 1 => Err(invalid(field, &value, &format!("{number} is less than the minimum of 1"))),
            Some(number) if number > i64::from(i32::MAX) => {
                Err(invalid(field, &value, &format!("{number} is greater than the maximum of {}", i32::MAX)))
            }
            Some(number) => Ok(u64::try_from(number).ok()),
            None => Err(invalid(field, &value, &format!("{value} is not of type 'integer'"))),
        }
    }

    /// What was not taken yet, as it came.
    pub(super) fn rest(self) -> Map<String, Value> {
        self.0
    }

    /// Text that must be there and say something.
    pub(super) fn required_text(&mut self, field: &str) -> Result<String, ApiError> {
        match self.text(field)? {
            Some(text) if !text.trim().is_empty() => Ok(text),
            Some(text) => Err(invalid(field, &Value::String(text), "it must not be empty")),
            None => Err(missing(field)),
        }
    }

    /// An id.
    pub(super) fn uuid(&mut self, field: &str) -> Result<Option<Uuid>, ApiError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(text)) => match Uuid::parse_str(&text) {
                Ok(id) => Ok(Some(id)),
                Err(_) => Err(invalid(field, &Value::String(text.clone()), &format!("'{text}' is not a 'uuid'"))),
            },
            Some(other) => Err(invalid(field, &other, &format!("{other} is not a 'uuid'"))),
        }
    }

    /// Pairs of text.
    pub(super) fn pairs(&mut self, field: &str) -> Result<Option<BTreeMap<String, String>>, ApiError> {
        let Some(value) = self.take(field) else { return Ok(None) };
        let Value::Object(map) = value else {
            return Err(invalid(field, &value, &format!("{value} is not of type 'object'")));
        };
        let mut pairs = BTreeMap::new();
        for (key, value) in map {
            let Value::String(text) = value else {
                return Err(invalid(&key, &value, &format!("{value} is not of type 'string'")));
            };
            if key.is_empty() {
                return Err(invalid(field, &Value::String(text), "a key must not be empty"));
            }
            pairs.insert(check_text(field, key)?, check_text(field, text)?);
        }
        Ok(Some(pairs))
    }

    /// A host's properties. An empty object is none, as clients send it.
    pub(super) fn connector(&mut self, field: &str) -> Result<Option<Connector>, ApiError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Object(map)) if map.is_empty() => Ok(None),
            Some(Value::Object(map)) => {
                Connector::from_properties(map).map(Some).map_err(|lacks| Refusal::ConnectorLacks(lacks).into())
            }
            Some(other) => Err(invalid(field, &other, &format!("{other} is not of type 'object', 'null'"))),
        }
    }

    /// Refuses what this service cannot do rather than ignoring it.
    pub(super) fn refuse(&mut self, fields: &[&str]) -> Result<(), ApiError> {
        for field in fields {
            if let Some(value) = self.take(field) {
                return Err(invalid(field, &value, "this service does not support it"));
            }
        }
        Ok(())
    }

    /// Refuses fields that nobody took, for clients new enough to expect it.
    pub(super) fn finish(self, version: Microversion) -> Result<(), ApiError> {
        self.none_left(version)
    }

    /// The same, by reference.
    pub(super) fn none_left(&self, version: Microversion) -> Result<(), ApiError> {
        match self.0.keys().next() {
            Some(field) if version >= Microversion::STRICT_BODIES => Err(ApiError::BadRequest(format!(
                "Invalid input received: Additional properties are not allowed ('{field}' was unexpected)"
            ))),
            _ => Ok(()),
        }
    }
}

/// Fuzz target: every field of an object read in every way there is. A refusal is the client's fault, and what is taken fits into a row.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_body(data: &[u8]) {
    use axum::response::IntoResponse as _;

    fn taken<T>(read: Result<Option<T>, ApiError>) -> Option<T> {
        read.unwrap_or_else(|error| {
            let status = error.into_response().status();
            assert!(status.is_client_error(), "a body is answered with {status}");
            None
        })
    }
    let Ok(Value::Object(body)) = serde_json::from_slice::<Value>(data) else { return };
    let Some(wrapper) = body.keys().next().cloned() else { return };
    let Ok(Fields(object)) = Body(body).object(&wrapper, Microversion::MAX) else { return };
    for field in object.keys() {
        let fields = || Fields(object.clone());
        let fits = |text: &String| text.chars().count() <= LONGEST_TEXT && !text.contains('\0');
        assert!(taken(fields().text(field)).as_ref().is_none_or(fits), "{field} does not fit");
        assert!(taken(fields().required_text(field).map(Some)).is_none_or(|text| !text.trim().is_empty()));
        assert!(taken(fields().size(field)).is_none_or(|size| (1..=i32::MAX as u64).contains(&size)), "{field} is no size");
        let pairs = taken(fields().pairs(field)).unwrap_or_default();
        assert!(pairs.iter().all(|(key, value)| !key.is_empty() && fits(key) && fits(value)), "{field} does not fit");
        taken(fields().boolean(field));
        taken(fields().uuid(field));
        taken(fields().connector(field));
    }
}

fn check_text(field: &str, text: String) -> Result<String, ApiError> {
    if text.contains('\0') {
        // PostgreSQL has no text with it.
        return Err(ApiError::BadRequest(format!("Invalid input for field/attribute {field}. It has a NUL character in it")));
    }
    if text.chars().count() > LONGEST_TEXT {
        return Err(ApiError::BadRequest(format!(
            "Invalid input for field/attribute {field}. It is longer than {LONGEST_TEXT} characters"
        )));
    }
    Ok(text)
}

/// The field's sentence for a field that is not there.
pub(super) fn missing(field: &str) -> ApiError {
    ApiError::BadRequest(format!("Invalid input for field/attribute {field}. '{field}' is a required property"))
}

/// The field's sentence for a field that will not do.
pub(super) fn invalid(field: &str, value: &Value, why: &str) -> ApiError {
    let shown = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let shown: String = shown.chars().take(LONGEST_TEXT).collect();
    ApiError::BadRequest(format!("Invalid input for field/attribute {field}. Value: {shown}. {why}"))
}
