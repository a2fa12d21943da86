//! One connection to a node from the camera's side: hello, mode, frames, answers. Reads no pictures and keeps no count.

use std::time::Duration;

use bytes::{Buf, Bytes};
use meerkat_base::{CameraId, Mode, Secret};
use meerkat_wire::frame::{self, Answer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest time to connect, and to hear an answer to hello or mode.
const SHORT: Duration = Duration::from_secs(10);

/// Longest time to get a frame through and to hear the answer to it.
const LONG: Duration = Duration::from_secs(60);

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
    /// The `camera:` line cannot be made.
    #[error(transparent)]
    Hello(#[from] frame::BadHello),
    /// The node does not want this camera, or not in this mode.
    #[error("the node refused {0}")]
    Refused(String),
    /// The other side hung up.
    #[error("the node closed the connection")]
    Closed,
    /// Nothing came in time.
    #[error("no answer to {what} within {} s", limit.as_secs())]
    Silent {
        /// What was sent.
        what: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The other side speaks something else.
    #[error("the answer was the byte {0:#04x}, neither 0 nor 1: is that a Meerkat node's camera port?")]
    NoAnswer(u8),
    /// The network failed.
    #[error("the connection broke")]
    Broken(#[from] std::io::Error),
}

impl LinkError {
    /// Whether trying again later can help.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Closed | Self::Silent { .. } | Self::Broken(_))
    }
}

/// Who the client says it is, and what it wants.
#[derive(Debug, Clone)]
pub(super) struct Introduction {
    /// The camera's id and token, if it says hello at all.
    pub camera: Option<(CameraId, Option<Secret>)>,
    /// The mode for all frames.
    pub mode: Mode,
}

/// Who says hello, with what may be wrong about it.
fn who(camera: &CameraId, token: bool) -> String {
    // The node says no more than `0`.
    let clear = "; a token in the clear only from where frame.plaintext_trusted allows it; the node's log has the reason";
    format!("camera {camera} (its id, token or address{})", if token { clear } else { "" })
}

/// An open connection on which a mode is agreed.
#[derive(Debug)]
pub(super) struct Link {
    stream: TcpStream,
}

impl Link {
    /// Connects, says hello and agrees on the mode.
    pub async fn open(to: &str, introduction: &Introduction) -> Result<Self, LinkError> {
        let connect = |source| LinkError::Connect { to: to.to_owned(), source };
        let stream = timeout(SHORT, TcpStream::connect(to))
            .await
            .map_err(|_| connect(std::io::ErrorKind::TimedOut.into()))?
            .map_err(connect)?;
        stream.set_nodelay(true)?;
        let mut link = Self { stream };
        if let Some((camera, token)) = &introduction.camera {
            let line = frame::hello(camera, token.as_ref())?;
            link.ask(Bytes::from(line), who(camera, token.is_some())).await?;
        }
        let number = introduction.mode.number();
        link.ask(Bytes::copy_from_slice(&frame::mode(introduction.mode)), format!("mode {number}")).await?;
        Ok(link)
    }

    /// Sends one encoded picture and waits for its answer.
    pub async fn send(&mut self, picture: &Bytes) -> Result<Answer, LinkError> {
        let freight =
            Bytes::from_static(frame::START).chain(picture.clone()).chain(Bytes::from_static(frame::END));
        self.exchange(freight, "a frame", LONG).await
    }

    async fn ask(&mut self, line: Bytes, what: String) -> Result<(), LinkError> {
        match self.exchange(line, &what, SHORT).await {
            Ok(Answer::Accepted) => Ok(()),
            Ok(Answer::Refused) => Err(LinkError::Refused(what)),
            Err(error) => Err(error),
        }
    }

    async fn exchange(
        &mut self,
        mut freight: impl Buf,
        what: &str,
        limit: Duration,
    ) -> Result<Answer, LinkError> {
        let (mut receiver, mut sender) = self.stream.split();
        let both = async {
            let sent = sender.write_all_buf(&mut freight).await;
            // A node that refuses while we still send says so before it hangs up: look before giving up.
            let mut answer = [0];
            match (receiver.read(&mut answer).await, sent) {
                (Ok(1), _) => Answer::from_byte(answer[0]).ok_or(LinkError::NoAnswer(answer[0])),
                (_, Err(error)) | (Err(error), Ok(())) => Err(LinkError::Broken(error)),
                (Ok(_), Ok(())) => Err(LinkError::Closed),
            }
        };
        timeout(limit, both).await.unwrap_or_else(|_| Err(LinkError::Silent { what: what.to_owned(), limit }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const PICTURE: &[u8] = b"\xff\xd8end\xff\xd9";

    /// A node that answers each of these pieces, once it has come in full, with these bytes, and then hangs up.
    async fn node(script: Vec<(Vec<u8>, &'static [u8])>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut peer, _) = listener.accept().await.unwrap();
            for (expected, answer) in script {
                let mut got = vec![0; expected.len()];
                peer.read_exact(&mut got).await.unwrap();
                assert_eq!(got, expected);
                peer.write_all(answer).await.unwrap();
            }
        });
        address
    }

    fn frame_bytes() -> Vec<u8> {
        let mut bytes = Vec::new();
        frame::frame(PICTURE, &mut bytes);
        bytes
    }

    fn introduction(camera: Option<&str>) -> Introduction {
        let camera = camera.map(|id| (CameraId::parse(id).unwrap(), Some(Secret::new("hunter2"))));
        Introduction { camera, mode: Mode::People }
    }

    #[tokio::test]
    async fn it_speaks_the_protocol() {
        let script = vec![
            (b"camera:door:hunter2\n".to_vec(), &b"1"[..]),
            (b"model4".to_vec(), b"1"),
            (frame_bytes(), b"1"),
            (frame_bytes(), b"0"),
        ];
        let to = node(script).await;
        let mut link = Link::open(&to, &introduction(Some("door"))).await.unwrap();
        let picture = Bytes::from_static(PICTURE);
        assert_eq!(link.send(&picture).await.unwrap(), Answer::Accepted);
        assert_eq!(link.send(&picture).await.unwrap(), Answer::Refused);
        let error = link.send(&picture).await.unwrap_err();
        assert!(error.may_pass(), "{error}");
    }

    #[tokio::test]
    async fn refusals_say_what_was_refused() {
        let check = |error: LinkError, part: &str| {
            assert!(error.to_string().contains(part) && !error.may_pass(), "{error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        };
        let to = node(vec![(b"camera:door:hunter2\n".to_vec(), b"0")]).await;
        check(Link::open(&to, &introduction(Some("door"))).await.unwrap_err(), "camera door");
        let to = node(vec![(b"model4".to_vec(), b"0")]).await;
        check(Link::open(&to, &introduction(None)).await.unwrap_err(), "mode 4");
        let to = node(vec![(b"model4".to_vec(), b"H")]).await;
        check(Link::open(&to, &introduction(None)).await.unwrap_err(), "0x48");
    }

    #[tokio::test]
    async fn a_port_without_a_node_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = Link::open(&to, &introduction(None)).await.unwrap_err();
        assert!(error.to_string().contains(&to) && error.may_pass());
    }
}
