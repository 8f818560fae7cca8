//! Messages that say they come from somebody else: the agent does nothing for them, and `bowline` believes none of them.

use super::support::{Bus, DEADLINE, FakeAgent, HELD, am_root, bowline, run};
use bowline::agent::{
    api::AgentApi as _,
    dbus::{WELL_KNOWN_NAME, serve},
};
use futures_util::StreamExt as _;
use tokio::time::timeout;
use zbus::{Connection, MessageStream, message::Message};

const OPERATION: &str = "org.bowline.Operation1";

/// What comes back for the operation's `Cancel` that `connection` sends as if `sender` had: the error's name and words.
async fn cancelled_as(connection: &Connection, path: &str, sender: &str) -> Option<String> {
    let forged = Message::method_call(path, "Cancel").destination(WELL_KNOWN_NAME).interface(OPERATION);
    let forged = forged.sender(sender.to_owned()).build(&()).unwrap();
    let serial = forged.primary_header().serial_num();
    let mut answers = MessageStream::from(connection);
    connection.send(&forged).await.unwrap();
    let answer = timeout(DEADLINE, async {
        loop {
            let answer = answers.next().await.unwrap().unwrap();
            if answer.header().reply_serial() == Some(serial) {
                return answer;
            }
        }
    });
    let answer = answer.await.expect("no answer");
    let name = answer.header().error_name().map(ToString::to_string)?;
    Some(format!("{name}: {}", answer.body().deserialize::<String>().unwrap_or_default()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_says_root_sent_it_is_refused() {
    let bus = Bus::start(super::support::Policy::Open);
    let agent = FakeAgent::new();
    let _served = serve(agent.clone(), Some(&bus.address)).await.unwrap();
    let polkit = super::support::FakePolkit::start(&bus, super::support::Verdict::Authorized).await;
    run(bowline(&bus, &["attach", HELD, "guest", "--no-wait"])).await.succeeded();
    polkit.leave().await;
    let operation = agent.operations()[0].id.to_string().replace('-', "_");
    let path = format!("/org/bowline/Agent1/operations/{operation}");

    let (root, stranger) = (bus.connect().await, bus.connect_as_nobody().await);
    let name = root.unique_name().unwrap().to_string();
    let said = cancelled_as(&stranger, &path, &name).await.expect("the forged message was obeyed");
    assert!(said.contains("only root"), "{said}");
    assert_eq!(agent.cancels(), 0);
    if am_root() {
        assert_eq!(cancelled_as(&root, &path, &name).await, None, "root's own");
        assert_eq!(agent.cancels(), 1);
    }
}
