//! The viewer's end of the watch protocol over real sockets: joins, takes pictures, answers, leaves.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use meerkat_wire::watch::{Answer, MAX_DATAGRAM_BYTES, port};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// A node that does not take the connection by then is not there.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Why nothing more is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Somebody said so.
    Told,
    /// As many pictures have come as were wanted.
    Enough,
    /// The node closed the connection.
    ByNode,
    /// What came cannot be recorded any more.
    Recording,
}

/// One that has joined.
pub(super) struct Viewer {
    stream: TcpStream,
    socket: UdpSocket,
    node: IpAddr,
    /// Where the last picture came from.
    source: Option<SocketAddr>,
    buffer: Vec<u8>,
}

impl Viewer {
    /// Joins at a node, with this UDP port or (0) any. The port is bound before the node hears of it, so that the first
    /// picture is not lost.
    pub async fn join(host: &str, node_port: u16, udp_port: u16) -> anyhow::Result<Self> {
        let connecting = timeout(CONNECT_LIMIT, TcpStream::connect((host, node_port))).await;
        let connected = match connecting {
            Ok(connected) => connected.with_context(|| format!("cannot connect to {host}:{node_port}")),
            Err(_) => Err(anyhow::anyhow!("{host}:{node_port} does not answer")),
        };
        let mut stream = connected?;
        let (local, node) = (stream.local_addr()?.ip(), stream.peer_addr()?.ip());
        let socket = UdpSocket::bind((local, udp_port))
            .await
            .with_context(|| format!("cannot take UDP port {udp_port} of {local}"))?;
        let said = port(socket.local_addr()?.port()).context("the system gave a port below 1024")?;
        stream.write_all(&said).await.context("the node does not take the port")?;
        Ok(Self { stream, socket, node, source: None, buffer: vec![0; MAX_DATAGRAM_BYTES] })
    }

    /// The port at which pictures come.
    pub fn udp_port(&self) -> u16 {
        self.socket.local_addr().map_or(0, |address| address.port())
    }

    /// The next datagram of the node; `None` when the node has closed the connection. What others send is overlooked.
    pub async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        let mut heard = [0; 64];
        loop {
            tokio::select! {
                received = self.socket.recv_from(&mut self.buffer) => {
                    let (length, from) = received.context("the UDP socket failed")?;
                    if from.ip().to_canonical() == self.node.to_canonical() {
                        self.source = Some(from);
                        let picture = self.buffer.get(..length).unwrap_or_default();
                        return Ok(Some(Bytes::copy_from_slice(picture)));
                    }
                }
                // A node has nothing to say here; what comes all the same is not looked at.
                read = self.stream.read(&mut heard) => match read {
                    Ok(0) | Err(_) => return Ok(None),
                    Ok(_) => {}
                },
            }
        }
    }

    /// Says that the last picture has come. One that is lost on the way is asked for by the node itself.
    pub async fn answer(&self) {
        self.say(Answer::Continue).await;
    }

    /// Leaves: `continue`, and right after it `end`.
    pub async fn leave(mut self) {
        self.say(Answer::Continue).await;
        self.say(Answer::End).await;
        let _ = self.stream.shutdown().await;
    }

    async fn say(&self, answer: Answer) {
        if let Some(source) = self.source {
            let _ = self.socket.send_to(answer.bytes(), source).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn it_joins_answers_and_leaves_as_the_protocol_says() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node_port = listener.local_addr().unwrap().port();
        let node = async {
            let (mut stream, peer) = listener.accept().await.unwrap();
            let mut said = [0; 5];
            let length = stream.read(&mut said).await.unwrap();
            let udp_port: u16 = std::str::from_utf8(&said[..length]).unwrap().parse().unwrap();
            let target = SocketAddr::new(peer.ip(), udp_port);
            let (own, other) = (
                UdpSocket::bind("127.0.0.1:0").await.unwrap(),
                UdpSocket::bind("127.0.0.2:0").await.unwrap(),
            );
            other.send_to(b"not of the node", target).await.unwrap();
            own.send_to(b"a picture", target).await.unwrap();
            let mut heard = Vec::new();
            for _ in 0..3 {
                let mut word = [0; 64];
                let (length, from) = own.recv_from(&mut word).await.unwrap();
                assert_eq!(from, target);
                heard.push(String::from_utf8(word[..length].to_vec()).unwrap());
            }
            assert_eq!(stream.read(&mut said).await.unwrap(), 0, "and closes the connection");
            heard
        };
        let viewer = async {
            let mut viewer = Viewer::join("127.0.0.1", node_port, 0).await.unwrap();
            assert_eq!(viewer.next().await.unwrap().unwrap(), "a picture");
            viewer.answer().await;
            viewer.leave().await;
        };
        let (heard, ()) = tokio::join!(node, viewer);
        assert_eq!(heard, ["continue", "continue", "end"]);
    }

    #[tokio::test]
    async fn a_node_that_is_not_there_or_hangs_up_is_said() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node_port = listener.local_addr().unwrap().port();
        let mut viewer = Viewer::join("127.0.0.1", node_port, 0).await.unwrap();
        drop(listener.accept().await.unwrap());
        assert_eq!(viewer.next().await.unwrap(), None);
        drop(listener);
        let error = Viewer::join("127.0.0.1", node_port, 0).await.err().unwrap();
        assert!(error.to_string().contains(&format!("127.0.0.1:{node_port}")), "{error}");
    }
}
