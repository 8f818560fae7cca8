//! Boot sources: from a block device mapping to a plan for booting. The room is kept by the design; nothing is built here
//! yet, and nothing depends on it.
