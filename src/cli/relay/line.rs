//! The desk's port from the side of our own client: the lines of the extension, and files between them. Every wait is
//! bounded.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use meerkat_wire::desk::{
    ClientNumber, FILE_GONE, FILE_NONE, GO, MAX_TEXT_ANSWER_BYTES, STORED, SUCCESS, Sealing, read_file_line,
    receive_line, send_line,
};

/// Longest time to connect, and to hear or to get rid of the next bytes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection for one file.
pub(super) struct Node {
    stream: TcpStream,
}

impl Node {
    /// Connects.
    pub fn connect(to: &str) -> anyhow::Result<Self> {
        let addresses = to.to_socket_addrs().with_context(|| format!("{to} is not an address"))?;
        let mut last = anyhow!("{to} has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    return Ok(Self { stream });
                }
                Err(error) => last = anyhow!("cannot connect to {address}: {error}"),
            }
        }
        Err(last)
    }

    /// Sends a file of so many bytes; the node has it when this returns.
    pub fn send(mut self, to: ClientNumber, bytes: u64, file: &mut impl Read) -> anyhow::Result<()> {
        self.say(&send_line(to, bytes))?;
        self.hear(GO)?;
        let sent = std::io::copy(&mut file.take(bytes), &mut self.stream);
        // A node that refuses in the middle says why before it hangs up.
        if let Err(error) = sent {
            let reason = self.hear(STORED).err();
            return Err(reason.unwrap_or_else(|| anyhow!("the connection broke: {error}")));
        }
        self.hear(STORED)
    }

    /// Asks for the oldest file; nothing when none waits. Its bytes are read by [`Node::file`].
    pub fn receive(&mut self, sealing: Sealing) -> anyhow::Result<Option<u64>> {
        self.say(&receive_line(sealing))?;
        let line = self.line()?;
        if line == FILE_NONE {
            return Ok(None);
        }
        read_file_line(&line).map(Some).ok_or_else(|| refusal(&line))
    }

    /// The bytes of the file that was announced. An end before its last byte is an error.
    pub fn file(&mut self, bytes: u64) -> impl Read + '_ {
        Coming { stream: &mut self.stream, left: bytes }
    }

    /// Tells the node that the file is here.
    pub fn done(mut self) -> anyhow::Result<()> {
        self.say(SUCCESS)?;
        self.hear(FILE_GONE)
    }

    fn say(&mut self, words: &str) -> anyhow::Result<()> {
        self.stream.write_all(words.as_bytes()).context("the connection broke")
    }

    fn hear(&mut self, expected: &str) -> anyhow::Result<()> {
        let line = self.line()?;
        if line == expected { Ok(()) } else { Err(refusal(&line)) }
    }

    /// A line with its end, or what came before the connection closed. Byte by byte: what is behind it may be a file.
    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        while line.len() < MAX_TEXT_ANSWER_BYTES && line.last() != Some(&b'\n') {
            match self.stream.read(&mut byte) {
                Ok(0) => break,
                Ok(_) => line.extend_from_slice(&byte),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    bail!("no answer within {} s", PATIENCE.as_secs())
                }
                Err(error) => return Err(error).context("the connection broke"),
            }
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }
}

fn refusal(line: &str) -> anyhow::Error {
    match line.trim_end() {
        "" => anyhow!("the node closed the connection: does its desk listen there?"),
        line => match line.strip_prefix("error: ") {
            Some(reason) => anyhow!("the node refused: {}", meerkat_base::text::shown(reason.as_bytes())),
            None => anyhow!("not an answer of a desk: {}", meerkat_base::text::shown(line.as_bytes())),
        },
    }
}

struct Coming<'s> {
    stream: &'s mut TcpStream,
    left: u64,
}

impl Read for Coming<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let Some(buf) = buf.get_mut(..most).filter(|buf| !buf.is_empty()) else { return Ok(0) };
        let n = self.stream.read(buf)?;
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.left -= n as u64;
        Ok(n)
    }
}
