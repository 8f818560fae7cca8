//! Every parser of this service that clients, uploads and the broker reach, as a function of bytes that fails by a panic: its fuzz targets.
//! Like those of the agent, they run under libFuzzer (`fuzz/`) and in the ordinary tests, over `fuzz/corpus/NAME`. Whole requests, through
//! router and database, are tried by `backend/tests/service/bad_input.rs`.

#[cfg(test)]
#[path = "../../src/fuzzing/mutations.rs"]
mod mutations;
#[cfg(test)]
#[path = "../../src/fuzzing/runner.rs"]
mod runner;

/// A target: panics where an input breaks a promise.
pub type Target = fn(&[u8]);

/// Every target by the name of its corpus.
pub const TARGETS: [(&str, Target); 4] = [
    ("request_body", crate::api::fuzz_body),
    ("image_patch", crate::api::fuzz_image_patch),
    ("upload", crate::image::fuzz_upload),
    ("bus_message", crate::bus::fuzz_message),
];

/// Runs the target of that name; none of that name is a panic as well.
pub fn run(name: &str, data: &[u8]) {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    assert!(found.is_some(), "there is no fuzz target {name}");
    if let Some((_, target)) = found {
        target(data);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpora_and_their_mutations_break_no_promise() {
        super::runner::run_all();
    }
}
