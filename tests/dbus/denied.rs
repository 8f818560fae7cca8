//! Every method there is, as the live objects tell, called by a user whom polkit gives nothing: each is denied, and polkit was asked
//! for the action that the method's own description names. A new method is in this by being there.
//!
//! The bus writes the sender into a message, whatever a client puts there: that polkit is asked about the caller's own unique name is
//! what keeps a forged one out.

use super::support::{Bus, FakeAgent, FakePolkit, NOBODY, Policy, Verdict, bowline, call, run};
use bowline::agent::{
    api::AgentApi as _,
    dbus::{WELL_KNOWN_NAME, serve},
};
use std::collections::BTreeSet;
use tokio::process::Command;

/// A method of an object, with its description.
struct Method {
    path: String,
    interface: String,
    name: String,
    /// Types of its arguments, in D-Bus's letters.
    takes: Vec<String>,
    /// The actions that its description names.
    actions: Vec<String>,
}

/// The value of an attribute in a tag.
fn attribute<'x>(tag: &'x str, name: &str) -> Option<&'x str> {
    tag.split(&format!("{name}=\"")).nth(1)?.split('"').next()
}

fn methods(path: &str, xml: &str) -> Vec<Method> {
    let mut found = vec![];
    // What is below the object comes after its own.
    let own = xml.split("<node name=").next().unwrap();
    for interface in own.split("<interface ").skip(1) {
        let name = attribute(interface, "name").unwrap();
        let body = interface.split("</interface>").next().unwrap();
        if !name.starts_with("org.bowline.") {
            continue;
        }
        let mut described = "";
        for (number, part) in body.split("<method ").enumerate() {
            if number > 0 {
                let own = part.split("</method>").next().unwrap();
                let inputs = own.split("<arg ").skip(1).filter(|arg| attribute(arg, "direction") == Some("in"));
                let words = described.split_whitespace().collect::<Vec<_>>().join(" ");
                let actions = words.split("org.bowline.agent1.").skip(1);
                let is_of_id = |c: char| c.is_ascii_lowercase() || c == '-';
                found.push(Method {
                    path: path.to_owned(),
                    interface: name.to_owned(),
                    name: attribute(own, "name").unwrap().to_owned(),
                    takes: inputs.map(|arg| attribute(arg, "type").unwrap().to_owned()).collect(),
                    actions: actions
                        .map(|rest| format!("org.bowline.agent1.{}", rest.split(|c| !is_of_id(c)).next().unwrap()))
                        .collect(),
                });
            }
            // What stands before the next method is its description.
            described = part.rsplit("<!--").next().filter(|_| part.contains("<!--")).unwrap_or_default();
        }
    }
    found
}

/// Calls it with arguments that mean nothing; `yes`: those that say yes or no say yes.
async fn called_by_nobody(bus: &Bus, method: &Method, yes: bool) -> String {
    let mut command = Command::new("busctl");
    command.arg(format!("--address={}", bus.address)).args([
        "call",
        WELL_KNOWN_NAME,
        &method.path,
        &method.interface,
        &method.name,
    ]);
    if !method.takes.is_empty() {
        command.arg(method.takes.concat());
        for kind in &method.takes {
            command.arg(match kind.as_str() {
                "s" => "one",
                "b" if yes => "true",
                "b" => "false",
                "t" | "u" => "1",
                "a{sv}" => "0",
                other => panic!("an argument of type {other}: say here how it is called"),
            });
        }
    }
    if super::support::am_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().await.unwrap();
    assert!(!output.status.success(), "{} was let through: {output:?}", method.name);
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_method_that_is_there_is_denied_by_the_action_it_names() {
    let bus = Bus::start(Policy::Open);
    let agent = FakeAgent::new();
    let _served = serve(agent.clone(), Some(&bus.address)).await.unwrap();
    let client = bus.connect().await;
    let polkit = FakePolkit::start(&bus, Verdict::Authorized).await;
    run(bowline(&bus, &["attach", "one", "guest"])).await.succeeded();
    polkit.leave().await;
    let before = (agent.operations().len(), agent.attachments().len(), agent.requests().len(), agent.created().len());

    let root = "/org/bowline/Agent1".to_owned();
    let operation = format!("{root}/operations/{}", agent.operations()[0].id.to_string().replace('-', "_"));
    let attachment = format!("{root}/attachments/{}", agent.attachments()[0].id.to_string().replace('-', "_"));
    let mut all = vec![];
    for path in [&root, &operation, &attachment] {
        let xml: String = call(&client, path, "org.freedesktop.DBus.Introspectable", "Introspect", &()).await.unwrap();
        all.extend(methods(path, &xml));
    }
    let names: BTreeSet<_> = all.iter().map(|method| method.name.as_str()).collect();
    assert!(["Attach", "Adopt", "Cancel", "Create", "Check"].iter().all(|name| names.contains(name)), "{names:?}");

    let polkit = FakePolkit::start(&bus, Verdict::Refused).await;
    for method in &all {
        let name = &method.name;
        assert!(!method.actions.is_empty(), "the description of {name} names no polkit action");
        for yes in [false, true] {
            polkit.asked.lock().unwrap().clear();
            let said = called_by_nobody(&bus, method, yes).await;
            assert!(said.contains("does not allow"), "{name}: {said}");
            let asked = polkit.asked.lock().unwrap().clone();
            // Of two, the second is for the caller who says yes.
            let wanted = if yes { method.actions.last() } else { method.actions.first() };
            assert_eq!(asked.iter().map(|asked| Some(&asked.1)).collect::<Vec<_>>(), [wanted], "{name}");
            assert!(asked[0].0.starts_with(':'), "polkit must be asked about the caller: {asked:?}");
        }
    }
    let after = (agent.operations().len(), agent.attachments().len(), agent.requests().len(), agent.created().len());
    assert_eq!((before, agent.cancels()), (after, 0), "a call that was denied did something");
    println!("{} methods denied", all.len());
}
