//! State dicts that `torch.save` 1.13 wrote in both forms (`scripts/googlenet_torchvision.py fixtures`), and what is
//! made of them by cutting, changing and by hand.

use proptest::prelude::*;

use super::*;

const ARCHIVE: &[u8] = include_bytes!("fixtures/small_archive.pth");
const PARTS: &[u8] = include_bytes!("fixtures/small_parts.pth");

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn both_forms_hold_the_same() {
    let tensors = read(ARCHIVE).unwrap();
    assert_eq!(read(PARTS).unwrap(), tensors);
    let found: Vec<_> = tensors
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor.scalar, tensor.shape.as_slice(), tensor.bytes))
        .collect();
    let (weight, part) = (f32s(&[0.0, 0.25, 0.5, 0.75, 1.0, 1.25]), f32s(&[4.0, 5.0, 6.0]));
    let wanted: [(&str, Scalar, &[usize], &[u8]); 5] = [
        ("block.weight", Scalar::F32, &[2, 3], &weight),
        ("block.bias", Scalar::F16, &[2], &[0x00, 0x3E, 0x00, 0xC0]),
        ("block.part", Scalar::F32, &[3], &part),
        ("block.empty", Scalar::F32, &[0, 4], &[]),
        ("counter", Scalar::I64, &[], &[3, 0, 0, 0, 0, 0, 0, 0]),
    ];
    assert_eq!(found, wanted);
}

#[test]
fn what_is_cut_off_is_refused() {
    for whole in [ARCHIVE, PARTS] {
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
    }
    let longer = [PARTS, b"x"].concat();
    assert!(read(&longer).unwrap_err().to_string().contains("follows"));
}

#[test]
fn what_is_no_state_dict_is_refused_and_said_to_be() {
    let said = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    let module = said(include_bytes!("fixtures/module.pth"));
    assert!(module.contains("ReLU") || module.contains("activation"), "{module}");
    let turned = said(include_bytes!("fixtures/turned.pth"));
    assert!(turned.contains("\"weight\" is not stored row by row"), "{turned}");
    assert_eq!(read(b"neither"), Err(TorchError::Unknown));
    assert_eq!(read(b""), Err(TorchError::Unknown));
}

/// A file of the form before 1.6 with this pickle as its state dict.
fn with_state(state: &[u8]) -> Vec<u8> {
    [MAGIC, b"\x80\x02M\xe9\x03.", b"\x80\x02}.", state, b"\x80\x02]."].concat()
}

#[test]
fn nothing_is_carried_out() {
    for (state, word) in [
        (&b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00ls\x85R."[..], "posix.system"),
        (b"\x80\x02c__builtin__\neval\n.", "eval"),
        (b"\x80\x02ctorch._utils\n_rebuild_qtensor\n.", "_rebuild_qtensor"),
        // An object made without a call, and one whose state is set.
        (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "0x81"),
        (b"\x80\x02ccollections\nOrderedDict\n}b.", "state"),
        (b"\x80\x02i", "0x69"),
    ] {
        let message = read(&with_state(state)).unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    }
    assert_eq!(read(&with_state(b"\x80\x02}.")), Ok(Vec::new()));
}

#[test]
fn pickles_stay_small() {
    // Twice as much with every three bytes, if notes were copied.
    let mut state = b"\x80\x02)q\x00".to_vec();
    for number in 0..40u8 {
        state.extend([b'h', number, b'h', number, 0x86, b'q', number + 1]);
    }
    state.push(b'.');
    let message = read(&with_state(&state)).unwrap_err().to_string();
    assert!(message.contains("nesting"), "{message}");
    // Deep enough to overflow a stack when it is dropped.
    let mut deep = b"\x80\x02)".to_vec();
    deep.extend([0x85; 1 << 20]);
    let message = read(&with_state(&deep)).unwrap_err().to_string();
    assert!(message.contains("nesting"), "{message}");
    let mut lists = b"\x80\x02".to_vec();
    lists.extend([b']'; 1 << 10]);
    lists.extend([b'a'; 1 << 10]);
    assert!(read(&with_state(&lists)).is_err());
    // Numbers of notes far beyond what was noted.
    assert!(read(&with_state(b"\x80\x02Nr\xff\xff\xff\x7f.")).unwrap_err().to_string().contains("notes"));
    assert!(read(&with_state(&[b'N'; (1 << 21) + 1])).unwrap_err().to_string().contains("operations"));
}

/// A state dict with one tensor `w` of three f32 in storage `0`, offset, shape and step as given, and its values.
fn one(offset: u8, shape: u8, step: u8, said: u8, values: &[f32]) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    file.extend(
        b"\x80\x02M\xe9\x03.\x80\x02}.\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n(",
    );
    file.extend(b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK");
    file.extend([
        said, b'N', b't', b'Q', b'K', offset, b'K', shape, 0x85, b'K', step, 0x85, 0x89, b'N', b't',
    ]);
    file.extend(b"Rs.\x80\x02]X\x01\x00\x00\x000a.");
    file.extend((values.len() as u64).to_le_bytes());
    file.extend(f32s(values));
    file
}

#[test]
fn tensors_stay_within_their_values() {
    let values = [1.0, 2.0, 3.0];
    let file = one(1, 2, 1, 3, &values);
    assert_eq!(read(&file).unwrap()[0].bytes, f32s(&values[1..]));
    for (file, word) in [
        (one(2, 2, 1, 3, &values), "beyond"),
        (one(0, 4, 1, 3, &values), "beyond"),
        (one(0, 2, 0, 3, &values), "row by row"),
        (one(0, 2, 2, 3, &values), "row by row"),
        (one(0, 3, 1, 4, &values), "another number"),
    ] {
        let message = read(&file).unwrap_err().to_string();
        assert!(message.contains("\"w\"") && message.contains(word), "{message}");
    }
    let mut absurd = one(0, 3, 1, 3, &values);
    let count = absurd.len() - 20;
    absurd[count..count + 8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(read(&absurd).unwrap_err().to_string().contains("too early"));
}

proptest! {
    #[test]
    fn rubbish_is_refused_in_peace(
        is_archive: bool,
        changes in prop::collection::vec((0usize..4000, any::<u8>()), 1..8),
        tail in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut bytes = if is_archive { ARCHIVE.to_vec() } else { PARTS.to_vec() };
        let length = bytes.len();
        for (place, value) in changes {
            bytes[place % length] = value;
        }
        bytes.extend(&tail);
        for weight in read(&bytes).unwrap_or_default() {
            let values: usize = weight.shape.iter().product();
            prop_assert_eq!(values * weight.scalar.size_bytes(), weight.bytes.len());
        }
        let _ = read(&with_state(&tail));
    }
}
