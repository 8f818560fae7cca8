//! Looks at the host: files, /proc and /sys, and one question to multipathd. Reads only, starts nothing.

use super::{
    facts::{FileFact, HostFacts, InitiatorName, Module, MultipathdConfig},
    multipath::SOCKET,
};
use std::{
    collections::BTreeMap,
    env, fs, io,
    io::{Read, Write},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::MetadataExt,
            net::{SocketAddr, UnixStream},
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

/// Programs that protocols and disks need. Daemons and helpers of mount(8) are in sbin, which a user's path may lack.
const PROGRAMS: [&str; 6] = ["iscsiadm", "multipathd", "mount.nfs", "rbd", "lvcreate", "thin_check"];
const MORE_FOLDERS: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin"];

const MODULES: [&str; 4] = ["iscsi_tcp", "nfs", "dm_multipath", "rbd"];

/// Where distributions put QEMU's loadable drivers: Debian (by architecture), Fedora and its kin, Arch.
const QEMU_FOLDERS: [&str; 5] = [
    "/usr/lib/x86_64-linux-gnu/qemu",
    "/usr/lib/aarch64-linux-gnu/qemu",
    "/usr/lib64/qemu",
    "/usr/lib64/qemu-kvm",
    "/usr/lib/qemu",
];

/// How long multipathd may take to answer; it holds a lock while it works on maps.
const MULTIPATHD_TIMEOUT: Duration = Duration::from_secs(2);

/// More than its configuration ever is, devices of all makers included.
const REPLY_MAX_BYTES: u64 = 1 << 20;

/// Everything that can be seen from this process. Blocks for two seconds at most.
pub fn gather(initiator_name_file: &Path) -> HostFacts {
    let sockets = fs::read_to_string("/proc/net/unix").ok().map(|table| abstract_listeners(&table));
    let multipathd = sockets.as_ref().is_some_and(|names| names.iter().any(|name| name == SOCKET));
    HostFacts {
        programs: PROGRAMS.into_iter().map(|name| (name, is_in_path(name))).collect(),
        modules: modules(Path::new("/")),
        sockets,
        initiator_name: initiator_name(initiator_name_file, Path::new("/etc/machine-id")),
        multipathd: multipathd.then(|| ask_multipathd().ok()).flatten().map(|text| multipathd_config(&text)),
        qemu_drivers: qemu_drivers(),
        ceph_conf: file("/etc/ceph/ceph.conf"),
        ceph_keyrings: keyrings(Path::new("/etc/ceph")),
        bus_policy: either(["/usr/share/dbus-1/system.d", "/etc/dbus-1/system.d"], "org.bowline.Agent1.conf"),
        polkit_actions: file("/usr/share/polkit-1/actions/org.bowline.agent1.policy"),
    }
}

fn is_in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).chain(MORE_FOLDERS.map(PathBuf::from)).any(|folder| folder.join(program).is_file())
}

/// `Num RefCount Protocol Flags Type St Inode Path` (proc_pid_net(5)); flag 0x10000 means that it listens, `@` that it is abstract.
fn abstract_listeners(table: &str) -> Vec<String> {
    let listener = |line: &str| {
        let mut words = line.split_whitespace();
        let listens = words.nth(3)? == "00010000";
        let name = words.nth(3)?.strip_prefix('@')?;
        listens.then(|| name.trim_end_matches('@').to_owned())
    };
    table.lines().skip(1).filter_map(listener).collect()
}

fn modules(root: &Path) -> BTreeMap<&'static str, Module> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let folder = root.join("lib/modules").join(release.trim());
    // The kernel lists what it was built with apart from what can be loaded.
    let lists = ["modules.builtin", "modules.dep"].map(|name| fs::read_to_string(folder.join(name)).ok());
    // In the agent's sandbox the folder is hidden, which must not look like a kernel without modules.
    let hidden = lists.iter().all(Option::is_none)
        && (!root.join("lib/modules").is_dir()
            || fs::read_dir(root.join("lib/modules")).is_ok_and(|mut entries| entries.next().is_none())
            || fs::read_dir(root.join("lib/modules")).is_err());
    let state = |name: &str| {
        let [builtin, loadable] = lists.each_ref().map(|list| list.as_ref().is_some_and(|list| lists_module(list, name)));
        if root.join("sys/module").join(name).exists() || builtin {
            Some(Module::Loaded)
        } else if loadable {
            Some(Module::Available)
        } else {
            (!hidden).then_some(Module::Absent)
        }
    };
    MODULES.into_iter().filter_map(|name| Some((name, state(name)?))).collect()
}

/// Lines are `PATH/NAME.ko[.xz]`, with `: needs…` after it in modules.dep; files spell `-` where the kernel says `_`.
fn lists_module(list: &str, name: &str) -> bool {
    list.lines().any(|line| {
        let path = line.split(':').next().unwrap_or(line);
        let file = path.rsplit('/').next().unwrap_or(path);
        file.split(".ko").next().is_some_and(|stem| stem.replace('-', "_") == name)
    })
}

fn initiator_name(file: &Path, machine_id: &Path) -> Option<InitiatorName> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(InitiatorName::NoFile),
        Err(_) => return None,
    };
    let Some(name) = text.lines().filter_map(|line| line.trim().strip_prefix("InitiatorName=")).rfind(|name| !name.is_empty())
    else {
        return Some(InitiatorName::Unnamed);
    };
    let made = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let machine_id_later = made(machine_id).zip(made(file)).and_then(|(id, name)| id.duration_since(name).ok());
    Some(InitiatorName::Named { name: name.trim().to_owned(), machine_id_later: machine_id_later.unwrap_or_default() })
}

/// multipathd's protocol both ways: the length as the machine's word, then the text with a zero byte.
fn ask_multipathd() -> io::Result<String> {
    let mut stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(SOCKET)?)?;
    stream.set_read_timeout(Some(MULTIPATHD_TIMEOUT))?;
    stream.set_write_timeout(Some(MULTIPATHD_TIMEOUT))?;
    let question = b"show config\0";
    stream.write_all(&question.len().to_ne_bytes())?;
    stream.write_all(question)?;
    let mut length = [0; size_of::<usize>()];
    stream.read_exact(&mut length)?;
    let length = u64::try_from(usize::from_ne_bytes(length)).unwrap_or(u64::MAX).min(REPLY_MAX_BYTES);
    let mut reply = Vec::new();
    stream.take(length).read_to_end(&mut reply)?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

/// The section `defaults { … }` of what multipathd says it runs with.
fn multipathd_config(text: &str) -> MultipathdConfig {
    let defaults: Vec<&str> =
        text.lines().skip_while(|line| !line.starts_with("defaults")).take_while(|line| *line != "}").collect();
    let value = |key: &str| {
        let found = defaults.iter().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix([' ', '\t']));
        found.map(|value| value.trim().trim_matches('"').to_owned())
    };
    MultipathdConfig { find_multipaths: value("find_multipaths"), user_friendly_names: value("user_friendly_names") }
}

fn qemu_drivers() -> Option<Vec<String>> {
    let entries = QEMU_FOLDERS.iter().find_map(|folder| fs::read_dir(folder).ok())?;
    let driver = |name: &str| Some(name.strip_prefix("block-")?.strip_suffix(".so")?.to_owned());
    Some(entries.flatten().filter_map(|entry| driver(entry.file_name().to_str()?)).collect())
}

/// What there is at a path; `None` where that cannot be seen.
pub fn file(path: impl AsRef<Path>) -> Option<FileFact> {
    match fs::metadata(path) {
        Ok(metadata) => Some(FileFact::There { mode: metadata.mode() & 0o7777, uid: metadata.uid() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(FileFact::Absent),
        Err(_) => None,
    }
}

fn either<const N: usize>(folders: [&str; N], name: &str) -> Option<FileFact> {
    let found = folders.map(|folder| file(Path::new(folder).join(name)));
    let there = found.iter().flatten().find(|fact| **fact != FileFact::Absent);
    there.cloned().or_else(|| found.iter().all(Option::is_some).then_some(FileFact::Absent))
}

fn keyrings(folder: &Path) -> Option<BTreeMap<String, FileFact>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(BTreeMap::new()),
        Err(_) => return None,
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let keyrings = names.filter(|name| name.ends_with(".keyring"));
    Some(keyrings.filter_map(|name| Some((name.clone(), file(folder.join(name))?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_told_from_other_sockets() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0: 00000002 00000000 00010000 0001 01 100 @ISCSIADM_ABSTRACT_NAMESPACE\n\
            0: 00000003 00000000 00000000 0001 03 101 @connected\n\
            0: 00000002 00000000 00010000 0001 01 102 /run/a/path\n\
            0: 00000002 00000000 00010000 0001 01 103\n";
        assert_eq!(abstract_listeners(table), ["ISCSIADM_ABSTRACT_NAMESPACE"]);
    }

    #[test]
    fn a_module_is_found_however_its_file_is_spelt() {
        let list = "kernel/drivers/scsi/iscsi_tcp.ko.xz: kernel/drivers/scsi/libiscsi.ko\nkernel/drivers/md/dm-multipath.ko:\n";
        assert!(lists_module(list, "iscsi_tcp") && lists_module(list, "dm_multipath"));
        assert!(!lists_module(list, "libiscsi") && !lists_module(list, "iscsi"));
    }

    #[test]
    fn multipathd_is_understood() {
        let text = "defaults {\n\tverbosity 2\n\tfind_multipaths \"strict\"\n\tuser_friendly_names \"no\"\n}\nblacklist {\n\tfind_multipaths on\n}\n";
        let config = multipathd_config(text);
        assert_eq!((config.find_multipaths.as_deref(), config.user_friendly_names.as_deref()), (Some("strict"), Some("no")));
        assert_eq!(multipathd_config("").find_multipaths, None);
    }

    #[test]
    fn a_name_is_read_with_how_much_younger_the_machine_is() {
        let dir = tempfile::tempdir().unwrap();
        let (name, id) = (dir.path().join("name"), dir.path().join("id"));
        assert_eq!(initiator_name(&name, &id), Some(InitiatorName::NoFile));
        fs::write(&name, "GenerateName=yes\n").unwrap();
        assert_eq!(initiator_name(&name, &id), Some(InitiatorName::Unnamed));
        fs::write(&name, "# x\nInitiatorName=iqn.a\n").unwrap();
        fs::write(&id, "x").unwrap();
        let month = Duration::from_secs(30 * 24 * 3600);
        let file = fs::File::options().append(true).open(&name).unwrap();
        file.set_modified(std::time::SystemTime::now() - month).unwrap();
        let Some(InitiatorName::Named { name, machine_id_later }) = initiator_name(&name, &id) else { panic!("no name") };
        assert_eq!(name, "iqn.a");
        assert!(machine_id_later >= month - Duration::from_secs(60));
    }

    #[test]
    fn looking_at_this_host_ends() {
        let facts = gather(Path::new("/nonexistent/name"));
        assert_eq!(facts.initiator_name, Some(InitiatorName::NoFile));
        assert_eq!(facts.programs.len(), PROGRAMS.len());
    }
}
