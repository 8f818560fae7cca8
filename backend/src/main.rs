//! The volume service.

fn main() {}
