//! What the desk keeps of its clients between their connections: a picture, a CSV file, charts. A client is a port and an
//! address. Everything is bounded: clients, bytes, time; whoever was silent longest goes first.

use std::collections::HashMap;
use std::fs::File;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use meerkat_base::{Budget, MonoTime, Permit};
use meerkat_wire::desk::ClientNumber;

use super::analysis::Charts;

/// Who a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client {
    /// By its port.
    pub number: ClientNumber,
    /// Where it is.
    pub address: IpAddr,
}

impl Client {
    /// The client at this port and address.
    pub fn new(number: ClientNumber, peer: IpAddr) -> Self {
        Self { number, address: peer.to_canonical() }
    }
}

/// A picture with the memory it takes.
#[derive(Debug)]
pub struct HeldPicture {
    /// As it was sent.
    pub bytes: Bytes,
    /// Gives the memory back.
    pub _permit: Permit,
}

/// A CSV file without a name, with the room it takes.
#[derive(Debug)]
pub struct HeldCsv {
    /// Open for reading; at whatever place.
    pub file: File,
    /// Gives the room back.
    pub _permit: Permit,
}

#[derive(Debug, Default)]
struct Kept {
    picture: Option<Arc<HeldPicture>>,
    csv: Option<Arc<HeldCsv>>,
    charts: Option<Arc<Charts>>,
    last_word: MonoTime,
}

/// What is kept of all clients.
#[derive(Debug)]
pub struct Clients {
    most: usize,
    keep: Duration,
    pictures: Budget,
    csv: Budget,
    kept: Mutex<HashMap<Client, Kept>>,
}

impl Clients {
    /// Room for so many clients, for so long, with so many bytes of pictures and of CSV files.
    pub fn new(most: usize, keep: Duration, picture_bytes: usize, csv_bytes: usize) -> Self {
        let (pictures, csv) = (Budget::new(picture_bytes), Budget::new(csv_bytes));
        Self { most: most.max(1), keep, pictures, csv, kept: Mutex::default() }
    }

    /// Room for a picture of so many bytes. Older pictures go for it, the client's own first; `None` when there is no
    /// room even so.
    pub fn room_for_picture(&self, client: Client, bytes: usize) -> Option<Permit> {
        if let Some(own) = self.lock().get_mut(&client) {
            own.picture = None;
        }
        self.room(&self.pictures, bytes, |kept| kept.picture.take().is_some())
    }

    /// Room for a CSV file; as [`Clients::room_for_picture`].
    pub fn room_for_csv(&self, client: Client, bytes: usize) -> Option<Permit> {
        if let Some(own) = self.lock().get_mut(&client) {
            own.csv = None;
            own.charts = None;
        }
        self.room(&self.csv, bytes, |kept| kept.csv.take().is_some())
    }

    fn room(&self, budget: &Budget, bytes: usize, give: impl Fn(&mut Kept) -> bool) -> Option<Permit> {
        let mut all = self.lock();
        loop {
            if let Some(permit) = budget.try_take(bytes) {
                return Some(permit);
            }
            // One that is in use at this moment gives its room back later: then there is none now.
            let mut oldest: Vec<(&Client, &mut Kept)> = all.iter_mut().collect();
            oldest.sort_by_key(|(_, kept)| kept.last_word);
            if !oldest.into_iter().any(|(_, kept)| give(kept)) {
                return None;
            }
        }
    }

    /// Keeps a picture; the one before is forgotten.
    pub fn keep_picture(&self, client: Client, picture: HeldPicture, now: MonoTime) {
        self.with(client, now, |kept| kept.picture = Some(Arc::new(picture)));
    }

    /// Keeps a CSV file; the one before and its charts are forgotten.
    pub fn keep_csv(&self, client: Client, csv: HeldCsv, now: MonoTime) {
        self.with(client, now, |kept| {
            kept.csv = Some(Arc::new(csv));
            kept.charts = None;
        });
    }

    /// Keeps the charts of a file, unless the client has sent another one meanwhile. One that was given up is the
    /// client's still.
    pub fn keep_charts(&self, client: Client, of: &Arc<HeldCsv>, charts: Charts, now: MonoTime) {
        self.with(client, now, |kept| {
            if kept.csv.as_ref().is_none_or(|csv| Arc::ptr_eq(csv, of)) {
                kept.charts = Some(Arc::new(charts));
            }
        });
    }

    /// The client's picture.
    pub fn picture(&self, client: Client, now: MonoTime) -> Option<Arc<HeldPicture>> {
        self.look(client, now, |kept| kept.picture.clone())
    }

    /// The client's CSV file.
    pub fn csv(&self, client: Client, now: MonoTime) -> Option<Arc<HeldCsv>> {
        self.look(client, now, |kept| kept.csv.clone())
    }

    /// The charts of the client's CSV file.
    pub fn charts(&self, client: Client, now: MonoTime) -> Option<Arc<Charts>> {
        self.look(client, now, |kept| kept.charts.clone())
    }

    /// Forgets every CSV file; charts that were made of one stay. Returns how many there were.
    pub fn give_up_csv(&self) -> usize {
        self.lock().values_mut().filter_map(|kept| kept.csv.take()).count()
    }

    /// Forgets clients that said nothing for too long. Returns how many are left.
    pub fn expire(&self, now: MonoTime) -> usize {
        let mut all = self.lock();
        all.retain(|_, kept| now.since(kept.last_word) <= self.keep);
        all.len()
    }

    /// Bytes of pictures and of CSV files.
    pub fn used_bytes(&self) -> (usize, usize) {
        (self.pictures.used(), self.csv.used())
    }

    fn look<T>(&self, client: Client, now: MonoTime, of: impl Fn(&Kept) -> Option<T>) -> Option<T> {
        let mut all = self.lock();
        let kept = all.get_mut(&client)?;
        if now.since(kept.last_word) > self.keep {
            all.remove(&client);
            return None;
        }
        kept.last_word = now;
        of(kept)
    }

    fn with(&self, client: Client, now: MonoTime, change: impl FnOnce(&mut Kept)) {
        let mut all = self.lock();
        let kept = all.entry(client).or_default();
        kept.last_word = now;
        change(kept);
        while all.len() > self.most {
            let silent_longest =
                all.iter().filter(|(own, _)| **own != client).min_by_key(|(_, k)| k.last_word);
            let Some(silent_longest) = silent_longest.map(|(own, _)| *own) else { return };
            all.remove(&silent_longest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Client, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn client(port: u8, last: u8) -> Client {
        Client::new(ClientNumber::new(port).unwrap(), IpAddr::from([192, 0, 2, last]))
    }

    fn at(secs: u64) -> MonoTime {
        MonoTime::default().after(Duration::from_secs(secs))
    }

    fn put(clients: &Clients, client: Client, bytes: usize, now: u64) -> bool {
        let Some(permit) = clients.room_for_picture(client, bytes) else { return false };
        let picture = HeldPicture { bytes: vec![now as u8; bytes].into(), _permit: permit };
        clients.keep_picture(client, picture, at(now));
        true
    }

    fn has(clients: &Clients, client: Client) -> Option<u8> {
        clients.lock().get(&client)?.picture.as_ref().map(|picture| picture.bytes[0])
    }

    #[test]
    fn a_client_is_a_port_and_an_address() {
        let clients = Clients::new(9, HOUR, 1000, 1000);
        assert!(put(&clients, client(1, 1), 10, 1) && put(&clients, client(2, 1), 10, 2));
        assert!(put(&clients, client(1, 2), 10, 3) && put(&clients, client(1, 1), 10, 4));
        let of = |own| clients.picture(own, at(5)).map(|picture| picture.bytes[0]);
        assert_eq!([of(client(1, 1)), of(client(2, 1)), of(client(1, 2))], [Some(4), Some(2), Some(3)]);
        assert_eq!((of(client(3, 1)), clients.used_bytes()), (None, (30, 0)));
        let mapped = Client::new(ClientNumber::ALL[0], "::ffff:192.0.2.1".parse().unwrap());
        assert_eq!(of(mapped), Some(4));
    }

    #[test]
    fn the_oldest_pictures_make_room_and_those_in_use_do_not() {
        let clients = Clients::new(9, HOUR, 100, 100);
        for (n, now) in [(1, 1), (2, 2), (3, 3)] {
            assert!(put(&clients, client(1, n), 30, now));
        }
        assert!(put(&clients, client(1, 4), 50, 4));
        let left: Vec<_> = (1..=4).map(|n| has(&clients, client(1, n))).collect();
        assert_eq!(left, [None, None, Some(3), Some(4)]);
        let in_use = clients.picture(client(1, 4), at(5));
        assert!(!put(&clients, client(1, 5), 60, 6), "what somebody looks at takes memory still");
        drop(in_use);
        assert!(put(&clients, client(1, 5), 60, 7));
        assert!(!put(&clients, client(1, 6), 101, 8), "more than there is");
    }

    #[test]
    fn clients_are_bounded_in_number_and_time() {
        let clients = Clients::new(3, HOUR, 1000, 1000);
        for n in 1..=5 {
            assert!(put(&clients, client(1, n), 10, n.into()));
        }
        let left: Vec<_> = (1..=5).map(|n| has(&clients, client(1, n)).is_some()).collect();
        assert_eq!(left, [false, false, true, true, true]);
        assert!(clients.picture(client(1, 3), at(3000)).is_some(), "whoever speaks is kept");
        assert_eq!(clients.expire(at(3000 + 3600)), 1);
        assert!(clients.picture(client(1, 3), at(3000 + 3601)).is_none());
        assert_eq!((clients.expire(at(9999)), clients.used_bytes()), (0, (0, 0)));
    }

    #[test]
    fn charts_belong_to_the_file_they_were_made_of() {
        let clients = Clients::new(3, HOUR, 1000, 1000);
        let own = client(1, 1);
        let csv = || {
            let permit = clients.room_for_csv(own, 10).unwrap();
            HeldCsv { file: tempfile::tempfile().unwrap(), _permit: permit }
        };
        clients.keep_csv(own, csv(), at(1));
        let first = clients.csv(own, at(2)).unwrap();
        clients.keep_charts(own, &first, Charts::default(), at(3));
        assert!(clients.charts(own, at(4)).is_some());
        clients.keep_csv(own, csv(), at(5));
        assert!(clients.charts(own, at(6)).is_none(), "another file");
        clients.keep_charts(own, &first, Charts::default(), at(7));
        assert!(clients.charts(own, at(8)).is_none(), "an analysis that came too late");
        let second = clients.csv(own, at(9)).unwrap();
        assert_eq!((clients.give_up_csv(), clients.give_up_csv()), (1, 0));
        assert!(clients.csv(own, at(9)).is_none());
        clients.keep_charts(own, &second, Charts::default(), at(10));
        assert!(clients.charts(own, at(11)).is_some(), "what was asked for is there, without its file");
        drop((first, second));
        assert_eq!(clients.used_bytes(), (0, 0));
    }
}
