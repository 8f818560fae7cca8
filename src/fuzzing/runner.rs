//! Runs every target over its corpus and over mutations of it, without libFuzzer: no coverage guides it, so it finds what is near
//! the corpus. It is what the ordinary tests run; `make fuzz` takes libFuzzer if told so.
//!
//! `FUZZ_SECONDS` is the time of each target; without it each has a fixed number of mutations. `FUZZ_TARGETS` names some. A failing
//! input is written to `target/fuzz-failure-NAME`.

use super::{
    TARGETS, Target,
    mutations::{Numbers, mutate},
};
use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Mutations of each target in the ordinary tests: about a second for the slowest.
const MUTATIONS: u32 = 400;

/// The volume service has this runner, too, from a folder of its own.
fn repository() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().find(|folder| folder.join("fuzz/corpus").is_dir()).unwrap()
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = repository().join("fuzz/corpus").join(name);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn check(name: &str, target: Target, data: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| target(data))).is_err() {
        let kept = repository().join("target").join(format!("fuzz-failure-{name}"));
        let _ = fs::create_dir_all(kept.parent().unwrap());
        fs::write(&kept, data).unwrap();
        panic!("{name} failed on {:?}, kept in {}", String::from_utf8_lossy(data), kept.display());
    }
}

/// Every target, or those that the environment names.
pub(super) fn run_all() {
    let chosen = env::var("FUZZ_TARGETS").unwrap_or_default();
    let chosen: Vec<&str> = chosen.split_whitespace().collect();
    let seconds = env::var("FUZZ_SECONDS").ok().map(|text| text.parse::<u64>().expect("FUZZ_SECONDS is a number"));
    for (number, (name, target)) in TARGETS.into_iter().enumerate() {
        if !chosen.is_empty() && !chosen.contains(&name) {
            continue;
        }
        let corpus = corpus(name);
        assert!(!corpus.is_empty(), "{name} has no corpus");
        corpus.iter().for_each(|data| check(name, target, data));
        check(name, target, b"");
        let mut numbers = Numbers::new(number);
        let begun = Instant::now();
        let mut done = 0;
        while seconds.map_or(done < MUTATIONS, |limit| begun.elapsed() < Duration::from_secs(limit)) {
            check(name, target, &mutate(&mut numbers, &corpus));
            done += 1;
        }
        println!("{name}: {} inputs and {done} mutations in {:.1} s", corpus.len(), begun.elapsed().as_secs_f32());
    }
}
