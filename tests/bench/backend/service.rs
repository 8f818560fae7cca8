//! The service under measurement: started, asked for its memory, stopped.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};

use crate::client::Target;

/// Where a service of its own lives.
pub struct Place {
    /// The program.
    pub program: PathBuf,
    /// Its directory.
    pub state: PathBuf,
    /// Its settings.
    pub config: PathBuf,
    /// Which processors it may use, as `taskset -c` takes them; none is all.
    pub processors: Option<String>,
}

/// A running service.
pub struct Service {
    process: Child,
    /// How to ask it.
    pub target: Target,
    /// From the process's start until it says that it is ready, milliseconds.
    pub start_ms: f64,
}

impl Place {
    /// Starts the service, and waits until it says that it is ready.
    pub fn start(&self) -> anyhow::Result<Service> {
        let mut command = match &self.processors {
            Some(list) => {
                let mut command = Command::new("taskset");
                command.args(["-c", list]).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        command.arg("serve").arg("--config").arg(&self.config).arg("--state-dir").arg(&self.state).stderr(Stdio::piped());
        let begun = Instant::now();
        let mut process = command.spawn().with_context(|| self.program.display().to_string())?;
        let mut lines = BufReader::new(process.stderr.take().context("no stderr")?).lines();
        let mut said = String::new();
        let url = loop {
            let Some(line) = lines.next().transpose()? else { anyhow::bail!("the service ended:\n{said}") };
            if let Some((_, rest)) = line.split_once("ready: volumes at http://") {
                break rest.split('/').next().unwrap_or_default().to_owned();
            }
            said.push_str(&(line + "\n"));
        };
        let start_ms = begun.elapsed().as_secs_f64() * 1000.0;
        // Read on, or it would wait for its log to be taken.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let token = std::fs::read_to_string(self.state.join("token"))?.trim().to_owned();
        let target = Target { address: url, token, service_token: None, version: "3.71", volume_type: None };
        Ok(Service { process, target, start_ms })
    }

    /// Its database.
    pub fn database(&self) -> PathBuf {
        self.state.join("volumes.db")
    }
}

impl Service {
    /// What is resident, in MB of 1,000,000 bytes.
    pub fn rss_mb(&self) -> anyhow::Result<f64> {
        let path = Path::new("/proc").join(self.process.id().to_string()).join("smaps_rollup");
        let text = std::fs::read_to_string(path)?;
        let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).context("no Rss")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024.0 / 1e6)
    }

    /// Processor time it has used since its start, in microseconds: what a request costs whoever else uses the machine.
    pub fn cpu_us(&self) -> anyhow::Result<f64> {
        let text = std::fs::read_to_string(Path::new("/proc").join(self.process.id().to_string()).join("stat"))?;
        // The name before it may have spaces; user and system time are the 14th and 15th, in hundredths of a second.
        let (_, rest) = text.rsplit_once(')').context("no name")?;
        let ticks: Vec<f64> = rest.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(ticks.iter().sum::<f64>() * 10_000.0)
    }

    /// SIGTERM, and it must end well.
    pub fn stop(mut self) -> anyhow::Result<()> {
        Command::new("kill").arg(self.process.id().to_string()).status()?;
        let status = self.process.wait()?;
        ensure!(status.success(), "the service ended with {status}");
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Where it was stopped already, there is nothing left to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
