//! The agent's things as text for people.

use super::{
    output::{duration, fields, size, table},
    view::{Attachment, Operation, Plan, Volume, object},
};

/// All attachments.
pub fn attachments(attachments: &[Attachment]) -> String {
    let rows: Vec<_> = attachments
        .iter()
        .map(|a| {
            let device = if a.device.is_empty() { "-" } else { &a.device };
            [
                a.guest_name.clone(),
                a.target.clone(),
                a.volume.clone(),
                size(a.size_bytes),
                format!("{}/{}", a.protocol, a.initiator),
                device.to_owned(),
                a.health.as_ref().map_or_else(|| "-".to_owned(), |health| health.state.clone()),
                a.id.clone(),
            ]
        })
        .collect();
    table(["GUEST", "TARGET", "VOLUME", "SIZE", "VIA", "DEVICE", "HEALTH", "ATTACHMENT"], &rows)
}

/// One attachment.
pub fn attachment(a: &Attachment) -> String {
    let mut pairs = vec![
        ("attachment", a.id.clone()),
        ("volume", a.volume.clone()),
        ("guest", format!("{} ({})", a.guest_name, a.guest)),
        ("target", a.target.clone()),
        ("protocol", a.protocol.clone()),
        ("initiator", a.initiator.clone()),
        ("device", a.device.clone()),
        ("serial", a.serial.clone().unwrap_or_default()),
        ("wwids", a.wwids.join(", ")),
        ("size", format!("{} ({} bytes)", size(a.size_bytes), a.size_bytes)),
        ("tag", a.tag.clone().unwrap_or_default()),
        ("encryption", a.encryption.clone().unwrap_or_default()),
        ("attached", a.attached_at.clone()),
    ];
    if let Some(health) = &a.health {
        let since = health.since.as_ref().map(|since| format!(", since {since}")).unwrap_or_default();
        pairs.push(("health", format!("{}{since}", health.state)));
        pairs.extend(health.faults.iter().map(|f| ("fault", format!("{}: {}, since {}", f.part, f.problem, f.since))));
    }
    fields(&pairs)
}

/// All operations.
pub fn operations(operations: &[Operation]) -> String {
    let rows: Vec<_> = operations
        .iter()
        .map(|o| {
            let took = if o.duration_us == 0 { "-".to_owned() } else { duration(o.duration_us) };
            [o.id.clone(), o.kind.clone(), o.state.clone(), o.volume.clone(), o.guest_name.clone(), took, o.created_at.clone()]
        })
        .collect();
    table(["OPERATION", "KIND", "STATE", "VOLUME", "GUEST", "TOOK", "CREATED"], &rows)
}

/// One operation.
pub fn operation(o: &Operation) -> String {
    let mut pairs = vec![
        ("operation", o.id.clone()),
        ("kind", o.kind.clone()),
        ("state", o.state.clone()),
        ("volume", o.volume.clone()),
        ("guest", if o.guest.is_empty() { "none".to_owned() } else { format!("{} ({})", o.guest_name, o.guest) }),
        ("created", o.created_at.clone()),
    ];
    if o.duration_us != 0 {
        pairs.push(("took", duration(o.duration_us)));
    }
    if let Some(error) = &o.error {
        pairs.push(("error", format!("{}: {}", error.kind, error.message)));
        if !error.remedy.is_empty() {
            pairs.push(("remedy", error.remedy.clone()));
        }
    }
    pairs.extend(o.remarks.iter().map(|remark| ("remark", remark.clone())));
    let steps = o.steps.iter().map(|step| {
        let time = if step.duration_us == 0 { String::new() } else { duration(step.duration_us) };
        format!("\n  {:<20}{time:>10}  {}", step.name, step.state)
    });
    fields(&pairs) + &steps.collect::<String>()
}

/// All volumes.
pub fn volumes(volumes: &[Volume]) -> String {
    let rows: Vec<_> = volumes
        .iter()
        .map(|v| {
            let volume_type = v.volume_type.clone().unwrap_or_else(|| "-".to_owned());
            [v.id.clone(), v.name.clone(), format!("{} GiB", v.size_gib), v.status.clone(), volume_type]
        })
        .collect();
    table(["VOLUME", "NAME", "SIZE", "STATUS", "TYPE"], &rows)
}

/// One volume.
pub fn volume(v: &Volume) -> String {
    let yes_no = |flag: bool| if flag { "yes" } else { "no" }.to_owned();
    let mut pairs = vec![
        ("volume", v.id.clone()),
        ("name", v.name.clone()),
        ("size", format!("{} GiB", v.size_gib)),
        ("status", v.status.clone()),
        ("type", v.volume_type.clone().unwrap_or_default()),
        ("bootable", yes_no(v.bootable)),
        ("multiattach", yes_no(v.multiattach)),
        ("encrypted", yes_no(v.encrypted)),
        ("created", v.created_at.clone()),
    ];
    for entry in &v.attachments {
        let guest = entry.guest.as_deref().unwrap_or("no guest");
        let host = entry.host.as_deref().map(|host| format!(" on {host}")).unwrap_or_default();
        pairs.push(("attached", format!("{guest}{host} ({})", entry.id)));
    }
    fields(&pairs)
}

/// What would be done.
pub fn plan(plan: &Plan) -> String {
    let whose = if plan.guest.is_empty() { String::new() } else { format!(" ({})", plan.guest) };
    let head = format!("would {} {}{whose}:", plan.kind, object(&plan.kind, &plan.volume, &plan.guest_name));
    plan.steps.iter().fold(head, |text, step| format!("{text}\n  {:<20}{}", step.name, step.description))
}

/// The last line of an operation that did what it was asked.
pub fn success(operation: &Operation, attachment: Option<&Attachment>) -> String {
    let Operation { volume, guest_name, .. } = operation;
    let took = duration(operation.duration_us);
    if operation.kind == "detach" {
        return format!("detached volume {volume} from guest {guest_name} in {took}");
    }
    if operation.kind == "extend" {
        let seen = if guest_name.is_empty() { String::new() } else { format!(", seen by guest {guest_name}") };
        return format!("extended volume {volume} in {took}{seen}");
    }
    if operation.kind == "boot" {
        return format!("booted guest {guest_name} in {took}");
    }
    if operation.kind == "delete" {
        let remarks: String = operation.remarks.iter().map(|remark| format!("\n{remark}")).collect();
        return format!("deleted guest {guest_name}'s disks in {took}{remarks}");
    }
    if let Some(done) = match operation.kind.as_str() {
        "rebuild" => Some("rebuilt"),
        "rescue" => Some("rescued"),
        "unrescue" => Some("ended the rescue of"),
        "start" => Some("started"),
        "stop" => Some("stopped"),
        _ => None,
    } {
        return format!("{done} guest {guest_name} in {took}");
    }
    if let Some(image) = &operation.image {
        return format!("made image {image} of guest {guest_name} in {took}");
    }
    let Some(attachment) = attachment else { return format!("attached volume {volume} to guest {guest_name} in {took}") };
    let mut about = vec![size(attachment.size_bytes), format!("{}/{}", attachment.protocol, attachment.initiator)];
    about.extend(Some(attachment.device.clone()).filter(|device| !device.is_empty()));
    about.extend(attachment.serial.as_ref().map(|serial| format!("serial {serial}")));
    format!("attached volume {volume} to guest {guest_name} as {} in {took}\n  {}", attachment.target, about.join(", "))
}

/// What was given up, what it left, and how that is cleaned up.
pub fn abandoned(operation: &Operation) -> String {
    let mut lines = vec![format!("gave up the {} of {}", operation.kind, operation.object())];
    if let Some(error) = &operation.error {
        lines.push(format!("  {}", error.message));
        lines.extend(Some(&error.remedy).filter(|remedy| !remedy.is_empty()).map(|remedy| format!("  by hand: {remedy}")));
    }
    lines.join("\n")
}

/// What to say below the error of an operation that did not.
pub fn aftermath(operation: &Operation) -> Vec<String> {
    let mut lines = Vec::new();
    let undone = operation.steps_that_are("undone");
    if !undone.is_empty() {
        lines.push(format!("undone: {}", undone.join(", ")));
    }
    let left = operation.steps_that_are("succeeded");
    if operation.state == "stuck" && !left.is_empty() {
        lines.push(format!("left as it is: {}", left.join(", ")));
    }
    if operation.state != "stuck" && undone.is_empty() {
        lines.push("nothing had to be undone".to_owned());
    }
    lines
}
