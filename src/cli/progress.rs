//! Shows an operation's steps as they end: one line each, and on a terminal a spinner for the one under way.

use super::{
    error::CliError,
    output::{Output, duration, printable},
    view::{DiskProgress, Operation, Step},
};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::{self, IsTerminal},
    time::Duration,
};

/// How often the spinner turns: often enough to look alive.
const TICK: Duration = Duration::from_millis(100);

/// The display.
pub struct Progress {
    output: Output,
    spinner: Option<ProgressBar>,
    shown: Vec<Step>,
}

impl Progress {
    /// Silent with `--json`; without a spinner where standard error or output is no terminal.
    pub fn new(output: Output) -> Self {
        let on_terminal = !output.json && io::stdout().is_terminal() && io::stderr().is_terminal();
        let spinner = on_terminal.then(|| {
            let style =
                ProgressStyle::with_template("{spinner} {msg} {elapsed}").unwrap_or_else(|_| ProgressStyle::default_spinner());
            let spinner = ProgressBar::new_spinner().with_style(style);
            spinner.enable_steady_tick(TICK);
            spinner
        });
        Self { output, spinner, shown: Vec::new() }
    }

    /// Shows what moved since the last time.
    pub fn show(&mut self, operation: &Operation) -> Result<(), CliError> {
        for (index, step) in operation.steps.iter().enumerate() {
            if self.shown.get(index).map(|shown| &shown.state) != Some(&step.state)
                && let Some(line) = step_line(step)
            {
                self.line(&line)?;
            }
        }
        self.shown.clone_from(&operation.steps);
        if let Some(spinner) = &self.spinner {
            let under_way = operation.steps.iter().find(|step| step.state == "started").map(|step| step.name.as_str());
            let message = match operation.state.as_str() {
                "queued" => "waits for another operation on this volume or guest",
                "unwinding" => "undoing",
                _ => under_way.unwrap_or("working"),
            };
            spinner.set_message(printable(&format!("{message}{}", disks(&operation.disks))));
        }
        Ok(())
    }

    /// Something worth a line of its own, beside the result.
    pub fn remark(&self, text: &str) {
        match &self.spinner {
            Some(spinner) => spinner.suspend(|| super::output::remark(text)),
            None => super::output::remark(text),
        }
    }

    /// Takes the spinner away.
    pub fn end(&mut self) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
    }

    fn line(&self, text: &str) -> Result<(), CliError> {
        if self.output.json {
            return Ok(());
        }
        match &self.spinner {
            Some(spinner) => spinner.suspend(|| self.output.line(text)),
            None => self.output.line(text),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

/// How far each disk is.
fn disks(disks: &[DiskProgress]) -> String {
    let percent = |disk: &DiskProgress| disk.done.saturating_mul(100).checked_div(disk.total).unwrap_or(100);
    let each: Vec<_> = disks.iter().map(|disk| format!("{} {}%", disk.disk, percent(disk))).collect();
    if each.is_empty() { String::new() } else { format!(" ({})", each.join(", ")) }
}

fn step_line(step: &Step) -> Option<String> {
    let Step { name, state, duration_us } = step;
    let time = duration(*duration_us);
    match state.as_str() {
        "succeeded" => Some(format!("  {name:<20}{time:>10}")),
        "failed" => Some(format!("  {name:<20}{time:>10}  failed")),
        "undone" => Some(format!("  {name:<20}{:>10}  undone", "")),
        _ => None,
    }
}
