//! Who gets through: root, and whom polkit lets.

use super::support::{Bus, FakeAgent, FakePolkit, Policy, Ran, Verdict, am_root, bowline, bowline_as_nobody, run};
use bowline::agent::api::AgentApi as _;
use bowline::agent::dbus::{Served, serve};
use std::sync::Arc;

async fn stage() -> (Bus, Arc<FakeAgent>, Served) {
    let bus = Bus::start(Policy::Open);
    let agent = FakeAgent::new();
    let served = serve(agent.clone(), Some(&bus.address)).await.unwrap();
    (bus, agent, served)
}

#[track_caller]
fn assert_denied(ran: &Ran, word: &str) {
    let error = ran.json_error();
    assert_eq!((ran.code, error["kind"].as_str()), (5, Some("permission-denied")), "{ran:?}");
    assert!(error["message"].as_str().unwrap().contains(word), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_polkit_only_root_gets_through() {
    let (bus, agent, _served) = stage().await;
    for arguments in [
        vec!["attach", "one", "guest"],
        vec!["attach", "one", "guest", "--dry-run"],
        vec!["detach", "one"],
        vec!["volume", "list"],
        vec!["volume", "show", "one"],
        vec!["volume", "create", "x", "--size", "1"],
        vec!["volume", "delete", "one"],
        vec!["extend", "one", "2"],
        vec!["boot", "guest", "--volume", "one"],
        vec!["delete", "guest"],
        vec!["start", "guest"],
        vec!["stop", "guest", "--force"],
    ] {
        let arguments = [arguments, vec!["--json"]].concat();
        assert_denied(&run(bowline_as_nobody(&bus, &arguments)).await, "polkit is not running");
    }
    assert_eq!((agent.requests().len(), agent.created().len()), (0, 0));
    let ran = run(bowline(&bus, &["attach", "one", "guest", "--json"])).await;
    assert_eq!(ran.code, if am_root() { 0 } else { 5 }, "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_cannot_be_cancelled_by_just_anybody() {
    let (bus, agent, _served) = stage().await;
    let polkit = FakePolkit::start(&bus, Verdict::Authorized).await;
    let ran = run(bowline(&bus, &["attach", super::support::HELD, "guest", "--no-wait", "--json"])).await;
    let id = ran.json()["operation"]["id"].as_str().unwrap().to_owned();
    polkit.leave().await;
    assert_denied(&run(bowline_as_nobody(&bus, &["cancel", &id, "--json"])).await, "only root");
    assert_eq!(agent.cancels(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn polkit_decides_about_everybody_else() {
    let (bus, agent, _served) = stage().await;
    let arguments = ["attach", "one", "guest", "--json"];

    let polkit = FakePolkit::start(&bus, Verdict::Refused).await;
    assert_denied(&run(bowline_as_nobody(&bus, &arguments)).await, "org.bowline.agent1.attach");
    let asked = polkit.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].0.starts_with(':'), "polkit must be asked about the unique name: {asked:?}");
    assert_eq!((asked[0].1.as_str(), asked[0].2), ("org.bowline.agent1.attach", 0), "nobody is there to be prompted");
    polkit.leave().await;

    let polkit = FakePolkit::start(&bus, Verdict::Challenge).await;
    assert_denied(&run(bowline_as_nobody(&bus, &arguments)).await, "authenticate");
    polkit.leave().await;
    assert_eq!(agent.requests().len(), 0);

    let _polkit = FakePolkit::start(&bus, Verdict::Authorized).await;
    let ran = run(bowline_as_nobody(&bus, &arguments)).await;
    assert_eq!(ran.json()["operation"]["state"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_method_has_its_action() {
    let (bus, agent, _served) = stage().await;
    let polkit = FakePolkit::start(&bus, Verdict::Authorized).await;
    run(bowline(&bus, &["attach", "fail-stuck", "guest", "--json"])).await;
    let stuck = agent.operations()[0].id.to_string();
    polkit.leave().await;
    let polkit = FakePolkit::start(&bus, Verdict::Refused).await;
    for (arguments, action) in [
        (vec!["attach", "one", "guest"], "attach"),
        (vec!["detach", "one"], "detach"),
        (vec!["attach", "one", "guest", "--dry-run"], "list"),
        (vec!["volume", "list"], "list"),
        (vec!["volume", "show", "one"], "list"),
        (vec!["volume", "create", "x", "--size", "1"], "manage-volumes"),
        (vec!["volume", "delete", "one"], "manage-volumes"),
        (vec!["extend", "one", "2"], "manage-volumes"),
        (vec!["extend", "one", "2", "--dry-run"], "list"),
        (vec!["boot", "guest", "--volume", "one"], "boot"),
        (vec!["boot", "guest", "--image", "one", "--memory", "96"], "boot"),
        (vec!["boot", "guest", "--image", "one", "--xml", "/dev/null"], "define-guest"),
        (vec!["boot", "guest", "--image", "one", "--dry-run"], "list"),
        (vec!["delete", "guest"], "boot"),
        (vec!["rebuild", "guest", "--image", "one"], "boot"),
        (vec!["rescue", "guest", "--image", "one"], "boot"),
        (vec!["unrescue", "guest"], "boot"),
        (vec!["rebuild", "guest", "--image", "one", "--dry-run"], "list"),
        (vec!["start", "guest"], "power"),
        (vec!["stop", "guest"], "power"),
        (vec!["abandon", &stuck, "--yes"], "abandon"),
        (vec!["fsck"], "list"),
        (vec!["fsck", "--repair"], "repair"),
    ] {
        let ran = run(bowline_as_nobody(&bus, &arguments)).await;
        assert_eq!(ran.code, 5, "{ran:?}");
        let asked = polkit.asked.lock().unwrap().last().unwrap().1.clone();
        assert_eq!(asked, format!("org.bowline.agent1.{action}"));
    }
}
