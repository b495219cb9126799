//! Which rows go into one call of a graph.

/// One call: the rows in their slots, and how many of the slots count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    /// Row numbers, one a slot. A graph with a fixed batch gets its last row again in the slots that are left.
    pub(super) slots: Vec<usize>,
    /// Slots whose result is kept, from the first.
    pub(super) kept: usize,
}

/// Splits rows into calls.
///
/// - `keys`: one value a row; rows share a call only where they are equal (a timestep that holds for a whole batch).
/// - `fixed`: the only batch that the graph takes.
/// - `most`: rows that a call may hold.
pub(super) fn calls(keys: &[u32], fixed: Option<usize>, most: usize) -> Vec<Call> {
    let mut groups: Vec<(u32, Vec<usize>)> = Vec::new();
    for (row, key) in keys.iter().enumerate() {
        match groups.iter_mut().find(|(known, _)| known == key) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((*key, vec![row])),
        }
    }
    let size = fixed.unwrap_or(most).max(1);
    let mut calls = Vec::new();
    for (_, rows) in groups {
        for chunk in rows.chunks(size) {
            let mut slots = chunk.to_vec();
            if let (Some(fixed), Some(last)) = (fixed, chunk.last()) {
                slots.resize(fixed.max(1), *last);
            }
            calls.push(Call { slots, kept: chunk.len() });
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(slots: &[usize], kept: usize) -> Call {
        Call { slots: slots.to_vec(), kept }
    }

    #[test]
    fn rows_share_a_call_where_nothing_forbids_it() {
        assert_eq!(calls(&[0, 0, 0], None, 8), [call(&[0, 1, 2], 3)]);
        assert_eq!(calls(&[0, 0, 0], None, 2), [call(&[0, 1], 2), call(&[2], 1)]);
        assert_eq!(calls(&[], None, 8), []);
    }

    #[test]
    fn rows_at_different_timesteps_part_where_the_graph_has_one_timestep() {
        assert_eq!(calls(&[7, 9, 7], None, 8), [call(&[0, 2], 2), call(&[1], 1)]);
    }

    #[test]
    fn a_fixed_batch_is_filled_with_its_last_row() {
        assert_eq!(calls(&[0, 0, 0], Some(2), 8), [call(&[0, 1], 2), call(&[2, 2], 1)]);
        assert_eq!(calls(&[0, 0], Some(1), 8), [call(&[0], 1), call(&[1], 1)]);
    }
}
