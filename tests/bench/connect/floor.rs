//! The floor: the least that any program does. Nothing is checked, claimed, flushed or journalled; a thread for each volume.
//!
//! iSCSI: the node record is written (the text comes with the order), `iscsiadm` logs in, one LUN is scanned by sysfs, and udev's own
//! event says that it is there. NFS: mount(8) and umount(8), once for all volumes of an export. RBD: the kernel is told by sysfs, and
//! udev's link is waited for. Several paths: each as above; then the map that multipathd makes is waited for, and removed by it.

use crate::{Done, Side};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket,
    sockopt::ReceiveTimeout,
};
use serde_json::Value;
use std::{
    error::Error,
    fs, io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    thread,
    time::Instant,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Where udev tells what it has finished (its second multicast group).
const UDEV_GROUP: u32 = 2;
const LIMIT_S: i64 = 60;

#[derive(Default)]
pub struct Floor {
    connected: Vec<Volume>,
}

/// A volume, and what connecting it brought.
#[derive(Clone)]
struct Volume {
    info: Value,
    bare: Value,
    /// iSCSI: sessions with the folder of the LUN. The mount point. RBD: the device's number.
    made: Vec<(String, PathBuf)>,
}

/// Mounts and unmounts of one export go one after another.
static MOUNTS: Mutex<usize> = Mutex::new(0);

impl Side for Floor {
    fn connect(&mut self, volumes: &[Value]) -> Vec<Done> {
        let volumes = volumes.iter().map(|volume| Volume {
            info: volume["info"].clone(),
            bare: volume["bare"].clone(),
            made: Vec::new(),
        });
        let mut done = Vec::new();
        for (one, volume) in at_once(volumes.collect(), Volume::connect) {
            done.push(one);
            self.connected.push(volume);
        }
        done
    }

    fn disconnect(&mut self) -> Vec<Done> {
        at_once(std::mem::take(&mut self.connected), |volume| volume.disconnect().map(|()| None))
            .into_iter()
            .map(|(one, _)| one)
            .collect()
    }
}

fn at_once(volumes: Vec<Volume>, work: fn(&mut Volume) -> Result<Option<String>>) -> Vec<(Done, Volume)> {
    let threads: Vec<_> = volumes
        .into_iter()
        .map(|mut volume| {
            thread::spawn(move || {
                let begun = Instant::now();
                let result = work(&mut volume).map_err(|error| error.to_string());
                (Done::since(begun, result), volume)
            })
        })
        .collect();
    threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
}

impl Volume {
    fn text(&self, key: &str) -> Result<&str> {
        self.info["data"][key].as_str().ok_or_else(|| format!("no {key}").into())
    }

    fn connect(&mut self) -> Result<Option<String>> {
        match self.info["driver_volume_type"].as_str() {
            Some("iscsi") => self.connect_iscsi().map(Some),
            Some("nfs") => self.connect_nfs().map(Some),
            Some("rbd") => self.connect_rbd().map(Some),
            other => Err(format!("no floor for {other:?}").into()),
        }
    }

    fn disconnect(&mut self) -> Result<()> {
        match self.info["driver_volume_type"].as_str() {
            Some("nfs") => self.disconnect_nfs(),
            Some("rbd") => self.disconnect_rbd(),
            _ => self.disconnect_iscsi(),
        }
    }

    fn connect_iscsi(&mut self) -> Result<String> {
        let paths = self.bare["paths"].as_array().ok_or("no paths")?.clone();
        let logins: Vec<_> =
            paths.into_iter().map(|path| thread::spawn(move || log_in(&path).map_err(|error| error.to_string()))).collect();
        let mut disk = String::new();
        for login in logins {
            let (session, lun_folder, name) = login.join().map_err(|_| "a login panicked")??;
            self.made.push((session, lun_folder));
            disk = name;
        }
        if self.made.len() < 2 {
            return Ok(format!("/dev/{disk}"));
        }
        let events = Uevents::listen()?;
        loop {
            let holders = fs::read_dir(format!("/sys/block/{disk}/holders"))?.flatten().next();
            if let Some(map) = holders.map(|holder| holder.file_name().to_string_lossy().into_owned())
                && fs::read_dir(format!("/sys/block/{map}/slaves"))?.count() == self.made.len()
            {
                return Ok(format!("/dev/{map}"));
            }
            events.next()?;
        }
    }

    fn disconnect_iscsi(&mut self) -> Result<()> {
        if let [_, (_, folder), ..] = self.made.as_slice() {
            let disk = only_entry(&folder.join("block"))?;
            let map = only_entry(Path::new(&format!("/sys/block/{disk}/holders")))?;
            let name = fs::read_to_string(format!("/sys/block/{map}/dm/name"))?;
            let events = Uevents::listen()?;
            // udev may still have it open, for a look at it.
            while let Err(error) = run("multipath", &["-f", name.trim()]) {
                if !error.to_string().contains("map in use") {
                    return Err(error);
                }
                events.next()?;
            }
        }
        for (session, lun_folder) in &self.made {
            fs::write(lun_folder.join("delete"), "1")?;
            run("iscsiadm", &["-m", "session", "-r", session, "--logout"])?;
        }
        for path in self.bare["paths"].as_array().into_iter().flatten() {
            let record = Path::new(path["record"].as_str().ok_or("no record")?);
            fs::remove_file(record)?;
            // Another path's record may be beside it.
            let _ = record.parent().map(fs::remove_dir);
        }
        Ok(())
    }

    fn connect_nfs(&mut self) -> Result<String> {
        let folder = "/run/floor-mount";
        {
            let mut users = MOUNTS.lock().map_err(|_| "poisoned")?;
            if *users == 0 {
                fs::create_dir_all(folder)?;
                run("mount", &["-t", "nfs", "-o", "vers=4.2,nosuid,nodev,noexec", "--", self.text("export")?, folder])?;
            }
            *users += 1;
        }
        let file = format!("{folder}/{}", self.text("name")?);
        fs::metadata(&file)?;
        Ok(file)
    }

    fn disconnect_nfs(&mut self) -> Result<()> {
        let mut users = MOUNTS.lock().map_err(|_| "poisoned")?;
        *users -= 1;
        if *users == 0 {
            run("umount", &["/run/floor-mount"])?;
        }
        Ok(())
    }

    fn connect_rbd(&mut self) -> Result<String> {
        let events = Uevents::listen()?;
        let name = self.text("name")?.to_owned();
        let (pool, image) = name.split_once('/').ok_or("no pool")?;
        let key = self.bare["key"].as_str().ok_or("no key")?;
        fs::write("/sys/bus/rbd/add_single_major", format!("127.0.0.1:6789 name=cinder,secret={key} {pool} {image} -"))?;
        let link = format!("/dev/rbd/{name}");
        while !Path::new(&link).exists() {
            events.next()?;
        }
        let number = fs::canonicalize(&link)?.to_string_lossy().trim_start_matches("/dev/rbd").to_owned();
        self.made.push((number, PathBuf::from(&link)));
        Ok(link)
    }

    fn disconnect_rbd(&mut self) -> Result<()> {
        let events = Uevents::listen()?;
        for (number, _) in &self.made {
            // udev or multipathd may still have it open, for a look at it.
            while let Err(error) = fs::write("/sys/bus/rbd/remove_single_major", number) {
                if error.kind() != io::ErrorKind::ResourceBusy {
                    return Err(error.into());
                }
                events.next()?;
            }
        }
        Ok(())
    }
}

fn only_entry(folder: &Path) -> Result<String> {
    let first = fs::read_dir(folder)?.flatten().next().ok_or_else(|| format!("nothing in {}", folder.display()))?;
    Ok(first.file_name().to_string_lossy().into_owned())
}

/// Session number, the LUN's folder in sysfs, and the disk's name.
fn log_in(path: &Value) -> Result<(String, PathBuf, String)> {
    let text = |key: &str| path[key].as_str().ok_or_else(|| format!("no {key}"));
    let (record, iqn, portal) = (Path::new(text("record")?), text("iqn")?, text("portal")?);
    let draft = PathBuf::from(format!("/etc/iscsi/.floor-{}-{}", iqn, portal.replace(':', "-")));
    fs::write(&draft, text("record_text")?)?;
    fs::create_dir_all(record.parent().ok_or("no folder")?)?;
    fs::rename(&draft, record)?;
    let events = Uevents::listen()?;
    run("iscsiadm", &["-m", "node", "-T", iqn, "-p", portal, "--login"])?;
    let (session, host, device) = find_session(iqn, portal)?;
    let lun = &path["lun"];
    fs::write(format!("/sys/class/scsi_host/host{host}/scan"), format!("0 0 {lun}"))?;
    let lun_folder = device.join(format!("target{host}:0:0/{host}:0:0:{lun}"));
    let inside = lun_folder.strip_prefix("/sys")?.display().to_string();
    loop {
        let event = events.next()?;
        if event.contains(&format!("DEVPATH=/{inside}/block/")) && event.contains("DEVTYPE=disk") {
            let disk = only_entry(&lun_folder.join("block"))?;
            return Ok((session, lun_folder, disk));
        }
    }
}

fn find_session(iqn: &str, portal: &str) -> Result<(String, String, PathBuf)> {
    let address = portal.rsplit_once(':').map_or(portal, |(address, _)| address);
    for entry in fs::read_dir("/sys/class/iscsi_session")?.flatten() {
        let folder = entry.path();
        if !fs::read_to_string(folder.join("targetname")).is_ok_and(|name| name.trim() == iqn) {
            continue;
        }
        let device = fs::canonicalize(folder.join("device"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name.trim_start_matches("session").to_owned();
        let of = fs::read_to_string(format!("/sys/class/iscsi_connection/connection{number}:0/persistent_address"))?;
        let host = device.parent().and_then(Path::file_name).map(|host| host.to_string_lossy().replace("host", ""));
        if of.trim() == address {
            return Ok((number, host.ok_or("no host")?, device));
        }
    }
    Err(format!("no session to {iqn}").into())
}

/// Records of others that come and go while `iscsiadm` reads all of them make it give up (6, 21): it is asked again.
fn run(program: &str, arguments: &[&str]) -> Result<()> {
    for _ in 0..8 {
        let output = Command::new(program).args(arguments).output()?;
        match output.status.code() {
            Some(0) => return Ok(()),
            Some(6 | 21) if program == "iscsiadm" => {}
            code => {
                return Err(format!("{program} {arguments:?}: {code:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
            }
        }
    }
    Err(format!("{program} {arguments:?} gave up again and again").into())
}

/// What udev announces.
struct Uevents(OwnedFd);

impl Uevents {
    fn listen() -> Result<Self> {
        let group = SockProtocol::NetlinkKObjectUEvent;
        let listener = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, group)?;
        bind(listener.as_raw_fd(), &NetlinkAddr::new(0, UDEV_GROUP))?;
        setsockopt(&listener, ReceiveTimeout, &nix::sys::time::TimeVal::new(LIMIT_S, 0))?;
        Ok(Self(listener))
    }

    fn next(&self) -> Result<String> {
        let mut buffer = vec![0; 1 << 16];
        match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) => Ok(String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned()),
            // Some were lost in a burst: whoever waits looks again.
            Err(nix::errno::Errno::ENOBUFS | nix::errno::Errno::EINTR) => Ok(String::new()),
            Err(nix::errno::Errno::EAGAIN) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            Err(error) => Err(error.into()),
        }
    }
}
