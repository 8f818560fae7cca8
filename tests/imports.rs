//! Who imports whom. The edges are those of ARCHITECTURE.md; an import against them fails here, with its place.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A room, and the rooms of `crate::` it may name. A room is known by its longest matching folder.
const ROOMS: [(&str, &[&str]); 15] = [
    ("src/model", &["model"]),
    ("src/openstack", &["model", "openstack"]),
    ("src/command.rs", &[]),
    ("src/connectors", &["model", "connectors", "command"]),
    ("src/libvirt", &["model", "libvirt"]),
    ("src/bootsource", &["model", "bootsource", "command"]),
    ("src/doctor", &["model", "doctor"]),
    ("src/agent/config", &["model", "agent::config"]),
    ("src/agent/journal", &["model", "agent::api", "agent::journal"]),
    (
        "src/agent/operations",
        &[
            "model",
            "openstack",
            "connectors",
            "libvirt",
            "bootsource",
            "doctor",
            "agent::api",
            "agent::config",
            "agent::health",
            "agent::journal",
            "agent::operations",
        ],
    ),
    ("src/agent/health", &["model", "agent::api", "agent::health"]),
    ("src/agent/metrics", &["model", "agent::api", "agent::metrics"]),
    ("src/agent/dbus", &["model", "agent::api", "agent::dbus"]),
    ("src/agent/api/", &["model"]),
    ("src/cli", &["model", "doctor", "cli"]),
];

/// A crate, and the folders its types may be named in.
const OWNERS: [(&str, &[&str]); 13] = [
    ("zbus", &["src/agent/dbus", "src/cli", "src/connectors/nfs"]),
    (
        "reqwest",
        &[
            "src/openstack",
            "backend/src/auth",
            "backend/src/backup/stores",
            "backend/src/image/glance.rs",
            "backend/src/keys/barbican.rs",
            "backend/src/nova.rs",
            "backend/tests",
            "backend/src/testing",
        ],
    ),
    ("prometheus_client", &["src/agent/metrics", "backend/src/api/metrics.rs"]),
    ("hyper", &["src/agent/metrics", "backend/src/api"]),
    ("virt", &["src/libvirt"]),
    ("quick_xml", &["src/libvirt", "backend/src/backup/stores"]),
    ("udev", &["src/connectors"]),
    ("redb", &["src/agent/journal"]),
    ("axum", &["backend/src/api", "backend/src/nova.rs"]),
    ("lapin", &["backend/src/bus"]),
    ("sqlx", &["backend/src/store"]),
    ("rusqlite", &["backend/src/store/engine/sqlite"]),
    ("bowline_backend", &["backend/src/main.rs", "backend/src/commands.rs", "backend/tests"]),
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every source file with its path from the root and its code, comments left out.
fn code() -> Vec<(String, Vec<String>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec![];
    for dir in ["src", "backend/src"] {
        sources(&root.join(dir), &mut paths);
    }
    assert!(paths.len() > 40, "the sources were not found");
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let lines = text.lines().map(|line| line.split("//").next().unwrap_or("").to_owned()).collect();
            (path.strip_prefix(root).unwrap().display().to_string(), lines)
        })
        .collect()
}

fn words_after<'a>(line: &'a str, marker: &str) -> Vec<&'a str> {
    line.match_indices(marker)
        .filter(|(at, _)| *at == 0 || !line[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
        .map(|(at, _)| &line[at + marker.len()..])
        .collect()
}

/// The paths that `rest` names: itself, or, where it opens a brace, each member of that group.
fn members(rest: &str) -> Vec<String> {
    let Some(group) = rest.strip_prefix('{') else { return vec![rest.to_owned()] };
    let (mut depth, mut member, mut found) = (0, String::new(), vec![]);
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => found.push(std::mem::take(&mut member)),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                member.push(c);
            }
        }
    }
    found.push(member);
    found.into_iter().map(|member| member.trim().to_owned()).filter(|member| !member.is_empty()).collect()
}

#[test]
fn a_group_of_imports_is_taken_apart() {
    assert_eq!(members("model::{A, B};"), ["model::{A, B};"]);
    assert_eq!(members("{\n  agent::api::{A, B},\n  model::C,\n};\nrest"), ["agent::api::{A, B}", "model::C"]);
}

#[test]
fn no_room_knows_more_than_it_should() {
    let mut trespasses = vec![];
    for (path, lines) in code() {
        let Some((_, allowed)) = ROOMS.iter().filter(|(room, _)| path.starts_with(room)).max_by_key(|(room, _)| room.len())
        else {
            continue;
        };
        let text = lines.join("\n");
        for rest in words_after(&text, "crate::") {
            let number = text[..text.len() - rest.len()].lines().count();
            for named in members(rest) {
                let fine = allowed.iter().any(|room| {
                    named.strip_prefix(room).is_some_and(|after| !after.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
                });
                if !fine {
                    let named = named.lines().next().unwrap_or_default();
                    trespasses.push(format!("{path}:{number}: {named}"));
                }
            }
        }
    }
    assert!(trespasses.is_empty(), "imports against the edges of ARCHITECTURE.md:\n{}", trespasses.join("\n"));
}

#[test]
fn library_types_stay_in_the_folder_that_owns_them() {
    let mut trespasses = vec![];
    for (path, lines) in code() {
        for (number, line) in lines.iter().enumerate() {
            for (library, folders) in OWNERS {
                let named = !words_after(line, &format!("{library}::")).is_empty()
                    || line.trim_start().starts_with(&format!("use {library};"));
                if named && !folders.iter().any(|folder| path.starts_with(folder)) {
                    trespasses.push(format!("{path}:{}: {}", number + 1, line.trim()));
                }
            }
        }
    }
    assert!(trespasses.is_empty(), "libraries outside of their folder:\n{}", trespasses.join("\n"));
}

#[test]
fn the_agent_and_the_backend_share_no_code() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("backend/Cargo.toml")).unwrap();
    let agent_as_dependency =
        manifest.lines().any(|line| line.trim_start().starts_with("bowline ") || line.starts_with("bowline="));
    assert!(!agent_as_dependency, "backend/Cargo.toml depends on the agent: the wire is the contract");
}
