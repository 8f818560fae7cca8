//! The agent, as seen over D-Bus.

use super::{
    error::CliError,
    view::{Attachment, Dict, Operation, Plan, PlannedStep, Volume},
};
use crate::model::{Difference, Finding, Mending, Verdict};
use serde::Serialize;
use std::collections::HashMap;
use zbus::{
    Connection, DynamicType, OwnedObjectPath, Proxy, Variant,
    connection::Builder,
    names::OwnedInterfaceName,
    proxy::{CacheProperties, MethodFlags},
    wire::DynamicDeserialize,
};

/// The agent's name on the bus.
pub const AGENT: &str = "org.bowline.Agent1";
const ROOT: &str = "/org/bowline/Agent1";
const MANAGER: &str = "org.bowline.Manager1";
const VOLUMES: &str = "org.bowline.Volumes1";
const OPERATION: &str = "org.bowline.Operation1";
const ATTACHMENT: &str = "org.bowline.Attachment1";

type Managed = HashMap<OwnedObjectPath, HashMap<OwnedInterfaceName, Dict>>;

/// A connection to the bus.
#[derive(Debug, Clone)]
pub struct Client {
    connection: Connection,
    interactive: bool,
}

impl Client {
    /// Connects. `interactive`: somebody is there to answer polkit's questions.
    pub async fn connect(address: Option<&str>, interactive: bool) -> Result<Self, CliError> {
        let builder = address.map_or_else(Builder::system, Builder::address);
        let connection = builder.build().await.map_err(|error| CliError::Connect {
            address: address.unwrap_or("the system bus").to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self { connection, interactive })
    }

    /// The connection.
    pub const fn connection(&self) -> &Connection {
        &self.connection
    }

    async fn call<B, R>(&self, path: &str, interface: &str, method: &str, body: &B) -> Result<R, CliError>
    where
        B: Serialize + DynamicType,
        R: for<'d> DynamicDeserialize<'d>,
    {
        let fault = |error| CliError::from_bus(method, error);
        let proxy: Proxy<'_> = zbus::proxy::Builder::new(&self.connection)
            .destination(AGENT)
            .path(path)
            .interface(interface)
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .map_err(fault)?;
        let flags = if self.interactive { MethodFlags::ALLOW_INTERACTIVE_AUTH } else { MethodFlags::empty() };
        proxy.call_with_flags(method, flags, body).await.map_err(fault)?.ok_or(CliError::Vanished)
    }

    /// Submits an operation: its path.
    pub async fn submit(&self, request: &Request) -> Result<OwnedObjectPath, CliError> {
        let (volume, options) = (&request.volume, &request.options);
        if request.kind == "extend" {
            return self.call(ROOT, MANAGER, request.method(), &(volume, request.size_gib, options)).await;
        }
        if matches!(request.kind, "delete" | "unrescue" | "start" | "stop") {
            return self.call(ROOT, MANAGER, request.method(), &(&request.guest, options)).await;
        }
        // A plan has it among the options.
        let argument = match request.kind {
            "boot" => Some("mapping"),
            "rebuild" | "rescue" => Some("image"),
            "snapshot" => Some("name"),
            _ => None,
        };
        if let Some(argument) = argument {
            let mut options: HashMap<_, _> = options.iter().collect();
            let given = options.remove(&argument).and_then(|given| given.try_clone().ok());
            let given: String = given.and_then(|given| given.try_into().ok()).unwrap_or_default();
            return self.call(ROOT, MANAGER, request.method(), &(&request.guest, given, options)).await;
        }
        self.call(ROOT, MANAGER, request.method(), &(volume, &request.guest, options)).await
    }

    /// What [`Client::submit`] would do.
    pub async fn plan(&self, request: &Request) -> Result<Plan, CliError> {
        type Wire = (String, String, String, String, Vec<(String, String)>);
        let mut options = HashMap::new();
        for (key, value) in &request.options {
            options.insert(*key, value);
        }
        let size = Variant::from(request.size_gib);
        if request.kind == "extend" {
            options.insert("size-gib", &size);
        }
        let body = (request.kind, &request.volume, &request.guest, &options);
        let ((kind, volume, guest, guest_name, steps),): (Wire,) = self.call(ROOT, MANAGER, "Plan", &body).await?;
        let steps = steps.into_iter().map(|(name, description)| PlannedStep { name, description }).collect();
        Ok(Plan { kind, volume, guest, guest_name, steps })
    }

    /// The operation at a path.
    pub async fn operation(&self, path: &str) -> Result<Operation, CliError> {
        Operation::read(self.call(path, "org.freedesktop.DBus.Properties", "GetAll", &(OPERATION,)).await?)
    }

    /// Asks the operation at a path to stop.
    pub async fn cancel(&self, path: &str) -> Result<(), CliError> {
        self.call(path, OPERATION, "Cancel", &()).await
    }

    /// Gives up the stuck operation at a path; returns when that is done.
    pub async fn abandon(&self, path: &str) -> Result<(), CliError> {
        self.call(path, OPERATION, "Abandon", &()).await
    }

    /// All operations and attachments, by time.
    pub async fn all(&self) -> Result<(Vec<Operation>, Vec<Attachment>), CliError> {
        let managed: Managed = self.call(ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", &()).await?;
        let (mut operations, mut attachments) = (Vec::new(), Vec::new());
        for (interface, dict) in managed.into_values().flatten() {
            match interface.as_str() {
                OPERATION => operations.push(Operation::read(dict)?),
                ATTACHMENT => attachments.push(Attachment::read(dict)?),
                _ => {}
            }
        }
        operations.sort_by(|a, b| (a.created_us, &a.id).cmp(&(b.created_us, &b.id)));
        attachments.sort_by(|a, b| (&a.guest_name, &a.target, &a.id).cmp(&(&b.guest_name, &b.target, &b.id)));
        Ok((operations, attachments))
    }

    /// What the agent finds of the host.
    pub async fn examine(&self) -> Result<Vec<Finding>, CliError> {
        type Wire = (String, String, String, String, String);
        let found: Vec<Wire> = self.call(ROOT, MANAGER, "Examine", &()).await?;
        let read = |(area, check, verdict, message, remedy): Wire| Finding {
            area,
            check,
            verdict: Verdict::from_word(&verdict),
            message,
            remedy,
        };
        Ok(found.into_iter().map(read).collect())
    }

    /// What differs from the agent's journal.
    pub async fn check(&self, repair: bool) -> Result<Vec<Difference>, CliError> {
        type Wire = (String, String, String, String, String, String, String);
        let found: Vec<Wire> = self.call(ROOT, MANAGER, "Check", &(repair,)).await?;
        let read = |(area, volume, guest, found, meaning, remedy, mending): Wire| Difference {
            area,
            volume: volume.parse().ok(),
            guest,
            found,
            meaning,
            remedy,
            mending: Mending::from_word(&mending),
        };
        Ok(found.into_iter().map(read).collect())
    }

    /// Takes a volume over: what an operator should know of it.
    pub async fn adopt(&self, volume: &str, guest: &str) -> Result<String, CliError> {
        let options: HashMap<&str, Variant<'_>> = HashMap::new();
        let (_, remark): (OwnedObjectPath, String) = self.call(ROOT, MANAGER, "Adopt", &(volume, guest, options)).await?;
        Ok(remark)
    }

    /// All volumes.
    pub async fn volumes(&self) -> Result<Vec<Volume>, CliError> {
        let volumes: Vec<Dict> = self.call(ROOT, VOLUMES, "List", &()).await?;
        volumes.into_iter().map(Volume::read).collect()
    }

    /// One volume.
    pub async fn volume(&self, volume: &str) -> Result<Volume, CliError> {
        Volume::read(self.call(ROOT, VOLUMES, "Get", &(volume,)).await?)
    }

    /// Makes a volume.
    pub async fn create_volume(
        &self,
        name: &str,
        size_gib: u64,
        volume_type: Option<&str>,
        multiattach: bool,
    ) -> Result<Volume, CliError> {
        let mut options: HashMap<&str, Variant<'_>> =
            volume_type.map(|word| ("type", Variant::from(word))).into_iter().collect();
        if multiattach {
            options.insert("multiattach", true.into());
        }
        Volume::read(self.call(ROOT, VOLUMES, "Create", &(name, size_gib, options)).await?)
    }

    /// Deletes a volume.
    pub async fn delete_volume(&self, volume: &str) -> Result<(), CliError> {
        self.call(ROOT, VOLUMES, "Delete", &(volume,)).await
    }
}

/// An operation that is asked for.
#[derive(Debug)]
pub struct Request {
    /// `attach`, `detach`, `extend`, `boot`, `delete`, `rebuild`, `rescue`, `unrescue`, `start`, `stop` or `snapshot`.
    pub kind: &'static str,
    /// Id or name; empty where it is for a guest as a whole.
    pub volume: String,
    /// Name or UUID; empty for the only one.
    pub guest: String,
    /// Of an extend, GiB.
    pub size_gib: u64,
    /// Options of the method.
    pub options: HashMap<&'static str, Variant<'static>>,
}

impl Request {
    fn method(&self) -> &'static str {
        match self.kind {
            "detach" => "Detach",
            "extend" => "Extend",
            "boot" => "Boot",
            "delete" => "Delete",
            "rebuild" => "Rebuild",
            "rescue" => "Rescue",
            "unrescue" => "Unrescue",
            "start" => "Start",
            "stop" => "Stop",
            "snapshot" => "Snapshot",
            _ => "Attach",
        }
    }
}

/// The path of the operation with this id; `None` when the id cannot be one.
pub fn operation_path(id: &str) -> Option<String> {
    id.parse::<crate::model::OperationId>().ok().map(|id| format!("{ROOT}/operations/{}", id.to_string().replace('-', "_")))
}
