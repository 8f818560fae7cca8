//! What `bowline` says and returns when it does not go well.

use super::support::{Bus, FakeAgent, Policy, Stage, bowline, run};
use bowline::{agent::dbus::serve, model::ErrorKind};

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_is_the_kinds_whether_refused_or_failed() {
    let stage = Stage::new().await;
    for kind in ErrorKind::ALL {
        for how in ["refuse", "fail"] {
            let ran = stage.bowline(&["attach", &format!("{how}-{kind}"), "guest", "--json"]).await;
            assert_eq!((ran.code, ran.json_error()["kind"].as_str()), (kind.exit_code().into(), Some(kind.as_str())), "{how}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_tells_the_cause_what_was_undone_and_what_to_do() {
    let stage = Stage::new().await;
    let ran = stage.bowline(&["attach", "fail-timeout", "guest"]).await;
    assert_eq!(ran.code, 8);
    assert!(ran.stdout.contains("  ConnectVolume           3.1 ms  failed\n"), "{ran:?}");
    for word in ["failed: the target said timeout", "undone: CreateAttachment", "what to do: look at the target"] {
        assert!(ran.stderr.contains(word), "{word}: {ran:?}");
    }
    let error = stage.bowline(&["attach", "fail-timeout", "guest", "--json"]).await.json_error();
    assert_eq!((&error["remedy"], &error["operation"]["state"]), (&"look at the target".into(), &"failed".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_operation_tells_what_is_left() {
    let stage = Stage::new().await;
    let ran = stage.bowline(&["attach", "fail-stuck", "guest"]).await;
    assert_eq!(ran.code, 13);
    assert!(ran.stderr.contains("is stuck") && ran.stderr.contains("left as it is: CreateAttachment"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_not_running_is_told_with_how_to_start_it() {
    let bus = Bus::start(Policy::Open);
    for arguments in [vec!["list"], vec!["attach", "one", "guest"], vec!["volume", "list"]] {
        let ran = run(bowline(&bus, &arguments)).await;
        assert_eq!(ran.code, 7, "{ran:?}");
        assert!(ran.stderr.contains("not running") && ran.stderr.contains("systemctl start bowlined"), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_is_not_there_is_named() {
    let bus = Bus::start(Policy::Open);
    let ran = run(bowline(&bus, &["list", "--bus-address", "unix:path=/nonexistent/bus", "--json"])).await;
    assert_eq!((ran.code, ran.json_error()["kind"].as_str()), (7, Some("unavailable")));
    assert!(ran.stderr.contains("/nonexistent/bus"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_policy_that_forbids_it_is_a_matter_of_permission() {
    let bus = Bus::start(Policy::AgentOutOfReach);
    let _served = serve(FakeAgent::new(), Some(&bus.address)).await.unwrap();
    let ran = run(bowline(&bus, &["list", "--json"])).await;
    assert_eq!((ran.code, ran.json_error()["kind"].as_str()), (5, Some("permission-denied")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_not_found() {
    let stage = Stage::new().await;
    let unknown = "94333fbd-2aab-4a5a-befd-e30c2f7377fd";
    for arguments in [
        vec!["attach", "absent", "guest"],
        vec!["show", unknown],
        vec!["cancel", unknown],
        vec!["cancel", "x/../y"],
        vec!["volume", "delete", "absent"],
    ] {
        let arguments = [arguments, vec!["--json"]].concat();
        let ran = stage.bowline(&arguments).await;
        assert_eq!((ran.code, ran.json_error()["kind"].as_str()), (3, Some("not-found")), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_line_that_makes_no_sense_is_invalid_input() {
    let bus = Bus::start(Policy::Open);
    for arguments in [
        vec!["attach", "one"],
        vec!["attach", "one", "guest", "--bus", "ide"],
        vec!["attach", "one", "guest", "--dry-run", "--no-wait"],
        vec!["volume", "create", "x", "--size", "0"],
        vec!["frobnicate"],
    ] {
        let arguments = [arguments, vec!["--json"]].concat();
        let ran = run(bowline(&bus, &arguments)).await;
        assert_eq!((ran.code, ran.json_error()["kind"].as_str()), (2, Some("invalid-input")), "{arguments:?}");
    }
}
