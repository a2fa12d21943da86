//! Sealing and opening of files with age, piece by piece, whatever their length. Knows no network.

use std::io::{Read, Write};

use age::x25519::{Identity, Recipient};
use age::{Decryptor, Encryptor};
use anyhow::{Context, anyhow};

/// Bytes that are handled at once.
const PIECE_BYTES: usize = 64 << 10;

/// Seals for these receivers.
pub(super) fn seal(recipients: &[Recipient], mut from: impl Read, to: impl Write) -> anyhow::Result<()> {
    let recipients = recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
    let encryptor = Encryptor::with_recipients(recipients).map_err(|error| anyhow!("{error}"))?;
    let mut sealed = encryptor.wrap_output(to).context("the file cannot be sealed")?;
    copy(&mut from, &mut sealed)?;
    sealed.finish().context("the file cannot be sealed")?;
    Ok(())
}

/// Opens what was sealed for this key. What is damaged, cut off or for somebody else is an error; what was written until
/// then is to be thrown away.
pub(super) fn open(identity: &Identity, from: impl Read, mut to: impl Write) -> anyhow::Result<()> {
    let decryptor = Decryptor::new(from).map_err(|error| anyhow!("not a sealed file: {error}"))?;
    let opened = decryptor.decrypt(std::iter::once(identity as &dyn age::Identity));
    let mut opened = opened.map_err(|error| anyhow!("it was sealed for another key: {error}"))?;
    copy(&mut opened, &mut to)
}

/// Copies to the end.
pub(super) fn copy(mut from: impl Read, to: &mut impl Write) -> anyhow::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let n = from.read(&mut piece).context("the file cannot be read")?;
        if n == 0 {
            return to.flush().context("the file cannot be written");
        }
        to.write_all(piece.get(..n).unwrap_or_default()).context("the file cannot be written")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(recipients: &[Recipient], bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        seal(recipients, bytes, &mut out).unwrap();
        out
    }

    fn opened(identity: &Identity, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut out = Vec::new();
        open(identity, bytes, &mut out)?;
        Ok(out)
    }

    #[test]
    fn what_is_sealed_opens_for_its_receivers_alone() {
        let (ann, bob, eve) = (Identity::generate(), Identity::generate(), Identity::generate());
        // Empty, small, exactly a chunk of age, and several.
        for length in [0, 1, 64 << 10, 200_000] {
            let secret: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let bytes = sealed(&[ann.to_public(), bob.to_public()], &secret);
            assert_eq!(opened(&ann, &bytes).unwrap(), secret);
            assert_eq!(opened(&bob, &bytes).unwrap(), secret);
            let message = format!("{:#}", opened(&eve, &bytes).unwrap_err());
            assert!(message.contains("another key"), "{message}");
        }
    }

    #[test]
    fn damage_and_cuts_are_found() {
        let key = Identity::generate();
        let bytes = sealed(&[key.to_public()], &[7; 150_000]);
        for at in [0, 20, 100, 250, bytes.len() / 2, bytes.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(opened(&key, &damaged).is_err(), "damaged at {at}");
            assert!(opened(&key, &bytes[..at]).is_err(), "cut at {at}");
        }
        assert!(opened(&key, b"").is_err());
    }
}
