//! Counts what a file would take in memory before it is decoded: an empty message or string has two bytes in the file
//! and some hundred decoded, so a file of some size could ask for fifty times as much.

use crate::graph::error::{ImportError, at_most};
use crate::graph::limits::MAX_ONNX_FIELDS;

/// Which fields of a message are messages again, and which are strings. All others decode to about what they have in
/// the file.
struct Kind {
    messages: &'static [(u64, &'static Kind)],
    strings: &'static [u64],
}

static IGNORED: Kind = Kind { messages: &[], strings: &[] };
static TENSOR: Kind = Kind { messages: &[(3, &IGNORED), (13, &IGNORED)], strings: &[8] };
static ATTRIBUTE: Kind = Kind { messages: &[(5, &TENSOR)], strings: &[1, 4] };
static NODE: Kind = Kind { messages: &[(5, &ATTRIBUTE)], strings: &[1, 2, 3, 4, 7] };
static DIMENSION: Kind = Kind { messages: &[], strings: &[2] };
static SHAPE: Kind = Kind { messages: &[(1, &DIMENSION)], strings: &[] };
static TENSOR_TYPE: Kind = Kind { messages: &[(2, &SHAPE)], strings: &[] };
static TYPE: Kind = Kind { messages: &[(1, &TENSOR_TYPE)], strings: &[] };
static VALUE: Kind = Kind { messages: &[(2, &TYPE)], strings: &[1] };
static GRAPH: Kind =
    Kind { messages: &[(1, &NODE), (5, &TENSOR), (11, &VALUE), (12, &VALUE), (15, &IGNORED)], strings: &[] };
static OPERATOR_SET: Kind = Kind { messages: &[], strings: &[1] };
static MODEL: Kind = Kind { messages: &[(7, &GRAPH), (8, &OPERATOR_SET)], strings: &[] };

/// Refuses a file with more messages and strings than a model may have, or that is not made of fields.
pub(super) fn check(file: &[u8]) -> Result<(), ImportError> {
    let mut count = 0;
    // Pieces still to be walked; their nesting is that of the kinds above and so is bounded.
    let mut open = vec![(&MODEL, file)];
    while let Some((kind, mut bytes)) = open.pop() {
        while !bytes.is_empty() {
            let (field, content) =
                next(&mut bytes).ok_or_else(|| ImportError::malformed("no ONNX: broken field"))?;
            let Some(content) = content else { continue };
            let message = kind.messages.iter().find(|(number, _)| *number == field);
            if message.is_some() || kind.strings.contains(&field) {
                count += 1;
                at_most("number of messages and strings", count, MAX_ONNX_FIELDS)?;
            }
            open.extend(message.map(|(_, kind)| (*kind, content)));
        }
    }
    Ok(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f).checked_shl(7 * place)?;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The number of the next field, with its content where it has a length. Groups, which are long obsolete, are refused.
fn next<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Option<&'a [u8]>)> {
    let key = varint(bytes)?;
    let length = match key & 7 {
        0 => {
            varint(bytes)?;
            return Some((key >> 3, None));
        }
        1 => 8,
        5 => 4,
        2 => usize::try_from(varint(bytes)?).ok()?,
        _ => return None,
    };
    let (content, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some((key >> 3, (key & 7 == 2).then_some(content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_messages_are_counted_not_decoded() {
        // A graph (field 7) of empty nodes (field 1): two bytes each.
        let file = |nodes: usize| {
            let mut file = vec![0x3a];
            let mut length = nodes * 2;
            while length >= 0x80 {
                file.push(length as u8 | 0x80);
                length >>= 7;
            }
            file.push(length as u8);
            file.extend([0x0a, 0].repeat(nodes));
            file
        };
        assert_eq!(check(&file(1000)), Ok(()));
        let error = check(&file(MAX_ONNX_FIELDS)).unwrap_err();
        assert!(matches!(error, ImportError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn broken_fields_are_refused() {
        for file in [&[0x3a][..], &[0x3a, 5, 0], &[0x80; 11], &[0x0b], &[0x09, 0], &[0x3a, 2, 0x0a, 7]] {
            assert!(check(file).is_err(), "{file:?}");
        }
        assert_eq!(check(&[]), Ok(()));
    }
}
