//! What must hold for every file that somebody may have put among the evidence: spools, proofs, sidecars. Used by the
//! fuzz targets and by the ordinary tests that replay the corpus.

use meerkat_store::evidence::{
    CheckedSpool, ClipProof, PublicKey, SigningKeyFile, SpoolFault, check_frames, read_proof, sign_proof,
};
use meerkat_store::sidecar::Sidecar;
use meerkat_store::spool::spool_from_bytes;
use sha2::{Digest, Sha256};

/// Header of a record.
const HEADER: usize = 64;
/// The link before it, where there is one.
const LINK: usize = 32;

/// A `frames` file, as it is, with its checksums put right, and with its links put right too.
pub fn spool(input: &[u8], key: &PublicKey) {
    one_spool(input, key);
    one_spool(&made_to_fit(input, false), key);
    one_spool(&made_to_fit(input, true), key);
}

fn one_spool(bytes: &[u8], key: &PublicKey) {
    let read = spool_from_bytes(bytes);
    let pictures: u64 = read.frames.iter().map(|frame| frame.bytes.len() as u64 + HEADER as u64).sum();
    assert!(pictures + read.corrupt_bytes + read.torn_bytes <= bytes.len() as u64);
    match check_frames(bytes, key) {
        // What is proven is read in the same way by those who only want the pictures.
        Ok(found) => same(&found, &read),
        Err(SpoolFault::Io(error)) => panic!("memory is always readable: {error}"),
        Err(fault) => readable(&fault.to_string()),
    }
}

fn same(found: &CheckedSpool, read: &meerkat_store::spool::SpoolSummary) {
    assert_eq!((found.frames, found.finished), (read.frames.len() as u64, read.finished));
    assert_eq!((found.torn_bytes, 0), (read.torn_bytes, read.corrupt_bytes));
    assert!(found.signed_frames <= found.frames && found.gaps.len() <= 100);
    assert_eq!(found.numbers, read.frames.first().map(|f| f.seq).zip(read.frames.last().map(|f| f.seq)));
    for (first, last) in &found.gaps {
        assert!(first <= last);
        assert!(read.frames.iter().all(|frame| !(first..=last).contains(&&frame.seq)));
    }
}

/// What somebody without the key can put right: the checksums of each record, and the links from one to the next.
fn made_to_fit(input: &[u8], links: bool) -> Vec<u8> {
    let mut all = Vec::with_capacity(input.len());
    let (mut rest, mut previous) = (input, [0; LINK]);
    while rest.len() >= HEADER {
        let mut header: [u8; HEADER] = rest[..HEADER].try_into().expect("so many were asked for");
        header[..4].copy_from_slice(&[0xf1, b'M', b'K', b'1']);
        let chained = links || header[6] & 1 == 1;
        let link = if chained { LINK } else { 0 };
        header[6] = u8::from(chained);
        if links {
            (header[7], header[56], header[57], header[58], header[59]) = (0, 0, 0, 0, 0);
            // All from the first one's spool.
            let nonce: Vec<u8> = all.get(8..16).map_or_else(|| header[8..16].to_vec(), <[u8]>::to_vec);
            header[8..16].copy_from_slice(&nonce);
        }
        rest = &rest[HEADER..];
        let named = u32::from_le_bytes(header[48..52].try_into().expect("four bytes")) as usize;
        if rest.len() < link {
            break;
        }
        let length = named.min(rest.len() - link);
        header[48..52].copy_from_slice(&u32::try_from(length).expect("a short input").to_le_bytes());
        let (body, after) = rest.split_at(link + length);
        let mut body = body.to_vec();
        if links {
            // The first one may name a record of another spool.
            if !all.is_empty() {
                body[..LINK].copy_from_slice(&previous);
            }
            previous = Sha256::new()
                .chain_update(b"meerkat link 1\0\0")
                .chain_update(&body[..LINK])
                .chain_update(&header[..52])
                .chain_update(Sha256::digest(&body[LINK..]))
                .finalize()
                .into();
        }
        header[52..56].copy_from_slice(&crc32fast::hash(&body).to_le_bytes());
        let sum = crc32fast::hash(&header[..60]);
        header[60..].copy_from_slice(&sum.to_le_bytes());
        all.extend(header);
        all.extend(body);
        rest = after;
    }
    all.extend(rest);
    all
}

/// What lies beside a clip: a proof that somebody made, one that this key has signed, and a text with a key.
pub fn proof(input: &[u8], key: &SigningKeyFile) {
    let public = key.public();
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Err(error) = read_proof(text, &public) {
        readable(&error.to_string());
    }
    if let Ok(proof) = serde_json::from_str::<ClipProof>(text) {
        let signed = sign_proof(key, &proof);
        match read_proof(&signed, &public) {
            Ok(read) => assert_eq!(read, proof),
            Err(_) => assert_ne!(proof.format, 1, "what was signed is read back"),
        }
    }
    if let Some(other) = PublicKey::parse(text) {
        assert_eq!(PublicKey::parse(&other.to_string()), Some(other));
        assert_eq!(PublicKey::parse(&other.to_pem()), Some(other));
    }
}

/// A sidecar: an error that can be shown, or what would be written again.
pub fn sidecar(input: &[u8]) {
    match Sidecar::from_json(input) {
        Ok(sidecar) => {
            assert_eq!(Sidecar::from_json(&sidecar.to_json()).as_ref(), Ok(&sidecar));
            let events = sidecar.events.len() + sidecar.unknown_events.len();
            assert_eq!(sidecar.rows().len(), events.max(1));
            assert!(sidecar.rows().iter().all(|row| row.path == sidecar.clip.path));
        }
        Err(error) => readable(&error.to_string()),
    }
}

/// An error goes into a line of the log: short, and without what would end or colour that line.
fn readable(error: &str) {
    assert!(!error.is_empty() && error.len() <= 512, "{} bytes of message", error.len());
    assert!(!error.contains(char::is_control), "{error:?}");
}
