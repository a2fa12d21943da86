//! One connection to a node that marks faces, from the client's side. Reads no pictures and keeps no count.

use std::time::Duration;

use bytes::BytesMut;
use meerkat_wire::recognise::sized::{BadLength, LengthBytes, Reader, header};
use meerkat_wire::recognise::{BadMessage, Form, chunked, close, open};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest time to connect.
const SHORT: Duration = Duration::from_secs(10);
/// Longest time until a picture has come back.
const LONG: Duration = Duration::from_secs(60);
/// Longest answer.
const MAX_ANSWER: usize = 256 << 20;

/// How pictures are told apart on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Their length stands in front.
    Sized {
        /// How it is written.
        length_bytes: LengthBytes,
        /// In what pictures travel.
        form: Form,
    },
    /// One per connection, ended by `0`.
    Chunked,
}

/// Why the connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// There is nobody at the address.
    #[error("cannot connect to {to}")]
    Connect {
        /// The address as given.
        to: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The picture is too long for its length.
    #[error("the picture is too long for a length of 4 bytes")]
    TooLong,
    /// The other side hung up.
    #[error(
        "the node closed the connection without an answer: the picture or this address may not be accepted, see its log"
    )]
    Closed,
    /// Nothing came in time.
    #[error("no answer within {} s", LONG.as_secs())]
    Silent,
    /// What came back is no message.
    #[error("the answer cannot be read")]
    Length(#[from] BadLength),
    /// What came back is no picture.
    #[error("the answer cannot be read")]
    Message(#[from] BadMessage),
    /// What came back is no picture.
    #[error("the answer cannot be read")]
    Chunks(#[from] chunked::BadChunks),
    /// The network failed.
    #[error("the connection broke")]
    Broken(#[from] std::io::Error),
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Link {
    stream: TcpStream,
    framing: Framing,
}

impl Link {
    /// Connects.
    pub async fn open(to: &str, framing: Framing) -> Result<Self, LinkError> {
        let connect = |source| LinkError::Connect { to: to.to_owned(), source };
        let stream = timeout(SHORT, TcpStream::connect(to))
            .await
            .map_err(|_| connect(std::io::ErrorKind::TimedOut.into()))?
            .map_err(connect)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, framing })
    }

    /// Sends a picture and waits until it has come back.
    pub async fn exchange(&mut self, picture: &[u8]) -> Result<Vec<u8>, LinkError> {
        let both = async {
            match self.framing {
                Framing::Sized { length_bytes, form } => {
                    let message = close(form, picture.to_vec());
                    let mut whole = header(length_bytes, message.len()).ok_or(LinkError::TooLong)?;
                    whole.extend_from_slice(&message);
                    self.stream.write_all(&whole).await?;
                    let mut reader = Reader::new(length_bytes, MAX_ANSWER);
                    let answer = self.receive(|buffer| reader.next(buffer).map_err(LinkError::from)).await?;
                    Ok(open(&answer)?.1.to_vec())
                }
                Framing::Chunked => {
                    self.stream.write_all(&[picture, chunked::END].concat()).await?;
                    let mut reader = chunked::Reader::new(MAX_ANSWER);
                    let answer = self.receive(|buffer| reader.next(buffer).map_err(LinkError::from)).await?;
                    Ok(answer.to_vec())
                }
            }
        };
        timeout(LONG, both).await.unwrap_or(Err(LinkError::Silent))
    }

    async fn receive(
        &mut self,
        mut next: impl FnMut(&mut BytesMut) -> Result<Option<bytes::Bytes>, LinkError>,
    ) -> Result<bytes::Bytes, LinkError> {
        let mut buffer = BytesMut::new();
        loop {
            if let Some(message) = next(&mut buffer)? {
                return Ok(message);
            }
            buffer.reserve(64 << 10);
            if self.stream.read_buf(&mut buffer).await? == 0 {
                return Err(LinkError::Closed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const JPEG: &[u8] = b"\xff\xd8\xff\xe0\x00\x040\\\xff\xda\x00\x04xx0\xff\xd9";

    /// A node that reads so many bytes and answers with these.
    async fn node(expected: usize, answer: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut peer, _) = listener.accept().await.unwrap();
            let mut got = vec![0; expected];
            peer.read_exact(&mut got).await.unwrap();
            peer.write_all(&answer).await.unwrap();
        });
        address
    }

    #[tokio::test]
    async fn every_framing_brings_the_picture_back() {
        for form in [Form::Jpeg, Form::Pickle] {
            for length_bytes in [LengthBytes::Eight, LengthBytes::Four] {
                let message = close(form, JPEG.to_vec());
                let whole = [header(length_bytes, message.len()).unwrap(), message].concat();
                let to = node(whole.len(), whole).await;
                let mut link = Link::open(&to, Framing::Sized { length_bytes, form }).await.unwrap();
                assert_eq!(link.exchange(JPEG).await.unwrap(), JPEG);
                assert!(matches!(link.exchange(JPEG).await, Err(LinkError::Closed | LinkError::Broken(_))));
            }
        }
        let whole = [JPEG, b"0"].concat();
        let to = node(whole.len(), whole).await;
        let mut link = Link::open(&to, Framing::Chunked).await.unwrap();
        assert_eq!(link.exchange(JPEG).await.unwrap(), JPEG);
    }

    #[tokio::test]
    async fn nonsense_is_said_to_be_that() {
        let to = node(10, b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).await;
        let framing = Framing::Sized { length_bytes: LengthBytes::Eight, form: Form::Jpeg };
        let error = Link::open(&to, framing).await.unwrap().exchange(JPEG).await.unwrap_err();
        assert!(matches!(error, LinkError::Length(_)), "{error}");
    }
}
