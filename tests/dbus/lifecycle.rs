//! On the bus and off it again.

use super::support::{Bus, DEADLINE, FakeAgent, Options, Policy, Stage, error_of};
use bowline::{
    agent::dbus::{publish, serve},
    model::ErrorKind,
};
use futures_util::StreamExt;
use std::time::Duration;
use tokio::time::timeout;
use zbus::fdo::DBusProxy;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_is_told_that_the_name_is_taken() {
    let stage = Stage::new().await;
    let error = serve(FakeAgent::new(), Some(&stage.bus.address)).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("another bowlined"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_does_not_give_the_name_is_told_as_a_matter_of_policy() {
    let bus = Bus::start(Policy::AgentUnnameable);
    let error = serve(FakeAgent::new(), Some(&bus.address)).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("org.bowline.Agent1.conf"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_is_not_there_is_named() {
    let error = serve(FakeAgent::new(), Some("unix:path=/nonexistent/bus")).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("/nonexistent/bus"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_name_is_claimed_nobody_gets_through() {
    let bus = Bus::start(Policy::Open);
    let client = bus.connect().await;
    let agent = FakeAgent::new();
    let before = names(&client).await;
    let published = publish(agent.clone(), Some(&bus.address)).await.unwrap();
    let unique = names(&client).await.into_iter().find(|name| !before.contains(name)).expect("the agent's unique name");
    assert!(!names(&client).await.contains(&"org.bowline.Agent1".to_owned()));

    let body = ("one", "guest", Options::new());
    let call = client.call_method(Some(unique.as_str()), "/org/bowline/Agent1", Some("org.bowline.Manager1"), "Attach", &body);
    assert_eq!(error_of(call.await).0, "org.bowline.Error.Unavailable");
    assert_eq!(agent.requests().len(), 0);

    let _served = published.claim_name().await.unwrap();
    assert!(names(&client).await.contains(&"org.bowline.Agent1".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_bus_is_noticed() {
    let mut stage = Stage::new().await;
    assert!(timeout(Duration::from_millis(50), stage.served.closed()).await.is_err(), "the bus is there");
    stage.bus.kill();
    timeout(DEADLINE, stage.served.closed()).await.expect("the loss of the bus went unnoticed");
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_gives_the_name_back() {
    let Stage { bus, client, served, .. } = Stage::new().await;
    served.close().await;
    assert!(!names(&client).await.contains(&"org.bowline.Agent1".to_owned()));
    serve(FakeAgent::new(), Some(&bus.address)).await.map(|_| ()).expect("the name is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_it_leaves_the_bus_too() {
    let Stage { bus: _bus, client, served, .. } = Stage::new().await;
    let proxy = DBusProxy::new(&client).await.unwrap();
    let mut owners = proxy.receive_name_owner_changed_with_args(&[(0, "org.bowline.Agent1")]).await.unwrap();
    drop(served);
    let change = timeout(DEADLINE, owners.next()).await.expect("the name stayed").unwrap();
    assert!(change.args().unwrap().new_owner().is_none());
}

async fn names(client: &zbus::Connection) -> Vec<String> {
    let proxy = DBusProxy::new(client).await.unwrap();
    proxy.list_names().await.unwrap().into_iter().map(|name| name.to_string()).collect()
}
