//! A disk that is full: what cannot be kept is refused, and what was accepted is there.

use crate::common::Service;
use serde_json::json;

/// Room for the database and a few dozen writes in its log.
const LARGEST_FILE_BYTES: u64 = 640 << 10;

#[tokio::test]
async fn a_volume_that_could_not_be_recorded_is_refused_and_those_accepted_are_there() {
    let mut service = Service::prepare();
    // A server's disk is its own.
    service.database = None;
    service.largest_file_bytes = Some(LARGEST_FILE_BYTES);
    service.start_again();
    let mut accepted = Vec::new();
    let mut refused = 0;
    for n in 0..200 {
        let made = service.post("/volumes", json!({ "volume": { "size": 1, "name": format!("v{n}") } })).await;
        match made.status.as_u16() {
            202 => accepted.push(made.body["volume"]["id"].as_str().unwrap().to_owned()),
            500 => refused += 1,
            other => assert_eq!(other, 202, "{made:?}"),
        }
    }
    assert!(refused > 0, "the limit is too large for this test");
    service.kill();
    service.largest_file_bytes = None;
    service.start_again();
    for id in &accepted {
        let shown = service.get(&format!("/volumes/{id}")).await;
        assert_eq!(shown.status, 200, "{id} was accepted and is lost: {shown:?}");
    }
    service.volume(json!({})).await;
}
