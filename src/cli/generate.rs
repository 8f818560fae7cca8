//! Completions and man pages, made from the command line's own definition so that they cannot go stale.

use super::{args::Cli, error::CliError, output::Output};
use clap::CommandFactory;
use clap_complete::Shell;
use std::path::Path;

/// Prints the completions for a shell.
pub fn completion(output: Output, shell: Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "bowline", &mut script);
    output.raw(&script)
}

/// Writes a man page for the command and for each of its subcommands.
pub fn man(folder: &Path) -> Result<(), CliError> {
    let fault = |error: std::io::Error| CliError::WriteFile { path: folder.display().to_string(), reason: error.to_string() };
    std::fs::create_dir_all(folder).map_err(fault)?;
    clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), folder).map_err(fault)
}
