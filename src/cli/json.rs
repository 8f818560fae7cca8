//! What `--json` prints. The shapes are a promise: fields are added, never renamed or taken away.

use super::{error::CliError, view::Operation};
use serde::Serialize;

/// The shapes, as `bowline --help` and the man page tell them.
///
/// Each line begins with a blank and is short, so that neither a terminal nor man breaks it or runs it into the next.
pub const SHAPES: &str = "\
JSON:
  attach              {\"operation\": OPERATION,
                       \"attachment\": ATTACHMENT or null}
  detach, extend,
  boot, delete,
  snapshot            {\"operation\": OPERATION}
  --dry-run           {\"plan\": PLAN}
  list                {\"attachments\": [ATTACHMENT]}
  show                {\"attachment\": ATTACHMENT},
                      {\"operation\": OPERATION} or
                      {\"volume\": VOLUME}
  operations          {\"operations\": [OPERATION]}
  cancel              {\"cancelling\": ID}
  abandon             {\"operation\": OPERATION}
  doctor              {\"findings\": [FINDING]}
  fsck                {\"differences\": [DIFFERENCE]}
  volume create       {\"volume\": VOLUME}
  volume list         {\"volumes\": [VOLUME]}
  volume show         {\"volume\": VOLUME}
  volume delete       {\"deleted\": NAME OR ID}
  errors (stderr)     {\"error\": {\"kind\", \"message\", \"remedy\",
                       \"operation\": OPERATION}}
                      (the last two only where there are any)

  OPERATION   {\"id\", \"kind\", \"volume\", \"guest\", \"guest_name\",
               \"state\", \"steps\": [STEP], \"created_at\",
               \"duration_us\", \"error\": null or
               {\"kind\", \"message\", \"remedy\"},
               \"image\" or null, \"disks\":
               [{\"disk\", \"done\", \"total\"}]}
    kind      attach, detach, extend, boot, delete, rebuild,
              start, stop, snapshot or fill
    volume    empty for a boot, a delete and a snapshot
    image     of a snapshot, the image that it makes
    disks     how far the step under way is, in bytes
    guest     empty for an extend of what no guest has
    state     queued, running, unwinding, succeeded, failed,
              cancelled, stuck or abandoned
  STEP        {\"name\", \"state\", \"duration_us\"}
    state     pending, started, succeeded, failed or undone
  PLAN        {\"kind\", \"volume\", \"guest\", \"guest_name\",
               \"steps\": [{\"name\", \"description\"}]}
  ATTACHMENT  {\"id\", \"volume\", \"guest\", \"guest_name\",
               \"target\", \"protocol\", \"initiator\", \"device\",
               \"serial\" or null, \"wwids\": [TEXT],
               \"size_bytes\", \"tag\" or null,
               \"encryption\" or null, \"attached_at\", \"health\":
               {\"state\", \"since\" or null, \"faults\":
               [{\"part\", \"problem\", \"since\"}]} or null}
    state     healthy, degraded, lost or unknown
  FINDING     {\"area\", \"check\", \"verdict\", \"message\",
               \"remedy\"}
    verdict   ok, unknown, warning or failure
  DIFFERENCE  {\"area\", \"volume\" or null, \"guest\" or null,
               \"found\", \"meaning\", \"remedy\", \"mending\"}
    area      guest, host, service, libvirt or operation
    mending   by-hand, possible, done, failed or foreign
  VOLUME      {\"id\", \"name\", \"size_gib\", \"status\",
               \"type\" or null, \"bootable\", \"multiattach\",
               \"encrypted\", \"created_at\", \"attachments\":
               [{\"id\", \"guest\" or null, \"host\" or null}]}
  The agent's times are RFC 3339 in UTC.

Exit codes (the kind of the error):
   0  done                    8  timeout
   1  other                   9  identity-mismatch
   2  invalid-input          10  unsupported
   3  not-found              11  guest-refused
   4  conflict               12  cancelled
   5  permission-denied      13  stuck
   6  authentication-failed  70  internal
   7  unavailable           130  interrupted by Ctrl-C
                            141  standard output was closed";

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
