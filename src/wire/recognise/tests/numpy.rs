//! Pickles that numpy wrote, in every protocol, and things that are not the one array.

use bytes::Bytes;

use crate::recognise::pickle::{self, BadPickle, Wrong};

const CONTENT: &[u8] = include_bytes!("../../fixtures/recognise/content.bin");

macro_rules! fixtures {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../fixtures/recognise/", $name, ".pickle")))),*]
    };
}

const RIGHT: &[(&str, &[u8])] = fixtures![
    "numpy1-owned-0",
    "numpy1-owned-1",
    "numpy1-owned-2",
    "numpy1-owned-3",
    "numpy1-owned-4",
    "numpy1-owned-5",
    "numpy1-borrowed-0",
    "numpy1-borrowed-1",
    "numpy1-borrowed-2",
    "numpy1-borrowed-3",
    "numpy1-borrowed-4",
    "numpy1-borrowed-5",
    "numpy2-owned-0",
    "numpy2-owned-1",
    "numpy2-owned-2",
    "numpy2-owned-3",
    "numpy2-owned-4",
    "numpy2-owned-5",
    "numpy2-borrowed-0",
    "numpy2-borrowed-1",
    "numpy2-borrowed-2",
    "numpy2-borrowed-3",
    "numpy2-borrowed-4",
    "numpy2-borrowed-5",
];

const WRONG: &[(&str, &[u8])] = fixtures![
    "wrong-two-dimensional-0",
    "wrong-two-dimensional-4",
    "wrong-column-0",
    "wrong-column-4",
    "wrong-wide-0",
    "wrong-wide-4",
    "wrong-signed-0",
    "wrong-signed-4",
    "wrong-objects-0",
    "wrong-objects-4",
    "wrong-list-0",
    "wrong-list-4",
    "wrong-bytes-0",
    "wrong-bytes-4",
    "wrong-code-0",
    "wrong-code-4",
];

fn read(bytes: &[u8]) -> Result<Bytes, BadPickle> {
    pickle::read(&Bytes::copy_from_slice(bytes))
}

#[test]
fn what_numpy_writes_is_read_in_every_protocol() {
    for (name, bytes) in RIGHT {
        assert_eq!(read(bytes).unwrap_or_else(|error| panic!("{name}: {error}")), CONTENT, "{name}");
    }
}

#[test]
fn bytes_that_stand_there_as_they_are_are_not_copied() {
    for (name, bytes) in RIGHT.iter().filter(|(name, _)| name.ends_with(['3', '4', '5'])) {
        let whole = Bytes::copy_from_slice(bytes);
        let found = pickle::read(&whole).unwrap();
        let range = whole.as_ptr() as usize..whole.as_ptr() as usize + whole.len();
        assert!(range.contains(&(found.as_ptr() as usize)), "{name}");
    }
}

#[test]
fn what_is_written_is_what_numpy_1_writes_in_protocol_0() {
    let (_, numpy) = RIGHT[0];
    assert_eq!(pickle::write(CONTENT), *numpy);
    assert_eq!(read(&pickle::write(&[7])).unwrap(), &[7][..]);
}

#[test]
fn everything_else_is_refused() {
    for (name, bytes) in WRONG {
        assert!(read(bytes).is_err(), "{name}");
    }
    let wrong = |bytes: &[u8]| read(bytes).unwrap_err().wrong;
    assert_eq!(wrong(WRONG[14].1), Wrong::Name, "a call of the system");
    assert_eq!(wrong(b""), Wrong::CutOff);
    assert_eq!(wrong(b"."), Wrong::Structure);
    assert_eq!(wrong(b"GET / HTTP/1.1\r\n\r\n"), Wrong::Opcode);
    assert_eq!(wrong(b"cos\nsystem\n(S'id'\ntR."), Wrong::Name);
    assert_eq!(wrong(b"c_codecs\ndecode\n."), Wrong::Name);
    assert_eq!(wrong(b"\x80\x06."), Wrong::Argument, "a protocol that there is not");
    assert_eq!(wrong(b"N\x80\x02."), Wrong::Argument, "a protocol in the middle");
    assert_eq!(wrong(b"g7\n"), Wrong::Argument, "nothing is remembered there");
    assert_eq!(wrong(b"Np99999\n"), Wrong::Argument, "nothing is remembered so far out");
    assert_eq!(wrong(b"p0\n"), Wrong::Structure);
    assert_eq!(wrong(b"t"), Wrong::Structure, "no mark");
    assert_eq!(wrong(b"NN(N\x87"), Wrong::Structure, "values below a mark are not taken");
    assert_eq!(wrong(b"N(R"), Wrong::Structure);
    assert_eq!(wrong(&[b'N'; 1_000]), Wrong::TooLong);
    assert_eq!(wrong(b"I99999999999999999999999\n"), Wrong::Argument);
    assert_eq!(wrong(b"V\\u0100\n"), Wrong::Argument, "not Latin-1");
    assert_eq!(wrong(b"V\\u00\n"), Wrong::Argument);
    assert_eq!(wrong(b"S'a\n"), Wrong::Argument);
    assert_eq!(wrong(b"S'\n"), Wrong::Argument);
    for huge in
        [&b"B\xff\xff\xff\xff"[..], b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff", b"X\0\0\0\x80", b"\x95\x01"]
    {
        assert_eq!(wrong(huge), Wrong::CutOff, "{huge:?}");
    }
    let (_, right) = RIGHT[0];
    assert_eq!(wrong(&[right, &b"."[..]].concat()), Wrong::Structure, "bytes behind the end");
}

#[test]
fn a_length_that_lies_is_refused() {
    for (name, bytes) in RIGHT {
        let [low, high] = u16::try_from(CONTENT.len()).unwrap().to_le_bytes();
        let text = bytes.windows(5).position(|window| window == format!("I{}\n", CONTENT.len()).as_bytes());
        let binary = bytes.windows(3).position(|window| window == [b'M', low, high]);
        let at = text.or(binary).expect("the number of bytes stands there");
        let mut lie = bytes.to_vec();
        lie[at + 1] ^= 1;
        assert_eq!(read(&lie).unwrap_err().wrong, Wrong::Structure, "{name}");
    }
}

#[test]
fn cut_at_every_byte_it_is_refused() {
    for (name, bytes) in RIGHT {
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err(), "{name} cut at {cut}");
        }
    }
}

#[test]
fn python_2_is_understood() {
    // As Python 2.7 with numpy 1.16 writes it: strings are bytes, and shown in quotes.
    let pickle = b"cnumpy.core.multiarray\n_reconstruct\np0\n(cnumpy\nndarray\np1\n(I0\ntp2\nS'b'\np3\ntp4\nRp5\n(I1\n\
(L9L\ntp6\ncnumpy\ndtype\np7\n(S'u1'\np8\nI0\nI1\ntp9\nRp10\n(I3\nS'|'\np11\nNNNI-1\nI-1\nI0\ntp12\nbI00\n\
S'\\xff\\xd8\\xff \\\\\\n\\'\\x00~'\np13\ntp14\nb.";
    assert_eq!(read(pickle).unwrap(), &b"\xff\xd8\xff \\\n'\0~"[..]);
}
