//! The chain: every record of a signed spool names the hash of the one before it, and signatures stand on it now and
//! then and at its end.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::key::SigningKeyFile;

pub(crate) const HASH_BYTES: usize = 32;
pub(crate) type Hash = [u8; HASH_BYTES];
pub(crate) type ChainId = [u8; 16];
/// What the first record of a chain names as the one before it.
pub(crate) const GENESIS: Hash = [0; HASH_BYTES];
/// So many bytes of a record's header are part of its link; the rest are checksums.
pub(crate) const SIGNED_HEADER_BYTES: usize = 52;

const LINK_DOMAIN: &[u8; 16] = b"meerkat link 1\0\0";
const HEAD_DOMAIN: &[u8; 16] = b"meerkat head 1\0\0";

/// The link of a record: a hash of everything it says and of the link before it.
pub(crate) fn link(previous: &Hash, header: &[u8; SIGNED_HEADER_BYTES], payload: &[u8]) -> Hash {
    Sha256::new()
        .chain_update(LINK_DOMAIN)
        .chain_update(previous)
        .chain_update(header)
        .chain_update(Sha256::digest(payload))
        .finalize()
        .into()
}

/// What is signed in a head or end record.
pub(crate) fn head_message(chain: &ChainId, header: &[u8; SIGNED_HEADER_BYTES], previous: &Hash) -> Vec<u8> {
    [&HEAD_DOMAIN[..], chain, header, previous].concat()
}

/// How far a chain has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChainStep {
    pub id: ChainId,
    /// Records so far.
    pub links: u64,
    /// Link of the newest record.
    pub head: Hash,
}

/// How the spools of a node are signed. Clones share the key.
#[derive(Clone)]
pub struct SpoolSigning {
    key: Arc<SigningKeyFile>,
    boot: String,
    every: Duration,
}

impl SpoolSigning {
    /// With this key, in this run of the node; a signature stands behind a frame at the latest `every` after the last.
    pub fn new(key: Arc<SigningKeyFile>, boot: &str, every: Duration) -> Self {
        Self { key, boot: boot.to_owned(), every }
    }

    /// The key.
    pub fn key(&self) -> &Arc<SigningKeyFile> {
        &self.key
    }

    /// A new chain. One is kept per camera and stream (clips, videos, segments) for a run of the node.
    pub fn new_line(&self) -> ChainLine {
        let id = *uuid::Uuid::new_v4().as_bytes();
        let step = ChainStep { id, links: 0, head: GENESIS };
        let state = LineState { owner: 0, step };
        ChainLine { signing: self.clone(), state: Arc::new(Mutex::new(state)) }
    }
}

impl fmt::Debug for SpoolSigning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpoolSigning")
            .field("key", &self.key)
            .field("boot", &self.boot)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct LineState {
    /// Number of the writer that carries the chain on. One that was given up finds another number here.
    owner: u64,
    step: ChainStep,
}

/// A chain that goes on from spool to spool. Clones are the same chain.
#[derive(Debug, Clone)]
pub struct ChainLine {
    signing: SpoolSigning,
    state: Arc<Mutex<LineState>>,
}

impl ChainLine {
    fn state(&self) -> MutexGuard<'_, LineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the chain over for a new spool.
    pub(crate) fn writer(&self) -> ChainWriter {
        let mut state = self.state();
        state.owner += 1;
        ChainWriter { line: self.clone(), owner: state.owner, step: state.step }
    }

    pub(crate) fn every(&self) -> Duration {
        self.signing.every
    }

    pub(crate) fn boot(&self) -> &str {
        &self.signing.boot
    }

    pub(crate) fn public_key(&self) -> super::PublicKey {
        self.signing.key.public()
    }
}

/// The chain in the hands of one spool's writer.
#[derive(Debug)]
pub(crate) struct ChainWriter {
    line: ChainLine,
    owner: u64,
    step: ChainStep,
}

impl ChainWriter {
    pub fn step(&self) -> &ChainStep {
        &self.step
    }

    pub fn line(&self) -> &ChainLine {
        &self.line
    }

    /// The record is in the spool.
    pub fn advance(&mut self, link: Hash) {
        self.step.head = link;
        self.step.links += 1;
        let mut state = self.line.state();
        if state.owner == self.owner {
            state.step = self.step;
        }
    }

    /// The signature of a head or end record with this header.
    pub fn sign(&self, header: &[u8; SIGNED_HEADER_BYTES]) -> Vec<u8> {
        self.line.signing.key.sign(&head_message(&self.step.id, header, &self.step.head)).to_vec()
    }
}
