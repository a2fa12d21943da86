//! A stretch of an open file as a response body, read in pieces on the threads for blocking work.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::rt::task::{JoinHandle, spawn_blocking};
use bytes::Bytes;

/// Bytes read at a time: what one slow client costs in memory.
const PIECE_BYTES: usize = 64 * 1024;

/// Sends `len` bytes of a file from `first` on. A file that became shorter meanwhile breaks the connection off.
pub(crate) struct FileBody {
    file: Arc<File>,
    next: u64,
    left: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FileBody {
    pub(crate) fn new(file: File, first: u64, len: u64) -> Self {
        Self { file: Arc::new(file), next: first, left: len, reading: None }
    }
}

impl MessageBody for FileBody {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.left)
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let reading = this.reading.get_or_insert_with(|| {
            let file = Arc::clone(&this.file);
            let at = this.next;
            let len = usize::try_from(this.left).unwrap_or(usize::MAX).min(PIECE_BYTES);
            spawn_blocking(move || read_piece(&file, at, len))
        });
        let Poll::Ready(done) = Pin::new(reading).poll(cx) else { return Poll::Pending };
        this.reading = None;
        let piece = done.unwrap_or_else(|broken| Err(io::Error::other(broken)));
        if let Ok(bytes) = &piece {
            let len = bytes.len() as u64;
            this.next = this.next.saturating_add(len);
            this.left = this.left.saturating_sub(len);
        } else {
            this.left = 0;
        }
        Poll::Ready(Some(piece))
    }
}

fn read_piece(file: &File, at: u64, len: usize) -> io::Result<Bytes> {
    let mut piece = vec![0; len];
    file.read_exact_at(&mut piece, at)?;
    Ok(Bytes::from(piece))
}
