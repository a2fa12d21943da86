//! Arithmetic on shapes and indices. Overflow and division by zero are errors.

use super::Operand;
use super::movement::each_pair;
use crate::graph::Binary;

pub(super) fn binary(
    how: Binary,
    a: Operand<'_>,
    b: Operand<'_>,
    output: &[usize],
) -> Result<Vec<i64>, String> {
    let (values_a, values_b) = (a.i64(), b.i64());
    let mut made = Some(Vec::with_capacity(output.iter().product()));
    each_pair(a.shape, b.shape, output, |place_a, place_b| {
        let (x, y) = (values_a[place_a], values_b[place_b]);
        let value = match how {
            Binary::Add => x.checked_add(y),
            Binary::Sub => x.checked_sub(y),
            Binary::Mul => x.checked_mul(y),
            Binary::Div => x.checked_div(y),
            Binary::Max => Some(x.max(y)),
            Binary::Min => Some(x.min(y)),
            Binary::Pow => u32::try_from(y).ok().and_then(|y| x.checked_pow(y)),
        };
        match value {
            Some(value) => made.iter_mut().for_each(|made| made.push(value)),
            None => made = None,
        }
    });
    made.ok_or_else(|| String::from("integers overflow or are divided by zero"))
}
