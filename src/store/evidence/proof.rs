//! The proof of a clip: a signed text beside it that says which file was made of which spool. Opens no file.

use serde::{Deserialize, Serialize};

use super::key::{PublicKey, SigningKeyFile};
use super::{from_hex, to_hex};
use crate::error::{Result, StoreError};

const DOMAIN: &[u8; 16] = b"meerkat clip 1\0\0";
/// Version of the text.
pub(super) const FORMAT: u32 = 1;

/// What is said about a file that was made of a spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClipProof {
    /// Version of this text, 1.
    pub format: u32,
    /// The run of the node that made the file.
    pub boot: String,
    /// When it was made, µs since 1970.
    pub made: i64,
    /// The camera.
    pub camera: String,
    /// The event, for a clip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Where the file was put, relative to the data folder.
    pub path: String,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// Length of the file.
    pub bytes: u64,
    /// Time of the first frame, µs since 1970.
    pub started: i64,
    /// Pictures in the file.
    pub frames: u64,
    /// Numbers of frames of the spool that are not in the file, because they cannot be decoded.
    pub skipped: Vec<u64>,
    /// What it was made of.
    pub spool: SpoolNote,
}

/// What is said about the spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolNote {
    /// Name of its folder.
    pub name: String,
    /// Frames in it, those included that cannot be decoded.
    pub frames: u64,
    /// Number of its first frame.
    pub first_number: u64,
    /// Number of its last frame.
    pub last_number: u64,
    /// The link before its first record; missing for a spool that is not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_link: Option<String>,
    /// The link of its last record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_link: Option<String>,
    /// Its chain was whole and it was not damaged when the file was made.
    pub whole: bool,
    /// It had its end record.
    pub finished: bool,
}

/// The file as it lies beside the clip.
#[derive(Serialize, Deserialize)]
struct Signed {
    proof: String,
    key: String,
    signature: String,
}

fn message(text: &str) -> Vec<u8> {
    [&DOMAIN[..], text.as_bytes()].concat()
}

/// The contents of the file beside a clip.
pub fn sign_proof(key: &SigningKeyFile, proof: &ClipProof) -> String {
    let text = serde_json::to_string(proof).expect("texts and numbers are always JSON");
    let signature = to_hex(&key.sign(&message(&text)));
    let signed = Signed { proof: text, key: key.public().to_string(), signature };
    serde_json::to_string_pretty(&signed).expect("texts are always JSON")
}

/// Reads such contents; only what this key has signed counts.
pub fn read_proof(contents: &str, key: &PublicKey) -> Result<ClipProof> {
    let refused = |words: &str| StoreError::Refused(words.to_owned());
    let signed: Signed =
        serde_json::from_str(contents).map_err(|_| refused("the proof is not as the node writes it"))?;
    let signature = from_hex::<64>(&signed.signature).filter(|_| signed.key == key.to_string());
    let Some(signature) = signature else {
        return Err(refused("the proof is signed with another key"));
    };
    if !key.verifies(&message(&signed.proof), &signature) {
        return Err(refused("the signature of the proof is wrong"));
    }
    serde_json::from_str(&signed.proof)
        .ok()
        .filter(|proof: &ClipProof| proof.format == FORMAT)
        .ok_or_else(|| refused("the proof is of another version"))
}
