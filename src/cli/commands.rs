//! The commands that talk to the agent.

use super::{
    args::{
        AttachArgs, Command, DetachArgs, ExtendArgs, RebuildArgs, RescueArgs, SnapshotArgs, StopArgs, VolumeCommand, WaitArgs,
    },
    boot::boot_request,
    client::{Client, Request, operation_path},
    error::CliError,
    follow::follow,
    output::Output,
    progress::Progress,
    show,
    view::{Attachment, Operation},
};
use serde_json::json;
use std::collections::HashMap;
use zbus::Variant;

/// Does what `command` says. The commands that need no agent are not among them.
pub async fn run(client: &Client, output: Output, command: Command) -> Result<(), CliError> {
    match command {
        Command::Attach(args) => operate(client, output, &attach_request(&args), &args.wait).await,
        Command::Detach(args) => operate(client, output, &detach_request(&args), &args.wait).await,
        Command::Extend(args) => operate(client, output, &extend_request(&args), &args.wait).await,
        Command::Boot(args) => operate(client, output, &boot_request(&args)?, &args.wait).await,
        Command::Delete(args) => operate(client, output, &of_guest("delete", &args.guest), &args.wait).await,
        Command::Rebuild(args) => operate(client, output, &rebuild_request(&args), &args.wait).await,
        Command::Rescue(args) => operate(client, output, &rescue_request(&args), &args.wait).await,
        Command::Unrescue(args) => operate(client, output, &stop_request("unrescue", &args), &args.wait).await,
        Command::Start(args) => operate(client, output, &of_guest("start", &args.guest), &args.wait).await,
        Command::Stop(args) => operate(client, output, &stop_request("stop", &args), &args.wait).await,
        Command::Snapshot(args) => operate(client, output, &snapshot_request(&args), &args.wait).await,
        Command::List => {
            let (_, attachments) = client.all().await?;
            print(output, || show::attachments(&attachments), &json!({ "attachments": attachments }))
        }
        Command::Show { id } => show_any(client, output, &id).await,
        Command::Operations { all } => {
            let (mut operations, _) = client.all().await?;
            // What is stuck has ended for whoever waited, but not for the operator.
            operations.retain(|operation| all || !operation.is_final() || operation.state == "stuck");
            print(output, || show::operations(&operations), &json!({ "operations": operations }))
        }
        Command::Cancel { operation } => cancel(client, output, &operation).await,
        Command::Fsck { repair } => super::fsck::run(client, output, repair).await,
        Command::Adopt { volume, guest } => {
            let remark = client.adopt(&volume, &guest).await?;
            let text =
                || [format!("volume {volume} of guest {guest} is Bowline's now"), remark.clone()].join("\n").trim().to_owned();
            print(output, text, &json!({ "adopted": { "volume": volume, "guest": guest, "remark": remark } }))
        }
        Command::Abandon { operation, yes } => abandon(client, output, &operation, yes).await,
        Command::Volume { command } => volume(client, output, command).await,
        Command::Completion { .. } | Command::Man { .. } | Command::Doctor => Ok(()),
    }
}

fn attach_request(args: &AttachArgs) -> Request {
    let mut options: HashMap<&'static str, Variant<'static>> = HashMap::new();
    options.extend(args.bus.clone().map(|bus| ("bus", bus.into())));
    options.extend(args.target.clone().map(|target| ("target", target.into())));
    if args.read_only {
        options.insert("read-only", true.into());
    }
    options.extend(args.tag.clone().map(|tag| ("tag", tag.into())));
    options.extend(args.boot_order.map(|order| ("boot-order", order.into())));
    Request { kind: "attach", volume: args.volume.clone(), guest: args.guest.clone(), size_gib: 0, options }
}

fn detach_request(args: &DetachArgs) -> Request {
    let guest = args.guest.clone().unwrap_or_default();
    Request { kind: "detach", volume: args.volume.clone(), guest, size_gib: 0, options: HashMap::new() }
}

fn extend_request(args: &ExtendArgs) -> Request {
    let (volume, size_gib) = (args.volume.clone(), args.size_gib);
    Request { kind: "extend", volume, guest: String::new(), size_gib, options: HashMap::new() }
}

/// A request for a guest as a whole.
fn of_guest(kind: &'static str, guest: &str) -> Request {
    Request { kind, volume: String::new(), guest: guest.to_owned(), size_gib: 0, options: HashMap::new() }
}

fn rebuild_request(args: &RebuildArgs) -> Request {
    let mut request = of_guest("rebuild", &args.guest);
    request.options.extend(args.image.clone().map(|image| ("image", image.into())));
    request.options.extend(args.size.map(|size| ("size-gib", size.into())));
    request
}

fn rescue_request(args: &RescueArgs) -> Request {
    let mut request = of_guest("rescue", &args.guest);
    request.options.extend(args.image.clone().map(|image| ("image", image.into())));
    request.options.extend(args.size.map(|size| ("size-gib", size.into())));
    if args.force {
        request.options.insert("force", true.into());
    }
    request
}

fn stop_request(kind: &'static str, args: &StopArgs) -> Request {
    let mut request = of_guest(kind, &args.guest);
    if args.force {
        request.options.insert("force", true.into());
    }
    request
}

fn snapshot_request(args: &SnapshotArgs) -> Request {
    let mut request = of_guest("snapshot", &args.guest);
    request.options.insert("name", args.name.clone().into());
    if args.no_freeze {
        request.options.insert("freeze", false.into());
    }
    request
}

async fn operate(client: &Client, output: Output, request: &Request, wait: &WaitArgs) -> Result<(), CliError> {
    if wait.dry_run {
        let plan = client.plan(request).await?;
        return print(output, || show::plan(&plan), &json!({ "plan": plan }));
    }
    let path = client.submit(request).await?;
    if wait.no_wait {
        let operation = client.operation(path.as_str()).await?;
        return print(output, || format!("operation {} {}", operation.id, operation.state), &ended(&operation, None));
    }
    let mut progress = Progress::new(output);
    let operation = follow(client, path.as_str(), &mut progress, wait.timeout_s).await?;
    progress.end();
    if !operation.has_succeeded() {
        return Err(CliError::Operation(Box::new(operation)));
    }
    let attachment = if operation.kind == "attach" { attachment_of(client, &operation).await? } else { None };
    print(output, || show::success(&operation, attachment.as_ref()), &ended(&operation, attachment.as_ref()))
}

async fn attachment_of(client: &Client, operation: &Operation) -> Result<Option<Attachment>, CliError> {
    let (_, attachments) = client.all().await?;
    let made_it = |attachment: &Attachment| attachment.volume == operation.volume && attachment.guest == operation.guest;
    Ok(attachments.into_iter().find(made_it))
}

fn ended(operation: &Operation, attachment: Option<&Attachment>) -> serde_json::Value {
    if operation.kind == "attach" {
        json!({ "operation": operation, "attachment": attachment })
    } else {
        json!({ "operation": operation })
    }
}

async fn show_any(client: &Client, output: Output, id: &str) -> Result<(), CliError> {
    let (operations, attachments) = client.all().await?;
    if let Some(attachment) = attachments.iter().find(|attachment| attachment.id == id) {
        return print(output, || show::attachment(attachment), &json!({ "attachment": attachment }));
    }
    if let Some(operation) = operations.iter().find(|operation| operation.id == id) {
        return print(output, || show::operation(operation), &json!({ "operation": operation }));
    }
    let volume = client.volume(id).await.map_err(|error| match error {
        CliError::Refused { kind: crate::model::ErrorKind::NotFound, .. } => {
            CliError::NoSuchObject { what: "attachment, operation or volume", id: id.to_owned() }
        }
        other => other,
    })?;
    print(output, || show::volume(&volume), &json!({ "volume": volume }))
}

async fn cancel(client: &Client, output: Output, id: &str) -> Result<(), CliError> {
    let unknown = || CliError::NoSuchObject { what: "operation", id: id.to_owned() };
    let path = operation_path(id).ok_or_else(unknown)?;
    client.cancel(&path).await.map_err(|error| match error {
        CliError::NoSuchObject { .. } => unknown(),
        other => other,
    })?;
    print(output, || format!("asked operation {id} to stop; it ends once it is undone"), &json!({ "cancelling": id }))
}

/// Without `yes` it tells what would be given up, and refuses.
async fn abandon(client: &Client, output: Output, id: &str, yes: bool) -> Result<(), CliError> {
    let unknown = || CliError::NoSuchObject { what: "operation", id: id.to_owned() };
    let named = |error| match error {
        CliError::NoSuchObject { .. } => unknown(),
        other => other,
    };
    let path = operation_path(id).ok_or_else(unknown)?;
    if !yes {
        let operation = client.operation(&path).await.map_err(named)?;
        return Err(CliError::NotConfirmed { operation: Box::new(operation) });
    }
    client.abandon(&path).await.map_err(named)?;
    let operation = client.operation(&path).await.map_err(named)?;
    print(output, || show::abandoned(&operation), &json!({ "operation": operation }))
}

async fn volume(client: &Client, output: Output, command: VolumeCommand) -> Result<(), CliError> {
    match command {
        VolumeCommand::Create { name, size, volume_type, multiattach } => {
            let volume = client.create_volume(&name, size, volume_type.as_deref(), multiattach).await?;
            print(output, || show::volume(&volume), &json!({ "volume": volume }))
        }
        VolumeCommand::List => {
            let volumes = client.volumes().await?;
            print(output, || show::volumes(&volumes), &json!({ "volumes": volumes }))
        }
        VolumeCommand::Show { volume } => {
            let volume = client.volume(&volume).await?;
            print(output, || show::volume(&volume), &json!({ "volume": volume }))
        }
        VolumeCommand::Delete { volume } => {
            client.delete_volume(&volume).await?;
            print(output, || format!("deleted volume {volume}"), &json!({ "deleted": volume }))
        }
    }
}

fn print(output: Output, text: impl FnOnce() -> String, document: &serde_json::Value) -> Result<(), CliError> {
    if output.json { output.document(document) } else { output.line(&text()) }
}
