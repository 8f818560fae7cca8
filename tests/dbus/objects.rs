//! Objects come, change and go as the agent's things do.

use super::support::{DEADLINE, HELD, Stage, volume_id};
use futures_util::StreamExt;
use std::collections::HashMap;
use tokio::time::timeout;
use zbus::{MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant, message::Type};

async fn signals(stage: &Stage) -> MessageStream {
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender("org.bowline.Agent1")
        .path_namespace("/org/bowline/Agent1")
        .build()
        .unwrap();
    MessageStream::for_match_rule(rule, &stage.client, Some(1024.try_into().unwrap())).await.unwrap()
}

async fn next(stream: &mut MessageStream) -> Message {
    timeout(DEADLINE, stream.next()).await.expect("no signal").unwrap().unwrap()
}

fn member(message: &Message) -> String {
    message.header().member().unwrap().to_string()
}

fn text(value: &OwnedVariant) -> String {
    String::try_from(value.clone()).unwrap()
}

/// Signals up to and with `Finished`.
async fn until_finished(stream: &mut MessageStream) -> Vec<Message> {
    let mut seen = Vec::new();
    loop {
        let message = next(stream).await;
        let last = member(&message) == "Finished";
        seen.push(message);
        if last {
            return seen;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_told_in_order_and_the_end_last() {
    let stage = Stage::new().await;
    let mut stream = signals(&stage).await;
    let path = stage.attach(HELD).await;
    stage.agent.gate.add_permits(3);

    let seen = until_finished(&mut stream).await;
    assert_eq!(member(&seen[0]), "InterfacesAdded");
    let (mut states, mut done, mut attachment_at) = (Vec::new(), vec![0], None);
    for (index, message) in seen.iter().enumerate() {
        if member(message) == "InterfacesAdded" && index > 0 {
            attachment_at = Some(index);
        }
        if member(message) == "PropertiesChanged" && message.header().path().unwrap().as_str() == path {
            let (interface, changed, _): (String, HashMap<String, OwnedVariant>, Vec<String>) =
                message.body().deserialize().unwrap();
            assert_eq!(interface, "org.bowline.Operation1");
            states.extend(changed.get("State").map(text));
            done.extend(changed.get("Progress").map(|value| <(u32, u32)>::try_from(value.clone()).unwrap().0));
        }
    }
    assert_eq!(states.last().map(String::as_str), Some("succeeded"), "{states:?}");
    assert!(done.is_sorted() && done.last() == Some(&3), "{done:?}");
    assert!(attachment_at.is_some(), "the attachment came after the end of the operation that made it");
    let finished: (String, String, String) = seen.last().unwrap().body().deserialize().unwrap();
    assert_eq!(finished, ("succeeded".into(), String::new(), String::new()));

    let properties = stage.properties(&path, "org.bowline.Operation1").await.unwrap();
    assert_eq!(text(&properties["State"]), "succeeded");
    assert_eq!(text(&properties["Volume"]), volume_id(HELD).to_string());
    assert_eq!(u64::try_from(properties["CreatedAt"].clone()).unwrap(), 1_700_000_000_000_000);
    let steps = Vec::<(String, String, u64)>::try_from(properties["Steps"].clone()).unwrap();
    assert_eq!(steps[1], ("ConnectVolume".into(), "succeeded".into(), 41_250));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_told_with_its_cause_and_remedy() {
    let stage = Stage::new().await;
    let mut stream = signals(&stage).await;
    let path = stage.attach("fail-timeout").await;
    let seen = until_finished(&mut stream).await;
    let finished: (String, String, String) = seen.last().unwrap().body().deserialize().unwrap();
    assert_eq!(finished, ("failed".into(), "timeout".into(), "the target said timeout".into()));
    let properties = stage.properties(&path, "org.bowline.Operation1").await.unwrap();
    assert_eq!(text(&properties["ErrorKind"]), "timeout");
    assert_eq!(text(&properties["Remedy"]), "look at the target");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_gets_the_same_object() {
    let stage = Stage::new().await;
    assert_eq!(stage.attach(HELD).await, stage.attach(HELD).await);
    assert_eq!(stage.agent.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn attachments_come_with_attach_and_go_with_detach() {
    let stage = Stage::new().await;
    let mut stream = signals(&stage).await;
    stage.attach("one").await;
    until_finished(&mut stream).await;
    let paths: Vec<OwnedObjectPath> = stage.call("org.bowline.Manager1", "ListAttachments", &()).await.unwrap();
    let properties = stage.properties(paths[0].as_str(), "org.bowline.Attachment1").await.unwrap();
    assert_eq!((text(&properties["Target"]), text(&properties["Serial"])), ("vdb".into(), "S1".into()));
    assert_eq!(Vec::<String>::try_from(properties["Wwids"].clone()).unwrap(), ["naa.6001405"]);

    let _: OwnedObjectPath =
        stage.call("org.bowline.Manager1", "Detach", &("one", "", super::support::Options::new())).await.unwrap();
    let seen = until_finished(&mut stream).await;
    let removed = seen.iter().filter(|message| member(message) == "InterfacesRemoved").any(|message| {
        let (path, interfaces): (OwnedObjectPath, Vec<String>) = message.body().deserialize().unwrap();
        path == paths[0] && interfaces == ["org.bowline.Attachment1"]
    });
    assert!(removed, "the attachment's object stayed");
    assert!(stage.properties(paths[0].as_str(), "org.bowline.Attachment1").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_operation_leaves_the_bus() {
    let stage = Stage::new().await;
    let mut stream = signals(&stage).await;
    let path = stage.attach("one").await;
    until_finished(&mut stream).await;
    stage.agent.forget(path.rsplit('/').next().unwrap().replace('_', "-").parse().unwrap());
    while member(&next(&mut stream).await) != "InterfacesRemoved" {}
    assert!(stage.properties(&path, "org.bowline.Operation1").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_faster_than_the_bus_still_has_all_its_objects_there() {
    let stage = Stage::new().await;
    let mut stream = signals(&stage).await;
    stage.agent.flood(200);
    let mut added = std::collections::HashSet::new();
    while added.len() < 200 {
        let message = next(&mut stream).await;
        if member(&message) == "InterfacesAdded" {
            let (path, _): (OwnedObjectPath, HashMap<String, HashMap<String, OwnedVariant>>) =
                message.body().deserialize().unwrap();
            assert!(added.insert(path), "an object was added twice");
        }
    }
    let listed: Vec<OwnedObjectPath> = stage.call("org.bowline.Manager1", "ListOperations", &()).await.unwrap();
    assert_eq!(listed.len(), 200);
    assert!(listed.iter().all(|path| added.contains(path)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_health_is_one_signal_with_all_that_changed() {
    let stage = Stage::new().await;
    let mut stream = signals(&stage).await;
    stage.attach("one").await;
    until_finished(&mut stream).await;
    stage.agent.lose("one");
    let changed = loop {
        let message = next(&mut stream).await;
        if member(&message) == "PropertiesChanged" {
            let (interface, changed, _): (String, HashMap<String, OwnedVariant>, Vec<String>) =
                message.body().deserialize().unwrap();
            if interface == "org.bowline.Attachment1" {
                break changed;
            }
        }
    };
    assert_eq!(text(&changed["Health"]), "lost");
    assert_eq!(u64::try_from(changed["HealthSince"].clone()).unwrap(), 1_700_000_002_000_000);
    let faults = Vec::<(String, String, u64)>::try_from(changed["Faults"].clone()).unwrap();
    assert_eq!(faults, [("10.0.0.1:3260".into(), "it does not answer".into(), 1_700_000_002_000_000)]);
    let list = stage.bowline(&["list"]).await;
    assert!(list.stdout.contains("lost"), "{list:?}");
    let shown = stage.bowline(&["list", "--json"]).await.json()["attachments"][0]["health"].clone();
    assert_eq!((shown["state"].as_str(), shown["faults"][0]["part"].as_str()), (Some("lost"), Some("10.0.0.1:3260")));
    let id = stage.bowline(&["list", "--json"]).await.json()["attachments"][0]["id"].as_str().unwrap().to_owned();
    let shown = stage.bowline(&["show", &id]).await;
    assert!(shown.stdout.contains("fault       10.0.0.1:3260: it does not answer, since 2023-11-14T"), "{shown:?}");
}
