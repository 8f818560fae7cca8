//! Puts the agent on the bus and keeps it there.
//!
//! ```text
//! publish --> Published (objects there, calls turned away) --recovery--> claim_name --> Served --closed--> gone
//! ```
//! The name is asked for last: whoever sees it on the bus sees an agent that is ready.

use super::{
    authority::Authority,
    error::DbusError,
    manager::Manager,
    names::{ROOT_PATH, WELL_KNOWN_NAME},
    objects::Objects,
    volumes::Volumes,
};
use crate::agent::api::AgentApi;
use std::sync::Arc;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    task::JoinHandle,
};
use zbus::{
    Connection,
    connection::Builder,
    fdo::{ObjectManager, RequestNameFlags},
    object_server::Interface,
};

/// The objects are on the bus, without the name, and calls are turned away as `Unavailable`.
pub struct Published {
    connection: Connection,
    authority: Arc<Authority>,
    follower: Follower,
}

/// The agent is on the bus. Dropping it takes it off.
pub struct Served {
    connection: Connection,
    _follower: Follower,
}

/// The task that follows the agent's events; it ends with the handle.
struct Follower(JoinHandle<()>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connects to the bus and puts the objects there. `address` is a D-Bus address; `None` is the system bus, which
/// `DBUS_SYSTEM_BUS_ADDRESS` can redirect.
pub async fn publish(api: Arc<dyn AgentApi>, address: Option<&str>) -> Result<Published, DbusError> {
    let builder = address.map_or_else(Builder::system, Builder::address);
    let connection = builder.build().await.map_err(|source| DbusError::Connect {
        address: address.unwrap_or("the system bus").to_owned(),
        source: source.into(),
    })?;
    let authority = Arc::new(Authority::default());
    let objects = Arc::new(Objects::new(Arc::clone(&api), Arc::clone(&authority)));

    at_root(&connection, ObjectManager).await?;
    at_root(&connection, Manager::new(Arc::clone(&api), Arc::clone(&authority), Arc::clone(&objects))).await?;
    at_root(&connection, Volumes::new(Arc::clone(&api), Arc::clone(&authority))).await?;
    // Subscribed before the first look, so that nothing falls between the two.
    let events = api.events();
    objects
        .refresh_all(&connection)
        .await
        .map_err(|source| DbusError::Publish { path: ROOT_PATH.to_owned(), source: source.into() })?;
    let follower = Follower(tokio::spawn(follow(events, objects, connection.clone())));
    Ok(Published { connection, authority, follower })
}

/// [`publish`] and [`Published::claim_name`] in one, for an agent that has nothing to recover.
pub async fn serve(api: Arc<dyn AgentApi>, address: Option<&str>) -> Result<Served, DbusError> {
    publish(api, address).await?.claim_name().await
}

impl Published {
    /// Opens the doors and asks for the name; never waits in the queue behind another agent.
    pub async fn claim_name(self) -> Result<Served, DbusError> {
        self.authority.open();
        match self.connection.request_name_with_flags(WELL_KNOWN_NAME, RequestNameFlags::DO_NOT_QUEUE).await {
            Ok(_owner) => Ok(Served { connection: self.connection, _follower: self.follower }),
            Err(zbus::Error::NameTaken) => Err(DbusError::NameTaken { name: WELL_KNOWN_NAME }),
            Err(source) => Err(DbusError::RequestName { name: WELL_KNOWN_NAME, source: source.into() }),
        }
    }
}

impl Served {
    /// Returns when the connection to the bus is lost. The agent's operations go on; serve anew, or exit.
    pub async fn closed(&self) {
        self.connection.closed().await;
    }

    /// Gives the name back and leaves the bus, once the replies under way are sent.
    pub async fn close(self) {
        let Self { connection, _follower } = self;
        drop(_follower);
        if let Err(error) = connection.release_name(WELL_KNOWN_NAME).await {
            tracing::debug!(%error, "the bus name was not given back");
        }
        connection.graceful_shutdown().await;
    }
}

async fn at_root<I: Interface>(connection: &Connection, object: I) -> Result<(), DbusError> {
    match connection.object_server().at(ROOT_PATH, object).await {
        Ok(_new_on_this_connection) => Ok(()),
        Err(source) => Err(DbusError::Publish { path: format!("{ROOT_PATH} {}", I::name()), source: source.into() }),
    }
}

/// Follows the agent until it or the bus is gone.
async fn follow(mut events: broadcast::Receiver<crate::agent::api::AgentEvent>, objects: Arc<Objects>, connection: Connection) {
    loop {
        let outcome = match events.recv().await {
            Ok(event) => objects.refresh(&connection, &event).await,
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "the bus was slower than the agent; reading everything anew");
                objects.refresh_all(&connection).await
            }
            Err(RecvError::Closed) => return,
        };
        if let Err(error) = outcome {
            if connection.is_closed() {
                return;
            }
            tracing::warn!(%error, "a change could not be told on the bus");
        }
    }
}
