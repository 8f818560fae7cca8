//! Which blocks of an image are here: a bit each.

/// Bytes of a block: what one answer of the image service brings of it at least. Larger ones make a guest wait for more than it
/// asked for, smaller ones cost a write each.
pub(super) const BLOCK_BYTES: u64 = 64 * 1024;

/// The blocks of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockMap {
    /// Bit `i % 8` of byte `i / 8` is block `i`'s.
    bits: Vec<u8>,
    size_bytes: u64,
    here: u64,
}

impl BlockMap {
    /// Nothing is here.
    pub(super) fn empty(size_bytes: u64) -> Self {
        Self { bits: vec![0; map_bytes(size_bytes)], size_bytes, here: 0 }
    }

    /// As it was written; `None` where it is not of an image of this size.
    pub(super) fn read(size_bytes: u64, bits: Vec<u8>) -> Option<Self> {
        if bits.len() != map_bytes(size_bytes) {
            return None;
        }
        let mut map = Self { bits, size_bytes, here: 0 };
        // Bits behind the last block are nobody's: they would count as blocks.
        let (blocks, room) = (map.blocks(), map.bits.len() as u64 * 8);
        (blocks..room).for_each(|block| map.clear(block));
        map.here = map.bits.iter().map(|byte| u64::from(byte.count_ones())).sum();
        Some(map)
    }

    /// What is written.
    pub(super) fn bits(&self) -> &[u8] {
        &self.bits
    }

    /// How many blocks the image has.
    pub(super) const fn blocks(&self) -> u64 {
        self.size_bytes.div_ceil(BLOCK_BYTES)
    }

    pub(super) fn has(&self, block: u64) -> bool {
        self.byte(block).is_some_and(|byte| byte & bit(block) != 0)
    }

    /// Takes a block in. One that the image has not is nothing.
    pub(super) fn put(&mut self, block: u64) {
        if block < self.blocks()
            && !self.has(block)
            && let Some(byte) = self.bits.get_mut(index(block))
        {
            *byte |= bit(block);
            self.here += 1;
        }
    }

    fn clear(&mut self, block: u64) {
        if let Some(byte) = self.bits.get_mut(index(block)) {
            *byte &= !bit(block);
        }
    }

    /// How many bytes are here.
    pub(super) fn here_bytes(&self) -> u64 {
        (self.here * BLOCK_BYTES).min(self.size_bytes)
    }

    /// The first block from this one on that is not here.
    pub(super) fn first_missing(&self, from: u64) -> Option<u64> {
        let mut block = from;
        while block < self.blocks() {
            if block.is_multiple_of(8) && self.byte(block) == Some(u8::MAX) {
                block += 8;
            } else if self.has(block) {
                block += 1;
            } else {
                return Some(block);
            }
        }
        None
    }

    fn byte(&self, block: u64) -> Option<u8> {
        self.bits.get(index(block)).copied()
    }
}

const fn bit(block: u64) -> u8 {
    1 << (block % 8)
}

fn index(block: u64) -> usize {
    usize::try_from(block / 8).unwrap_or(usize::MAX)
}

/// Bytes that the map of an image takes.
fn map_bytes(size_bytes: u64) -> usize {
    usize::try_from(size_bytes.div_ceil(BLOCK_BYTES).div_ceil(8)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_missing_until_they_are_here() {
        let mut map = BlockMap::empty(20 * BLOCK_BYTES + 1);
        assert_eq!((map.blocks(), map.bits().len(), map.first_missing(0)), (21, 3, Some(0)));
        (0..20).for_each(|block| map.put(block));
        map.put(3);
        map.put(21);
        map.put(u64::MAX);
        assert_eq!((map.here_bytes(), map.first_missing(0)), (20 * BLOCK_BYTES, Some(20)));
        map.put(20);
        assert_eq!((map.here_bytes(), map.first_missing(0)), (20 * BLOCK_BYTES + 1, None));
        assert!(map.has(20) && !map.has(21) && !map.has(u64::MAX));
    }

    #[test]
    fn a_map_is_read_as_it_was_written_and_no_other() {
        let mut map = BlockMap::empty(9 * BLOCK_BYTES);
        map.put(8);
        assert_eq!(BlockMap::read(9 * BLOCK_BYTES, map.bits().to_vec()), Some(map.clone()));
        let all_set = BlockMap::read(9 * BLOCK_BYTES, vec![0xff; 2]).unwrap();
        assert_eq!(all_set.here_bytes(), 9 * BLOCK_BYTES, "bits behind the end count for nothing");
        assert_eq!(BlockMap::read(9 * BLOCK_BYTES, vec![0xff]), None);
        assert_eq!(BlockMap::read(17 * BLOCK_BYTES, vec![0xff; 2]), None);
        assert_eq!(BlockMap::empty(0).first_missing(0), None);
    }
}
