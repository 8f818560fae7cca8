//! Every parser of this service that clients, uploads and the broker reach, as a function of bytes that fails by a panic: its fuzz targets.
//! Like those of the agent, they run under libFuzzer (`fuzz/`) and in the ordinary tests, over `fuzz/corpus/NAME`. Whole requests, through
//! router and database, are tried by `backend/tests/service/bad_input.rs`.

#[cfg(test)]
#[path = "../../src/fuzzing/mutations.rs"]
mod mutations;

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
    use super::*;

    /// Mutations of each target: about a second for the slowest.
    const MUTATIONS: u32 = 3000;

    #[test]
    fn the_corpora_and_their_mutations_break_no_promise() {
        for (number, (name, target)) in TARGETS.into_iter().enumerate() {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
            let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
            let mut corpus: Vec<Vec<u8>> = files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
            corpus.sort();
            assert!(!corpus.is_empty(), "{name} has no corpus");
            let mut numbers = mutations::Numbers::new(number);
            let mutated = (0..MUTATIONS).map(|_| mutations::mutate(&mut numbers, &corpus)).collect::<Vec<_>>();
            for data in corpus.iter().chain(&mutated) {
                let done = std::panic::catch_unwind(|| target(data));
                assert!(done.is_ok(), "{name} fails on {:?}", String::from_utf8_lossy(data));
            }
        }
    }
}
