//! What `--json` prints. The shapes are a promise: fields are added, never renamed or taken away.

use super::{error::CliError, view::Operation};
use serde::Serialize;

/// The shapes, as `bowline --help` and the man page tell them.
pub const SHAPES: &str = "\
With --json:
  attach               {\"operation\": OPERATION, \"attachment\": ATTACHMENT or null}
  detach               {\"operation\": OPERATION}
  attach, detach --dry-run
                       {\"plan\": {\"kind\", \"volume\", \"guest\", \"guest_name\", \"steps\": [{\"name\", \"description\"}]}}
  list                 {\"attachments\": [ATTACHMENT]}
  show                 {\"attachment\": ATTACHMENT}, {\"operation\": OPERATION} or {\"volume\": VOLUME}
  operations           {\"operations\": [OPERATION]}
  cancel               {\"cancelling\": ID}
  volume create, show  {\"volume\": VOLUME}
  volume list          {\"volumes\": [VOLUME]}
  volume delete        {\"deleted\": NAME OR ID}
  an error (stderr)    {\"error\": {\"kind\", \"message\", \"remedy\", \"operation\": OPERATION}}, the last two only where there are any

OPERATION   {\"id\", \"kind\": \"attach\" or \"detach\", \"volume\", \"guest\", \"guest_name\",
             \"state\": \"queued\", \"running\", \"unwinding\", \"succeeded\", \"failed\", \"cancelled\" or \"stuck\",
             \"steps\": [{\"name\", \"state\", \"duration_us\"}], \"created_at\", \"duration_us\",
             \"error\": null or {\"kind\", \"message\", \"remedy\"}}
ATTACHMENT  {\"id\", \"volume\", \"guest\", \"guest_name\", \"target\", \"protocol\", \"initiator\", \"device\", \"serial\" or null,
             \"wwids\": [], \"size_bytes\", \"attached_at\"}
VOLUME      {\"id\", \"name\", \"size_gib\", \"status\", \"type\" or null, \"bootable\", \"multiattach\", \"encrypted\",
             \"created_at\", \"attachments\": [{\"id\", \"guest\" or null, \"host\" or null}]}
Times are RFC 3339 in UTC.

Exit codes, each after the error's kind:
  0 done, 1 other, 2 invalid-input, 3 not-found, 4 conflict, 5 permission-denied, 6 authentication-failed, 7 unavailable,
  8 timeout, 9 identity-mismatch, 10 unsupported, 11 guest-refused, 12 cancelled, 13 stuck, 70 internal, 130 interrupted";

/// An error as JSON.
#[derive(Debug, Serialize)]
struct ErrorDocument<'e> {
    error: ErrorBody<'e>,
}

#[derive(Debug, Serialize)]
struct ErrorBody<'e> {
    kind: &'static str,
    message: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    remedy: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'e Operation>,
}

/// `{"error": …}` on one line.
pub fn error_document(error: &CliError) -> String {
    let remedy = error.remedy();
    let document = ErrorDocument {
        error: ErrorBody { kind: error.kind_word(), message: error.to_string(), remedy: &remedy, operation: error.operation() },
    };
    // Strings and numbers under string keys: there is nothing in it that could fail to serialize.
    serde_json::to_string(&document).unwrap_or_default()
}

/// The same for an error of the command line itself, which clap words.
pub fn usage_document(message: &str) -> String {
    serde_json::json!({ "error": { "kind": "invalid-input", "message": message } }).to_string()
}
