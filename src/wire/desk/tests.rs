//! What the parser makes of whole connections, however they are cut, and what the answers look like.

#[path = "../../../tests/fuzz/desk_invariants.rs"]
mod invariants;

use std::path::Path;

use bytes::{BufMut, BytesMut};
use proptest::prelude::*;

use self::invariants::{Outcome, check, run};
use super::*;

fn glued(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn command(command: Command) -> Item {
    Item::Command(command)
}

/// The same whole, byte by byte, and cut at every place.
#[track_caller]
fn always(bytes: &[u8]) -> Outcome {
    let whole = run([bytes]);
    assert_eq!(whole, run(bytes.chunks(1)), "byte by byte");
    for cut in 0..=bytes.len() {
        let (one, other) = bytes.split_at(cut);
        assert_eq!(whole, run([one, other]), "cut at {cut}");
    }
    whole
}

#[test]
fn blanks_are_passed_over_but_not_for_ever() {
    for (command, refusal) in [
        (Command::SendPicture, Refusal::NotASize),
        (Command::RelayFetch, Refusal::NotTheWord),
        (Command::WordClouds, Refusal::NotTheWord),
        (Command::Chat, Refusal::TextTooLong),
    ] {
        let mut parser = Parser::new();
        let mut buf = BytesMut::from(command.text());
        assert_eq!(parser.next(&mut buf), Ok(Some(Item::Command(command))));
        for _ in 0..64 {
            buf.extend_from_slice(&[0; 1024]);
            assert_eq!(parser.next(&mut buf), Ok(None), "{command:?}: whole buffers of a client");
        }
        buf.extend_from_slice(b"\n");
        assert_eq!(parser.next(&mut buf), Err(refusal), "{command:?}");
    }
}

#[test]
fn every_command_is_known_however_it_is_cut() {
    for own in Command::ALL {
        let outcome = always(own.text().as_bytes());
        assert_eq!(outcome.items, [command(own)]);
        assert_eq!(outcome.refusal, None);
        let half = &own.text().as_bytes()[..own.text().len() - 1];
        assert_eq!(always(half), Outcome::default(), "{own:?}: the last byte counts");
    }
}

#[test]
fn no_command_begins_with_another() {
    for one in Command::ALL {
        for other in Command::ALL {
            assert!(one == other || !one.text().starts_with(other.text()), "{one:?} {other:?}");
        }
    }
}

#[test]
fn a_text_ends_with_silence_and_is_taken_as_it_is() {
    let outcome = always("复读机mode 你好 \r\n".as_bytes());
    assert_eq!(outcome.items, [command(Command::Chat), Item::Text(" 你好 \r\n".into())]);
    let outcome = always("复读机mode\r\n\0hello".as_bytes());
    assert_eq!(outcome.items[1], Item::Text("hello".into()), "a line end of the command is none of the text");
}

#[test]
fn a_text_that_is_cut_inside_of_a_character_waits_longer() {
    let text = "复读机mode你好".as_bytes();
    let (mut parser, mut buf) = (Parser::new(), BytesMut::new());
    assert_eq!(parser.silence(&buf), None);
    buf.put_slice(&text[..text.len() - 1]);
    assert_eq!(parser.next(&mut buf), Ok(Some(command(Command::Chat))));
    assert_eq!((parser.next(&mut buf), parser.silence(&buf)), (Ok(None), Some(Silence::Size)));
    buf.put_slice(&text[text.len() - 1..]);
    assert_eq!((parser.next(&mut buf), parser.silence(&buf)), (Ok(None), Some(Silence::Text)));
    assert_eq!(parser.on_silence(&mut buf), Ok(Some(Item::Text("你好".into()))));
    assert!(parser.is_done());
}

#[test]
fn a_picture_has_the_length_that_was_said() {
    let bytes = b"\xff\xd8 12 OK success \xff\xd9";
    for (size, rest) in [("19", ""), ("19\r\n", ""), ("\r\n019\n", ""), ("19", "and more"), (" 19\r", "")] {
        let sent = glued(&["发送图片mode".as_bytes(), size.as_bytes(), bytes, rest.as_bytes()]);
        let outcome = always(&sent);
        assert_eq!(outcome.items, [command(Command::SendPicture), Item::Size(19)], "{size:?}");
        assert_eq!((outcome.body.as_slice(), outcome.body_is_whole), (&bytes[..], true), "{size:?}");
    }
}

#[test]
fn a_size_waits_for_silence_because_more_digits_may_come() {
    let (mut parser, mut buf) = (Parser::new(), BytesMut::from("发送csv文件mode12"));
    assert_eq!(parser.next(&mut buf), Ok(Some(command(Command::SendCsv))));
    assert_eq!((parser.next(&mut buf), parser.silence(&buf)), (Ok(None), Some(Silence::Size)));
    buf.put_slice(b"34");
    assert_eq!(parser.next(&mut buf), Ok(None));
    assert_eq!(parser.on_silence(&mut buf), Ok(Some(Item::Size(1234))));
    // What follows may be digits again: now they are the file.
    buf.put_slice(b"5,6");
    let body = Item::Body { bytes: "5,6".into(), is_last: false };
    assert_eq!(parser.next(&mut buf), Ok(Some(body)));
    assert_eq!(parser.silence(&buf), None, "a body has its length");
}

#[test]
fn a_file_without_a_length_is_passed_on_unread() {
    for number in ClientNumber::ALL {
        let file: Vec<u8> = (0..=255).chain(*b"\r\nsuccessOK").collect();
        let outcome = always(&glued(&[Command::RelayTo(number).text().as_bytes(), &file]));
        assert_eq!(outcome.items, [command(Command::RelayTo(number)), Item::FileEnd]);
        assert_eq!(outcome.file, file);
    }
    let nothing = always(Command::RelayTo(ClientNumber::ALL[0]).text().as_bytes());
    assert_eq!(nothing.items.len(), 1, "who sends nothing sends no file");
}

#[test]
fn words_are_taken_one_by_one() {
    let outcome = always("词云modeOKOK\r\n OK".as_bytes());
    assert_eq!(outcome.items, [command(Command::WordClouds), Item::Ok, Item::Ok, Item::Ok]);
    let outcome = always("接收文件modesuccess".as_bytes());
    assert_eq!(outcome.items, [command(Command::RelayFetch), Item::Success]);
}

#[test]
fn what_does_not_belong_is_refused() {
    let long = glued(&["复读机mode".as_bytes(), &vec![b'a'; MAX_TEXT_BYTES + 1]]);
    let endless = glued(&[b"meerkat-relay/1 ", &[b'x'; 64]]);
    let cases: [(&[u8], Refusal); 17] = [
        (b"GET / HTTP/1.1\r\n", Refusal::UnknownCommand),
        (b"model1", Refusal::UnknownCommand),
        (b"\0", Refusal::UnknownCommand),
        ("复读机modf".as_bytes(), Refusal::UnknownCommand),
        ("加密文件转发mode5".as_bytes(), Refusal::UnknownCommand),
        (&long, Refusal::TextTooLong),
        ("复读机mode\u{fffd}".as_bytes().split_last().unwrap().1, Refusal::NotText),
        (b"\xe5\xa4\x8d\xe8\xaf\xbb\xe6\x9c\xbamode\xff\xfe", Refusal::NotText),
        ("发送图片mode0".as_bytes(), Refusal::NotASize),
        ("发送图片mode-5".as_bytes(), Refusal::NotASize),
        ("发送图片modeabc".as_bytes(), Refusal::NotASize),
        ("发送csv文件mode99999999999999999999".as_bytes(), Refusal::NotASize),
        ("热力图modeNO".as_bytes(), Refusal::NotTheWord),
        ("接收文件modefailure".as_bytes(), Refusal::NotTheWord),
        (b"meerkat-relay/1 send 5 1\n", Refusal::BadOwnCommand),
        (b"meerkat-relay/1 receive all\n", Refusal::BadOwnCommand),
        (&endless, Refusal::BadOwnCommand),
    ];
    for (bytes, refusal) in cases {
        assert_eq!(always(bytes).refusal, Some(refusal), "{:?}", bytes.escape_ascii().to_string());
    }
    let nothing = always(b"meerkat-relay/1 send 1 0\n");
    assert_eq!(nothing.refusal, Some(Refusal::NotASize));
}

#[test]
fn our_own_lines_are_read_as_they_are_written() {
    for to in ClientNumber::ALL {
        let sent = glued(&[send_line(to, 3).as_bytes(), b"abc"]);
        let outcome = always(&sent);
        assert_eq!(outcome.items, [Item::Own(Own::Send { to, bytes: 3 })]);
        assert_eq!((outcome.body.as_slice(), outcome.body_is_whole), (&b"abc"[..], true));
    }
    assert!(send_line(ClientNumber::ALL[3], u64::MAX).len() <= MAX_LINE_BYTES);
    for sealing in [Sealing::Sealed, Sealing::Plain] {
        let outcome = always(&glued(&[receive_line(sealing).as_bytes(), SUCCESS.as_bytes()]));
        assert_eq!(outcome.items, [Item::Own(Own::Receive(sealing)), Item::Success]);
    }
    assert_eq!(read_file_line(&file_line(48_213)), Some(48_213));
    for wrong in ["none\n", "file \n", "file -1\n", "file 99999999999999999999\n", "48213\n"] {
        assert_eq!(read_file_line(wrong), None, "{wrong:?}");
    }
}

#[test]
fn answers_have_the_form_of_the_notes() {
    let found = Face { gender: "Female", age: 31, beauty: 0.0, width: 90, height: 91, top: 7, left: 20 };
    assert_eq!(face(&found), "Female,31,0.00,90,7,91,20");
    assert_eq!(face(&Face { beauty: 71.239, ..found.clone() }), "Female,31,71.24,90,7,91,20");
    assert_eq!(face(&Face { beauty: f64::NAN, ..found }), "Female,31,0.00,90,7,91,20");
    let names = [
        ("dog", 0.9),
        ("c!at", 0.000_001),
        ("tench, Tinca tinca", f32::NAN),
        ("d", 1.0),
        ("e", 0.5),
        ("f", 0.4),
    ];
    assert_eq!(objects(names), "dog!0.90000!c at!0.00000!tench, Tinca tinca!0.00000!d!1.00000!e!0.50000");
    assert_eq!(objects([]), "");
    assert_eq!((count(0), count(60_000)), ("0".into(), "60000".into()));
    assert_eq!(error("no picture"), "error: no picture");
    let long = "您".repeat(1000);
    assert_eq!(cut_text(&long).len(), 1023, "no character is cut");
    assert!(objects([(long.as_str(), 1.0); 5]).len() <= MAX_TEXT_ANSWER_BYTES);
}

#[test]
fn the_corpus_replays() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/desk");
    let mut seeds = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-")) {
            check(&std::fs::read(path).unwrap());
            seeds += 1;
        }
    }
    assert!(seeds >= 30, "{seeds} seeds");
}

/// Bytes with a liking for the words of the dialect.
fn tricky() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        3 => proptest::collection::vec(any::<u8>(), 0..20),
        2 => proptest::sample::select(Command::ALL.to_vec()).prop_map(|c| c.text().as_bytes().to_vec()),
        1 => (0..40u64).prop_map(|size| size.to_string().into_bytes()),
        1 => Just(b"OK".to_vec()),
        1 => Just(b"success".to_vec()),
        1 => Just(b"\r\n".to_vec()),
        1 => Just(b"meerkat-relay/1 send 2 9\n".to_vec()),
        1 => Just("你好".as_bytes().to_vec()),
    ];
    proptest::collection::vec(word, 0..8).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cuts_change_nothing(seed in any::<u8>(), bytes in tricky()) {
        check(&[&[seed], &bytes[..]].concat());
    }

    #[test]
    fn sized_uploads_come_out_as_they_went_in(body in proptest::collection::vec(any::<u8>(), 1..600), cut in any::<u16>()) {
        // The body does not begin with a digit or a line end: a client that waits for `OK` may send those too.
        prop_assume!(!matches!(body[0], b'0'..=b'9' | b'\r' | b'\n'));
        let sent = glued(&["发送图片mode".as_bytes(), count(body.len()).as_bytes(), &body]);
        let (one, other) = sent.split_at(usize::from(cut) % sent.len());
        let outcome = run([one, other]);
        prop_assert_eq!(outcome.items, vec![command(Command::SendPicture), Item::Size(body.len() as u64)]);
        prop_assert_eq!(outcome.body, body);
        prop_assert!(outcome.body_is_whole);
    }

    #[test]
    fn files_come_out_as_they_went_in(file in proptest::collection::vec(any::<u8>(), 1..600), cut in any::<u16>()) {
        let sent = glued(&["加密文件转发mode2".as_bytes(), &file]);
        let (one, other) = sent.split_at(usize::from(cut) % sent.len());
        let outcome = run([one, other]);
        prop_assert_eq!(outcome.file, file);
        prop_assert_eq!(outcome.items.last(), Some(&Item::FileEnd));
    }
}
