//! Finds the token in an Authorization header and compares it. Nothing else about HTTP.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meerkat_base::Secret;

/// Longest Authorization header that is looked at, in bytes.
const MAX_HEADER_BYTES: usize = 1024;

/// Whether the header proves knowledge of the token: `Bearer <token>`, or `Basic` with any user name and the
/// token as password (what browsers and Prometheus send).
pub(crate) fn proves(token: &Secret, header: &[u8]) -> bool {
    if header.len() > MAX_HEADER_BYTES {
        return false;
    }
    let Some(space) = header.iter().position(|&b| b == b' ') else { return false };
    let (scheme, rest) = header.split_at(space);
    let given = rest.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return token.matches(given);
    }
    if scheme.eq_ignore_ascii_case(b"basic") {
        let Ok(pair) = STANDARD.decode(given) else { return false };
        // RFC 7617: the user name ends at the first colon; the password may hold more of them.
        let Some(colon) = pair.iter().position(|&b| b == b':') else { return false };
        let (_, password) = pair.split_at(colon);
        return token.matches(password.get(1..).unwrap_or_default());
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_opens() {
        let token = Secret::new("open:sesame");
        for good in [
            "Bearer open:sesame",
            "bearer  open:sesame",
            "Basic dTpvcGVuOnNlc2FtZQ==",
            "Basic Om9wZW46c2VzYW1l",
        ] {
            assert!(proves(&token, good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer open:sesam",
            "Basic",
            "Basic !!!!",
            "Basic dTpv",
            "Digest open:sesame",
        ] {
            assert!(!proves(&token, bad.as_bytes()), "{bad}");
        }
        assert!(!proves(&token, &[b' '; 5000]));
    }
}
