//! What the tests stand on: a private bus, a pretended agent, a pretended polkit, and the command.

mod agent;
mod bus;
mod command;
mod polkit;

pub use agent::{FakeAgent, HELD, volume_id};
pub use bus::{Bus, NOBODY, Policy};
pub use command::{Ran, bowline, bowline_as_nobody, run};
pub use polkit::{FakePolkit, Verdict};

use bowline::agent::dbus::{ROOT_PATH, Served, WELL_KNOWN_NAME, serve};
use serde::Serialize;
use std::{collections::HashMap, sync::Arc, time::Duration};
use zbus::{Connection, DynamicType, OwnedVariant, wire::DynamicDeserialize};

/// Far beyond what anything here takes; only a hang meets it.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Options of a method.
pub type Options = HashMap<&'static str, zbus::Variant<'static>>;

/// A bus with an agent on it, and a client's connection.
pub struct Stage {
    pub bus: Bus,
    pub agent: Arc<FakeAgent>,
    pub client: Connection,
    pub served: Served,
    /// Lets everything through where the tests themselves are not root.
    _polkit: Option<FakePolkit>,
}

impl Stage {
    /// Sets everything up.
    pub async fn new() -> Self {
        let bus = Bus::start(Policy::Open);
        let polkit = if am_root() { None } else { Some(FakePolkit::start(&bus, Verdict::Authorized).await) };
        let agent = FakeAgent::new();
        let served = serve(agent.clone(), Some(&bus.address)).await.unwrap();
        let client = bus.connect().await;
        Self { bus, agent, client, served, _polkit: polkit }
    }

    /// Calls a method at the root object.
    pub async fn call<B, R>(&self, interface: &str, method: &str, body: &B) -> zbus::Result<R>
    where
        B: Serialize + DynamicType,
        R: for<'d> DynamicDeserialize<'d>,
    {
        call(&self.client, ROOT_PATH, interface, method, body).await
    }

    /// Attaches and gives the operation's path.
    pub async fn attach(&self, volume: &str) -> String {
        let path: zbus::OwnedObjectPath =
            self.call("org.bowline.Manager1", "Attach", &(volume, "guest", Options::new())).await.unwrap();
        path.to_string()
    }

    /// The properties of an object.
    pub async fn properties(&self, path: &str, interface: &str) -> zbus::Result<HashMap<String, OwnedVariant>> {
        call(&self.client, path, "org.freedesktop.DBus.Properties", "GetAll", &(interface,)).await
    }

    /// Runs `bowline` on this bus.
    pub async fn bowline(&self, arguments: &[&str]) -> Ran {
        run(bowline(&self.bus, arguments)).await
    }
}

/// Calls a method of the agent.
pub async fn call<B, R>(client: &Connection, path: &str, interface: &str, method: &str, body: &B) -> zbus::Result<R>
where
    B: Serialize + DynamicType,
    R: for<'d> DynamicDeserialize<'d>,
{
    let call = client.call_method(Some(WELL_KNOWN_NAME), path, Some(interface), method, body);
    let reply = tokio::time::timeout(DEADLINE, call).await.expect("no reply")?;
    reply.body().deserialize()
}

/// The name and message of an error reply.
pub fn error_of<T: std::fmt::Debug>(outcome: zbus::Result<T>) -> (String, String) {
    match outcome.expect_err("the call should have been refused") {
        zbus::Error::MethodError(name, message, _) => (name.to_string(), message.unwrap_or_default()),
        other => panic!("not an error of the agent's: {other}"),
    }
}

/// The tests run as root.
pub fn am_root() -> bool {
    nix::unistd::geteuid().is_root()
}
