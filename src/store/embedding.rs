//! Embeddings of faces as they are kept: in which space they can be compared, and how they lie in a row. Computes none.

use crate::error::{Result, StoreError};

/// Values of an embedding at most; 256 are usual.
const MAX_VALUES: usize = 4_096;
/// Bytes of the name of a space at most.
const MAX_SPACE_BYTES: usize = 200;

/// What the likeness of a face with others is computed from.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// What computed it; only those of one space can be compared.
    pub space: String,
    /// A vector of length 1.
    pub values: Vec<f32>,
}

impl Embedding {
    /// Refuses what is no embedding.
    pub(crate) fn check(&self) -> Result<()> {
        let space = (1..=MAX_SPACE_BYTES).contains(&self.space.len());
        let values = (1..=MAX_VALUES).contains(&self.values.len());
        if space && values && self.values.iter().all(|value| value.is_finite()) {
            Ok(())
        } else {
            Err(StoreError::Refused("that is no embedding of a face".to_owned()))
        }
    }
}

/// As it lies in a row: 32-bit floats, the low byte first.
pub(crate) fn blob(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Back from [`blob`]; what can only be damage becomes none.
pub(crate) fn values(blob: &[u8]) -> Vec<f32> {
    let (values, rest) = blob.as_chunks::<4>();
    if !rest.is_empty() || values.len() > MAX_VALUES {
        return Vec::new();
    }
    let values: Vec<f32> = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    if values.iter().all(|value| value.is_finite()) { values } else { Vec::new() }
}

/// Cosine of the angle between two embeddings of length 1: 1 for the same direction. What cannot be compared is as
/// far away as can be: -1.
pub fn likeness(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() || a.is_empty() {
        return -1.0;
    }
    let sum: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    if sum.is_finite() { sum.clamp(-1.0, 1.0) } else { -1.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn likeness_is_the_cosine_and_never_a_surprise() {
        assert_eq!(likeness(&[1.0, 0.0], &[0.6, 0.8]), 0.6);
        assert_eq!(likeness(&[1.0, 0.0], &[-1.0, 0.0]), -1.0);
        for (a, b) in
            [(&[][..], &[][..]), (&[1.0], &[1.0, 0.0]), (&[f32::NAN], &[1.0]), (&[f32::MAX], &[f32::MAX])]
        {
            assert_eq!(likeness(a, b), -1.0);
        }
    }

    #[test]
    fn what_is_no_embedding_is_refused() {
        let check = |space: &str, values: Vec<f32>| Embedding { space: space.into(), values }.check().is_ok();
        assert!(check("net:01", vec![1.0, 0.0]));
        assert!(!check("", vec![1.0]) && !check("net", vec![]) && !check("net", vec![f32::INFINITY]));
        assert!(!check(&"n".repeat(201), vec![1.0]) && !check("net", vec![0.0; MAX_VALUES + 1]));
    }

    proptest! {
        #[test]
        fn whatever_was_kept_comes_back(given in proptest::collection::vec(-1.0f32..1.0, 0..300)) {
            prop_assert_eq!(values(&blob(&given)), given);
        }

        #[test]
        fn damage_is_no_embedding(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let read = values(&bytes);
            prop_assert!(read.iter().all(|value| value.is_finite()));
            prop_assert!(read.is_empty() || read.len() * 4 == bytes.len());
        }
    }
}
