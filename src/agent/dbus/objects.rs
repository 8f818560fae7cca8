//! Keeps the bus objects in line with what the agent says there is.
//!
//! ```text
//!                      absent --agent has it--> published --agent has it, differs--> published   (PropertiesChanged)
//!                        ^                        |   \--state becomes final--> published        (Finished)
//!                        +-----agent has it not---+
//! ```
//! Every refresh reads the agent under one lock, so what is published only ever moves forward, whoever asks: the task that
//! follows the agent's events, or a method that must not return the path of an object that is not there yet.

use super::{
    attachment::{self, Attachment},
    authority::Authority,
    manager::Manager,
    names::{ROOT_PATH, attachment_path, operation_path},
    operation::{self, Operation},
};
use crate::{
    agent::api::{AgentApi, AgentEvent, AttachmentView, OperationView},
    model::{AttachmentId, OperationId},
};
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
};
use tokio::sync::{Mutex, watch};
use zbus::{
    Connection, ObjectPath, Variant,
    fdo::Properties,
    names::InterfaceName,
    object_server::{Interface, SignalEmitter},
};

/// What is on the bus.
pub struct Objects {
    api: Arc<dyn AgentApi>,
    authority: Arc<Authority>,
    published: Mutex<Published>,
}

/// The sending ends of what the objects show.
#[derive(Default)]
struct Published {
    operations: HashMap<OperationId, watch::Sender<OperationView>>,
    attachments: HashMap<AttachmentId, watch::Sender<AttachmentView>>,
}

impl Objects {
    /// Nothing published yet.
    pub fn new(api: Arc<dyn AgentApi>, authority: Arc<Authority>) -> Self {
        Self { api, authority, published: Mutex::default() }
    }

    /// Brings everything in line. Operations that are met already finished get no `Finished` signal.
    pub async fn refresh_all(&self, connection: &Connection) -> zbus::Result<()> {
        let mut published = self.published.lock().await;
        self.all_attachments(&mut published, connection).await?;
        let views = self.api.operations();
        let there: HashSet<_> = views.iter().map(|view| view.id).collect();
        let gone: Vec<_> = published.operations.keys().filter(|id| !there.contains(id)).copied().collect();
        for id in gone {
            self.operation(&mut published, connection, id, None, false).await?;
        }
        for view in views {
            self.operation(&mut published, connection, view.id, Some(view), false).await?;
        }
        Ok(())
    }

    /// Brings in line what an event is about.
    pub async fn refresh(&self, connection: &Connection, event: &AgentEvent) -> zbus::Result<()> {
        match event {
            AgentEvent::Operation(id) | AgentEvent::OperationForgotten(id) => self.refresh_operation(connection, *id).await,
            AgentEvent::Attachment(_) | AgentEvent::AttachmentGone(_) => {
                self.all_attachments(&mut *self.published.lock().await, connection).await
            }
            AgentEvent::Guest { guest, name, change } => {
                let emitter = SignalEmitter::new(connection, ROOT_PATH)?;
                Manager::guest_changed(&emitter, &guest.to_string(), name, change.as_str()).await
            }
        }
    }

    /// Brings one operation in line. Before its end is told, the attachments are, so that whoever waits for the end finds
    /// the attachment it made.
    pub async fn refresh_operation(&self, connection: &Connection, id: OperationId) -> zbus::Result<()> {
        let mut published = self.published.lock().await;
        let view = self.api.operation(id);
        if view.as_ref().is_some_and(|view| view.state.is_final()) {
            self.all_attachments(&mut published, connection).await?;
        }
        self.operation(&mut published, connection, id, view, true).await
    }

    async fn operation(
        &self,
        published: &mut Published,
        connection: &Connection,
        id: OperationId,
        view: Option<OperationView>,
        tell_first_met: bool,
    ) -> zbus::Result<()> {
        let path = operation_path(id);
        let emitter = SignalEmitter::new(connection, &path)?;
        match (view, published.operations.get(&id)) {
            (Some(view), None) => {
                let (sender, receiver) = watch::channel(view.clone());
                let object = Operation::new(Arc::clone(&self.api), Arc::clone(&self.authority), receiver);
                published.operations.insert(id, sender);
                connection.object_server().at(&path, object).await?;
                if view.state.is_final() && tell_first_met {
                    operation::emit_finished(&emitter, &view).await?;
                }
            }
            (Some(view), Some(sender)) => {
                let old = sender.send_replace(view.clone());
                tell_changes::<Operation>(&emitter, operation::changes(&old, &view)).await?;
                // Stuck is not the last word: what is stuck is still tried, and its real end is told too.
                if view.state.is_final() && view.state != old.state {
                    operation::emit_finished(&emitter, &view).await?;
                }
            }
            (None, Some(_)) => {
                published.operations.remove(&id);
                take_down::<Operation>(connection, &path).await?;
            }
            (None, None) => {}
        }
        Ok(())
    }

    async fn all_attachments(&self, published: &mut Published, connection: &Connection) -> zbus::Result<()> {
        let views = self.api.attachments();
        let there: HashSet<_> = views.iter().map(|view| view.id).collect();
        let gone: Vec<_> = published.attachments.keys().filter(|id| !there.contains(id)).copied().collect();
        for id in gone {
            published.attachments.remove(&id);
            take_down::<Attachment>(connection, &attachment_path(id)).await?;
        }
        for view in views {
            let path = attachment_path(view.id);
            if let Some(sender) = published.attachments.get(&view.id) {
                let old = sender.send_replace(view.clone());
                let emitter = SignalEmitter::new(connection, &path)?;
                tell_changes::<Attachment>(&emitter, attachment::changes(&old, &view)).await?;
            } else {
                let (sender, receiver) = watch::channel(view.clone());
                published.attachments.insert(view.id, sender);
                connection.object_server().at(&path, Attachment::new(receiver)).await?;
            }
        }
        Ok(())
    }
}

/// One `PropertiesChanged` for all that changed together.
async fn tell_changes<I: Interface>(
    emitter: &SignalEmitter<'_>,
    changed: HashMap<&'static str, Variant<'static>>,
) -> zbus::Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    let interface: InterfaceName<'static> = I::name();
    Properties::properties_changed(emitter, interface, changed, Cow::Borrowed(&[])).await
}

/// Takes an object down; that it is not there is no error.
async fn take_down<I: Interface>(connection: &Connection, path: &ObjectPath<'_>) -> zbus::Result<()> {
    match connection.object_server().remove::<I, _>(path).await {
        Err(zbus::Error::InterfaceNotFound) => Ok(()),
        other => other.map(|_destroyed| ()),
    }
}
