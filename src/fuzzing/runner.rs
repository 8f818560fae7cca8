//! Runs every target over its corpus and over mutations of it, without libFuzzer: no coverage guides it, so it finds what is near
//! the corpus. It is what the ordinary tests run; `make fuzz` takes libFuzzer where there is a nightly toolchain.
//!
//! `FUZZ_SECONDS` is the time of each target; without it each has a fixed number of mutations. `FUZZ_TARGETS` names some. A failing
//! input is written to `target/fuzz-failure-NAME`.

use super::{TARGETS, Target};
use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Mutations of each target in the ordinary tests: about a second for the slowest.
const MUTATIONS: u32 = 400;
/// Longer inputs are cut.
const LENGTH_MAX: usize = 64 * 1024;
/// What formats hang on, and what names must not have.
const WORDS: [&[u8]; 16] = [
    b"..",
    b"/",
    b"-",
    b"--",
    b"\n",
    b"\0",
    b"\x1b[2J",
    b"null",
    b"\"\"",
    b"18446744073709551615",
    b"-1",
    b"[::1]",
    b"<disk>",
    b"&#0;",
    b"\xff\xff\xff\xff",
    b"\\u0000",
];

/// A reproducible stream of numbers (xorshift64*): the same mutations in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn mutate(numbers: &mut Numbers, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut data = corpus[numbers.below(corpus.len())].clone();
    for _ in 0..=numbers.below(6) {
        let at = numbers.below(data.len() + 1);
        let end = (at + numbers.below(24)).min(data.len());
        match numbers.below(8) {
            0 if at < data.len() => data[at] ^= 1 << numbers.below(8),
            1 if at < data.len() => data[at] = numbers.next() as u8,
            2 => data.insert(at, numbers.next() as u8),
            3 => drop(data.drain(at..end)),
            4 => drop(data.splice(at..at, WORDS[numbers.below(WORDS.len())].iter().copied())),
            5 => drop(data.splice(at..end, WORDS[numbers.below(WORDS.len())].iter().copied())),
            6 => {
                let copied = data[at..end].to_vec();
                let to = numbers.below(data.len() + 1);
                drop(data.splice(to..to, copied));
            }
            7 => {
                let other = &corpus[numbers.below(corpus.len())];
                data.truncate(at);
                data.extend(&other[at.min(other.len())..]);
            }
            _ => {}
        }
    }
    data.truncate(LENGTH_MAX);
    data
}

fn check(name: &str, target: Target, data: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| target(data))).is_err() {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(format!("fuzz-failure-{name}"));
        let _ = fs::create_dir_all(kept.parent().unwrap());
        fs::write(&kept, data).unwrap();
        panic!("{name} failed on {:?}, kept in {}", String::from_utf8_lossy(data), kept.display());
    }
}

#[test]
fn the_corpora_and_their_mutations_break_no_promise() {
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
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ number as u64);
        let begun = Instant::now();
        let mut done = 0;
        while seconds.map_or(done < MUTATIONS, |limit| begun.elapsed() < Duration::from_secs(limit)) {
            check(name, target, &mutate(&mut numbers, &corpus));
            done += 1;
        }
        println!("{name}: {} inputs and {done} mutations in {:.1} s", corpus.len(), begun.elapsed().as_secs_f32());
    }
    let _ = fs::remove_dir_all(super::scratch(""));
}
