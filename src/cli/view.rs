//! What the agent shows on the bus, read from its dictionaries, and as `--json` prints it.

use super::error::CliError;
use crate::model::ErrorKind;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::HashMap;
use zbus::OwnedVariant;

/// A dictionary of the bus.
pub type Dict = HashMap<String, OwnedVariant>;

/// An operation.
#[derive(Debug, Clone, Serialize)]
pub struct Operation {
    /// UUID.
    pub id: String,
    /// `attach`, `detach`, `extend`, `boot`, `delete` or `snapshot`.
    pub kind: String,
    /// UUID of the volume; empty for what is done with a guest as a whole.
    pub volume: String,
    /// UUID of the guest.
    pub guest: String,
    /// The guest's name.
    pub guest_name: String,
    /// The word for where it stands.
    pub state: String,
    /// Its steps.
    pub steps: Vec<Step>,
    /// RFC 3339.
    pub created_at: String,
    /// The same in microseconds since the epoch, to sort by.
    #[serde(skip)]
    pub created_us: u64,
    /// Microseconds; 0 until it ended.
    pub duration_us: u64,
    /// Why it failed.
    pub error: Option<OperationError>,
    /// UUID of the image that a snapshot makes.
    pub image: Option<String>,
    /// What its end left otherwise than may be expected.
    pub remarks: Vec<String>,
    /// How far the step under way is with each disk.
    pub disks: Vec<DiskProgress>,
}

/// How far a step is with one disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiskProgress {
    /// Target name, or `image` for what is uploaded.
    pub disk: String,
    /// What is done: bytes, or of what is one piece 0 or 1.
    pub done: u64,
    /// What there is in all.
    pub total: u64,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Name.
    pub name: String,
    /// The word for where it stands.
    pub state: String,
    /// Microseconds; 0 until it ended.
    pub duration_us: u64,
}

/// Why an operation failed.
#[derive(Debug, Clone, Serialize)]
pub struct OperationError {
    /// The kind's word.
    pub kind: String,
    /// What went wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl Operation {
    /// Reads the properties of an Operation1.
    pub fn read(dict: Dict) -> Result<Self, CliError> {
        let mut reader = Reader { what: "Operation1", dict };
        let steps: Vec<(String, String, u64)> = reader.take("Steps")?;
        let disks: Vec<(String, u64, u64)> = reader.take("Disks")?;
        let created_us = reader.take("CreatedAt")?;
        let kind: String = reader.take("ErrorKind")?;
        let error = OperationError { kind, message: reader.take("ErrorMessage")?, remedy: reader.take("Remedy")? };
        Ok(Self {
            remarks: reader.take("Remarks")?,
            image: some(reader.take("Image")?),
            disks: disks.into_iter().map(|(disk, done, total)| DiskProgress { disk, done, total }).collect(),
            id: reader.take("Id")?,
            kind: reader.take("Kind")?,
            volume: reader.take("Volume")?,
            guest: reader.take("Guest")?,
            guest_name: reader.take("GuestName")?,
            state: reader.take("State")?,
            steps: steps.into_iter().map(|(name, state, duration_us)| Step { name, state, duration_us }).collect(),
            created_at: timestamp(created_us),
            created_us,
            duration_us: reader.take("DurationUs")?,
            error: Some(error).filter(|error| !error.kind.is_empty()),
        })
    }

    /// Nothing more will happen.
    pub fn is_final(&self) -> bool {
        matches!(self.state.as_str(), "succeeded" | "failed" | "cancelled" | "stuck" | "abandoned")
    }

    /// It did what it was asked.
    pub fn has_succeeded(&self) -> bool {
        self.state == "succeeded"
    }

    /// The kind of its error.
    pub fn error_kind(&self) -> ErrorKind {
        match (self.state.as_str(), &self.error) {
            (_, Some(error)) => ErrorKind::from_word(&error.kind),
            ("cancelled", None) => ErrorKind::Cancelled,
            ("stuck" | "abandoned", None) => ErrorKind::Stuck,
            _ => ErrorKind::Internal,
        }
    }

    /// The message of its error.
    pub fn error_message(&self) -> &str {
        self.error.as_ref().map_or("the agent gave no reason", |error| &error.message)
    }

    /// Volume and guest, as a sentence about the operation names them. An extend is the volume's, whoever has it.
    pub fn object(&self) -> String {
        object(&self.kind, &self.volume, &self.guest_name)
    }

    /// How it ended, as an error message says it.
    pub fn ending(&self) -> &'static str {
        match self.state.as_str() {
            "cancelled" => "was cancelled",
            "stuck" => "is stuck",
            "abandoned" => "was given up",
            _ => "failed",
        }
    }

    /// Names of the steps in a state.
    pub fn steps_that_are(&self, state: &str) -> Vec<&str> {
        self.steps.iter().filter(|step| step.state == state).map(|step| step.name.as_str()).collect()
    }
}

/// An attachment.
#[derive(Debug, Clone, Serialize)]
pub struct Attachment {
    /// UUID.
    pub id: String,
    /// UUID of the volume.
    pub volume: String,
    /// UUID of the guest.
    pub guest: String,
    /// The guest's name.
    pub guest_name: String,
    /// `vdb`.
    pub target: String,
    /// `iscsi`.
    pub protocol: String,
    /// `kernel` or `qemu`.
    pub initiator: String,
    /// Block device; empty where QEMU is the initiator.
    pub device: String,
    /// Serial number.
    pub serial: Option<String>,
    /// Designators.
    pub wwids: Vec<String>,
    /// Bytes.
    pub size_bytes: u64,
    /// What the disk is for.
    pub tag: Option<String>,
    /// `luks` or `luks2`.
    pub encryption: Option<String>,
    /// RFC 3339.
    pub attached_at: String,
    /// How it is doing; `None` from an agent that does not say.
    pub health: Option<Health>,
}

/// How an attachment is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// `healthy`, `degraded`, `lost` or `unknown`.
    pub state: String,
    /// RFC 3339; `None` while unknown.
    pub since: Option<String>,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

/// A part that does not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Which.
    pub part: String,
    /// What is wrong with it.
    pub problem: String,
    /// RFC 3339.
    pub since: String,
}

impl Health {
    /// Reads the properties that an Attachment1 has of it.
    fn read(reader: &mut Reader) -> Result<Option<Self>, CliError> {
        if !reader.dict.contains_key("Health") {
            return Ok(None);
        }
        let since_us: u64 = reader.take("HealthSince")?;
        let faults: Vec<(String, String, u64)> = reader.take("Faults")?;
        let fault = |(part, problem, since_us)| Fault { part, problem, since: timestamp(since_us) };
        Ok(Some(Self {
            state: reader.take("Health")?,
            since: (since_us > 0).then(|| timestamp(since_us)),
            faults: faults.into_iter().map(fault).collect(),
        }))
    }
}

impl Attachment {
    /// Reads the properties of an Attachment1.
    pub fn read(dict: Dict) -> Result<Self, CliError> {
        let mut reader = Reader { what: "Attachment1", dict };
        Ok(Self {
            id: reader.take("Id")?,
            volume: reader.take("Volume")?,
            guest: reader.take("Guest")?,
            guest_name: reader.take("GuestName")?,
            target: reader.take("Target")?,
            protocol: reader.take("Protocol")?,
            initiator: reader.take("Initiator")?,
            device: reader.take("Device")?,
            serial: some(reader.take("Serial")?),
            wwids: reader.take("Wwids")?,
            size_bytes: reader.take("SizeBytes")?,
            tag: some(reader.take("Tag")?),
            encryption: some(reader.take("Encryption")?),
            attached_at: timestamp(reader.take("AttachedAt")?),
            health: Health::read(&mut reader)?,
        })
    }
}

/// A volume.
#[derive(Debug, Clone, Serialize)]
pub struct Volume {
    /// UUID.
    pub id: String,
    /// Name; may be empty.
    pub name: String,
    /// GiB.
    pub size_gib: u64,
    /// The service's word.
    pub status: String,
    /// Volume type.
    #[serde(rename = "type")]
    pub volume_type: Option<String>,
    /// Holds a boot disk.
    pub bootable: bool,
    /// May be attached more than once.
    pub multiattach: bool,
    /// Encrypted.
    pub encrypted: bool,
    /// As the service wrote it.
    pub created_at: String,
    /// Who has it.
    pub attachments: Vec<VolumeAttachment>,
}

/// Who has a volume.
#[derive(Debug, Clone, Serialize)]
pub struct VolumeAttachment {
    /// UUID.
    pub id: String,
    /// UUID of the guest.
    pub guest: Option<String>,
    /// Host.
    pub host: Option<String>,
}

impl Volume {
    /// Reads a dictionary of Volumes1.
    pub fn read(dict: Dict) -> Result<Self, CliError> {
        let mut reader = Reader { what: "Volumes1", dict };
        let attachments: Vec<(String, String, String)> = reader.take("attachments")?;
        Ok(Self {
            id: reader.take("id")?,
            name: reader.take("name")?,
            size_gib: reader.take("size-gib")?,
            status: reader.take("status")?,
            volume_type: some(reader.take("type")?),
            bootable: reader.take("bootable")?,
            multiattach: reader.take("multiattach")?,
            encrypted: reader.take("encrypted")?,
            created_at: reader.take("created-at")?,
            attachments: attachments
                .into_iter()
                .map(|(id, guest, host)| VolumeAttachment { id, guest: some(guest), host: some(host) })
                .collect(),
        })
    }
}

/// A plan.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// `attach`, `detach`, `extend`, `boot`, `delete` or `snapshot`.
    pub kind: String,
    /// UUID of the volume; empty for what is done with a guest as a whole.
    pub volume: String,
    /// UUID of the guest.
    pub guest: String,
    /// The guest's name.
    pub guest_name: String,
    /// The steps.
    pub steps: Vec<PlannedStep>,
}

/// A step of a plan.
#[derive(Debug, Serialize)]
pub struct PlannedStep {
    /// Name.
    pub name: String,
    /// What it will do.
    pub description: String,
}

/// `volume X`, and for whom.
pub fn object(kind: &str, volume: &str, guest_name: &str) -> String {
    match kind {
        "detach" => format!("volume {volume} from guest {guest_name}"),
        "extend" => format!("volume {volume}"),
        "boot" | "delete" | "rebuild" | "rescue" | "unrescue" | "start" | "stop" | "snapshot" | "fill" => {
            format!("guest {guest_name}")
        }

        _ => format!("volume {volume} to guest {guest_name}"),
    }
}

struct Reader {
    what: &'static str,
    dict: Dict,
}

impl Reader {
    fn take<T: TryFrom<OwnedVariant>>(&mut self, key: &str) -> Result<T, CliError> {
        let fault = |reason: &str| CliError::Protocol { what: self.what.to_owned(), reason: format!("{key} {reason}") };
        let Some(value) = self.dict.remove(key) else { return Err(fault("is missing")) };
        T::try_from(value).map_err(|_| fault("has another type"))
    }
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// RFC 3339 of microseconds since the epoch, to the millisecond.
fn timestamp(epoch_us: u64) -> String {
    i64::try_from(epoch_us)
        .ok()
        .and_then(|epoch_us| Timestamp::from_microsecond(epoch_us).ok())
        .map_or_else(|| "unknown".to_owned(), |time| format!("{time:.3}"))
}
