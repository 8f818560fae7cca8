//! The bowlined program.

fn main() {}
