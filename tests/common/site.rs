//! A machine with Bowline on it: the volume service, the agent, and the command to ask it.

use std::time::Duration;

use serde_json::Value;

use super::{Machine, Output};

/// The volume service's folder.
const SERVICE: &str = "/var/lib/bowline-backend";
/// What the tests add to the agent's unit.
const DROP_IN: &str = "/run/systemd/system/bowlined.service.d";
/// How long an operation of these tests may take, all waiting included.
const LIMIT: Duration = Duration::from_secs(120);

/// How the agent and the service are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Services {
    /// As plain processes.
    Processes,
    /// By systemd, as `make install` laid them.
    Systemd,
}

/// Bowline on a machine.
pub struct Site<'machine, M: Machine> {
    /// The machine.
    pub machine: &'machine M,
    services: Services,
    /// Where the service's volumes are, `volume-<id>` each.
    volumes: String,
    /// Whether the kernel shows them to hosts, and not tgtd.
    kernel_targets: bool,
}

impl<'machine, M: Machine> Site<'machine, M> {
    /// Starts the volume service and the agent with the default configuration and these fragments' text beside it.
    #[track_caller]
    pub fn start(machine: &'machine M, services: Services, fragment: &str) -> Self {
        let site = Self::at(machine, services);
        site.start_all(fragment);
        site
    }

    /// The same for a service that keeps its volumes elsewhere, by a configuration that is there already.
    #[track_caller]
    pub fn start_with_volumes_in(machine: &'machine M, volumes: &str, kernel_targets: bool, fragment: &str) -> Self {
        let site = Self { volumes: volumes.to_owned(), kernel_targets, ..Self::at(machine, Services::Systemd) };
        site.start_all(fragment);
        site
    }

    #[track_caller]
    fn start_all(&self, fragment: &str) {
        let (site, machine) = (self, self.machine);
        site.start_service();
        machine.ok("mkdir -p /etc/bowline/bowlined.d");
        machine.write("/etc/bowline/bowlined.d/10-cloud.toml", &format!("[cloud]\nfile = \"{SERVICE}/clouds.yaml\""));
        machine.write("/etc/bowline/bowlined.d/20-test.toml", fragment);
        site.start_agent("");
    }

    /// A machine where both run already, or will be started by the test.
    pub fn at(machine: &'machine M, services: Services) -> Self {
        Self { machine, services, volumes: format!("{SERVICE}/volumes"), kernel_targets: false }
    }

    /// Starts the volume service, with the configuration `/etc/bowline/backend.toml` where there is one, and waits until it serves.
    #[track_caller]
    pub fn start_service(&self) {
        match self.services {
            Services::Processes => {
                self.machine.ok("config=/etc/bowline/backend.toml; [ -e $config ] || config=
                    rm -f /run/bowline-backend.log # what one before has said is no sign of this one
                    setsid bowline-backend serve ${config:+--config $config} >/run/bowline-backend.log 2>&1 </dev/null &
                    wait-for-line /run/bowline-backend.log 'ready:'");
            }
            Services::Systemd => {
                self.machine.ok("systemctl start bowline-backend");
            }
        }
    }

    /// Stops the volume service and waits until it has ended.
    #[track_caller]
    pub fn stop_service(&self) {
        match self.services {
            Services::Processes => {
                self.machine.ok("p=$(pgrep -ox bowline-backend); kill $p; timeout 50 tail -s 0.1 --pid=$p -f /dev/null")
            }
            Services::Systemd => self.machine.ok("systemctl stop bowline-backend"),
        };
    }

    /// Runs commands that ask the service, ends it by `kill -9` as soon as it has answered, and waits until it serves again; what it
    /// answered, command by command.
    #[track_caller]
    pub fn kill_service_in(&self, commands: &[String]) -> Vec<String> {
        let kill = match self.services {
            Services::Processes => "p=$(pgrep -ox bowline-backend); kill -9 $p; timeout 20 tail -s 0.1 --pid=$p -f /dev/null",
            Services::Systemd => "systemctl kill --signal=KILL --kill-who=main bowline-backend",
        };
        let asked: String = commands.iter().map(|command| format!("{command} || exit 1; echo;\n")).collect();
        let said = self.machine.ok(&format!("{asked}{kill} >&2"));
        match self.services {
            Services::Processes => self.start_service(),
            Services::Systemd => {
                self.machine.ok("until curl -sS http://127.0.0.1:8776/ >/dev/null 2>&1; do sleep 0.2; done");
            }
        }
        let mut said: Vec<String> = said.lines().map(str::to_owned).collect();
        said.resize(commands.len(), String::new());
        said
    }

    /// Starts the agent and waits until it is ready. `crash_at`: where it kills itself; empty for nowhere.
    #[track_caller]
    pub fn start_agent(&self, crash_at: &str) {
        match self.services {
            Services::Processes => {
                self.machine.ok(&format!(
                    "rm -f /run/bowlined.log
                    BOWLINE_LOG=debug BOWLINE_CRASH_AT={crash_at} setsid bowlined >/run/bowlined.log 2>&1 </dev/null &
                    wait-for-line /run/bowlined.log 'ready:'"
                ));
            }
            Services::Systemd => {
                self.machine.ok(&format!(
                    "[ -e {DROP_IN}/test.conf ] || {{
                      mkdir -p {DROP_IN} && printf '[Service]\\nEnvironment=BOWLINE_LOG=debug\\nRestart=no\\n' >{DROP_IN}/test.conf
                      systemctl daemon-reload; }}
                    # In the manager's environment: a change of the unit would cost a reload of them all, seconds here.
                    systemctl set-environment BOWLINE_CRASH_AT={crash_at}
                    systemctl reset-failed bowlined 2>/dev/null || :
                    systemctl start bowlined"
                ));
            }
        }
    }

    /// Ends the agent by `kill -9`.
    #[track_caller]
    pub fn kill_agent(&self) {
        self.machine.ok("p=$(pgrep -ox bowlined); kill -9 $p; timeout 50 tail -s 0.1 --pid=$p -f /dev/null");
    }

    /// Waits until the agent is gone: who asked it hears of its death before the kernel has done with it.
    #[track_caller]
    pub fn assert_agent_dies(&self, context: &str) {
        let ended = self
            .machine
            .exec("p=$(pgrep -ox bowlined) || exit 0; timeout 50 tail -s 0.1 --pid=$p -f /dev/null; ! pgrep -x bowlined");
        assert_eq!(ended.status, 0, "{context}: the agent did not die: {ended:?}");
    }

    /// The agent is running.
    pub fn agent_runs(&self) -> bool {
        self.machine.exec("pgrep -x bowlined").status == 0
    }

    /// Stops the agent in an orderly way.
    #[track_caller]
    pub fn stop_agent(&self) {
        match self.services {
            Services::Processes => {
                self.machine.ok("p=$(pgrep -ox bowlined); kill $p; timeout 50 tail -s 0.1 --pid=$p -f /dev/null")
            }
            Services::Systemd => self.machine.ok("systemctl stop bowlined"),
        };
    }

    /// Runs `bowline`.
    pub fn bowline(&self, arguments: &str) -> Output {
        self.machine.exec_for(&format!("bowline {arguments}"), LIMIT)
    }

    /// Runs `bowline --json`, which must succeed.
    #[track_caller]
    pub fn json(&self, arguments: &str) -> Value {
        let said = self.bowline(&format!("--json {arguments}")).ok();
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("bowline --json {arguments} said {said:?}: {error}"))
    }

    /// Makes a volume of 1 GiB that begins with this text; returns its id.
    #[track_caller]
    pub fn volume(&self, name: &str, text: &str) -> String {
        let made = self.json(&format!("volume create {name} --size 1"));
        let id = made["volume"]["id"].as_str().unwrap_or_else(|| panic!("no id in {made}")).to_owned();
        self.machine.ok(&format!("printf '%s' '{text}' | dd of={}/volume-{id} conv=notrunc status=none", self.volumes));
        id
    }

    /// A volume's status in the service.
    #[track_caller]
    pub fn status(&self, volume: &str) -> String {
        self.json(&format!("volume show {volume}"))["volume"]["status"].as_str().unwrap().to_owned()
    }

    /// Asks the volume service itself, past the agent.
    #[track_caller]
    pub fn ask_service(&self, path: &str) -> Value {
        let said = self.machine.ok(&format!(
            "curl -sS --fail-with-body -H \"X-Auth-Token: $(cat {SERVICE}/token)\" -H 'OpenStack-API-Version: volume 3.54' http://127.0.0.1:8776/v3{path}"
        ));
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{path} said {said:?}: {error}"))
    }

    /// The agent asks another address than the service's, behind which `lying-service MODE` stands.
    #[track_caller]
    pub fn lie(&self, mode: &str) {
        self.machine.ok(&format!(
            "rm -f /run/lying.log; setsid lying-service 8777 '{mode}' >/run/lying.log 2>&1 </dev/null & echo $! >/run/lying.pid; wait-for-line /run/lying.log listening"
        ));
        self.machine.ok(&format!("sed 's/:8776/:8777/g' {SERVICE}/clouds.yaml >/run/lying-clouds.yaml"));
        self.machine.write("/etc/bowline/bowlined.d/30-lie.toml", "[cloud]\nfile = \"/run/lying-clouds.yaml\"");
        self.stop_agent();
        self.start_agent("");
    }

    /// The agent asks the service itself again.
    #[track_caller]
    pub fn stop_lying(&self) {
        self.machine.ok("p=$(cat /run/lying.pid); kill $p; timeout 50 tail -s 0.1 --pid=$p -f /dev/null; rm -f /etc/bowline/bowlined.d/30-lie.toml");
        self.stop_agent();
        self.start_agent("");
    }

    /// Nothing of any attachment is left, here, in libvirt, in the kernel, in the service or at its target, and the volume can be
    /// used again.
    #[track_caller]
    pub fn assert_nothing_left(&self, guest: &str, volume: &str, context: &str) {
        self.assert_nothing_attached(guest, volume, context);
        self.assert_nothing_left_at_the_target(context);
    }

    /// No target is left of any volume.
    #[track_caller]
    pub fn assert_nothing_left_at_the_target(&self, context: &str) {
        if self.kernel_targets {
            let exported = "find /sys/kernel/config/target/iscsi -maxdepth 1 -name 'iqn.2010-10.org.openstack:*'
                 find /sys/kernel/config/target/core -maxdepth 2 -name 'bowline-*'";
            assert_eq!(self.machine.ok(exported), "", "{context}");
            return;
        }
        let exported = self.machine.ok(&format!(
            "# What goes away under its eyes is an error to find, and none here.
             socket=$(find /run {SERVICE} -name tgtd.sock.0 2>/dev/null) || :
             [ -n \"$socket\" ] || echo 'the control socket of tgtd is not there'
             TGT_IPC_SOCKET=${{socket%.0}} tgtadm --lld iscsi --op show --mode target >/run/targets || echo 'tgtd does not answer'
             sed -n 's/^Target/exported: &/p' /run/targets"
        ));
        assert_eq!(exported, "", "{context}");
    }

    /// The same without a look at the target, for a site whose volumes do not come from the bundled service.
    #[track_caller]
    pub fn assert_nothing_attached(&self, guest: &str, volume: &str, context: &str) {
        assert_eq!(self.status(volume), "available", "{context}: the volume's status");
        let attachments = self.ask_service("/attachments");
        assert_eq!(attachments["attachments"], Value::Array(vec![]), "{context}: attachments in the service");
        let here = self.json("list");
        assert_eq!(here["attachments"], Value::Array(vec![]), "{context}: attachments of the agent");
        let leftovers = self.machine.ok(&format!(
            "virsh -q domblklist {guest} | sed 's/^/disk of the guest: /'
             virsh -q domblklist {guest} --inactive 2>/dev/null | sed 's/^/disk in the definition: /' || :
             virsh -q secret-list | sed 's/^/secret: /'
             ls /run/bowline/volumes 2>/dev/null | sed 's/^/own name: /' || :
             ls /sys/class/iscsi_session 2>/dev/null | sed 's/^/session: /' || :
             find /etc/iscsi/nodes /var/lib/iscsi/nodes -mindepth 1 2>/dev/null | sed 's/^/node record: /' || :
             for device in /sys/class/scsi_disk/*/device/vendor; do [ ! -e $device ] || sed \"s|^|device $device: |\" $device; done"
        ));
        assert_eq!(leftovers, "", "{context}");
    }
}
