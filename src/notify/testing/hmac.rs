//! HMAC-SHA256 by hand (RFC 2104), for servers that must not trust the code that they test.

use sha2::{Digest, Sha256};

/// `H(key ^ opad, H(key ^ ipad, message))` with blocks of 64 bytes.
pub(super) fn hmac_by_hand(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; 64];
    let hashed = Sha256::digest(key);
    let key = if key.len() > block.len() { &hashed[..] } else { key };
    for (place, byte) in block.iter_mut().zip(key) {
        *place = *byte;
    }
    let inner = Sha256::new().chain_update(block.map(|b| b ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|b| b ^ 0x5c)).chain_update(inner).finalize().into()
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rfc_4231_vectors_hold() {
        // Test cases 2 and 6: a short key, and one longer than a block.
        assert_eq!(
            hex(&hmac_by_hand(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(&hmac_by_hand(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First")),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }
}
