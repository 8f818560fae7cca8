//! A tiny guest as a test sees it: what its own kernel says about its disks, on its serial console, and commands to it.
//! The words are those of `tests/guest/init.c`.

use std::cell::Cell;
use std::time::Duration;

use super::Machine;

/// How long a guest may take to boot.
const BOOT_LIMIT: Duration = Duration::from_secs(330);
/// How long a guest may take to answer a command.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A running guest, and how far its console has been read.
pub struct Guest<'machine> {
    machine: &'machine dyn Machine,
    name: String,
    uuid: String,
    seen_lines: Cell<usize>,
}

impl<'machine> Guest<'machine> {
    #[track_caller]
    pub(super) fn start(machine: &'machine dyn Machine, name: &str, form: &str) -> Self {
        let uuid = machine.exec_for(&format!("guest-up {name} {form}"), BOOT_LIMIT).ok();
        Self { machine, name: name.to_owned(), uuid, seen_lines: Cell::new(1) }
    }

    /// A guest that is up, without what it has said so far.
    #[track_caller]
    pub(super) fn again(machine: &'machine dyn Machine, name: &str) -> Self {
        let uuid = machine.ok(&format!("virsh -q domuuid {name} | head -n 1"));
        let seen = machine.ok(&format!("wc -l </run/guest-{name}.log"));
        let seen_lines = Cell::new(seen.parse().unwrap_or_else(|_| panic!("wc said {seen:?}")));
        Self { machine, name: name.to_owned(), uuid, seen_lines }
    }

    /// Its name in libvirt.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its UUID in libvirt.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// Waits for the next console line that matches `pattern` (a bash regular expression, from the line's start), and
    /// returns it. What came before that line is passed over. Fails with the console when it does not come in time.
    #[track_caller]
    pub fn expect_line(&self, pattern: &str, limit: Duration) -> String {
        let seconds = limit.as_secs().max(1);
        let command = format!("guest-expect {} {} '{pattern}' {seconds}", self.name, self.seen_lines.get());
        let found = self.machine.exec_for(&command, limit + ANSWER_LIMIT).ok();
        let (number, line) = found.split_once(' ').unwrap_or_else(|| panic!("guest-expect said {found:?}"));
        self.seen_lines.set(number.parse().unwrap_or_else(|_| panic!("guest-expect said {found:?}")));
        line.to_owned()
    }

    /// Waits until the guest sees a disk with this serial; returns the guest's own name for it and its first 16 bytes.
    #[track_caller]
    pub fn expect_disk(&self, serial: &str, limit: Duration) -> (String, String) {
        let line = self.expect_line(&format!("\\+ [a-z]+ [0-9]+ {serial} "), limit);
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["+", name, _, _, head] => ((*name).to_owned(), (*head).to_owned()),
            _ => panic!("{} said {line:?}", self.name),
        }
    }

    /// Waits until the guest says that the disk which it calls `disk` is gone.
    #[track_caller]
    pub fn expect_gone(&self, disk: &str, limit: Duration) {
        self.expect_line(&format!("- {disk}$"), limit);
    }

    /// Types a command on the guest's serial line and returns its answer.
    #[track_caller]
    pub fn say(&self, command: &str) -> String {
        self.machine.exec_for(&format!("guest-say {} '{command}'", self.name), ANSWER_LIMIT * 2).ok()
    }

    /// What the guest reads from its disk: printable bytes as they are, zero as `_`, others as `.`.
    #[track_caller]
    pub fn read(&self, disk: &str, offset: u64, length: usize) -> String {
        let answer = self.say(&format!("r {disk} {offset} {length}"));
        let text = answer.strip_prefix(&format!("r {disk} ok "));
        text.unwrap_or_else(|| panic!("{} could not read: {answer}", self.name)).to_owned()
    }

    /// Has the guest write text to its disk, past its cache and flushed.
    #[track_caller]
    pub fn write(&self, disk: &str, offset: u64, text: &str) {
        assert_eq!(self.say(&format!("w {disk} {offset} {text}")), format!("w {disk} ok"));
    }
}
