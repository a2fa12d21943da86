//! Whether a service refused a file because of its size, read out of the reason that its channel gave: a smaller one, or a
//! link in its place, may pass then. Nothing else that is refused is any of its business.

use crate::outlet::number_in;

/// What WeCom calls a file that is larger than it takes: a file's, a picture's and a medium's size.
const WECOM: [i64; 3] = [40_006, 40_009, 45_001];
/// What mail servers call a letter that is larger than they take (RFC 3463): for the system, for the mailbox.
const MAIL: [&str; 2] = ["5.3.4", "5.2.3"];

/// Whether this reason of a channel of this kind (see [`crate::Channel::kind`]) says that what was sent is too large.
pub fn says_too_large(kind: &str, reason: &str) -> bool {
    // Whatever stands before a service may have a limit of its own.
    if number_in(reason, "status ") == Some(413) {
        return true;
    }
    match kind {
        "wecom" | "wecom_app" => number_in(reason, "errcode ").is_some_and(|code| WECOM.contains(&code)),
        "telegram" => match number_in(reason, "error ") {
            Some(413) => true,
            Some(400) => {
                let lower = reason.to_ascii_lowercase();
                lower.contains("too big") || lower.contains("too large")
            }
            _ => false,
        },
        // 552 to a recipient means that a mailbox is full.
        "email" => {
            reason.contains("refuses the letter") && (reason.contains("(552)") || has_mail_code(reason))
        }
        _ => false,
    }
}

/// Whether one of the codes stands there by itself: an address has such numbers in it, too.
fn has_mail_code(reason: &str) -> bool {
    reason.split(|c: char| !c.is_ascii_alphanumeric() && c != '.').any(|word| MAIL.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_size_is_told_from_what_is_not() {
        for (kind, reason, expected) in [
            ("ntfy", "status 413, code 41301: attachment too large, or bandwidth limit reached", true),
            ("ntfy", "status 400, code 40014: invalid request: attachments not allowed", false),
            ("ntfy", "status 403, code 40301: forbidden", false),
            ("webhook", "status 413", true),
            ("webhook", "status 410", false),
            ("wecom", "errcode 45001: media size out of limit", true),
            ("wecom", "errcode 40006: invalid file size", true),
            ("wecom", "errcode 93000: invalid webhook url", false),
            ("wecom_app", "errcode 40009: invalid image size", true),
            ("wecom_app", "errcode 45002: content size out of limit", false),
            ("wecom_app", "status 413", true),
            ("telegram", "error 413: Request Entity Too Large", true),
            ("telegram", "error 400: Bad Request: file is too big", true),
            ("telegram", "error 400: Bad Request: chat not found", false),
            ("telegram", "error 403: Forbidden: bot was kicked", false),
            ("email", "mail.example.org refuses the letter: permanent error (552): 5.3.4 too large", true),
            ("email", "mail.example.org refuses the letter: permanent error (552): no room", true),
            ("email", "mail.example.org refuses the letter: permanent error (550): 5.2.3 too long", true),
            (
                "email",
                "mail.example.org refuses the letter: permanent error (554): 192.5.3.4 is on a list",
                false,
            ),
            ("email", "mail.example.org refuses a recipient: permanent error (552): 5.2.2 full", false),
            ("mqtt", "not connected to the broker", false),
        ] {
            assert_eq!(says_too_large(kind, reason), expected, "{kind}: {reason}");
        }
    }
}
