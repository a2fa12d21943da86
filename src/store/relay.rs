//! Files that wait for the client they were sent to: unread, in the order of their arrival, within quotas, until they are
//! fetched or too old. One file each under `relay/<client>/`; what is known of it stands in its name, so that nothing but
//! the folder has to survive.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meerkat_base::WallTime;

use crate::error::{Result, StoreError};
use crate::files::{BootId, Durability, Folder, PART_PREFIX};

/// Clients that files can be sent to.
pub const RELAY_CLIENTS: usize = 4;
/// Folder in the data folder.
pub(crate) const FOLDER: &str = "relay";

/// How much may wait, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayLimits {
    /// Longest file.
    pub file_bytes: u64,
    /// All files of all clients together.
    pub total_bytes: u64,
    /// All files from one address (IPv6: one /64) together.
    pub sender_bytes: u64,
    /// Files that wait for one client in one queue.
    pub files: usize,
    /// Time after which a file that nobody fetched is removed.
    pub keep: Duration,
}

/// Which queue of a client a file is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RelayQueue {
    /// Files of clients that know no lengths.
    Plain,
    /// Files that only the receiver can read.
    Sealed,
}

impl RelayQueue {
    fn as_str(self) -> &'static str {
        match self {
            RelayQueue::Plain => "plain",
            RelayQueue::Sealed => "sealed",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [RelayQueue::Plain, RelayQueue::Sealed].into_iter().find(|queue| queue.as_str() == word)
    }
}

/// A file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum RelayRefused {
    /// Longer than one file may be.
    #[error("the file is too long")]
    FileTooLong,
    /// The sender has enough files waiting.
    #[error("too much of this sender is waiting")]
    SenderFull,
    /// Enough bytes wait in all.
    #[error("too much is waiting")]
    Full,
    /// Enough files wait for this client.
    #[error("too many files are waiting for this client")]
    TooMany,
    /// The disk does not take it.
    #[error(transparent)]
    Disk(#[from] StoreError),
}

impl RelayRefused {
    /// The limit that was reached, as it stands in metrics; none where it was the disk.
    pub fn limit(&self) -> Option<&'static str> {
        match self {
            RelayRefused::FileTooLong => Some("relay_file_bytes"),
            RelayRefused::SenderFull => Some("relay_sender_bytes"),
            RelayRefused::Full => Some("relay_total_bytes"),
            RelayRefused::TooMany => Some("relay_files"),
            RelayRefused::Disk(_) => None,
        }
    }
}

/// All files that wait. Clones share them. Everything here blocks.
#[derive(Debug, Clone)]
pub struct RelayShelf {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    data_dir: PathBuf,
    boot: BootId,
    durability: Durability,
    limits: RelayLimits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    waiting: [VecDeque<Waiting>; RELAY_CLIENTS],
    /// Files that arrive at this moment, per client and queue.
    arriving: HashMap<(usize, RelayQueue), usize>,
    total_bytes: u64,
    by_sender: HashMap<u128, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiting {
    number: u64,
    received_secs: u64,
    sender: u128,
    queue: RelayQueue,
    bytes: u64,
    is_in_hand: bool,
}

impl Waiting {
    fn name(&self) -> String {
        let Self { number, received_secs, sender, queue, .. } = self;
        format!("{number:020}-{received_secs}-{sender:032x}-{}", queue.as_str())
    }

    fn parse(name: &str, bytes: u64) -> Option<Self> {
        let mut words = name.split('-');
        let waiting = Self {
            number: words.next()?.parse().ok()?,
            received_secs: words.next()?.parse().ok()?,
            sender: u128::from_str_radix(words.next()?, 16).ok()?,
            queue: RelayQueue::parse(words.next()?)?,
            bytes,
            is_in_hand: false,
        };
        // Exactly as it would be written, so that it is found again by its name.
        (words.next().is_none() && waiting.name() == name).then_some(waiting)
    }
}

impl RelayShelf {
    /// Finds what waits in the data folder from before, and removes what an earlier run left unfinished.
    pub fn open(data_dir: &Path, boot: &BootId, durability: Durability, limits: RelayLimits) -> Result<Self> {
        let mut state = State::default();
        let root = Folder::root(data_dir)?.make_sub(FOLDER)?;
        for client in 0..RELAY_CLIENTS {
            let folder = root.make_sub(&folder_name(client))?;
            for entry in folder.entries()? {
                if boot.is_foreign_part(&entry.name) {
                    folder.remove_quietly(&entry.name);
                } else if let Some(found) =
                    folder.len_of(&entry.name).and_then(|bytes| Waiting::parse(&entry.name, bytes))
                {
                    state.next = state.next.max(found.number.saturating_add(1));
                    state.book(found.sender, found.bytes);
                    state.waiting[client].push_back(found);
                } else if !entry.name.starts_with(PART_PREFIX) {
                    tracing::warn!(name = %meerkat_base::text::shown(entry.name.as_bytes()), "not a file of the relay");
                }
            }
        }
        let inner = Inner {
            data_dir: data_dir.to_owned(),
            boot: boot.clone(),
            durability,
            limits,
            state: Mutex::new(state),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Begins a file for a client. Its length is held back at once where it is `announced`, else as it arrives.
    pub fn begin(
        &self,
        client: usize,
        queue: RelayQueue,
        sender: IpAddr,
        announced: Option<u64>,
    ) -> std::result::Result<Incoming, RelayRefused> {
        let folder = self.inner.folder(client)?;
        let sender = counted(sender);
        {
            let mut state = self.inner.lock();
            let waiting = state
                .waiting
                .get(client)
                .map_or(0, |files| files.iter().filter(|file| file.queue == queue).count());
            let arriving = state.arriving.entry((client, queue)).or_default();
            if waiting.saturating_add(*arriving) >= self.inner.limits.files {
                return Err(RelayRefused::TooMany);
            }
            *arriving += 1;
        }
        // From here on dropping it gives everything back.
        let mut incoming = Incoming {
            inner: Arc::clone(&self.inner),
            client,
            queue,
            sender,
            folder,
            part: None,
            bytes: 0,
            held: 0,
            is_stored: false,
        };
        incoming.hold(announced.unwrap_or(0))?;
        let part = self.inner.boot.part_name("relay");
        let file = incoming.folder.create_new(&part)?;
        incoming.part = Some((part, file));
        Ok(incoming)
    }

    /// Hands out the oldest file of a client's queue that nobody has in hand; files too old by `now` are removed first,
    /// where that is known.
    pub fn take(&self, client: usize, queue: RelayQueue, now: Option<WallTime>) -> Result<Option<Outgoing>> {
        if let Some(now) = now {
            self.expire(now)?;
        }
        let folder = self.inner.folder(client)?;
        loop {
            let mut state = self.inner.lock();
            let Some(files) = state.waiting.get_mut(client) else { return Ok(None) };
            let free = files.iter_mut().find(|file| file.queue == queue && !file.is_in_hand);
            let Some(file) = free else { return Ok(None) };
            file.is_in_hand = true;
            let taken = file.clone();
            drop(state);
            match folder.read(&taken.name()) {
                Ok(file) => {
                    let inner = Arc::clone(&self.inner);
                    return Ok(Some(Outgoing { inner, client, waiting: taken, folder, file }));
                }
                // Somebody took it away: the next one.
                Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    self.inner.lock().forget(client, taken.number);
                }
                Err(error) => {
                    self.inner.lock().put_back(client, taken.number);
                    return Err(error);
                }
            }
        }
    }

    /// Removes what nobody fetched in time. Returns how many files.
    pub fn expire(&self, now: WallTime) -> Result<usize> {
        let keep_secs = self.inner.limits.keep.as_secs();
        let mut removed = 0;
        for client in 0..RELAY_CLIENTS {
            let old: Vec<Waiting> = {
                let state = self.inner.lock();
                let is_old = |file: &&Waiting| {
                    !file.is_in_hand && secs(now).saturating_sub(file.received_secs) > keep_secs
                };
                state.waiting[client].iter().filter(is_old).cloned().collect()
            };
            if old.is_empty() {
                continue;
            }
            let folder = self.inner.folder(client)?;
            for file in old {
                folder.remove(&file.name())?;
                self.inner.lock().forget(client, file.number);
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Files and bytes that wait, arriving ones counted with the bytes.
    pub fn usage(&self) -> (usize, u64) {
        let state = self.inner.lock();
        (state.waiting.iter().map(VecDeque::len).sum(), state.total_bytes)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Found anew each time: the data folder may have come back on another mount.
    fn folder(&self, client: usize) -> Result<Folder> {
        Folder::existing(&self.data_dir)?.make_sub(FOLDER)?.make_sub(&folder_name(client))
    }
}

impl State {
    fn book(&mut self, sender: u128, bytes: u64) {
        self.total_bytes = self.total_bytes.saturating_add(bytes);
        let own = self.by_sender.entry(sender).or_default();
        *own = own.saturating_add(bytes);
    }

    fn give_back(&mut self, sender: u128, bytes: u64) {
        self.total_bytes = self.total_bytes.saturating_sub(bytes);
        if let Some(own) = self.by_sender.get_mut(&sender) {
            *own = own.saturating_sub(bytes);
            if *own == 0 {
                self.by_sender.remove(&sender);
            }
        }
    }

    fn forget(&mut self, client: usize, number: u64) {
        let Some(files) = self.waiting.get_mut(client) else { return };
        let Some(at) = files.iter().position(|file| file.number == number) else { return };
        if let Some(file) = files.remove(at) {
            self.give_back(file.sender, file.bytes);
        }
    }

    fn put_back(&mut self, client: usize, number: u64) {
        let files = self.waiting.get_mut(client);
        if let Some(file) = files.and_then(|files| files.iter_mut().find(|file| file.number == number)) {
            file.is_in_hand = false;
        }
    }
}

/// A file that arrives. Dropped before [`Incoming::finish`], nothing of it stays.
#[derive(Debug)]
pub struct Incoming {
    inner: Arc<Inner>,
    client: usize,
    queue: RelayQueue,
    sender: u128,
    folder: Folder,
    part: Option<(String, File)>,
    bytes: u64,
    held: u64,
    is_stored: bool,
}

impl Incoming {
    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> std::result::Result<(), RelayRefused> {
        let length = self.bytes.saturating_add(bytes.len() as u64);
        if length > self.held {
            self.hold(length)?;
        }
        let Some((part, file)) = &mut self.part else { return Ok(()) };
        file.write_all(bytes).map_err(|e| StoreError::io(self.folder.path().join(&*part), e))?;
        self.bytes = length;
        Ok(())
    }

    /// Puts the file into its queue. From then on it waits, also over a restart.
    pub fn finish(mut self, now: WallTime) -> std::result::Result<(), RelayRefused> {
        let Some((part, file)) = self.part.take() else { return Ok(()) };
        let stored = self.store(&part, &file, now);
        if stored.is_err() {
            self.folder.remove_quietly(&part);
        }
        stored.map_err(RelayRefused::from)
    }

    fn store(&mut self, part: &str, file: &File, now: WallTime) -> Result<()> {
        if self.inner.durability.syncs() {
            file.sync_all().map_err(|e| StoreError::io(self.folder.path().join(part), e))?;
        }
        // The number is taken under the lock that orders the queue, so names and queue have the same order.
        let mut state = self.inner.lock();
        let waiting = Waiting {
            number: state.next,
            received_secs: secs(now),
            sender: self.sender,
            queue: self.queue,
            bytes: self.bytes,
            is_in_hand: false,
        };
        self.folder.rename_new(part, &self.folder, &waiting.name())?;
        state.next = state.next.saturating_add(1);
        if let Some(files) = state.waiting.get_mut(self.client) {
            files.push_back(waiting);
        }
        // An announced file that was shorter holds no more than it is.
        state.give_back(self.sender, self.held.saturating_sub(self.bytes));
        self.is_stored = true;
        drop(state);
        if self.inner.durability.syncs() { self.folder.sync() } else { Ok(()) }
    }

    /// Holds back so many bytes in all for this file.
    fn hold(&mut self, bytes: u64) -> std::result::Result<(), RelayRefused> {
        let limits = &self.inner.limits;
        if bytes > limits.file_bytes {
            return Err(RelayRefused::FileTooLong);
        }
        let more = bytes.saturating_sub(self.held);
        let mut state = self.inner.lock();
        let own = state.by_sender.get(&self.sender).copied().unwrap_or(0);
        if own.saturating_add(more) > limits.sender_bytes {
            return Err(RelayRefused::SenderFull);
        }
        if state.total_bytes.saturating_add(more) > limits.total_bytes {
            return Err(RelayRefused::Full);
        }
        state.book(self.sender, more);
        self.held = bytes;
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some((part, _)) = self.part.take() {
            self.folder.remove_quietly(&part);
        }
        let mut state = self.inner.lock();
        if let Some(arriving) = state.arriving.get_mut(&(self.client, self.queue)) {
            *arriving = arriving.saturating_sub(1);
        }
        if !self.is_stored {
            state.give_back(self.sender, self.held);
        }
    }
}

/// A file in somebody's hand. Dropped without [`Outgoing::remove`], it waits at its old place.
#[derive(Debug)]
pub struct Outgoing {
    inner: Arc<Inner>,
    client: usize,
    waiting: Waiting,
    folder: Folder,
    file: File,
}

impl Outgoing {
    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.waiting.bytes
    }

    /// Reads the next bytes; an empty answer is the end.
    pub fn read(&mut self, most: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = (&mut self.file).take(most as u64).read_to_end(&mut bytes);
        read.map_err(|e| StoreError::io(self.folder.path().join(self.waiting.name()), e))?;
        Ok(bytes)
    }

    /// Removes it: the client has it.
    pub fn remove(self) -> Result<()> {
        self.folder.remove(&self.waiting.name())?;
        self.inner.lock().forget(self.client, self.waiting.number);
        Ok(())
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.inner.lock().put_back(self.client, self.waiting.number);
    }
}

fn folder_name(client: usize) -> String {
    client.saturating_add(1).to_string()
}

fn secs(time: WallTime) -> u64 {
    u64::try_from(time.0 / 1_000_000).unwrap_or(0)
}

/// The number under which an address is counted: an IPv6 address with its /64.
fn counted(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => Ipv6Addr::to_bits(v6) >> 64 << 64,
    }
}

#[cfg(test)]
mod tests;
