//! The bowline program.

fn main() {}
