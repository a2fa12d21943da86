//! Bytes without meaning, and pickles of anything: no panic, no difference between ways of cutting.

use bytes::Bytes;
use proptest::prelude::*;

use super::invariants;
use crate::recognise::pickle;

/// Pieces that pickles are made of, among bytes without meaning.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => proptest::collection::vec(any::<u8>(), 0..6),
        1 => Just(b"cnumpy.core.multiarray\n_reconstruct\n".to_vec()),
        1 => Just(b"cnumpy\nndarray\n".to_vec()),
        1 => Just(b"cnumpy\ndtype\n".to_vec()),
        1 => Just(b"c_codecs\nencode\n".to_vec()),
        1 => Just(b"(I0\nt".to_vec()),
        1 => Just(b"Vlatin1\n".to_vec()),
        1 => Just(b"\x94h\x00".to_vec()),
        1 => Just(b"p1\ng1\n".to_vec()),
        1 => Just(b"tR".to_vec()),
        1 => Just(b"b.".to_vec()),
        1 => Just(vec![0xFF, 0xD8, 0xFF, 0xE0, 0, 4, 0, 0]),
        1 => Just(vec![0xFF, 0xD9, b'0']),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What is written is read again, whatever the bytes are.
    #[test]
    fn an_array_survives_the_way_there_and_back(bytes in proptest::collection::vec(any::<u8>(), 1..2_000)) {
        let written = Bytes::from(pickle::write(&bytes));
        prop_assert_eq!(pickle::read(&written).unwrap(), bytes);
    }

    /// One byte changed: the array, or a refusal; never a panic.
    #[test]
    fn a_changed_byte_does_no_harm(bytes in proptest::collection::vec(any::<u8>(), 1..60), at in any::<u16>(), to in any::<u8>()) {
        let mut written = pickle::write(&bytes);
        let place = usize::from(at) * written.len() / 65_536;
        written[place] = to;
        if let Ok(read) = pickle::read(&written.into()) {
            prop_assert_eq!(read.len(), bytes.len());
        }
    }

    #[test]
    fn wild_bytes(input in pieces()) {
        invariants::check(&input);
    }
}
