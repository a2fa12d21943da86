//! The order in which nodes can run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Numbers of the nodes that lead to `wanted`, each behind all that it needs and otherwise as they stand in the file.
/// `needs[n]` are the nodes whose outputs node n takes.
///
/// # Errors
/// The number of a node on a cycle.
pub(super) fn order(
    needs: &[Vec<usize>],
    wanted: impl IntoIterator<Item = usize>,
) -> Result<Vec<usize>, usize> {
    let mut reached = vec![false; needs.len()];
    let mut open: Vec<usize> = wanted.into_iter().collect();
    let mut waiting = vec![0usize; needs.len()];
    let mut feeds: Vec<Vec<usize>> = vec![Vec::new(); needs.len()];
    let mut ready = BinaryHeap::new();
    let mut total = 0;
    while let Some(node) = open.pop() {
        if std::mem::replace(&mut reached[node], true) {
            continue;
        }
        total += 1;
        waiting[node] = needs[node].len();
        if needs[node].is_empty() {
            ready.push(Reverse(node));
        }
        for needed in &needs[node] {
            feeds[*needed].push(node);
            open.push(*needed);
        }
    }
    let mut order = Vec::with_capacity(total);
    while let Some(Reverse(node)) = ready.pop() {
        order.push(node);
        for fed in &feeds[node] {
            waiting[*fed] -= 1;
            if waiting[*fed] == 0 {
                ready.push(Reverse(*fed));
            }
        }
    }
    match (0..needs.len()).find(|node| reached[*node] && waiting[*node] > 0) {
        Some(node) => Err(node),
        None => Ok(order),
    }
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn nodes_stand_behind_what_they_need() {
        // 0 needs 2, 2 needs 1 twice; 3 is not wanted.
        assert_eq!(order(&[vec![2], vec![], vec![1, 1], vec![0]], [0]), Ok(vec![1, 2, 0]));
        assert_eq!(order(&[vec![], vec![], vec![]], [2, 0, 2]), Ok(vec![0, 2]));
    }

    #[test]
    fn a_cycle_is_found_where_an_output_needs_it_and_only_there() {
        let needs = [vec![1], vec![2], vec![1], vec![]];
        assert_eq!(order(&needs, [0]), Err(0));
        assert_eq!(order(&needs, [3]), Ok(vec![3]));
        assert_eq!(order(&[vec![0]], [0]), Err(0));
    }
}
