//! Long actions on a storage, all cut off in the middle by the death of the service: after its next start each comes to a true end by
//! itself, and nothing is left.

use super::service::{STATE, call, request, until};
use super::{Machine, Site};

/// A storage of the service.
pub struct Storage<'a> {
    /// The backend whose storage it is, and one that volumes are moved to.
    pub backends: [&'a str; 2],
    /// A command that writes a volume's bytes to its standard output, by the id that its storage knows it by.
    pub read: &'a dyn Fn(&str) -> String,
}

/// Where the image is that volumes are made from, and its size.
const BYTES: &str = "/run/bytes";
const MIB: u64 = 24;

/// Makes, copies, enlarges, reverts, backs up, restores, moves and removes volumes, and kills the service in the middle of each.
#[track_caller]
pub fn every_long_action_survives_a_kill<M: Machine>(site: &Site<'_, M>, storage: &Storage<'_>) {
    let machine = site.machine;
    let types = storage.backends.map(|backend| {
        let name = format!("cut-{backend}");
        let specs = format!("{{\"volume_backend_name\": \"{backend}\"}}");
        let body = format!("{{\"volume_type\": {{\"name\": \"{name}\", \"extra_specs\": {specs}}}}}");
        call(machine, "POST", "/v3/types", &body);
        name
    });
    machine.ok(&format!("head -c {MIB}M /dev/urandom >{BYTES}"));
    let wanted = machine.ok(&format!("sha256sum <{BYTES}"));
    let body = "{\"name\": \"bytes\", \"disk_format\": \"raw\", \"container_format\": \"bare\"}";
    let image = call(machine, "POST", "/image/v2/images", body)["id"].as_str().unwrap().to_owned();
    machine.ok(&format!(
        "curl -sS --fail-with-body -T {BYTES} -H \"X-Auth-Token: $(cat {STATE}/token)\" \
         -H 'Content-Type: application/octet-stream' http://127.0.0.1:8776/image/v2/images/{image}/file"
    ));
    let has_bytes = |volume: &str| {
        let shown = call(machine, "GET", &format!("/v3/volumes/{volume}"), "");
        let id = shown["volume"]["os-vol-mig-status-attr:name_id"].as_str().unwrap_or(volume);
        assert_eq!(machine.ok(&format!("( {} ) | head -c {MIB}M | sha256sum", (storage.read)(id))), wanted, "{shown}");
    };
    let volume = |fields: &str| {
        let body = format!("{{\"volume\": {{\"size\": 1, \"volume_type\": \"{}\", {fields}}}}}", types[0]);
        request("POST", "/v3/volumes", &body)
    };
    let act = |id: &str, action: &str| request("POST", &format!("/v3/volumes/{id}/action"), action);
    let made = |said: &str, kind: &str| {
        let said: serde_json::Value = serde_json::from_str(said).unwrap_or_else(|error| panic!("{said}: {error}"));
        said[kind]["id"].as_str().unwrap_or_else(|| panic!("{said}")).to_owned()
    };
    let available = |kind: &str, id: &str| until(machine, &format!("/v3/{kind}/{id}"), "available");

    let said = site.kill_service_in(&[volume(&format!("\"imageRef\": \"{image}\"")), volume("\"name\": \"empty\"")]);
    let (first, empty) = (made(&said[0], "volume"), made(&said[1], "volume"));
    available("volumes", &first);
    available("volumes", &empty);
    has_bytes(&first);

    let body = format!("{{\"snapshot\": {{\"volume_id\": \"{first}\"}}}}");
    let said = site.kill_service_in(&[
        request("POST", "/v3/snapshots", &body),
        volume(&format!("\"source_volid\": \"{first}\"")),
        act(&empty, "{\"os-extend\": {\"new_size\": 2}}"),
    ]);
    let (snapshot, copy) = (made(&said[0], "snapshot"), made(&said[1], "volume"));
    available("snapshots", &snapshot);
    available("volumes", &copy);
    available("volumes", &empty);
    assert_eq!(call(machine, "GET", &format!("/v3/volumes/{empty}"), "")["volume"]["size"], 2);

    let body = format!("{{\"backup\": {{\"volume_id\": \"{copy}\"}}}}");
    let retype = |to: &str| format!("{{\"os-retype\": {{\"new_type\": \"{to}\", \"migration_policy\": \"on-demand\"}}}}");
    let said = site.kill_service_in(&[
        request("POST", "/v3/backups", &body),
        act(&empty, &retype(&types[1])),
        act(&first, &format!("{{\"revert\": {{\"snapshot_id\": \"{snapshot}\"}}}}")),
    ]);
    let backup = made(&said[0], "backup");
    available("backups", &backup);
    available("volumes", &empty);
    available("volumes", &first);
    has_bytes(&first);
    let shown = call(machine, "GET", &format!("/v3/volumes/{empty}"), "");
    assert_eq!(shown["volume"]["volume_type"], types[1], "it moved: {shown}");

    let body = format!("{{\"restore\": {{\"volume_id\": \"{copy}\"}}}}");
    site.kill_service_in(&[
        request("POST", &format!("/v3/backups/{backup}/restore"), &body),
        request("DELETE", &format!("/v3/snapshots/{snapshot}"), ""),
        act(&empty, &retype(&types[0])),
    ]);
    available("volumes", &copy);
    has_bytes(&copy);
    until(machine, &format!("/v3/snapshots/{snapshot}"), "gone");
    available("volumes", &empty);

    site.kill_service_in(&[act(&first, &retype(&types[1]))]);
    available("volumes", &first);
    has_bytes(&first);

    let all = [&first, &copy, &empty];
    let mut going: Vec<String> = all.iter().map(|id| request("DELETE", &format!("/v3/volumes/{id}"), "")).collect();
    going.push(request("DELETE", &format!("/v3/backups/{backup}"), ""));
    site.kill_service_in(&going);
    for id in all {
        until(machine, &format!("/v3/volumes/{id}"), "gone");
    }
    until(machine, &format!("/v3/backups/{backup}"), "gone");
    let audit = machine.exec("bowline-backend audit --json --config /etc/bowline/backend.toml");
    assert_eq!(audit.status, 0, "something is left: {audit:?}");
}
