//! The Elephant diffuser, backwards (N. Ferguson, "AES-CBC + Elephant diffuser", sections 4.4 and 4.5).

use std::cell::Cell;

/// How far words are turned, and how often a diffuser is run.
const A: ([u32; 4], usize) = ([9, 0, 13, 0], 5);
const B: ([u32; 4], usize) = ([0, 10, 0, 25], 3);

/// Undoes diffuser B, and then A, of a sector in words.
pub(super) fn undo(words: &mut [u32]) {
    let count = words.len();
    let words = Cell::from_mut(words).as_slice_of_cells();
    run(words, B, 2, 5);
    run(words, A, count.saturating_sub(2), count.saturating_sub(5));
}

/// Adds to each word what follows from those that lie so far behind it, round the end. Words that were done already count as they are now.
fn run(words: &[Cell<u32>], (turns, cycles): ([u32; 4], usize), near: usize, far: usize) {
    for _ in 0..cycles {
        let others = words
            .iter()
            .cycle()
            .skip(near)
            .zip(words.iter().cycle().skip(far));
        for ((word, (near, far)), turn) in words.iter().zip(others).zip(turns.iter().cycle()) {
            let mixed = near.get() ^ far.get().rotate_left(*turn);
            word.set(word.get().wrapping_add(mixed));
        }
    }
}
