//! Mutations of inputs, for whoever runs fuzz targets without libFuzzer: the agent's tests and the volume service's.

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
pub struct Numbers(u64);

impl Numbers {
    /// A stream of its own for each target.
    pub fn new(target: usize) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ target as u64)
    }

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

/// An input of the corpus with some of its bytes changed, cut, doubled, or mixed with another.
pub fn mutate(numbers: &mut Numbers, corpus: &[Vec<u8>]) -> Vec<u8> {
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
