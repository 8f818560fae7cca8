//! `bowline`, the command. It is a D-Bus client of the agent and nothing else: what it can do, any client can.

mod args;
mod boot;
mod client;
mod commands;
mod doctor;
mod error;
mod follow;
mod fsck;
mod generate;
mod json;
mod output;
mod progress;
mod show;
mod view;

use args::{Cli, Command};
use clap::{Parser, error::ErrorKind as UsageError};
use client::Client;
use error::CliError;
use output::{Output, remark};
use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let output = Output { json: cli.json };
    match run(cli, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&error, output);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(cli: Cli, output: Output) -> Result<(), CliError> {
    match cli.command {
        Command::Completion { shell } => generate::completion(output, shell),
        Command::Man { out } => generate::man(&out),
        command => {
            // One thread is enough for a client, and the quickest to start.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| CliError::BusLost { reason: format!("cannot start: {error}") })?;
            runtime.block_on(async {
                let interactive = io::stdin().is_terminal() && io::stderr().is_terminal();
                let client = Client::connect(cli.bus_address.as_deref(), interactive).await;
                if let Command::Doctor = command {
                    // It is wanted most where there is no agent, or no bus.
                    return doctor::run(client, output).await;
                }
                let client = client?;
                commands::run(&client, output, command).await
            })
        }
    }
}

/// Help, version, or a command line that makes no sense.
fn usage(error: &clap::Error) -> ExitCode {
    let asked_for = matches!(error.kind(), UsageError::DisplayHelp | UsageError::DisplayVersion);
    if !asked_for && std::env::args_os().any(|argument| argument == "--json") {
        let _ = writeln!(io::stderr().lock(), "{}", json::usage_document(error.to_string().trim_end()));
    } else {
        let _ = error.print();
    }
    if asked_for { ExitCode::SUCCESS } else { ExitCode::from(crate::model::ErrorKind::InvalidInput.exit_code()) }
}

fn tell(error: &CliError, output: Output) {
    if matches!(error, CliError::ClosedPipe) {
        return;
    }
    if output.json {
        let _ = writeln!(io::stderr().lock(), "{}", json::error_document(error));
        return;
    }
    remark(&format!("error: {error}"));
    for line in error.operation().map(show::aftermath).unwrap_or_default() {
        remark(&format!("  {line}"));
    }
    let remedy = error.remedy();
    if !remedy.is_empty() {
        remark(&format!("  what to do: {remedy}"));
    }
}
