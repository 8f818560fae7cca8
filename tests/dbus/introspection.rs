//! The interfaces are a promise: what is live is what is committed in `docs/dbus/`.

use super::support::{Stage, call};
use std::{collections::BTreeMap, fs, path::PathBuf};
use zbus::OwnedObjectPath;

/// The interfaces of the agent that an object carries, as files of their own.
fn interfaces(xml: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = xml;
    while let Some(start) = rest.find("<interface name=\"") {
        let from = &rest[start..];
        let end = from.find("</interface>").unwrap() + "</interface>".len();
        let name = from["<interface name=\"".len()..].split('"').next().unwrap();
        if name.starts_with("org.bowline.") {
            let text = format!("<node>\n  {}\n</node>\n", &from[..end]);
            let text: String = text.lines().map(|line| format!("{}\n", line.trim_end())).collect();
            found.insert(name.to_owned(), text);
        }
        rest = &from[end..];
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_live_interfaces_are_the_committed_ones() {
    let stage = Stage::new().await;
    stage.bowline(&["attach", "one", "guest"]).await.succeeded();
    let operations: Vec<OwnedObjectPath> = stage.call("org.bowline.Manager1", "ListOperations", &()).await.unwrap();
    let attachments: Vec<OwnedObjectPath> = stage.call("org.bowline.Manager1", "ListAttachments", &()).await.unwrap();
    let mut live = BTreeMap::new();
    for path in ["/org/bowline/Agent1", operations[0].as_str(), attachments[0].as_str()] {
        let xml: String = call(&stage.client, path, "org.freedesktop.DBus.Introspectable", "Introspect", &()).await.unwrap();
        live.extend(interfaces(&xml));
    }
    assert_eq!(live.len(), 4, "{:?}", live.keys());

    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/dbus");
    if std::env::var_os("BLESS").is_some() {
        for (name, text) in &live {
            fs::write(folder.join(format!("{name}.xml")), text).unwrap();
        }
    }
    let mut committed = BTreeMap::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "xml") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            committed.insert(name, fs::read_to_string(path).unwrap());
        }
    }
    for (name, text) in &live {
        let committed = committed.get(name).map_or("", String::as_str);
        assert!(committed == text, "{name} is not what docs/dbus/ says; if that is meant, run again with BLESS=1\n{text}");
    }
    assert_eq!(committed.keys().collect::<Vec<_>>(), live.keys().collect::<Vec<_>>());
}
