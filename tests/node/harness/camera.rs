//! A camera as a small board is one: a blocking socket, lock-step. It can also misbehave.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// What a connection shows that gives no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The node closed it.
    Closed,
    /// Nothing came in the time that was given.
    Silent,
}

/// One connection.
pub struct Camera {
    stream: TcpStream,
}

impl Camera {
    /// Connects and says nothing.
    #[track_caller]
    pub fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&to, super::PATIENCE).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
        stream.set_write_timeout(Some(super::PATIENCE)).unwrap();
        Self { stream }
    }

    /// Connects from another address of this machine. `None`: the node (or the system) does not take the connection.
    pub fn connect_from(from: IpAddr, to: SocketAddr) -> Option<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
        socket.connect_timeout(&to.into(), super::PATIENCE).ok()?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
        stream.set_write_timeout(Some(super::PATIENCE)).unwrap();
        Some(Self { stream })
    }

    /// `camera:<id>[:<token>]` and its answer.
    #[track_caller]
    pub fn hello(&mut self, id: &str, token: Option<&str>) -> u8 {
        let line = match token {
            Some(token) => format!("camera:{id}:{token}\n"),
            None => format!("camera:{id}\n"),
        };
        self.send(line.as_bytes());
        self.answer()
    }

    /// `model<number>` and its answer.
    #[track_caller]
    pub fn mode(&mut self, number: u8) -> u8 {
        self.send(format!("model{number}").as_bytes());
        self.answer()
    }

    /// One picture, glued into one piece, and its answer.
    #[track_caller]
    pub fn frame(&mut self, picture: &[u8]) -> u8 {
        self.send(&[b"start", picture, b"end"].concat());
        self.answer()
    }

    /// One picture without waiting for the answer.
    #[track_caller]
    pub fn send_frame(&mut self, picture: &[u8]) {
        self.send(&[b"start", picture, b"end"].concat());
    }

    /// These bytes, in one piece.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    /// These bytes, or why the socket does not take them.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// These bytes in pieces that end at `cuts` (ascending offsets); each piece is a segment of its own where the
    /// system does not join them.
    #[track_caller]
    pub fn send_cut(&mut self, bytes: &[u8], cuts: &[usize]) {
        let mut from = 0;
        for &cut in cuts.iter().chain([&bytes.len()]) {
            let cut = cut.clamp(from, bytes.len());
            if cut > from {
                self.send(&bytes[from..cut]);
            }
            from = cut;
        }
    }

    /// The next answer. Panics when there is none.
    #[track_caller]
    pub fn answer(&mut self) -> u8 {
        self.try_answer().unwrap_or_else(|ended| panic!("no answer: {ended:?}"))
    }

    /// The next answer, waiting as long as [`Camera::set_patience`] says (at first [`super::PATIENCE`]).
    pub fn try_answer(&mut self) -> Result<u8, Ended> {
        let mut byte = [0];
        loop {
            return match self.stream.read(&mut byte) {
                Ok(0) => Err(Ended::Closed),
                Ok(_) => Ok(byte[0]),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    Err(Ended::Silent)
                }
                Err(_) => Err(Ended::Closed),
            };
        }
    }

    /// How long [`Camera::try_answer`] waits.
    pub fn set_patience(&mut self, limit: Duration) {
        self.stream.set_read_timeout(Some(limit)).unwrap();
    }

    /// Waits until the node closes the connection; answers on the way are returned.
    #[track_caller]
    pub fn wait_until_closed(&mut self) -> Vec<u8> {
        let mut answers = Vec::new();
        loop {
            match self.try_answer() {
                Ok(answer) => answers.push(answer),
                Err(Ended::Closed) => return answers,
                Err(Ended::Silent) => panic!("the node keeps the connection open; answers {answers:?}"),
            }
        }
    }

    /// Says that nothing more will be sent; answers can still be read.
    pub fn close_sending(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Its own address as the node sees it.
    pub fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// The socket itself, for what this type has no word for.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}
