//! The `bowline` command; all of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    bowline::cli::main()
}
