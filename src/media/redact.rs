//! Addresses of cameras without their credentials: for errors, logs and status. Not a URL parser.
//!
//! Where it is unclear whether something is a password it is taken out: a name that says too little can be lived with.

/// The address without user, password, query and fragment, with control characters escaped.
///
/// Also a path is taken out when a password stands in it (`/user=admin_password=…`, as some recorders want it).
///
/// ```
/// assert_eq!(meerkat_media::redact_url("rtsp://user:pass@host:554/live?token=1"), "rtsp://host:554/live?…");
/// ```
pub fn redact_url(address: &str) -> String {
    let (scheme, rest) = match address.find("://") {
        Some(at) => address.split_at(at + 3),
        None => ("", address),
    };
    let without_user = without_user(rest, !scheme.is_empty());
    let (path, more) = match without_user.find(['?', '#']) {
        Some(at) if !scheme.is_empty() => (&without_user[..at], "?…"),
        _ => (without_user, ""),
    };
    let path = if scheme.is_empty() { path.to_owned() } else { without_secret_path(path) };
    let mut shown = String::with_capacity(address.len());
    for c in scheme.chars().chain(path.chars()) {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown + more
}

/// Cuts `user:password@` off the front of what follows the scheme.
fn without_user(rest: &str, has_scheme: bool) -> &str {
    if !has_scheme {
        // A camera's address whose scheme was forgotten; a file name with both signs loses its beginning.
        return match (rest.find(':'), rest.rfind('@')) {
            (Some(colon), Some(at)) if colon < at => &rest[at + 1..],
            _ => rest,
        };
    }
    let authority_end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let authority = &rest[..authority_end];
    let host_start = authority.rfind('@').map_or(0, |at| at + 1);
    let host = &authority[host_start..];
    // A password with an unescaped slash, question mark or hash ends the authority too early; then what looks like
    // the port is not one, and the host comes after a later `@`.
    let port = match host.strip_prefix('[') {
        Some(v6) => v6.split_once(']').map_or(v6, |(_, after)| after.trim_start_matches(':')),
        None => host.split_once(':').map_or("", |(_, port)| port),
    };
    let name = host.split(':').next().unwrap_or(host);
    let odd = !port.bytes().all(|b| b.is_ascii_digit()) || (host_start == 0 && !name.contains(['.', '[']));
    match rest.rfind('@') {
        Some(last) if odd && last >= authority_end => &rest[last + 1..],
        _ => &rest[host_start..],
    }
}

/// Replaces a path that names a password by `/…`.
fn without_secret_path(host_and_path: &str) -> String {
    let slash = host_and_path.find('/').unwrap_or(host_and_path.len());
    let (host, path) = host_and_path.split_at(slash);
    let lower = path.to_ascii_lowercase();
    let names_secret = ["pass", "pwd", "token", "secret", "key="].iter().any(|word| lower.contains(word));
    if names_secret && lower.contains('=') { format!("{host}/…") } else { host_and_path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::redact_url;

    fn check(address: &str, shown: &str) {
        assert_eq!(redact_url(address), shown, "{address}");
    }

    #[test]
    fn credentials_do_not_show() {
        check("rtsp://user:pass@host:554/live", "rtsp://host:554/live");
        check("rtsp://user@host", "rtsp://host");
        check("RTSP://user:p@ss@host/live", "RTSP://host/live");
        check("http://u:p@[fe80::1]:8080/x", "http://[fe80::1]:8080/x");
        check("rtsp://u:p%40q@10.0.0.9/x", "rtsp://10.0.0.9/x");
    }

    #[test]
    fn badly_written_credentials_do_not_show_either() {
        check("rtsp://user:pa/ss@host/live", "rtsp://host/live");
        check("rtsp://user:pa?ss@host/live", "rtsp://host/live");
        check("rtsp://user:pa#ss@host:80/live", "rtsp://host:80/live");
        check("rtsp://user:12/34@host/live", "rtsp://host/live");
        check("user:pass@host", "host");
    }

    #[test]
    fn queries_and_telling_paths_do_not_show() {
        check("http://cam/snap.cgi?user=admin&pwd=secret", "http://cam/snap.cgi?…");
        check("http://cam?pwd=a@b", "http://b");
        check("http://10.0.0.9/a#frag", "http://10.0.0.9/a?…");
        check("rtsp://10.0.0.9:554/user=admin_password=tlJwpbo6_channel=1.sdp", "rtsp://10.0.0.9:554/…");
    }

    #[test]
    fn the_rest_is_left_alone() {
        check("rtsp://10.0.0.9:554/Streaming/Channels/101", "rtsp://10.0.0.9:554/Streaming/Channels/101");
        check("http://10.0.0.9/people@work.jpg", "http://10.0.0.9/people@work.jpg");
        check("/dev/video0", "/dev/video0");
        check("clips/a?b.mp4", "clips/a?b.mp4");
        check("", "");
        check("://", "://");
        check("ü://ä@ö", "ü://ö");
        check("a\r\n\x1b[31m", "a\\r\\n\\u{1b}[31m");
    }
}
