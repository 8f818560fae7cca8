//! Reads the connection info of an attachment into the model's types, trusting nothing.
//!
//! Two forms exist: attachments answer with everything on one level beside `driver_volume_type`; the older
//! `os-initialize_connection` nests it as `{"driver_volume_type": …, "data": {…}}`. Keys are those that Cinder's drivers
//! write and os-brick reads. Names that later become a file name, an argument or a line of a configuration file are held to
//! narrow alphabets here, at the edge.

mod iscsi;
mod nfs;
mod rbd;
#[cfg(test)]
mod tests;

use crate::model::{ConnectionInfo, Portal};
use serde_json::{Map, Value};

/// More paths than any array has; a bound on what a broken service can make the host try.
const PATHS_MAX: usize = 128;
/// A key of connection info that cannot be used. Carries no value: values may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` {problem}")]
pub struct ConnectionInfoError {
    /// The key as the service spells it.
    pub key: &'static str,
    /// What is wrong with its value.
    pub problem: &'static str,
}

type Fields = Map<String, Value>;
type Parsed<T> = Result<T, ConnectionInfoError>;

fn bad<T>(key: &'static str, problem: &'static str) -> Parsed<T> {
    Err(ConnectionInfoError { key, problem })
}

/// Reads connection info; `None` when the service has none yet (`{}` or `null`).
pub(super) fn parse(value: Value) -> Parsed<Option<ConnectionInfo>> {
    let mut fields = match value {
        Value::Null => return Ok(None),
        Value::Object(fields) if fields.is_empty() => return Ok(None),
        Value::Object(fields) => fields,
        _ => return bad("connection_info", "is not an object"),
    };
    let Some(protocol) = text(&mut fields, "driver_volume_type")? else {
        return bad("driver_volume_type", "is missing");
    };
    match fields.remove("data") {
        Some(Value::Object(data)) => fields = data,
        None | Some(Value::Null) => {}
        Some(_) => return bad("data", "is not an object"),
    }
    match protocol.as_str() {
        "iscsi" => iscsi::iscsi(fields).map(|connection| Some(ConnectionInfo::Iscsi(connection))),
        "rbd" => rbd::rbd(fields).map(|connection| Some(ConnectionInfo::Rbd(connection))),
        "nfs" => nfs::nfs(fields).map(|connection| Some(ConnectionInfo::Nfs(connection))),
        word if word.len() <= 64 && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')) => {
            Ok(Some(ConnectionInfo::Unsupported { driver_volume_type: protocol }))
        }
        _ => bad("driver_volume_type", "is not a plain word"),
    }
}

fn read_only(fields: &mut Fields) -> Parsed<bool> {
    match text(fields, "access_mode")?.as_deref() {
        None | Some("rw" | "null") => Ok(false),
        Some("ro") => Ok(true),
        Some(_) => bad("access_mode", "is neither rw nor ro"),
    }
}

/// Takes a text out, so that a secret one is not copied.
fn text(fields: &mut Fields, key: &'static str) -> Parsed<Option<String>> {
    match fields.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(value)) => Ok(Some(value)),
        Some(_) => bad(key, "is not a text"),
    }
}

fn list(fields: &mut Fields, key: &'static str) -> Parsed<Vec<Value>> {
    match fields.remove(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) => Ok(values),
        Some(_) => bad(key, "is not a list"),
    }
}

fn flag(fields: &Fields, key: &'static str) -> Parsed<bool> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(Value::String(value)) if value.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(value)) if value.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => bad(key, "is neither true nor false"),
    }
}

fn read_portal(key: &'static str, value: &str) -> Parsed<Portal> {
    value.parse().map_err(|_| ConnectionInfoError { key, problem: "is not HOST:PORT" })
}
