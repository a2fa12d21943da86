//! The talk of `recognise_chunked`: one picture per connection, ended by `0`; it goes back, and then a `0` by itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meerkat_base::metric;
use meerkat_settings::{DialectsSettings, DoorSettings, RecogniseChunkedSettings};
use meerkat_wire::recognise::chunked::{END, Reader};
use metrics::counter;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::super::stream::Client;
use super::super::{Dialect, End};
use super::{REASONS, RecogniseTools};

/// How often it is looked whether the picture has left.
const LOOK: Duration = Duration::from_millis(2);
/// How long the client's own end of the connection is waited for behind the `0`.
const FAREWELL: Duration = Duration::from_secs(2);
/// How much is read at once.
const READ: usize = 64 << 10;

/// The dialect behind its door.
pub(in super::super) struct Chunked {
    opened_with: RecogniseChunkedSettings,
    tools: RecogniseTools,
}

impl Chunked {
    pub fn new(opened_with: RecogniseChunkedSettings, tools: RecogniseTools) -> Self {
        Self { opened_with, tools }
    }
}

impl Dialect for Chunked {
    const REASONS: &'static [&'static str] = REASONS;

    fn name(&self) -> &'static str {
        "recognise_chunked"
    }

    fn door<'s>(&self, settings: &'s DialectsSettings) -> Option<&'s DoorSettings> {
        settings.recognise_chunked.as_ref().map(|dialect| &dialect.door)
    }

    async fn talk(self: Arc<Self>, stream: TcpStream, _peer: SocketAddr) -> End {
        match self.serve(stream).await {
            Ok(()) => End::Left,
            Err(end) => end,
        }
    }
}

impl Chunked {
    async fn serve(&self, stream: TcpStream) -> Result<(), End> {
        let tools = &self.tools;
        let settings = tools.cameras.settings();
        let settings = settings.dialects.recognise_chunked.as_ref().unwrap_or(&self.opened_with).clone();
        let mut client = tools.client(stream, &settings.door);
        let jpeg = receive(&mut client, settings.common.max_bytes).await?;
        let marked = tools.mark(jpeg, settings.common.quality).await?;
        client.write(&marked).await?;
        // From here on the socket takes nothing while anything of the picture waits in this machine still.
        SockRef::from(&client.stream)
            .set_tcp_notsent_lowat(1)
            .map_err(|error| End::Broken(error.to_string()))?;
        has_left(&client.stream, settings.door.stall_timeout).await?;
        // The client must read the `0` by itself, not glued to the picture.
        sleep(settings.end_pause).await;
        client.write(END).await?;
        let _ = timeout(FAREWELL, farewell(&mut client.stream)).await;
        Ok(())
    }
}

async fn receive(client: &mut Client, max_bytes: usize) -> Result<Bytes, End> {
    let mut reader = Reader::new(max_bytes);
    loop {
        match reader.next(&mut client.buffer) {
            Ok(Some(jpeg)) => return Ok(jpeg),
            Ok(None) => {}
            Err(bad) => return Err(End::Refused(bad.as_str())),
        }
        let in_message = !client.buffer.is_empty();
        if !client.read(in_message, READ).await? {
            if in_message {
                counter!(metric::PROTOCOL_ERRORS, "reason" => "left_in_message").increment(1);
            }
            return Err(End::Left);
        }
    }
}

/// Waits until all that was written is on its way. With the low-water mark at one byte a socket takes more only then.
async fn has_left(stream: &TcpStream, limit: Duration) -> Result<(), End> {
    let give_up = Instant::now() + limit;
    loop {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut asked = [PollFd::new(stream, PollFlags::OUT)];
        match poll(&mut asked, Some(&now)) {
            Ok(ready) if ready > 0 => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(End::Broken(error.to_string())),
        }
        if Instant::now() >= give_up {
            return Err(End::Refused("stall_timeout"));
        }
        sleep(LOOK).await;
    }
}

/// Closes this side, and reads until the client closes the other: what it still sends must not break the connection
/// before it has read everything.
async fn farewell(stream: &mut TcpStream) {
    let mut ignored = [0; 1024];
    let _ = stream.shutdown().await;
    while stream.read(&mut ignored).await.is_ok_and(|count| count > 0) {}
}
