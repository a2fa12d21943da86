//! A receiver of our webhook, from its documentation only: the signature is computed by hand (RFC 2104), not by
//! the code that made it.

use std::collections::HashSet;

use meerkat_base::Clock;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::http::{Answer, Request};
use super::{Received, Service};

/// Older messages are taken for replays, seconds.
const FRESH_SECS: f64 = 300.0;

pub(super) struct Receiver {
    secret: Vec<u8>,
    ids: HashSet<String>,
}

impl Receiver {
    pub(super) fn new(secret: &str) -> Self {
        Self { secret: secret.as_bytes().to_vec(), ids: HashSet::new() }
    }

    fn judge(&mut self, request: &Request, now_secs: f64) -> Result<Received, (u16, String)> {
        let header = |name: &str| request.header(name).ok_or((400, format!("header {name} is missing")));
        let (time, id) = (header("x-meerkat-time")?, header("x-meerkat-id")?);
        if request.method != "POST" || header("content-type")? != "application/json" {
            return Err((400, "not a POST of JSON".into()));
        }
        let signed = [time.as_bytes(), b"\n", id.as_bytes(), b"\n", &request.body].concat();
        if header("x-meerkat-signature")? != format!("v1={}", hmac_by_hand(&self.secret, &signed)) {
            return Err((401, "the signature is wrong".into()));
        }
        let sent: f64 = time.parse().map_err(|_| (400, format!("time {time:?}")))?;
        if (now_secs - sent).abs() > FRESH_SECS {
            return Err((401, format!("sent at {sent}, it is {now_secs}")));
        }
        let body: Value = serde_json::from_slice(&request.body).map_err(|e| (400, e.to_string()))?;
        let required: &[&str] = match body["type"].as_str() {
            Some("alert") => &["event", "camera", "kind", "phase", "started", "text"],
            Some("digest") => &["oldest", "newest", "text"],
            other => return Err((400, format!("type {other:?}"))),
        };
        if let Some(missing) = required.iter().find(|field| !body[**field].is_string()) {
            return Err((400, format!("{missing} is missing")));
        }
        if body["id"].as_str() != Some(id) || body["version"] != 1 {
            return Err((400, "id or version do not agree".into()));
        }
        let repeated = !self.ids.insert(id.to_owned());
        Ok(Received::Hook { id: id.to_owned(), repeated, body })
    }
}

impl Service for Receiver {
    fn answer(&mut self, request: &Request, clock: &dyn Clock) -> (Answer, Result<Received, String>) {
        match self.judge(request, clock.wall().as_secs_f64()) {
            Ok(message) => (Answer::status(204, "", ""), Ok(message)),
            Err((status, why)) => (Answer::status(status, "", &why), Err(format!("{status}: {why}"))),
        }
    }
}

/// HMAC-SHA256 in lower-case hex: `H(key ^ opad, H(key ^ ipad, message))` with blocks of 64 bytes.
fn hmac_by_hand(key: &[u8], message: &[u8]) -> String {
    let mut block = [0_u8; 64];
    let hashed = Sha256::digest(key);
    let key = if key.len() > block.len() { &hashed[..] } else { key };
    for (place, byte) in block.iter_mut().zip(key) {
        *place = *byte;
    }
    let inner = Sha256::new().chain_update(block.map(|b| b ^ 0x36)).chain_update(message).finalize();
    let outer = Sha256::new().chain_update(block.map(|b| b ^ 0x5c)).chain_update(inner).finalize();
    outer.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_rfc_4231_vectors_hold() {
        // Test cases 2 and 6: a short key, and one longer than a block.
        assert_eq!(
            super::hmac_by_hand(b"Jefe", b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            super::hmac_by_hand(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First"),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }
}
