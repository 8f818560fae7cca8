//! Errors on the bus: named by their kind, telling what was wrong.

use super::support::{Options, Stage, error_of};
use bowline::model::ErrorKind;

const MANAGER: &str = "org.bowline.Manager1";

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_named_by_its_kind() {
    let stage = Stage::new().await;
    for kind in ErrorKind::ALL {
        let volume = format!("refuse-{kind}");
        let outcome = stage.call::<_, zbus::OwnedObjectPath>(MANAGER, "Attach", &(volume, "guest", Options::new())).await;
        assert_eq!(error_of(outcome), (format!("org.bowline.Error.{kind:?}"), format!("refused as {kind}")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_an_argument_is_named_and_nothing_is_taken_up() {
    let stage = Stage::new().await;
    for (key, value) in [("read_only", true.into()), ("read-only", "yes".into()), ("bus", "ide".into())] {
        let options = Options::from([(key, value)]);
        let outcome = stage.call::<_, zbus::OwnedObjectPath>(MANAGER, "Attach", &("one", "guest", options)).await;
        let (name, message) = error_of(outcome);
        assert_eq!(name, "org.bowline.Error.InvalidInput");
        assert!(message.contains(key), "{message}");
    }
    let outcome = stage.call::<_, ()>(MANAGER, "Plan", &("resize", "one", "guest", Options::new())).await;
    assert_eq!(error_of(outcome).0, "org.bowline.Error.InvalidInput");
    let outcome = stage.call::<_, ()>("org.bowline.Volumes1", "Create", &("name", 0u64, Options::new())).await;
    assert_eq!(error_of(outcome).0, "org.bowline.Error.InvalidInput");
    assert_eq!((stage.agent.requests().len(), stage.agent.created().len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_ended_cannot_be_cancelled() {
    let stage = Stage::new().await;
    let ran = stage.bowline(&["attach", "one", "guest", "--json"]).await;
    let id = ran.json()["operation"]["id"].as_str().unwrap().to_owned();
    let ran = stage.bowline(&["cancel", &id, "--json"]).await;
    assert_eq!((ran.code, ran.json_error()["kind"].as_str()), (4, Some("conflict")));
}
