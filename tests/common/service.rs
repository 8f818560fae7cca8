//! The volume service asked past the agent, for what the agent has no command for.

use std::time::Duration;

use serde_json::Value;

use super::Machine;

/// The service's folder.
pub const STATE: &str = "/var/lib/bowline-backend";
const SERVICE: &str = "http://127.0.0.1:8776";

fn ask(method: &str, path: &str) -> String {
    format!(
        "curl -sS -X {method} -H \"X-Auth-Token: $(cat {STATE}/token)\" -H 'OpenStack-API-Version: volume 3.70' \
         -H 'Content-Type: application/json' {SERVICE}{path}"
    )
}

/// The command that asks the service.
pub fn request(method: &str, path: &str, body: &str) -> String {
    let body = if body.is_empty() { String::new() } else { format!("-d '{body}'") };
    format!("{} --fail-with-body {body}", ask(method, path))
}

/// Asks the service, which must say yes; what it answers.
#[track_caller]
pub fn call(machine: &impl Machine, method: &str, path: &str, body: &str) -> Value {
    let said = machine.ok(&request(method, path, body));
    if said.is_empty() {
        return Value::Null;
    }
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{path}: {said:?}: {error}"))
}

/// Waits until a volume or a snapshot (`/v3/volumes/ID`) is in a status, or is `gone`.
#[track_caller]
pub fn until(machine: &impl Machine, path: &str, status: &str) {
    let look = format!("{} | jq -r 'if .itemNotFound then \"gone\" else .[].status end'", ask("GET", path));
    machine.write("/run/look", &format!("until [ \"$({look})\" = {status} ]; do sleep 0.2; done"));
    let seen = machine.exec_for("bash /run/look", Duration::from_secs(170));
    let why = || machine.exec(&format!("{}; {}", ask("GET", path), ask("GET", "/v3/messages"))).stdout;
    assert_eq!(seen.status, 0, "{path} is not {status}: {} {}", seen.stderr, why());
}

/// Deletes a volume or a snapshot, and waits until it is gone.
#[track_caller]
pub fn delete(machine: &impl Machine, kind: &str, id: &str) {
    call(machine, "DELETE", &format!("/v3/{kind}/{id}"), "");
    until(machine, &format!("/v3/{kind}/{id}"), "gone");
}
