//! The shelf of the relay: order, quotas, restarts, and what is left after everything that can be broken off.

use std::path::Path;

use super::*;

const HOUR: u64 = 3600;

fn limits() -> RelayLimits {
    RelayLimits {
        file_bytes: 100,
        total_bytes: 250,
        sender_bytes: 150,
        files: 3,
        keep: Duration::from_secs(HOUR),
    }
}

fn open(folder: &Path, boot: &str) -> RelayShelf {
    RelayShelf::open(folder, &BootId::parse(boot).unwrap(), Durability::Process, limits()).unwrap()
}

fn at(secs: u64) -> WallTime {
    WallTime(i64::try_from(secs).unwrap() * 1_000_000)
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn put(
    shelf: &RelayShelf,
    client: usize,
    queue: RelayQueue,
    from: u8,
    bytes: &[u8],
) -> std::result::Result<(), RelayRefused> {
    let mut incoming = shelf.begin(client, queue, ip(from), None)?;
    for piece in bytes.chunks(7) {
        incoming.write(piece)?;
    }
    incoming.finish(at(HOUR))
}

fn all(mut outgoing: Outgoing) -> (Vec<u8>, Outgoing) {
    let mut bytes = Vec::new();
    loop {
        let piece = outgoing.read(5).unwrap();
        if piece.is_empty() {
            assert_eq!(bytes.len() as u64, outgoing.bytes());
            return (bytes, outgoing);
        }
        bytes.extend_from_slice(&piece);
    }
}

fn fetch(shelf: &RelayShelf, client: usize) -> Option<Vec<u8>> {
    let (bytes, outgoing) = all(shelf.take(client, RelayQueue::Plain, Some(at(HOUR))).unwrap()?);
    outgoing.remove().unwrap();
    Some(bytes)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = (1..=4)
        .flat_map(|client| std::fs::read_dir(folder.join(format!("relay/{client}"))).unwrap())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn first_in_first_out_per_client_and_over_a_restart() {
    let temp = tempfile::tempdir().unwrap();
    let shelf = open(temp.path(), "b1");
    for (client, bytes) in [(0, "one"), (1, "other"), (0, "two"), (0, "three")] {
        put(&shelf, client, RelayQueue::Plain, 1, bytes.as_bytes()).unwrap();
    }
    assert_eq!(fetch(&shelf, 0).unwrap(), b"one");
    drop(shelf);
    let shelf = open(temp.path(), "b2");
    assert_eq!(shelf.usage(), (3, 13));
    put(&shelf, 0, RelayQueue::Plain, 1, b"four").unwrap();
    let rest: Vec<_> = std::iter::from_fn(|| fetch(&shelf, 0)).collect();
    assert_eq!(rest, [&b"two"[..], b"three", b"four"]);
    assert_eq!(fetch(&shelf, 1).unwrap(), b"other");
    assert_eq!((shelf.usage(), names(temp.path())), ((0, 0), vec![]));
    assert!(shelf.take(7, RelayQueue::Plain, Some(at(0))).unwrap().is_none(), "there are four clients");
}

#[test]
fn a_file_is_removed_only_when_the_client_has_it() {
    let temp = tempfile::tempdir().unwrap();
    let shelf = open(temp.path(), "b1");
    put(&shelf, 2, RelayQueue::Plain, 1, b"first").unwrap();
    put(&shelf, 2, RelayQueue::Plain, 1, b"second").unwrap();
    let in_hand = shelf.take(2, RelayQueue::Plain, Some(at(HOUR))).unwrap().unwrap();
    // Somebody else at the same moment gets the next, and nobody gets one twice.
    let next = shelf.take(2, RelayQueue::Plain, Some(at(HOUR))).unwrap().unwrap();
    assert_eq!(next.bytes(), 6);
    assert!(shelf.take(2, RelayQueue::Plain, Some(at(HOUR))).unwrap().is_none());
    drop((in_hand, next));
    assert_eq!(fetch(&shelf, 2).unwrap(), b"first", "back at its old place");
}

#[test]
fn sealed_and_plain_files_do_not_meet() {
    let temp = tempfile::tempdir().unwrap();
    let shelf = open(temp.path(), "b1");
    put(&shelf, 0, RelayQueue::Sealed, 1, b"sealed").unwrap();
    assert_eq!(fetch(&shelf, 0), None);
    put(&shelf, 0, RelayQueue::Plain, 1, b"plain").unwrap();
    assert_eq!(fetch(&shelf, 0).unwrap(), b"plain");
    let (bytes, _) = all(shelf.take(0, RelayQueue::Sealed, Some(at(HOUR))).unwrap().unwrap());
    assert_eq!(bytes, b"sealed");
}

#[test]
fn every_quota_holds_and_nothing_of_what_was_refused_stays() {
    let temp = tempfile::tempdir().unwrap();
    let shelf = open(temp.path(), "b1");
    let refused = |result: std::result::Result<(), RelayRefused>| result.unwrap_err().limit();
    let plain = RelayQueue::Plain;
    assert_eq!(refused(put(&shelf, 0, plain, 1, &[0; 101])), Some("relay_file_bytes"));
    put(&shelf, 0, plain, 1, &[0; 100]).unwrap();
    assert_eq!(refused(put(&shelf, 0, plain, 1, &[0; 51])), Some("relay_sender_bytes"));
    put(&shelf, 0, plain, 2, &[0; 100]).unwrap();
    assert_eq!(refused(put(&shelf, 0, plain, 3, &[0; 51])), Some("relay_total_bytes"));
    put(&shelf, 0, plain, 3, &[0; 1]).unwrap();
    assert_eq!(refused(put(&shelf, 0, plain, 3, &[0; 1])), Some("relay_files"));
    assert_eq!((shelf.usage(), names(temp.path()).len()), ((3, 201), 3));
    // What was announced is held back before it arrives, and given back when it does not.
    let announced = shelf.begin(1, plain, ip(4), Some(49)).unwrap();
    assert_eq!(refused(put(&shelf, 1, plain, 5, &[0; 1])), Some("relay_total_bytes"));
    assert_eq!(shelf.begin(1, plain, ip(5), Some(101)).unwrap_err().limit(), Some("relay_file_bytes"));
    drop(announced);
    put(&shelf, 1, plain, 5, &[0; 1]).unwrap();
    // Arriving files have places, too.
    let arriving: Vec<_> = (0..3).map(|_| shelf.begin(2, plain, ip(6), None).unwrap()).collect();
    assert_eq!(shelf.begin(2, plain, ip(6), None).unwrap_err().limit(), Some("relay_files"));
    drop(arriving);
    assert_eq!((shelf.usage(), names(temp.path()).len()), ((4, 202), 4));
    for _ in 0..3 {
        fetch(&shelf, 0).unwrap();
    }
    fetch(&shelf, 1).unwrap();
    assert_eq!(shelf.usage(), (0, 0));
    assert!(shelf.inner.lock().by_sender.is_empty(), "nothing grows with the number of senders");
}

#[test]
fn an_ipv6_site_is_one_sender() {
    let of = |text: &str| counted(text.parse().unwrap());
    assert_eq!(of("fd00:1:2:3::1"), of("fd00:1:2:3:4::9"));
    assert_ne!(of("fd00:1:2:3::1"), of("fd00:1:2:4::1"));
    assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    assert_ne!(of("10.0.0.2"), of("10.0.0.1"));
}

#[test]
fn what_nobody_fetches_is_removed_in_time() {
    let temp = tempfile::tempdir().unwrap();
    let shelf = open(temp.path(), "b1");
    put(&shelf, 0, RelayQueue::Plain, 1, b"old").unwrap();
    let in_hand = shelf.take(0, RelayQueue::Plain, Some(at(HOUR))).unwrap();
    assert_eq!(shelf.expire(at(9 * HOUR)).unwrap(), 0, "not out of somebody's hand");
    drop(in_hand);
    assert_eq!(shelf.expire(at(2 * HOUR)).unwrap(), 0);
    assert!(shelf.take(0, RelayQueue::Plain, Some(at(2 * HOUR + 1))).unwrap().is_none());
    assert_eq!((shelf.usage(), names(temp.path())), ((0, 0), vec![]));
    put(&shelf, 0, RelayQueue::Plain, 1, b"from the future").unwrap();
    assert_eq!(shelf.expire(at(0)).unwrap(), 0, "a clock that went back removes nothing");
}

#[test]
fn leftovers_go_and_strange_names_are_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let shelf = open(temp.path(), "b1");
    let mut incoming = shelf.begin(0, RelayQueue::Plain, ip(1), None).unwrap();
    incoming.write(b"half").unwrap();
    // As a kill leaves it.
    std::mem::forget(incoming);
    put(&shelf, 0, RelayQueue::Plain, 1, b"whole").unwrap();
    for strange in ["notes.txt", "1-2-3-plain", "00000000000000000009-1-zz-plain"] {
        std::fs::write(temp.path().join("relay/1").join(strange), b"x").unwrap();
    }
    assert_eq!(names(temp.path()).len(), 5);
    let shelf = open(temp.path(), "b2");
    assert_eq!((shelf.usage(), names(temp.path()).len()), ((1, 5), 4));
    assert_eq!(fetch(&shelf, 0).unwrap(), b"whole");
    assert_eq!(names(temp.path()).len(), 3);
    // A file that somebody took away is passed over.
    put(&shelf, 0, RelayQueue::Plain, 1, b"gone").unwrap();
    put(&shelf, 0, RelayQueue::Plain, 1, b"here").unwrap();
    let gone = names(temp.path()).into_iter().find(|name| name.starts_with("00000000000000000001-")).unwrap();
    std::fs::remove_file(temp.path().join("relay/1").join(gone)).unwrap();
    assert_eq!(fetch(&shelf, 0).unwrap(), b"here");
    assert_eq!(shelf.usage(), (0, 0));
}
