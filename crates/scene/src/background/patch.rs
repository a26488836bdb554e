//! Cells that belong together.

use std::ops::Range;

/// Connected cells that differ: from 1 on, and row by row.
pub(super) struct Patch {
    pub label: u32,
    pub runs: Vec<Range<usize>>,
    pub cells: usize,
}

impl Patch {
    pub fn cells(&self) -> impl Iterator<Item = usize> {
        self.runs.iter().flat_map(Range::clone)
    }
}

/// Cells side by side that differ, and the earlier run that they are connected with; their own number: none.
pub(super) struct Run {
    pub cells: Range<usize>,
    pub joined: usize,
}

/// Fills gaps of one or two cells: of what is striped, as barriers are, every other cell is as grey as the ground.
pub(super) fn close(differs: &[u8], closed: &mut Vec<u8>, columns: usize) {
    closed.clear();
    closed.extend_from_slice(differs);
    let beyond = 2 * columns;
    let across = closed.iter_mut().skip(2).zip(differs.windows(5));
    across.for_each(|(cell, near)| *cell |= (near[0] | near[1]) & (near[3] | near[4]));
    let Some(inside) = differs.len().checked_sub(2 * beyond) else { return };
    let rows = |row: usize| differs[row * columns..][..inside].iter();
    let down = closed[beyond..].iter_mut().zip(rows(0)).zip(rows(1)).zip(rows(3)).zip(rows(4));
    down.for_each(|((((cell, a), b), c), d)| *cell |= (a | b) & (c | d));
}

/// The runs of cells that differ in a row. Next to none do: eight cells at a time are passed over.
pub(super) fn find_runs(differs: &[u8], row: Range<usize>, runs: &mut Vec<Run>) {
    let mut at = row.start;
    while at < row.end {
        if differs[at..row.end].first_chunk().is_some_and(|eight| u64::from_ne_bytes(*eight) == 0) {
            at += 8;
            continue;
        }
        if differs[at] == 0 {
            at += 1;
            continue;
        }
        let end =
            differs[at..row.end].iter().position(|cell| *cell == 0).map_or(row.end, |length| at + length);
        runs.push(Run { cells: at..end, joined: runs.len() });
        at = end;
    }
}

pub(super) fn root(runs: &[Run], mut index: usize) -> usize {
    while runs[index].joined != index {
        index = runs[index].joined;
    }
    index
}

/// Makes two runs part of one patch, which is found by its first run.
pub(super) fn join(runs: &mut [Run], a: usize, b: usize) {
    let (a, b) = (root(runs, a), root(runs, b));
    let first = a.min(b);
    (runs[a].joined, runs[b].joined) = (first, first);
}
