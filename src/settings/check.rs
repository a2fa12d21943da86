//! Rules that tie several keys together: doors that must not stand open, and limits that must fit each other.

use std::net::SocketAddr;

use super::Settings;
use super::reader::Reader;

/// Complains about everything that only shows when the settings are seen together.
pub(super) fn across(settings: &Settings, reader: &mut Reader) {
    doors(settings, reader);
    super::dialects::check(settings, reader);
    sizes(settings, reader);
    times(settings, reader);
}

fn doors(settings: &Settings, reader: &mut Reader) {
    let frame = &settings.frame;
    // An empty list stands for the default rule: loopback, and whoever proves a token.
    let guarded = !frame.allow.is_empty() || settings.any_token();
    let tls = frame.tls.as_ref().map(|tls| ("frame.tls.listen", tls.listen));
    for (key, address) in [("frame.listen", frame.listen)].into_iter().chain(tls) {
        if !address.ip().is_loopback() && !guarded {
            reader.complain(
                key,
                "listens beyond this machine: set frame.allow to the networks of your cameras, \
                 or give cameras a token (cameras.<id>.token_file)",
            );
        }
    }
    if !settings.http.listen.ip().is_loopback() && settings.http.token.is_none() {
        reader.complain("http.listen", "listens beyond this machine: set http.token_file (or http.token)");
    }
    let listeners = [("http.listen", settings.http.listen)].into_iter().chain(tls);
    for (key, address) in listeners {
        if same_port(address, frame.listen) {
            reader.complain(key, "is the same address as frame.listen");
        }
    }
    if tls.is_some_and(|(_, address)| same_port(address, settings.http.listen)) {
        reader.complain("frame.tls.listen", "is the same address as http.listen");
    }
}

fn same_port(one: SocketAddr, other: SocketAddr) -> bool {
    // Port 0 means any free port, so two of them never meet.
    one == other && one.port() != 0
}

fn sizes(settings: &Settings, reader: &mut Reader) {
    let (frame, ring) = (&settings.frame, &settings.ring);
    if frame.max_frame_bytes > frame.in_flight_bytes {
        reader.complain("frame.max_frame_bytes", "must be at most frame.in_flight_bytes");
    }
    let dialects = &settings.dialects;
    let (sized, chunked) = (&dialects.recognise_sized, &dialects.recognise_chunked);
    let messages = [
        ("recognise_sized.max_bytes", sized.as_ref().map(|dialect| dialect.common.max_bytes)),
        ("recognise_chunked.max_bytes", chunked.as_ref().map(|dialect| dialect.common.max_bytes)),
        ("desk.max_picture_bytes", dialects.desk.as_ref().map(|desk| desk.max_picture_bytes)),
    ];
    for (name, most) in messages {
        if most.is_some_and(|most| most > dialects.in_flight_bytes) {
            reader.complain(&format!("dialects.{name}"), "must be at most dialects.in_flight_bytes");
        }
    }
    if ring.limits.bytes > ring.total_bytes {
        reader.complain("ring.bytes", "must be at most ring.total_bytes");
    }
}

fn times(settings: &Settings, reader: &mut Reader) {
    let clip = &settings.clip;
    if clip.pre_roll > settings.ring.limits.span {
        reader
            .complain("clip.pre_roll_secs", "must be at most ring.seconds: the pre-roll comes from the ring");
    }
    if clip.max <= clip.pre_roll + clip.post_roll {
        reader.complain(
            "clip.max_secs",
            "must be more than clip.pre_roll_secs and clip.post_roll_secs together",
        );
    }
}
