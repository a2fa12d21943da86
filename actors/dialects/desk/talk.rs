//! What the desk does with each command: one connection, one command, every step with its answer.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use meerkat_store::{Outgoing, RelayQueue, RelayRefused};
use meerkat_wire::desk::{
    Chart, ClientNumber, Command, FILE_GONE, FILE_NONE, GO, Item, NO_FACE, OK, Own, RELAY_STORED, Refusal,
    STORED, Sealing, count, cut_text, face, file_line, objects,
};
use tracing::{info, warn};

use super::Desk;
use super::chat::{BuiltIn, Reply, answer};
use super::clients::{Client, HeldCsv, HeldPicture};
use super::line::{Line, Stop};
use crate::storage;

/// Bytes of a file that are read from the disk and sent at once.
const PIECE_BYTES: usize = 64 << 10;
/// An old client reads so much of a file that it fetches, and no more.
const OLD_CLIENT_READS_BYTES: u64 = 1024;

/// One connection.
pub(super) struct Talk<'d> {
    pub desk: &'d Desk,
    pub client: Client,
    pub line: Line,
}

impl Talk<'_> {
    /// Does what the client asks for, until there is nothing more to say.
    pub async fn run(&mut self) -> Result<(), Stop> {
        match self.line.item().await? {
            Some(Item::Command(command)) => {
                self.desk.count_command(command.as_str());
                self.command(command).await
            }
            Some(Item::Own(own)) => {
                self.desk.count_command("own_relay");
                match own {
                    Own::Send { to, bytes } => {
                        self.relay_in(to, RelayQueue::Sealed, Some(bytes), GO, STORED).await
                    }
                    Own::Receive(sealing) => self.own_receive(sealing).await,
                }
            }
            // The parser begins with nothing else.
            Some(_) | None => Ok(()),
        }
    }

    async fn command(&mut self, command: Command) -> Result<(), Stop> {
        match command {
            Command::Chat => self.chat().await,
            Command::RelayTo(to) => {
                self.relay_in(to, RelayQueue::Plain, None, command.text(), RELAY_STORED).await
            }
            Command::RelayFetch => self.relay_fetch().await,
            Command::SendPicture => self.send_picture().await,
            Command::Face => self.face().await,
            Command::Objects => self.objects().await,
            Command::SendCsv => self.send_csv().await,
            Command::Analyse => self.analyse().await,
            Command::Chart(chart) => self.chart(chart).await,
            Command::WordClouds => self.word_clouds().await,
        }
    }

    async fn chat(&mut self) -> Result<(), Stop> {
        self.line.say(Command::Chat.text()).await?;
        let Some(Item::Text(text)) = self.line.item().await? else { return Ok(()) };
        let answer = match self.desk.chat.reply(&text) {
            None => text,
            Some(Reply::Words(words)) => words,
            Some(Reply::Made(BuiltIn::Time, language)) => {
                answer(BuiltIn::Time, language, self.desk.facts.as_ref()).map_err(Stop::Sorry)?
            }
            Some(Reply::Made(builtin, language)) => {
                let facts = Arc::clone(&self.desk.facts);
                let made = self.desk.on_disk(move || answer(builtin, language, facts.as_ref())).await?;
                cut_text(&made.map_err(Stop::Sorry)?)
            }
        };
        self.line.say(&answer).await
    }

    // === Files from client to client ===

    /// Takes a file for a client: `go` asks for it, and `done` says that it waits there from now on. Its end is where
    /// the `announced` length is reached, or where the client falls silent.
    async fn relay_in(
        &mut self,
        to: ClientNumber,
        queue: RelayQueue,
        announced: Option<u64>,
        go: &str,
        done: &str,
    ) -> Result<(), Stop> {
        let (shelf, sender, room) =
            (self.desk.shelf.clone(), self.client.address, Arc::clone(&self.desk.room));
        let begun = self.desk.on_disk(move || {
            let incoming = shelf.begin(to.index(), queue, sender, announced).map_err(refused)?;
            room.spare(announced.unwrap_or(1)).map_err(no_room)?;
            Ok::<_, Stop>(incoming)
        });
        let mut incoming = begun.await??;
        self.line.say(go).await?;
        loop {
            let (bytes, is_last) = match self.line.item().await? {
                Some(Item::Piece(bytes)) => (bytes, false),
                Some(Item::Body { bytes, is_last }) => (bytes, is_last),
                Some(Item::FileEnd) => break,
                // It left before its file was whole.
                _ => return Ok(()),
            };
            incoming = self.put(incoming, bytes, |file, bytes| file.write(bytes).map_err(refused)).await?;
            if is_last {
                break;
            }
        }
        let now = self.desk.clock.wall();
        self.desk.on_disk(move || incoming.finish(now)).await?.map_err(refused)?;
        self.line.upload_over();
        self.desk.count_relayed("stored");
        self.line.say(done).await
    }

    /// Writes what arrived to the disk, as long as the disk has room for it.
    async fn put<F: Send + 'static>(
        &self,
        mut file: F,
        bytes: Bytes,
        write: fn(&mut F, &[u8]) -> Result<(), Stop>,
    ) -> Result<F, Stop> {
        let room = Arc::clone(&self.desk.room);
        let written = self.desk.on_disk(move || {
            room.spare(bytes.len() as u64).map_err(no_room)?;
            write(&mut file, &bytes).map(|()| file)
        });
        written.await?
    }

    async fn relay_fetch(&mut self) -> Result<(), Stop> {
        // Nothing waiting: it closes.
        let Some(outgoing) = self.take(RelayQueue::Plain).await? else { return Ok(()) };
        let bytes = outgoing.bytes();
        let (outgoing, heard, sent) = self.hand_out(outgoing).await?;
        let heard = match heard {
            Some(item) => Some(item),
            None => self.line.item().await?,
        };
        if heard != Some(Item::Success) {
            return Ok(());
        }
        if bytes > OLD_CLIENT_READS_BYTES {
            let (client, peer) = (self.client.number.get(), self.client.address);
            info!(client, %peer, bytes, sent, "a fetched file is longer than the 1,024 bytes that an old client reads");
        }
        self.remove(outgoing).await
    }

    async fn own_receive(&mut self, sealing: Sealing) -> Result<(), Stop> {
        let queue = match sealing {
            Sealing::Sealed => RelayQueue::Sealed,
            Sealing::Plain => RelayQueue::Plain,
        };
        let Some(outgoing) = self.take(queue).await? else { return self.line.say(FILE_NONE).await };
        self.line.say(&file_line(outgoing.bytes())).await?;
        let (outgoing, heard, _) = self.hand_out(outgoing).await?;
        if heard.is_some() {
            // It cannot have the file yet.
            return Err(Refusal::NotTheWord.into());
        }
        if self.line.item().await? != Some(Item::Success) {
            return Ok(());
        }
        self.remove(outgoing).await?;
        self.line.say(FILE_GONE).await
    }

    async fn take(&mut self, queue: RelayQueue) -> Result<Option<Outgoing>, Stop> {
        let (shelf, now, client) = (self.desk.shelf.clone(), self.desk.age.now(), self.client.number.index());
        let taken = self.desk.on_disk(move || shelf.take(client, queue, now)).await?;
        taken.map_err(|error| refused(RelayRefused::Disk(error)))
    }

    /// Sends a file. Also gives what the client said before all was sent, and how much was.
    async fn hand_out(&mut self, mut outgoing: Outgoing) -> Result<(Outgoing, Option<Item>, u64), Stop> {
        let mut sent = 0;
        loop {
            let (back, piece) = self
                .desk
                .on_disk(move || {
                    let piece = outgoing.read(PIECE_BYTES);
                    (outgoing, piece)
                })
                .await?;
            outgoing = back;
            let piece = piece.map_err(|error| refused(RelayRefused::Disk(error)))?;
            if piece.is_empty() {
                return Ok((outgoing, None, sent));
            }
            let heard = self.line.send_or_hear(&piece).await?;
            sent += piece.len() as u64;
            if heard.is_some() {
                return Ok((outgoing, heard, sent));
            }
        }
    }

    async fn remove(&mut self, outgoing: Outgoing) -> Result<(), Stop> {
        let removed = self.desk.on_disk(move || outgoing.remove()).await?;
        removed.map_err(|error| refused(RelayRefused::Disk(error)))?;
        self.desk.count_relayed("fetched");
        Ok(())
    }

    // === Pictures ===

    async fn send_picture(&mut self) -> Result<(), Stop> {
        self.line.say(OK).await?;
        let Some(Item::Size(size)) = self.line.item().await? else { return Ok(()) };
        let most = self.desk.settings().max_picture_bytes;
        let size = usize::try_from(size).ok().filter(|size| *size <= most);
        let Some(size) = size else {
            return Err(Stop::Limit("desk_picture_bytes", format!("a picture has at most {most} bytes")));
        };
        let Some(permit) = self.desk.clients.room_for_picture(self.client, size) else {
            return Err(Stop::Limit("desk_pictures_bytes", "no room for a picture now".to_owned()));
        };
        self.line.say(OK).await?;
        // What was said and not sent takes no memory.
        let mut picture = Vec::new();
        loop {
            let Some(Item::Body { bytes, is_last }) = self.line.item().await? else { return Ok(()) };
            picture.extend_from_slice(&bytes);
            self.line.holds(picture.len());
            if is_last {
                break;
            }
        }
        let picture = HeldPicture { bytes: picture.into(), _permit: permit };
        self.desk.clients.keep_picture(self.client, picture, self.desk.clock.mono());
        self.line.upload_over();
        self.line.say(OK).await
    }

    async fn face(&mut self) -> Result<(), Stop> {
        let Some(picture) = self.desk.clients.picture(self.client, self.desk.clock.mono()) else {
            // On no picture there is no face, and the old clients have no other word.
            return self.line.say(NO_FACE).await;
        };
        let found = self.desk.first_face(&picture.bytes).await.map_err(Stop::Sorry)?;
        match found {
            Some(found) => self.line.say(&face(&found)).await,
            None => self.line.say(NO_FACE).await,
        }
    }

    async fn objects(&mut self) -> Result<(), Stop> {
        let picture = self.desk.clients.picture(self.client, self.desk.clock.mono());
        let picture = picture.ok_or_else(|| Stop::Sorry("no picture was sent".to_owned()))?;
        let seen = self.desk.eyes.objects(picture.bytes.clone()).await;
        let seen = seen.map_err(|error| Stop::Sorry(error.to_string()))?;
        if seen.is_empty() {
            return Err(Stop::Sorry("nothing was recognised".to_owned()));
        }
        self.line.say(&objects(seen.iter().map(|guess| (guess.label.as_str(), guess.score)))).await
    }

    // === CSV files ===

    async fn send_csv(&mut self) -> Result<(), Stop> {
        self.line.say(OK).await?;
        let Some(Item::Size(size)) = self.line.item().await? else { return Ok(()) };
        let most = self.desk.settings().csv.max_bytes;
        if size > most {
            return Err(Stop::Limit("desk_csv_bytes", format!("a CSV file has at most {most} bytes")));
        }
        let room =
            usize::try_from(size).ok().and_then(|size| self.desk.clients.room_for_csv(self.client, size));
        let Some(permit) = room else {
            return Err(Stop::Limit("desk_csv_total_bytes", "no room for a CSV file now".to_owned()));
        };
        let (folder, room) = (self.desk.folder.clone(), Arc::clone(&self.desk.room));
        let begun = self.desk.on_disk(move || {
            room.spare(size).map_err(no_room)?;
            super::nameless_file(&folder).map_err(disk)
        });
        let mut file = begun.await??;
        self.line.say(OK).await?;
        loop {
            let Some(Item::Body { bytes, is_last }) = self.line.item().await? else { return Ok(()) };
            file = self.put(file, bytes, |file, bytes| file.write_all(bytes).map_err(disk)).await?;
            if is_last {
                break;
            }
        }
        let csv = HeldCsv { file, _permit: permit };
        self.desk.clients.keep_csv(self.client, csv, self.desk.clock.mono());
        self.line.upload_over();
        self.line.say(OK).await
    }

    async fn analyse(&mut self) -> Result<(), Stop> {
        let csv = self.desk.clients.csv(self.client, self.desk.clock.mono());
        let csv = csv.ok_or_else(|| Stop::Sorry("no CSV file was sent".to_owned()))?;
        let own = Arc::clone(&csv);
        // A handle of its own, at the beginning: two connections may ask for the same file.
        let file = self.desk.on_disk(move || super::again(&own.file)).await?.map_err(disk)?;
        let charts = self.desk.analyses.run(file).await.map_err(Stop::Sorry)?;
        self.desk.clients.keep_charts(self.client, &csv, charts, self.desk.clock.mono());
        self.line.say(OK).await
    }

    async fn chart(&mut self, chart: Chart) -> Result<(), Stop> {
        let charts = self.desk.clients.charts(self.client, self.desk.clock.mono());
        let charts = charts.ok_or_else(|| Stop::Sorry("no CSV file was analysed".to_owned()))?;
        self.picture_out(charts.chart(chart).clone()).await
    }

    async fn word_clouds(&mut self) -> Result<(), Stop> {
        let charts = self.desk.clients.charts(self.client, self.desk.clock.mono());
        let charts = charts.ok_or_else(|| Stop::Sorry("no CSV file was analysed".to_owned()))?;
        self.line.say(&count(charts.clouds.len())).await?;
        if self.line.item().await? != Some(Item::Ok) {
            return Ok(());
        }
        for cloud in &charts.clouds {
            self.picture_out(cloud.clone()).await?;
        }
        Ok(())
    }

    /// Its size, `OK`, its bytes in one write, `OK`.
    async fn picture_out(&mut self, jpeg: Bytes) -> Result<(), Stop> {
        if jpeg.is_empty() {
            return Err(Stop::Sorry("there is no such picture".to_owned()));
        }
        self.line.say(&count(jpeg.len())).await?;
        if self.line.item().await? != Some(Item::Ok) {
            return Ok(());
        }
        self.line.send(&jpeg).await?;
        // An old client may leave without it.
        self.line.item().await.map(|_| ())
    }
}

fn refused(reason: RelayRefused) -> Stop {
    match (reason.limit(), &reason) {
        (Some(limit), _) => Stop::Limit(limit, reason.to_string()),
        (None, _) => {
            warn!(error = %reason, "a file of the relay could not be handled");
            Stop::Sorry("the disk does not take it".to_owned())
        }
    }
}

/// What is no evidence leaves the last free space to evidence.
fn no_room(refusal: storage::Refusal) -> Stop {
    Stop::Limit("desk_free_space", refusal.words().to_owned())
}

fn disk(error: std::io::Error) -> Stop {
    warn!(%error, "a CSV file could not be handled");
    Stop::Sorry("the disk does not take it".to_owned())
}
