//! The blocks of a generation while they are written.

use gateway_ebpf::generation::{
    Block, FIRST_FREE, V4Entry, V6Entry, header, set_v4_root, set_v6_root, set_v6_word,
};

/// The blocks written so far: header, roots, then whatever is added.
pub(super) struct Tables(Vec<Block>);

impl Tables {
    pub(super) fn new(number: u64, capacity: usize) -> Self {
        let mut blocks = Vec::with_capacity(capacity);
        blocks.resize(FIRST_FREE as usize, [0; 8]);
        if let Some(first) = blocks.first_mut() {
            *first = header(number);
        }
        Self(blocks)
    }

    /// The blocks of another generation, as those of generation `number`.
    pub(super) fn after(number: u64, mut blocks: Vec<Block>) -> Self {
        if let Some(first) = blocks.first_mut() {
            *first = header(number);
        }
        Self(blocks)
    }

    /// The blocks.
    pub(super) fn into_blocks(self) -> Vec<Block> {
        self.0
    }

    /// Index of the next block to be added. The number of blocks is limited to what an
    /// [`Entry`] can hold.
    #[expect(clippy::cast_possible_truncation, reason = "blocks are counted before they are written")]
    pub(super) fn end(&self) -> u32 {
        self.0.len() as u32
    }

    /// Adds a block.
    pub(super) fn push(&mut self, block: Block) {
        self.0.push(block);
    }

    /// Adds `count` blocks to be filled later; the index of the first.
    pub(super) fn reserve(&mut self, count: usize) -> u32 {
        let first = self.end();
        self.0.resize(self.0.len() + count, [0; 8]);
        first
    }

    /// A block that was added.
    pub(super) fn block_mut(&mut self, index: u32) -> &mut Block {
        &mut self.0[index as usize]
    }

    /// Writes an entry of the root of IPv4.
    pub(super) fn set_v4_root(&mut self, slot: u32, entry: V4Entry) {
        let written = set_v4_root(&mut self.0, slot, entry);
        debug_assert!(written, "slot {slot} of the root of IPv4");
    }

    /// Writes an entry of the root of IPv6.
    pub(super) fn set_v6_root(&mut self, slot: u32, entry: V6Entry) {
        let written = set_v6_root(&mut self.0, slot, entry);
        debug_assert!(written, "slot {slot} of the root of IPv6");
    }

    /// Writes the word number `number`, counted from block 0: a record or a part of a cell.
    pub(super) fn set_v6_word(&mut self, number: u32, word: u64) {
        let written = set_v6_word(&mut self.0, number, word);
        debug_assert!(written, "word {number}");
    }
}
