//! Every metric of the node, declared once: name, kind, unit, labels, help. Counting happens elsewhere,
//! by these names. `docs/metrics.md` is compared with this list by a test.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// What kind of series it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations or sizes in buckets.
    Histogram,
}

/// The declaration of one metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Full name with prefix and unit.
    pub name: &'static str,
    /// Kind of series.
    pub kind: Kind,
    /// Names of its labels; every value is from a closed set or a configured camera id.
    pub labels: &'static [&'static str],
    /// One sentence for the scraper.
    pub help: &'static str,
}

macro_rules! metrics_list {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*
        /// Every metric there is.
        pub const ALL: &[Metric] = &[$(Metric {
            name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help,
        },)*];
    };
}

metrics_list! {
    FRAMES = Counter "meerkat_frames_total" ["camera", "stage", "result"]
        "Frames by stage (received, masked, decoded, motion, person, face) and result (ok, dropped, stale, refused, error).";
    FRAME_BYTES = Counter "meerkat_frame_bytes_total" ["camera"]
        "Bytes of encoded pictures received.";
    LAST_FRAME = Gauge "meerkat_last_frame_timestamp_seconds" ["camera"]
        "Unix time at which the last frame arrived; 0 before the first.";
    CAMERA_UP = Gauge "meerkat_camera_up" ["camera"]
        "1 while the camera is connected and has sent a frame within its silence limit, else 0.";
    STAGE_DURATION = Histogram "meerkat_stage_duration_seconds" ["stage"]
        "Time from the arrival of a frame to the end of a stage.";
    INFERENCE_DURATION = Histogram "meerkat_inference_duration_seconds" ["model", "device"]
        "Time a detector took for one picture; of those that were looked at together, an equal share.";
    DEVICE_FALLBACKS = Counter "meerkat_device_fallbacks_total" ["detector"]
        "Times a GPU failed under a detector (person, face, objects), so that its work went on on the CPU.";
    SLOT_REPLACED = Counter "meerkat_slot_replaced_total" ["camera", "detector"]
        "Frames replaced by a newer one before the detector looked at them.";
    MAILBOX_DEPTH = Gauge "meerkat_mailbox_depth" ["actor"]
        "Messages waiting for all actors of a kind.";
    MAILBOX_REFUSED = Counter "meerkat_mailbox_refused_total" ["actor"]
        "Messages an actor's full mailbox did not take.";
    ACTOR_RESTARTS = Counter "meerkat_actor_restarts_total" ["actor", "reason"]
        "Restarts of actors by kind and reason (panic, error, hang).";
    ACTOR_UP = Gauge "meerkat_actor_up" ["actor"]
        "1 while every actor of this kind is running, 0 while one of them waits for its restart.";
    ABANDONED_THREADS = Gauge "meerkat_abandoned_threads" []
        "Threads that hang in native code and were given up; at four the node exits.";
    EVENTS = Counter "meerkat_events_total" ["camera", "kind"]
        "Events started.";
    EVENTS_LOST = Counter "meerkat_events_lost_total" ["what", "reason"]
        "What was lost of events (event: with its alerts, end, part, notice), by reason (unwritten, refused, link_full).";
    CLIPS = Counter "meerkat_clips_total" ["result"]
        "Clips by result (ok, repaired, set_aside, error).";
    SNAPSHOTS = Counter "meerkat_snapshots_total" ["result"]
        "Snapshots of recorded events by result (ok, missed), and of those missed what came of the recording (made_up, lost).";
    CLIP_WRITE_DURATION = Histogram "meerkat_clip_write_duration_seconds" []
        "Time from the end of an event's recording to the finished clip.";
    STORAGE_FREE = Gauge "meerkat_storage_free_bytes" []
        "Free bytes on the file system of the data folder.";
    STORAGE_USED = Gauge "meerkat_storage_used_bytes" ["kind"]
        "Bytes stored by kind (image, video, clip, segment, spool, database, backup, set_aside, relay, watch_log).";
    STORE_BACKUPS = Counter "meerkat_store_backups_total" ["result"]
        "Nightly copies of the database by result (ok, error).";
    STORE_LAST_BACKUP = Gauge "meerkat_store_last_backup_timestamp_seconds" []
        "Unix time of the newest copy of the database that was looked through; 0 when there is none.";
    STORE_SOUND = Gauge "meerkat_store_sound" []
        "1 while the last look through the database found it in order, 0 after damage was found in it.";
    STORE_REBUILDS = Counter "meerkat_store_rebuilds_total" []
        "Times a damaged database was set aside and made anew.";
    STORAGE_USABLE = Gauge "meerkat_storage_usable" []
        "1 while recordings are possible, 0 while they are refused because the disk is full or gone.";
    EVICTED_FILES = Counter "meerkat_storage_evicted_files_total" ["kind", "reason"]
        "Files (of the kind event: rows) deleted, by kind and reason (age, bytes, space).";
    EVICTED_BYTES = Counter "meerkat_storage_evicted_bytes_total" ["kind", "reason"]
        "Bytes of the files deleted, by kind and reason (age, bytes, space).";
    OLDEST_EVIDENCE = Gauge "meerkat_storage_oldest_timestamp_seconds" ["camera"]
        "Unix time of the oldest evidence of a camera; 0 when there is none.";
    RECORDINGS_REFUSED = Counter "meerkat_recordings_refused_total" ["reason"]
        "Orders to record that the disk did not take, by reason (full, gone, error).";
    BALLAST = Gauge "meerkat_ballast_bytes" []
        "Size of the ballast; 0 while it is given up.";
    CLOCK_TRUSTED = Gauge "meerkat_clock_trusted" []
        "1 while the wall clock is trusted, 0 while it is in doubt and nothing is deleted by age.";
    NOTIFICATIONS = Counter "meerkat_notifications_total" ["channel", "result"]
        "Deliveries by channel and result (ok, retry, refused).";
    NOTIFICATION_DURATION = Histogram "meerkat_notification_duration_seconds" ["channel"]
        "Time of one delivery attempt.";
    TEMPLATE_FAILURES = Counter "meerkat_template_failures_total" []
        "Messages whose own template failed, so that the built-in wording was sent.";
    OUTBOX_WAITING = Gauge "meerkat_outbox_waiting" []
        "Alerts that are not delivered yet.";
    ALERTS_WAITING = Gauge "meerkat_alerts_waiting" ["channel"]
        "Alerts and clips that wait for a channel.";
    ALERTS_DEAD = Gauge "meerkat_alerts_dead" ["channel"]
        "Dead letters of a channel: alerts and clips that were given up.";
    ALERTS_OLDEST = Gauge "meerkat_alerts_oldest_seconds" ["channel"]
        "How long the alert that has waited longest for a channel waits; 0 when none does.";
    ALERT_DELAY = Histogram "meerkat_alert_delay_seconds" ["channel"]
        "Time from the start of an event to the delivery of the alert about it.";
    CHANNEL_BREAKER = Gauge "meerkat_channel_breaker" ["channel"]
        "0 while a channel is used, 1 while one attempt shows whether it works again, 2 while it is left alone.";
    CHANNEL_HELD_BACK = Counter "meerkat_channel_held_back_total" ["channel"]
        "Times an alert began to wait for the rate limit of its channel.";
    DIGESTS = Counter "meerkat_digests_total" ["channel", "result"]
        "Attempts at digests by channel and result (ok, retry, refused).";
    CLIP_PARTS = Counter "meerkat_clip_parts_total" ["channel", "form"]
        "Clips that followed an alert by form (file, smaller, link), and those for which there was none.";
    LINK_REQUESTS = Counter "meerkat_link_requests_total" ["result"]
        "Requests by signed link by result (ok, expired, refused).";
    ALERTS_SUPPRESSED = Counter "meerkat_alerts_suppressed_total" ["reason"]
        "Messages that were not sent, or not by themselves, by reason (snoozed, disarmed, cooldown, quiet, grouped).";
    FACES = Counter "meerkat_faces_total" ["result"]
        "Faces looked at by result (known, unknown; small, blurred and turned ones are not compared).";
    EXAMINED = Counter "meerkat_examined_total" ["result"]
        "Pictures of clients that were examined by result (ok, not_a_picture, lost, late, no_network).";
    EXAMINE_DURATION = Histogram "meerkat_examine_duration_seconds" []
        "Time from a client's picture being there to its faces being found and marked, waiting included.";
    UNKNOWN_FACES = Counter "meerkat_unknown_faces_total" ["result"]
        "Unknown faces that could be kept by result (kept, repeated, full, no_room, busy, error), and what went (gave_way, expired).";
    UNKNOWN_GROUPS = Gauge "meerkat_unknown_face_groups" []
        "Groups of unknown faces that are kept.";
    UNKNOWN_BYTES = Gauge "meerkat_unknown_face_bytes" []
        "Bytes of the pictures of unknown faces that are kept.";
    SESSIONS = Gauge "meerkat_sessions" ["dialect"]
        "Open connections by dialect.";
    PROTOCOL_ERRORS = Counter "meerkat_protocol_errors_total" ["reason"]
        "What clients did against the protocol, by reason.";
    LIMIT_HITS = Counter "meerkat_limit_hits_total" ["limit"]
        "Times a limit was reached, by the name of the limit.";
    VIEWERS = Gauge "meerkat_viewers" []
        "Viewers that get live pictures.";
    VIEWERS_LEFT = Counter "meerkat_viewers_left_total" ["reason"]
        "Viewers that left or were dropped by reason (end, closed, silent, replaced, talkative, shutdown).";
    LIVE_PICTURES = Counter "meerkat_live_pictures_total" ["result"]
        "Small pictures made for viewers by result (ok, undecodable, too_large).";
    LIVE_DATAGRAMS = Counter "meerkat_live_datagrams_total" ["result"]
        "Datagrams with a picture by result: sent, unsent (the socket did not take it), lost (not answered within a second).";
    LIVE_BYTES = Counter "meerkat_live_bytes_total" []
        "Bytes of pictures sent to viewers.";
    RING_BYTES = Gauge "meerkat_ring_bytes" []
        "Bytes held by the rings of all cameras.";
    IN_FLIGHT_BYTES = Gauge "meerkat_in_flight_bytes" []
        "Bytes of frames that are being received over all connections.";
    DESK_COMMANDS = Counter "meerkat_desk_commands_total" ["command"]
        "Commands of the desk's clients by command.";
    DESK_KEPT_BYTES = Gauge "meerkat_desk_kept_bytes" ["kind"]
        "Bytes that the desk keeps for its clients, by kind (picture, csv).";
    RELAY_FILES = Counter "meerkat_relay_files_total" ["result"]
        "Files from client to client by result (stored, fetched, expired).";
    RELAY_WAITING_FILES = Gauge "meerkat_relay_waiting_files" []
        "Files that wait for a client of the desk.";
    RELAY_WAITING_BYTES = Gauge "meerkat_relay_waiting_bytes" []
        "Bytes of the files that wait for a client of the desk, those that arrive included.";
    MODEL_INFO = Gauge "meerkat_model_info" ["model", "sha256"]
        "1 for each network or classic method in use, with the checksum of its weights; the classic ones have none.";
    BUILD_INFO = Gauge "meerkat_build_info" ["version", "commit"]
        "1; which build this is.";
}

/// Hands names, units and help texts to the recorder that is installed.
pub fn describe_all() {
    for metric in ALL {
        let unit = if metric.name.contains("_seconds") {
            Unit::Seconds
        } else if metric.name.contains("_bytes") {
            Unit::Bytes
        } else {
            Unit::Count
        };
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, unit, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, unit, metric.help),
            Kind::Histogram => describe_histogram!(metric.name, unit, metric.help),
        }
    }
}

/// Buckets in seconds for every duration histogram, from half a millisecond to a minute.
pub const DURATION_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        let mut seen = std::collections::HashSet::new();
        for m in ALL {
            assert!(m.name.starts_with("meerkat_"), "{}", m.name);
            assert_eq!(m.kind == Kind::Counter, m.name.ends_with("_total"), "{}", m.name);
            assert!(m.help.ends_with('.'), "{}", m.name);
            assert!(seen.insert(m.name), "{} twice", m.name);
        }
        assert!(DURATION_BUCKETS.is_sorted());
    }
}
