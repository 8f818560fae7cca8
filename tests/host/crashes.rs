//! The agent dies, by a kill, at each boundary of each step of every operation on a guest as a whole; its next start brings the guest to a
//! true state by itself. The steps are those that the agent plans, so a new one is struck as well. Attaches, detaches and extends are in
//! `common/cases.rs` and `common/growth.rs`, on this rig and in the node.

use serde_json::Value;

use crate::boot::{IMAGES, assert_gone, booted, curl, on_host, upload, volumes};
use crate::common::{HostRig, Machine, Site};

const BOOT: &str = "boot g1 --image tiny --size 1 --block-device source=blank,dest=volume,size=1,delete_on_termination=true";
const SNAPSHOT: &str = "snapshot g1 cut";
const REBUILD: &str = "rebuild g1 --image tiny --size 1";

/// What came of each death.
#[derive(Default)]
struct Table(Vec<[String; 4]>);

impl Table {
    /// For each boundary of each step of this request: brings about what it starts from, has the agent die there, starts it anew, and
    /// holds what is then against what the operation's end says.
    fn strike(&mut self, site: &Site<'_, HostRig>, request: &str, prepare: impl Fn(), holds: impl Fn(bool, &str)) {
        let verb = request.split(' ').next().unwrap();
        prepare();
        let plan = site.json(&format!("{request} --dry-run"));
        let steps: Vec<&str> =
            plan["plan"]["steps"].as_array().unwrap().iter().map(|step| step["name"].as_str().unwrap()).collect();
        for step in &steps {
            for when in ["started", "succeeded"] {
                let at = format!("{verb} at {step}:{when}");
                prepare();
                site.stop_agent();
                site.start_agent(&format!("{step}:{when}"));
                let said = site.bowline(&format!("{request} --no-wait"));
                site.assert_agent_dies(&format!("{at}: {said:?}"));
                site.start_agent("");
                let last = last(site, verb);
                let state = last["state"].as_str().unwrap_or("?");
                assert!(matches!(state, "succeeded" | "failed"), "{at}: {last}");
                holds(state == "succeeded", &at);
                self.0.push([verb.to_owned(), (*step).to_owned(), when.to_owned(), state.to_owned()]);
            }
        }
    }

    fn print(&self) {
        for [verb, step, when, state] in &self.0 {
            println!("{verb:<10}{step:<16}{when:<11}{state}");
        }
        println!("{} deaths, each ended as it should", self.0.len());
    }

    /// Each operation was brought to its end at least once, or undone: what can only go on must, and what can go back may.
    fn ended(&self, verb: &str, state: &str) -> usize {
        self.0.iter().filter(|row| row[0] == verb && row[3] == state).count()
    }
}

/// The last operation of that kind, once it has ended.
fn last(site: &Site<'_, HostRig>, kind: &str) -> Value {
    site.machine.ok(
        "timeout 50 bash -c 'until [ \"$(bowline --json operations | jq \".operations | length\")\" = 0 ]; do sleep 0.1; done'",
    );
    let all = site.json("operations --all");
    all["operations"].as_array().unwrap().iter().rfind(|operation| operation["kind"] == kind).unwrap().clone()
}

fn is_on(site: &Site<'_, HostRig>) -> bool {
    site.machine.ok("virsh domstate g1") == "running"
}

/// The guest has one disk of a file, its root, and there is no other file but the image below it.
fn assert_one_root(site: &Site<'_, HostRig>, context: &str) {
    let roots = site.machine.ok("virsh -q domblklist g1 --inactive | grep -c ' */var/lib/bowline-images/disks/.*' || :");
    let files = site.machine.ok("find /var/lib/bowline-images/disks -type f ! -name '*.base' | wc -l");
    assert_eq!((roots.as_str(), files.as_str()), ("1", "1"), "{context}");
}

#[test]
fn killed_at_every_boundary_a_guests_operation_ends_done_or_undone() {
    on_host("crashes", "", |site| {
        site.machine.ok("qemu-img convert -f raw -O qcow2 $BOWLINE_GUEST/disk.img /run/tiny.qcow2");
        upload(site, "tiny", "qcow2", "/run/tiny.qcow2");
        site.machine.diskless_guest("g1");
        let table = &mut Table::default();
        let off = || {
            site.machine.ok("[ \"$(virsh domstate g1)\" = 'shut off' ] || virsh -q destroy g1");
        };
        let images = || serde_json::from_str::<Value>(&curl(site, IMAGES)).unwrap()["images"].as_array().unwrap().len();
        // A guest under emulation that boots costs a whole processor, which nobody looks at here.
        let boot = |is_paused: bool| {
            if site.machine.ok("virsh -q domblklist g1 --inactive").is_empty() {
                site.bowline(BOOT).ok();
                if is_paused {
                    site.machine.ok("virsh -q suspend g1");
                }
            }
        };

        table.strike(
            site,
            BOOT,
            || (),
            |is_done, at| {
                assert_eq!(is_on(site), is_done, "{at}");
                if is_done {
                    assert_one_root(site, at);
                    assert_eq!(volumes(site).len(), 1, "{at}");
                    site.bowline("delete g1").ok();
                }
                assert_gone(site, "g1");
                assert_eq!(volumes(site), [""; 0], "{at}");
            },
        );

        boot(false);
        // A snapshot wants an agent in the guest to freeze it.
        drop(booted(site, "g1"));
        let before = images();
        table.strike(
            site,
            SNAPSHOT,
            || (),
            |is_done, at| {
                let image = curl(site, &format!("'{IMAGES}?name=cut' | jq -r '.images[] | .id + \" \" + .status'"));
                assert_eq!(images(), before + usize::from(is_done), "{at}: {image}");
                assert_eq!(site.machine.ok("ls /var/lib/bowline-images/snapshots 2>/dev/null || :"), "", "{at}");
                assert!(site.machine.ok("virsh domjobinfo g1").contains("None"), "{at}");
                if let Some((id, status)) = image.split_once(' ') {
                    assert_eq!(status, "active", "{at}");
                    curl(site, &format!("-X DELETE {IMAGES}/{id}"));
                }
                assert_one_root(site, at);
            },
        );

        table.strike(
            site,
            "stop g1 --force",
            || {
                if !is_on(site) {
                    site.bowline("start g1").ok();
                }
            },
            |is_done, at| {
                assert_eq!(is_on(site), !is_done, "{at}");
            },
        );
        table.strike(site, "start g1", off, |is_done, at| assert_eq!(is_on(site), is_done, "{at}"));
        table.strike(site, REBUILD, off, |_, at| assert_one_root(site, at));
        assert_eq!(site.json("list")["attachments"].as_array().map(Vec::len), Some(1), "its volume stayed all the time");

        // The root disk of another is a volume.
        site.machine.diskless_guest("g2");
        site.bowline("boot g2 --image tiny --to volume --size 1").ok();
        site.machine.ok("virsh -q destroy g2");
        table.strike(
            site,
            "rebuild g2 --image tiny",
            || (),
            |_, at| {
                assert_eq!(site.machine.ok("virsh -q domblklist g2 --inactive | awk '{ print $1 }'"), "vda", "{at}");
                let attachments = site.json("list")["attachments"].as_array().unwrap().clone();
                let of_g2: Vec<_> = attachments.iter().filter(|attached| attached["guest_name"] == "g2").collect();
                assert_eq!((of_g2.len(), attachments.len()), (1, 2), "{at}: {attachments:?}");
                let of_service = site.ask_service("/attachments")["attachments"].as_array().unwrap().clone();
                assert!(
                    of_service.len() == 2 && of_service.iter().all(|one| one["status"] == "attached"),
                    "{at}: {of_service:?}"
                );
            },
        );
        site.bowline("delete g2").ok();
        for volume in volumes(site).iter().filter(|name| name.starts_with("g2-")) {
            site.bowline(&format!("volume delete {volume}")).ok();
        }

        table.strike(
            site,
            "delete g1",
            || boot(true),
            |is_done, at| {
                assert!(is_done, "{at}: a delete goes on until it is done");
                assert_gone(site, "g1");
                assert_eq!(volumes(site), [""; 0], "{at}");
            },
        );

        table.print();
        for (verb, state) in [
            ("boot", "failed"),
            ("boot", "succeeded"),
            ("snapshot", "failed"),
            ("rebuild", "succeeded"),
            ("start", "succeeded"),
        ] {
            assert!(table.ended(verb, state) > 0, "no {verb} has {state}");
        }
        assert!(table.0.len() >= 30, "only {} deaths", table.0.len());
    });
}
