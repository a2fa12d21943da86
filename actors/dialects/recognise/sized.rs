//! The talk of `recognise_sized`: messages with their length in front, one after the other, each answered in its own form.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use meerkat_base::metric;
use meerkat_settings::{DialectsSettings, DoorSettings, RecogniseSizedSettings};
use meerkat_wire::recognise::sized::{LengthBytes, Reader, header};
use metrics::counter;
use tokio::net::TcpStream;

use super::super::stream::Client;
use super::super::{Dialect, End};
use super::{REASONS, RecogniseTools, closed, opened};
use crate::supervision::Failure;

/// The dialect behind its door.
pub(in super::super) struct Sized {
    opened_with: RecogniseSizedSettings,
    tools: RecogniseTools,
}

impl Sized {
    pub fn new(opened_with: RecogniseSizedSettings, tools: RecogniseTools) -> Self {
        Self { opened_with, tools }
    }
}

impl Dialect for Sized {
    const REASONS: &'static [&'static str] = REASONS;

    fn name(&self) -> &'static str {
        "recognise_sized"
    }

    fn door<'s>(&self, settings: &'s DialectsSettings) -> Option<&'s DoorSettings> {
        settings.recognise_sized.as_ref().map(|dialect| &dialect.door)
    }

    async fn talk(self: Arc<Self>, stream: TcpStream, _peer: SocketAddr) -> End {
        match self.serve(stream).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }
}

impl Sized {
    async fn serve(&self, stream: TcpStream) -> Result<std::convert::Infallible, End> {
        let tools = &self.tools;
        let settings = tools.cameras.settings();
        let settings = settings.dialects.recognise_sized.as_ref().unwrap_or(&self.opened_with).clone();
        let length_bytes = if settings.length_bytes == 4 { LengthBytes::Four } else { LengthBytes::Eight };
        let mut client = tools.client(stream, &settings.door);
        let mut reader = Reader::new(length_bytes, settings.common.max_bytes);
        loop {
            let message = receive(&mut client, &mut reader).await?;
            let (form, jpeg) = opened(message).await?;
            let marked = tools.mark(jpeg, settings.common.quality).await?;
            let answer = closed(form, marked).await?;
            // In one piece with its length: clients read the length in one go.
            let mut whole = header(length_bytes, answer.len())
                .ok_or_else(|| End::Failed(Failure::error("the answer is too long for its length")))?;
            whole.extend_from_slice(&answer);
            client.write(&whole).await?;
            client.between_messages();
        }
    }
}

async fn receive(client: &mut Client, reader: &mut Reader) -> Result<Bytes, End> {
    loop {
        match reader.next(&mut client.buffer) {
            Ok(Some(message)) => return Ok(message),
            Ok(None) => {}
            Err(bad) => return Err(End::Refused(bad.as_str())),
        }
        let buffered = client.buffer.len();
        let in_message = reader.in_message(buffered);
        if !client.read(in_message, reader.missing(buffered)).await? {
            if in_message {
                counter!(metric::PROTOCOL_ERRORS, "reason" => "left_in_message").increment(1);
            }
            return Err(End::Left);
        }
    }
}
