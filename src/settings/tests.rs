//! Tests of the settings as a whole: every wrong value, the layers, the doors, and that the documentation is complete.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::*;

fn env(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    let pairs: Vec<_> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    pairs.into_iter()
}

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Settings, SettingsErrors> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    std::fs::write(&path, text).unwrap();
    Settings::load(&[path], env(variables))
}

/// Settings from one file; the text must be right.
pub(super) fn loaded(text: &str) -> Settings {
    load(text, &[]).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

/// The keys that are complained about.
pub(super) fn wrong_keys(text: &str) -> Vec<String> {
    match load(text, &[]) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.problems().iter().map(|problem| problem.key.clone()).collect(),
    }
}

#[test]
fn defaults_are_valid_and_as_documented() {
    let settings = Settings::load(&[], std::iter::empty()).unwrap();
    assert_eq!(settings.frame.listen, "127.0.0.1:9000".parse().unwrap());
    assert_eq!(settings.http.listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(settings.data_dir, PathBuf::from("data"));
    assert_eq!(settings.frame.max_frame_bytes, 16 << 20);
    assert_eq!(settings.ring.limits.span, Duration::from_secs(10));
    assert_eq!(settings.video_size, VideoSize::Pixels { width: 640, height: 480 });
    assert!(settings.detectors.threads >= 1);
    assert!(settings.frame.tls.is_none() && settings.http.token.is_none());
    assert!(settings.cameras.is_empty() && settings.notify.channels.is_empty());
}

#[test]
fn unknown_faces_are_kept_for_a_week_unless_somebody_says_otherwise() {
    let keep = |text: &str| loaded(text).faces.unknown_keep;
    assert_eq!(keep(""), Some(Duration::from_secs(7 * 86_400)));
    assert_eq!(keep("[faces]\nunknown_keep_days = 0.5"), Some(Duration::from_secs(43_200)));
    assert_eq!(keep("[faces]\nunknown_keep_days = 0"), None);
}

#[test]
fn each_wrong_value_is_named() {
    // (key, wrong values as TOML)
    let table: &[(&str, &[&str])] = &[
        ("data_dir", &["\"\"", "3"]),
        ("durability", &["\"disk\"", "true"]),
        ("frame.listen", &["\"localhost\"", "9000", "\"127.0.0.1\"", "\"127.0.0.1:99999\""]),
        ("frame.allow", &["[\"10.0.0.0/33\"]", "\"10.0.0.0/8\"", "[1]", "[\"::1\", \"::1\"]"]),
        ("frame.plaintext_trusted", &["[\"here\"]"]),
        ("frame.tls.listen", &["\"nowhere\""]),
        ("frame.tls.cert_file", &["1"]),
        ("frame.tls.key_file", &["1"]),
        ("frame.max_frame_bytes", &["0", "1023", "268435457", "\"16777216\"", "1.5", "-1"]),
        ("frame.max_pixels", &["0", "64000001"]),
        ("frame.max_scans", &["0", "101"]),
        ("frame.max_scanned_pixels", &["0", "768000001"]),
        ("frame.accept_unknown", &["\"yes\"", "1"]),
        ("frame.cut_silence_ms", &["9", "10001"]),
        ("frame.handshake_timeout_secs", &["0", "601"]),
        ("frame.stall_timeout_secs", &["0", "601", "nan", "inf"]),
        ("frame.idle_timeout_secs", &["0", "86401"]),
        ("frame.max_refused_in_row", &["0", "1001"]),
        ("frame.refused_delay_ms", &["-1", "10001"]),
        ("frame.max_connections", &["0", "65537"]),
        ("frame.max_connections_per_address", &["0", "65537"]),
        ("frame.in_flight_bytes", &["1", "68719476737"]),
        ("frame.answer_wait_ms", &["1001"]),
        ("frame.accept_unconfigured", &["0"]),
        ("frame.io_threads", &["0", "65"]),
        ("dialects.io_threads", &["0", "65"]),
        ("dialects.in_flight_bytes", &["1048575"]),
        ("dialects.examine_waiting", &["0", "4097"]),
        ("dialects.examine_timeout_secs", &["0", "3601"]),
        ("dialects.min_bytes_per_second", &["0", "1048577"]),
        ("dialects.font", &["1"]),
        ("dialects.recognise_sized.listen", &["\"here\"", "4444"]),
        ("dialects.recognise_sized.allow", &["[\"10.0.0.0/33\"]"]),
        ("dialects.recognise_sized.max_connections", &["0", "65537"]),
        ("dialects.recognise_sized.max_connections_per_address", &["0", "65537"]),
        ("dialects.recognise_sized.stall_timeout_secs", &["0", "601"]),
        ("dialects.recognise_sized.idle_timeout_secs", &["0", "86401"]),
        ("dialects.recognise_sized.max_bytes", &["1023", "268435457"]),
        ("dialects.recognise_sized.quality", &["0", "101"]),
        ("dialects.recognise_chunked.listen", &["\"here\"", "4444"]),
        ("dialects.recognise_chunked.allow", &["[\"10.0.0.0/33\"]"]),
        ("dialects.recognise_chunked.max_connections", &["0", "65537"]),
        ("dialects.recognise_chunked.max_connections_per_address", &["0", "65537"]),
        ("dialects.recognise_chunked.stall_timeout_secs", &["0", "601"]),
        ("dialects.recognise_chunked.idle_timeout_secs", &["0", "86401"]),
        ("dialects.recognise_chunked.max_bytes", &["1023", "268435457"]),
        ("dialects.recognise_chunked.quality", &["0", "101"]),
        ("dialects.watch.listen", &["\"here\"", "4444"]),
        ("dialects.watch.allow", &["[\"10.0.0.0/33\"]"]),
        ("dialects.watch.max_connections", &["0", "65537"]),
        ("dialects.watch.max_connections_per_address", &["0", "65537"]),
        ("dialects.watch.stall_timeout_secs", &["0", "601"]),
        ("dialects.watch.idle_timeout_secs", &["0", "86401"]),
        ("dialects.watch.max_viewers_per_address", &["0", "65537"]),
        ("dialects.watch.camera", &["1", "\"../etc\"", "\"Yard\"", "\"node~\""]),
        ("dialects.watch.size", &["\"160\"", "\"15x120\"", "\"160x1281\"", "\"as-received\"", "160"]),
        ("dialects.watch.quality", &["0", "101"]),
        ("dialects.watch.max_datagram_bytes", &["4095", "65508"]),
        ("dialects.watch.max_frames_per_second", &["0", "101"]),
        ("dialects.watch.log_max_bytes", &["4095", "1073741825"]),
        ("dialects.watch.log_files", &["-1", "101"]),
        ("dialects.desk.listen", &["[\"127.0.0.1:11111\"]", "\"127.0.0.1:11111\"", "[1, 2, 3, 4]"]),
        ("dialects.desk.allow", &["[\"10.0.0.0/33\"]"]),
        ("dialects.desk.max_connections", &["0", "65537"]),
        ("dialects.desk.max_connections_per_address", &["0", "65537"]),
        ("dialects.desk.stall_timeout_secs", &["0", "601"]),
        ("dialects.desk.idle_timeout_secs", &["0", "86401"]),
        ("dialects.desk.chat_silence_ms", &["-1", "1001"]),
        ("dialects.desk.size_silence_ms", &["0", "10001"]),
        ("dialects.desk.file_silence_ms", &["9", "60001"]),
        ("dialects.desk.max_clients", &["0", "4097"]),
        ("dialects.desk.keep_minutes", &["0", "10081"]),
        ("dialects.desk.max_picture_bytes", &["1023", "268435457"]),
        ("dialects.desk.pictures_bytes", &["1023", "68719476737"]),
        ("dialects.desk.chat.rules", &["5"]),
        ("dialects.desk.chat.time_zone", &["\"Mars/Olympus\"", "8"]),
        ("dialects.desk.relay.max_file_bytes", &["1023", "1099511627777"]),
        ("dialects.desk.relay.sender_bytes", &["1023", "1099511627777"]),
        ("dialects.desk.relay.total_bytes", &["1023", "1099511627777"]),
        ("dialects.desk.relay.files", &["0", "65537"]),
        ("dialects.desk.relay.keep_hours", &["0", "8761"]),
        ("dialects.desk.csv.max_bytes", &["1023", "1099511627777"]),
        ("dialects.desk.csv.total_bytes", &["1023", "1099511627777"]),
        ("dialects.desk.csv.analysis_secs", &["0", "3601"]),
        ("dialects.desk.facepp.api_key", &["\"short\"", "12345678"]),
        ("dialects.desk.facepp.api_key_file", &["\"/does/not/exist\""]),
        ("dialects.desk.facepp.api_secret", &["\"short\""]),
        ("dialects.desk.facepp.api_secret_file", &["\"/does/not/exist\""]),
        ("dialects.desk.facepp.url", &["\"http://api.example.org/\"", "\"\"", "1"]),
        ("dialects.desk.facepp.takes", &["\"nothing\""]),
        ("dialects.recognise_sized.length_bytes", &["8", "\"2\""]),
        ("dialects.recognise_chunked.end_pause_ms", &["-1", "1001"]),
        ("ring.seconds", &["-1", "601"]),
        ("ring.bytes", &["0", "17179869185"]),
        ("ring.total_bytes", &["0", "1099511627777"]),
        ("http.listen", &["\"\""]),
        ("http.hosts", &["[\"a b\"]", "[\"\"]", "[\"a..b\"]"]),
        ("http.token", &["\"a b c d e\"", "\"\\u00e9aaaaaaaa\"", "12345678", "\"short\""]),
        (
            "http.public_url",
            &["\"example.org\"", "\"ftp://a\"", "\"https://\"", "\"https://a?b\"", "\"https://u@a\"", "1"],
        ),
        ("http.link_hours", &["0", "721", "1.5"]),
        ("http.token_file", &["\"/does/not/exist\"", "\"/\""]),
        ("video.size", &["\"640\"", "\"641x480\"", "\"8x8\"", "\"4098x480\""]),
        ("clip.pre_roll_secs", &["-1", "601"]),
        ("clip.post_roll_secs", &["-1", "601"]),
        ("clip.max_secs", &["0", "86401"]),
        ("clip.preset", &["\"quick\"", "\"slow\""]),
        ("clip.crf", &["52", "-1"]),
        ("clip.size", &["\"big\"", "640"]),
        ("clip.kinds", &["[]", "[\"burglary\"]", "[\"camera_silent\"]", "1"]),
        ("clip.max_open", &["0", "65"]),
        ("clip.strip", &["-1", "33"]),
        ("spool.keep", &["\"never\"", "\"0h\"", "\"-1d\"", "\"4000d\"", "\"5\"", "12"]),
        ("spool.keep_bytes", &["-1", "1125899906842625"]),
        ("spool.max_bytes", &["0", "1099511627777"]),
        ("spool.total_bytes", &["0", "1125899906842625"]),
        ("continuous.segment_secs", &["0", "86401"]),
        ("signing.enabled", &["1"]),
        ("signing.key_file", &["1"]),
        ("signing.every_secs", &["-1", "61"]),
        ("motion.enabled", &["1"]),
        ("motion.threshold", &["0", "256"]),
        ("motion.min_area_share", &["1.1", "-0.1", "nan"]),
        ("motion.reduction", &["3", "0", "16"]),
        ("motion.learning_secs", &["0", "14401"]),
        ("guard.displacement_share", &["0", "1.1"]),
        ("guard.confirm_frames", &["0", "1001"]),
        ("guard.free_view_secs", &["-1", "601"]),
        ("mask.quality", &["0", "101", "\"good\""]),
        ("guard.zone", &["\"0,0,2,2\"", "\"middle\"", "1"]),
        ("detectors.threads", &["257"]),
        ("detectors.device", &["\"gpu\"", "\"cuda\"", "0"]),
        ("detectors.precision", &["\"half\"", "\"F16\"", "16"]),
        ("detectors.person.backend", &["\"magic\""]),
        ("detectors.person.model", &["\"\"", "13"]),
        ("detectors.person.min_score", &["1.5"]),
        ("detectors.person.every_ms", &["60001"]),
        ("detectors.person.gate", &["\"door\""]),
        ("detectors.person.idle_every_ms", &["3600001"]),
        ("detectors.face.backend", &["\"magic\""]),
        ("detectors.face.model", &["\"\"", "\"a\\nb\""]),
        ("detectors.face.threshold", &["-0.1", "1.1", "nan"]),
        ("detectors.face.margin", &["-0.1", "1.1"]),
        ("detectors.face.min_width_px", &["-1", "10001"]),
        ("detectors.face.min_sharpness", &["-0.1", "2"]),
        ("detectors.face.max_turn", &["-1", "11"]),
        ("detectors.face.max_tilt_degrees", &["-1", "181"]),
        ("detectors.face.min_score", &["-0.5"]),
        ("detectors.face.every_ms", &["60001"]),
        ("detectors.face.gate", &["\"door\""]),
        ("detectors.face.idle_every_ms", &["3600001"]),
        ("faces.unknown_keep_days", &["-1", "366", "\"week\""]),
        ("faces.unknown_likeness", &["-0.1", "1.1", "nan"]),
        ("faces.unknown_min_width_px", &["-1", "10001"]),
        ("faces.unknown_groups", &["0", "1001"]),
        ("faces.unknown_pictures", &["0", "21"]),
        ("faces.unknown_bytes", &["65535", "1073741825", "\"32M\""]),
        ("models.dir", &["1", "[]"]),
        ("models.proxy", &["\"proxy:3128\"", "1"]),
        ("models.proxy_file", &["\"/does/not/exist\""]),
        ("events.motion.start_hits", &["0", "6"]),
        ("events.motion.window", &["0", "101"]),
        ("events.motion.end_secs", &["0", "3601"]),
        ("events.motion.cooldown_secs", &["-1", "86401"]),
        ("events.person.start_hits", &["0", "7"]),
        ("events.person.window", &["0", "101"]),
        ("events.person.end_secs", &["0", "3601"]),
        ("events.person.cooldown_secs", &["-1", "86401"]),
        ("events.face.start_hits", &["0", "5"]),
        ("events.face.window", &["0", "101"]),
        ("events.face.end_secs", &["0", "3601"]),
        ("events.face.cooldown_secs", &["-1", "86401"]),
        ("storage.free_floor_bytes", &["-1", "1125899906842625"]),
        ("store.backup_at", &["\"24:00\"", "\"3:30\"", "\"03:60\"", "330"]),
        ("store.backups_keep", &["0", "366"]),
        ("store.backup_before_migration", &["\"perhaps\""]),
        ("storage.free_extra_bytes", &["-1", "1125899906842625"]),
        ("storage.ballast_bytes", &["-1", "17179869185", "\"64M\""]),
        ("storage.clock_jump_secs", &["59", "86401"]),
        ("storage.clock_gap_days", &["0", "3651"]),
        ("retention.days", &["-1", "36501", "\"week\""]),
        ("retention.bytes", &["-1", "1125899906842625"]),
        ("supervision.decode_deadline_ms", &["9", "600001"]),
        ("supervision.motion_deadline_ms", &["9", "600001"]),
        ("supervision.detector_deadline_ms", &["9", "600001"]),
        ("supervision.disk_deadline_ms", &["9", "600001"]),
        ("supervision.backoff_min_ms", &["0", "60001", "30001"]),
        ("supervision.backoff_max_secs", &["0", "3601"]),
        ("supervision.max_abandoned_threads", &["0", "65"]),
        ("attendance.repeat_secs", &["-1", "86401"]),
        ("attendance.time_zone", &["\"Mars/Olympus\"", "8"]),
        ("attendance.day_starts", &["\"4:00\"", "\"24:00\"", "\"04:60\"", "\"+4:00\"", "4"]),
        ("attendance.work_days", &["[]", "[\"monday\"]", "[\"mon\", \"mon\"]", "\"mon\""]),
        ("attendance.check_out_after_secs", &["-1", "86401"]),
        ("notify.language", &["\"fr\""]),
        (
            "notify.time_zone",
            &["\"Mars/Olympus\"", "\"\"", "\"../etc\"", "\"+8\"", "\"+24:00\"", "\"+0:800\""],
        ),
        ("notify.notices.settle_secs", &["-1", "601"]),
        ("notify.notices.calm_secs", &["3601"]),
        ("notify.notices.start_grace_secs", &["\"soon\""]),
        ("notify.notices.failing_restarts", &["0", "1001"]),
        ("notify.give_up_hours", &["0", "721"]),
        ("notify.digest_after_secs", &["9", "86401"]),
        ("notify.digest_over", &["1", "10001"]),
        ("notify.digest_newest", &["-1", "501"]),
        ("notify.breaker_failures", &["0", "1001"]),
        ("notify.breaker_open_secs", &["0", "3601"]),
        ("notify.shrink_limit_secs", &["0", "3601"]),
        ("notify.max_clip_bytes", &["99999", "256000001"]),
        ("notify.proxy", &["\"proxy:3128\"", "1"]),
        ("notify.proxy_file", &["\"/does/not/exist\""]),
        ("notify.allow_link_local", &["\"no\""]),
        ("log.format", &["\"xml\""]),
        ("log.level", &["\"loud\""]),
    ];
    for (key, values) in table {
        for value in *values {
            let wrong = wrong_keys(&format!("{key} = {value}"));
            assert!(wrong.contains(&(*key).to_owned()), "{key} = {value}: {wrong:?}");
        }
    }
    let mut tested: BTreeSet<String> = table.iter().map(|(key, _)| (*key).to_owned()).collect();
    let layers = layers::merge(&[], std::iter::empty(), &mut Vec::new());
    let mut missed = leaves(&layers.defaults);
    missed.retain(|key| !tested.remove(key));
    assert!(missed.is_empty(), "keys without a test of a wrong value: {missed:?}");
    assert!(tested.is_empty(), "not in default.toml: {tested:?}");
}

#[test]
fn each_wrong_value_of_a_camera_is_named() {
    let table: &[(&str, &str)] = &[
        ("name", "\"\""),
        ("name", "\"a\\nb\""),
        ("address", "[\"door\"]"),
        ("token", "\"\\u0007\""),
        ("token_file", "\"/does/not/exist\""),
        ("allowed_modes", "[]"),
        ("allowed_modes", "[0]"),
        ("allowed_modes", "[6]"),
        ("allowed_modes", "[1, 1]"),
        ("attendance", "1"),
        ("attendance", "true"),
        ("attendance_direction", "\"sideways\""),
        ("silent_after_secs", "0"),
        ("zone", "\"1,1,1,1\""),
        ("continuous", "1"),
        ("masks", "[\"0,0,1\"]"),
        ("masks", "[\"0,0 1,1\"]"),
        ("masks", "\"0,0,1,1\""),
        ("video_size", "\"big\""),
        ("motion.enabled", "\"no\""),
        ("motion.threshold", "0"),
        ("motion.min_area_share", "2"),
        ("guard.displacement_share", "0"),
        ("guard.confirm_frames", "0"),
        ("guard.free_view_secs", "-1"),
        ("person.min_score", "2"),
        ("face.min_score", "2"),
        ("retention.days", "-1"),
        ("retention.bytes", "1.5"),
        ("retention.kinds.person.days", "36501"),
        ("retention.kinds.image.bytes", "\"all\""),
        ("retention.kinds.diary", "{ days = 1 }"),
        ("retention.kinds.camera_silent", "{ days = 1 }"),
    ];
    for (key, value) in table {
        let wrong = wrong_keys(&format!("[cameras.door]\n{key} = {value}"));
        assert_eq!(wrong, [format!("cameras.door.{key}")], "{key} = {value}");
    }
    for bad in ["Door", "\"a-b\"", "\"\"", "\"a.b\"", "\"../x\""] {
        assert_eq!(wrong_keys(&format!("[cameras.{bad}]\nname = \"x\"")).len(), 1, "{bad}");
    }
    assert_eq!(wrong_keys("cameras = 3"), ["cameras"]);
    assert_eq!(wrong_keys("cameras.door = 3"), ["cameras.door"]);
}

#[test]
fn each_wrong_value_of_retention_is_named() {
    for (text, key) in [
        ("[retention.kinds.diary]\ndays = 1", "retention.kinds.diary"),
        ("[retention.kinds.person]\ndays = -1", "retention.kinds.person.days"),
        ("[retention.kinds.image]\nbytes = -1", "retention.kinds.image.bytes"),
        ("[retention.kinds.image]\nbyte = 1", "retention.kinds.image.byte"),
        ("[retention.kinds]\nimage = 1", "retention.kinds.image"),
    ] {
        assert_eq!(wrong_keys(text), [key], "{text}");
    }
}

#[test]
fn each_wrong_value_of_a_channel_is_named() {
    let table: &[(&str, &str)] = &[
        ("type", "\"pigeon\""),
        ("url", "\"ftp://example.org\""),
        ("url", "\"https://\""),
        ("url", "\"\""),
        ("url_file", "\"/does/not/exist\""),
        ("secret", "\"a b\""),
        ("secret", "\"fifteen-letters\""),
        ("secret", "\"\""),
        ("secret_file", "\"/does/not/exist\""),
        ("include_snapshot", "1"),
        ("include_clip", "1"),
        ("include_faces", "1"),
        ("proxy", "\"proxy:3128\""),
        ("proxy_file", "\"/does/not/exist\""),
        ("kinds", "[]"),
        ("kinds", "[\"burglary\"]"),
        ("cameras", "[\"nowhere\"]"),
    ];
    for (key, value) in table {
        let mut lines = vec![format!("{key} = {value}")];
        let rights = [
            ("type", "\"webhook\""),
            ("url", "\"https://example.org/x\""),
            ("secret", "\"0123456789abcdef\""),
        ];
        for (name, right) in rights {
            if !key.starts_with(name) {
                lines.push(format!("{name} = {right}"));
            }
        }
        let wrong = wrong_keys(&format!("[notify.channels.office]\n{}", lines.join("\n")));
        assert_eq!(wrong, [format!("notify.channels.office.{key}")], "{key} = {value}");
    }
    assert_eq!(wrong_keys("[notify.channels.a]"), ["notify.channels.a.type"]);
    assert_eq!(
        wrong_keys("[notify.channels.a]\ntype = \"webhook\""),
        ["notify.channels.a.url", "notify.channels.a.secret"]
    );
    let wecom =
        "[notify.channels.a]\ntype = \"wecom\"\nurl = \"https://example.org/send?key=k\"\nsecret = \"x\"";
    assert_eq!(wrong_keys(wecom), ["notify.channels.a.secret"], "a robot has no secret beside its address");
    let keyless = "[notify.channels.a]\ntype = \"wecom\"\nurl = \"https://example.org/send\"";
    assert_eq!(wrong_keys(keyless), ["notify.channels.a.url"]);
}

/// Sets one key of a channel to something wrong, beside keys that are right.
fn check_channel(rights: &[(&str, &str)], wrongs: &[(&str, &str)]) {
    let text = |lines: &[String]| format!("[notify.channels.a]\n{}", lines.join("\n"));
    let line = |(key, value): &(&str, &str)| format!("{key} = {value}");
    loaded(&text(&rights.iter().map(line).collect::<Vec<_>>()));
    for wrong in wrongs {
        let others = rights.iter().filter(|(key, _)| wrong.0 != *key && wrong.0 != format!("{key}_file"));
        let lines: Vec<String> = others.map(line).chain([line(wrong)]).collect();
        assert_eq!(wrong_keys(&text(&lines)), [format!("notify.channels.a.{}", wrong.0)], "{wrong:?}");
    }
}

#[test]
fn each_wrong_value_of_mail_is_named() {
    let rights = [
        ("type", "\"email\""),
        ("host", "\"mail.example.org\""),
        ("from", "\"Meerkat <a@example.org>\""),
        ("to", "[\"b@example.org\", \"c@example.org\"]"),
        ("user", "\"a@example.org\""),
        ("password", "\"secret\""),
    ];
    let wrongs = [
        ("host", "\"mail example\""),
        ("host", "25"),
        ("port", "0"),
        ("port", "65536"),
        ("encryption", "\"ssl\""),
        ("encryption", "\"none\""),
        ("allow_plaintext", "1"),
        ("password", "\"two words\""),
        ("password_file", "\"/does/not/exist\""),
        ("ca_file", "\"\""),
        ("ca_file", "\"/does/not/exist\""),
        ("ca_file", "\"/dev/null\""),
        ("from", "\"nobody\""),
        ("from", "\"a b@example.org\""),
        ("to", "[]"),
        ("to", "[\"b@example.org\", \"b@example.org\"]"),
        ("to", "[\"x\\r\\nBcc: y@example.org\"]"),
        ("per_minute", "0"),
        ("max_clip_bytes", "50000001"),
        ("proxy", "\"http://proxy:3128\""),
        ("proxy_file", "\"/does/not/exist\""),
        ("url", "\"https://example.org\""),
        ("template_file", "\"/does/not/exist\""),
        ("template", "\"\""),
    ];
    check_channel(&rights, &wrongs);
    let without = |key: &str| {
        let lines: Vec<String> =
            rights.iter().filter(|(k, _)| *k != key).map(|(k, v)| format!("{k} = {v}")).collect();
        wrong_keys(&format!("[notify.channels.a]\n{}", lines.join("\n")))
    };
    for key in ["host", "from", "to", "user", "password"] {
        assert_eq!(without(key), [format!("notify.channels.a.{key}")]);
    }
    // In the clear only to this machine, or when somebody says so in so many words.
    let plain =
        "[notify.channels.a]\ntype = \"email\"\nfrom = \"a@b\"\nto = [\"c@d\"]\nencryption = \"none\"\n";
    for host in ["localhost", "127.0.0.1", "::1"] {
        loaded(&format!("{plain}host = \"{host}\""));
    }
    let settings = loaded(&format!("{plain}host = \"10.0.0.1\"\nallow_plaintext = true"));
    let ChannelTarget::Email(mail) = &settings.notify.channels["a"].target else { panic!() };
    assert_eq!((mail.port, mail.per_minute, mail.max_clip_bytes), (25, 20, 10_485_760));
}

#[test]
fn each_wrong_value_of_mqtt_is_named() {
    let rights = [
        ("type", "\"mqtt\""),
        ("url", "\"mqtts://broker.example.org\""),
        ("user", "\"a\""),
        ("password", "\"secret\""),
    ];
    let wrongs = [
        ("url", "\"https://broker.example.org\""),
        ("url", "\"mqtt://broker.example.org\""),
        ("url", "\"mqtts://user:hunter2@broker.example.org\""),
        ("url", "\"mqtts://broker.example.org:0\""),
        ("url", "\"mqtts://broker.example.org/path\""),
        ("url", "\"mqtts://[::1]\""),
        ("url", "\"mqtts://\""),
        ("url_file", "\"/does/not/exist\""),
        ("allow_plaintext", "\"yes\""),
        ("ca_file", "\"/does/not/exist\""),
        ("client_id", "\"a/b\""),
        ("client_id", "\"\""),
        ("topic_prefix", "\"a/+\""),
        ("topic_prefix", "\"/a\""),
        ("topic_prefix", "\"\""),
        ("discovery_prefix", "\"a/\""),
        ("proxy", "1"),
        ("host", "\"broker\""),
    ];
    check_channel(&rights, &wrongs);
    assert_eq!(wrong_keys("[notify.channels.a]\ntype = \"mqtt\""), ["notify.channels.a.url"]);
    let target = |lines: &str| {
        let settings = loaded(&format!("[notify.channels.a]\ntype = \"mqtt\"\n{lines}"));
        let ChannelTarget::Mqtt(mqtt) = &settings.notify.channels["a"].target else { panic!() };
        mqtt.clone()
    };
    for (url, host, port, tls) in [
        ("mqtt://127.0.0.1", "127.0.0.1", 1883, false),
        ("mqtt://[::1]:1884/", "[::1]", 1884, false),
        ("mqtts://broker", "broker", 8883, true),
        ("mqtts://broker:1", "broker", 1, true),
    ] {
        let mqtt = target(&format!("url = \"{url}\""));
        assert_eq!((mqtt.host.as_str(), mqtt.port, mqtt.tls), (host, port, tls), "{url}");
        assert_eq!(mqtt.discovery_prefix.as_deref(), Some("homeassistant"));
    }
    let mqtt = target("url = \"mqtt://10.0.0.1\"\nallow_plaintext = true\ndiscovery_prefix = \"\"");
    assert_eq!((mqtt.discovery_prefix, mqtt.client_id), (None, None));
    let shown = load("[notify.channels.a]\ntype = \"mqtt\"\nurl = \"mqtts://u:hunter2@b\"", &[]).unwrap_err();
    assert!(!shown.to_string().contains("hunter2"), "{shown}");
}

#[test]
fn a_ca_file_that_says_something_else_is_another_setting() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    let read = |content: &str| {
        std::fs::write(&path, content).unwrap();
        let own = format!("ca_file = \"{}\"\n", path.display());
        let mail = "type = \"email\"\nhost = \"mail.example.org\"\nfrom = \"a@b\"\nto = [\"c@d\"]";
        let home = "type = \"mqtt\"\nurl = \"mqtts://b\"";
        [mail, home].map(|channel| loaded(&format!("[notify.channels.a]\n{own}{channel}")).notify)
    };
    let before = read("one");
    assert_eq!(read("one"), before);
    for (now, then) in read("two").iter().zip(&before) {
        assert_ne!(now, then, "the same path");
    }
    std::fs::write(&path, vec![b'a'; (1 << 20) + 1]).unwrap();
    let text = format!(
        "[notify.channels.a]\ntype = \"mqtt\"\nurl = \"mqtts://b\"\nca_file = \"{}\"",
        path.display()
    );
    assert_eq!(wrong_keys(&text), ["notify.channels.a.ca_file"]);
}

#[test]
fn templates_come_from_keys_and_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("notice.jinja");
    std::fs::write(&file, "{{ what }}\n").unwrap();
    let settings = loaded(&format!(
        "[notify.templates.en]\nmotion_ended = \"\"\"a\nb\"\"\"\nnotice_file = {:?}\n[notify.templates.zh]\nclip = \"x\"",
        file.display().to_string()
    ));
    let templates = &settings.notify.templates;
    let found: Vec<(&str, &str, &str)> =
        templates.en.iter().map(|t| (t.name.as_str(), t.text.as_str(), t.origin.as_str())).collect();
    let path = file.display().to_string();
    let expected = [
        ("notice", "{{ what }}\n", path.as_str()),
        ("motion_ended", "a\nb", "notify.templates.en.motion_ended"),
    ];
    assert_eq!(found, expected);
    assert_eq!(templates.zh.len(), 1);
    for (text, key) in [
        ("[notify.templates.en]\nburglary = \"x\"", "notify.templates.en.burglary"),
        ("[notify.templates.fr]\nalert = \"x\"", "notify.templates.fr"),
        ("[notify.templates.en]\nalert = \"\"", "notify.templates.en.alert"),
        ("[notify.templates.en]\nalert = 3", "notify.templates.en.alert"),
        ("[notify.templates.en]\nalert_file = \"/does/not/exist\"", "notify.templates.en.alert_file"),
        (
            "[notify.templates.en]\nalert = \"x\"\nalert_file = \"/dev/null\"",
            "notify.templates.en.alert_file",
        ),
    ] {
        assert_eq!(wrong_keys(text), [key], "{text}");
    }
    let large = dir.path().join("large.jinja");
    std::fs::write(&large, "x".repeat(16_385)).unwrap();
    let text = format!("[notify.templates.en]\nalert_file = {:?}", large.display().to_string());
    assert_eq!(wrong_keys(&text), ["notify.templates.en.alert_file"]);
}

#[test]
fn each_type_of_channel_has_keys_of_its_own() {
    let robot = "url = \"https://example.org/send?key=k&access_token=t\"";
    let app = "corp_id = \"ww0123\"\nagent_id = 1000002\nsecret = \"0123456789\"";
    let bot = "token = \"123456:AAH-0123456789\"\nchat_id = \"-100123\"";
    let topic = "topic = \"yard-7f3a\"";
    let hook = "url = \"https://example.org/\"\nsecret = \"0123456789abcdef\"";
    // Type, what it needs, further lines, and the keys that are wrong then.
    let table: &[(&str, &str, &str, &[&str])] = &[
        ("wecom", robot, "style = \"markdown\"\nper_minute = 20", &[]),
        ("wecom", robot, "style = \"html\"", &["style"]),
        ("wecom", robot, "per_minute = 21", &["per_minute"]),
        ("wecom", robot, "per_minute = 0", &["per_minute"]),
        ("wecom_app", app, "users = [\"zhang\", \"@all\"]\nparties = [2]\ntags = [3]\nper_hour = 1000", &[]),
        ("wecom_app", app, "url = \"https://relay.example.org\"\nparties = [2]", &[]),
        ("wecom_app", app, "", &["users"]),
        ("wecom_app", app, "users = []", &["users"]),
        ("wecom_app", app, "users = [\"a|b\"]", &["users"]),
        ("wecom_app", app, "parties = [0]", &["parties"]),
        ("wecom_app", app, "tags = [\"x\"]", &["tags"]),
        ("wecom_app", app, "users = [\"a\"]\nper_minute = 31", &["per_minute"]),
        ("wecom_app", app, "users = [\"a\"]\nper_hour = 1001", &["per_hour"]),
        ("wecom_app", "agent_id = -1\nusers = [\"a\"]", "", &["corp_id", "agent_id", "secret"]),
        ("dingtalk", robot, "secret = \"SEC0123456789\"\nstyle = \"markdown\"", &[]),
        ("dingtalk", robot, "per_minute = 21", &["per_minute"]),
        ("dingtalk", "url = \"https://example.org/send\"", "", &["url"]),
        ("dingtalk", robot, "secret = \"short\"", &["secret"]),
        ("feishu", robot, "app_id = \"cli_a\"\napp_secret = \"0123456789\"\nper_minute = 100", &[]),
        ("feishu", robot, "app_id = \"cli_a\"", &["app_id"]),
        ("feishu", robot, "app_secret = \"0123456789\"", &["app_secret"]),
        ("feishu", robot, "per_minute = 101", &["per_minute"]),
        ("telegram", bot, "url = \"http://127.0.0.1:8081\"\nper_minute = 20", &[]),
        ("telegram", "token = \"123456:AAH/0123456789\"\nchat_id = \"@name\"", "", &["token"]),
        ("telegram", "token = \"123456:AAH-0123456789\"\nchat_id = \"name\"", "", &["chat_id"]),
        ("telegram", bot, "per_minute = 61", &["per_minute"]),
        (
            "ntfy",
            topic,
            "token = \"tk_012345\"\nmax_snapshot_bytes = 0\nmax_clip_bytes = 0\nper_minute = 600",
            &[],
        ),
        ("ntfy", topic, "user = \"node\"\npassword = \"x\"", &[]),
        ("ntfy", "topic = \"a/b\"", "", &["topic"]),
        ("ntfy", topic, "user = \"node\"", &["user"]),
        ("ntfy", topic, "password = \"x\"", &["password"]),
        ("ntfy", topic, "user = \"a:b\"\npassword = \"x\"", &["user"]),
        ("ntfy", topic, "user = \"node\"\npassword = \"x\"\ntoken = \"tk_012345\"", &["user"]),
        ("ntfy", topic, "max_snapshot_bytes = -1", &["max_snapshot_bytes"]),
        ("ntfy", topic, "max_clip_bytes = \"much\"", &["max_clip_bytes"]),
        ("ntfy", topic, "per_minute = 601", &["per_minute"]),
        ("webhook", hook, "max_clip_bytes = 1000\nper_minute = 60000", &[]),
        ("webhook", hook, "max_clip_bytes = -1", &["max_clip_bytes"]),
        ("webhook", hook, "per_minute = 60001", &["per_minute"]),
        ("webhook", hook, "chat_id = \"1\"", &["chat_id"]),
    ];
    for (kind, needed, more, expected) in table {
        let text = format!("[notify.channels.x]\ntype = \"{kind}\"\n{needed}\n{more}");
        let expected: Vec<String> = expected.iter().map(|key| format!("notify.channels.x.{key}")).collect();
        let wrong = match load(&text, &[]) {
            Ok(_) => Vec::new(),
            Err(_) => wrong_keys(&text),
        };
        assert_eq!(wrong, expected, "{text}");
    }
}

#[test]
fn a_key_of_dingtalk_that_is_none_is_told_where_the_right_one_stands() {
    let robot =
        "[notify.channels.ding]\ntype = \"dingtalk\"\nurl = \"https://x/robot/send?access_token=t\"\n";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "Meerkat\n").unwrap();
    let wrong = ["secret = \"Meerkat\"".to_owned(), format!("secret_file = {:?}", file.to_str().unwrap())];
    for (line, key) in wrong.iter().zip(["secret", "secret_file"]) {
        let said = load(&format!("{robot}{line}\n"), &[]).unwrap_err().to_string();
        assert!(said.contains(&format!("notify.channels.ding.{key} ")), "{said}");
        for part in ["加签", "begins with SEC", "8 to 512", "keyword"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains("Meerkat"), "{said}");
    }
}

#[test]
fn everything_wrong_is_reported_at_once() {
    let text = "[frame]\nlisten = 1\nmax_scans = 0\nlisen = 2\n[rings]\nseconds = 1\n[clip]\ncrf = 99\n";
    let errors = load(text, &[("MEERKAT__RING__SECONDS", "soon")]).unwrap_err();
    let shown = errors.to_string();
    assert_eq!(errors.problems().len(), 6, "{shown}");
    assert!(shown.contains("node.toml"), "{shown}");
    assert!(shown.contains("frame.lisen (set by") && shown.contains("did you mean frame.listen?"), "{shown}");
    assert!(shown.contains("did you mean ring?"), "{shown}");
    assert!(shown.contains("ring.seconds = \"soon\" (set by MEERKAT__RING__SECONDS): must be"), "{shown}");
}

#[test]
fn a_key_in_the_wrong_section_is_found_again() {
    let shown = load("[http]\nmax_scans = 3", &[]).unwrap_err().to_string();
    assert!(shown.contains("did you mean frame.max_scans?"), "{shown}");
}

#[test]
fn later_layers_win() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("a.toml"), dir.path().join("b.toml"));
    std::fs::write(&first, "[ring]\nseconds = 20\nbytes = 100000\n[frame]\nmax_scans = 7\n").unwrap();
    std::fs::write(&second, "[ring]\nseconds = 30\n").unwrap();
    let variables = [("MEERKAT__FRAME__MAX_SCANS", "9"), ("MEERKAT_LOG", "x"), ("MEERKAT_MODELS_DIR", "y")];
    let settings = Settings::load(&[first, second], env(&variables)).unwrap();
    assert_eq!(settings.ring.limits.span, Duration::from_secs(30));
    assert_eq!(settings.ring.limits.bytes, 100_000);
    assert_eq!(settings.frame.max_scans, 9);
}

#[test]
fn every_key_can_come_from_the_environment() {
    let settings = load(
        "",
        &[
            ("MEERKAT__FRAME__LISTEN", "0.0.0.0:7000"),
            ("MEERKAT__FRAME__ALLOW", "10.0.0.0/8, 192.168.1.1"),
            ("MEERKAT__FRAME__ACCEPT_UNKNOWN", "true"),
            ("MEERKAT__CLIP__PRE_ROLL_SECS", "2.5"),
            ("MEERKAT__CAMERAS__DOOR__TOKEN", "s3cret"),
            ("MEERKAT__CAMERAS__DOOR__ALLOWED_MODES", "1,4"),
            ("MEERKAT__CAMERAS__DOOR__MOTION__THRESHOLD", "40"),
            ("MEERKAT__NOTIFY__CHANNELS__OFFICE__TYPE", "webhook"),
            ("MEERKAT__NOTIFY__CHANNELS__OFFICE__URL", "http://127.0.0.1:1/x"),
            ("MEERKAT__NOTIFY__CHANNELS__OFFICE__SECRET", "0123456789abcdef"),
            ("MEERKAT__NOTIFY__CHANNELS__OFFICE__SECRET", "0123456789abcdef"),
            ("MEERKAT__NOTIFY__CHANNELS__OFFICE__CAMERAS", "door"),
            ("MEERKAT__NOTIFY__TIME_ZONE", "+08:00"),
        ],
    )
    .unwrap();
    assert_eq!(settings.frame.allow.len(), 2);
    assert!(settings.frame.accept_unknown);
    assert_eq!(settings.clip.pre_roll, Duration::from_millis(2_500));
    let door = settings.camera(&CameraId::parse("door").unwrap());
    assert!(door.token.as_ref().unwrap().matches(b"s3cret"));
    assert!(door.allows(meerkat_base::Mode::People) && !door.allows(meerkat_base::Mode::Video));
    assert_eq!(door.motion.threshold, 40);
    assert_eq!(settings.unconfigured.motion.threshold, settings.motion.threshold);
    assert_eq!(settings.notify.channels["office"].cameras.as_ref().unwrap().len(), 1);
    // Every key of default.toml: its own value, as a text, is taken.
    let layers = layers::merge(&[], std::iter::empty(), &mut Vec::new());
    for key in leaves(&layers.defaults) {
        let name = format!("MEERKAT__{}", key.to_uppercase().replace('.', "__"));
        let value = key
            .split('.')
            .fold(layers.defaults.clone(), |value, part| value.into_table().unwrap().remove(part).unwrap());
        let text = match value.clone().into_array() {
            Ok(items) => items.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            Err(_) => value.to_string(),
        };
        let from_env = load("", &[(&name, &text)]).unwrap_or_else(|errors| panic!("{name}={text}: {errors}"));
        assert_eq!(from_env, loaded(""), "{name}={text}");
    }
}

#[test]
fn a_section_given_a_value_is_one_problem() {
    let errors = load("", &[("MEERKAT__FRAME", "x")]).unwrap_err();
    assert_eq!(errors.problems().len(), 1, "{errors}");
    assert_eq!(errors.problems()[0].key, "frame");
}

#[test]
fn doors_stay_shut() {
    let check = |text: &str, expected: &[&str]| assert_eq!(wrong_keys(text), expected, "{text}");
    check("frame.listen = \"0.0.0.0:9000\"", &["frame.listen"]);
    check("frame.listen = \"[::]:9000\"", &["frame.listen"]);
    check("frame.listen = \"192.168.1.5:9000\"", &["frame.listen"]);
    check("[frame]\nlisten = \"0.0.0.0:9000\"\nallow = [\"192.168.1.0/24\"]", &[]);
    check("frame.listen = \"0.0.0.0:9000\"\ncameras.door.token = \"x\"", &[]);
    check("http.listen = \"0.0.0.0:8080\"", &["http.listen"]);
    check("http.listen = \"0.0.0.0:8080\"\nhttp.token = \"12345678\"", &[]);
    check("http.listen = \"127.0.0.1:9000\"", &["http.listen"]);
    check("http.listen = \"127.0.0.1:0\"\nframe.listen = \"127.0.0.1:0\"", &[]);
    let tls = "[frame.tls]\ncert_file = \"c\"\nkey_file = \"k\"\nlisten";
    check(&format!("{tls} = \"0.0.0.0:9443\""), &["frame.tls.listen"]);
    check(&format!("{tls} = \"127.0.0.1:9443\""), &[]);
    check(&format!("{tls} = \"127.0.0.1:9000\""), &["frame.tls.listen"]);
    check(&format!("{tls} = \"127.0.0.1:8080\""), &["frame.tls.listen"]);
    check("[frame.tls]\nlisten = \"127.0.0.1:9443\"", &["frame.tls.cert_file", "frame.tls.key_file"]);
}

#[test]
fn cameras_do_not_contradict_each_other() {
    let check = |text: &str, expected: &[&str]| assert_eq!(wrong_keys(text), expected, "{text}");
    check("[cameras.a]\ntoken = \"x\"\naddress = [\"10.0.0.1\"]", &["cameras.a.address"]);
    check(
        "[cameras.a]\naddress = [\"10.0.0.1\"]\n[cameras.b]\naddress = [\"10.0.0.0/8\"]",
        &["cameras.b.address"],
    );
    check("[cameras.a]\naddress = [\"10.0.0.1\"]\n[cameras.b]\naddress = [\"10.0.0.2\"]", &[]);
    check("[cameras.a]\nattendance = true\ntoken = \"x\"", &[]);
    check("[cameras.a]\ntoken = \"x\"\ntoken_file = \"y\"", &["cameras.a.token_file"]);
}

#[test]
fn shifts_are_whole_and_nobody_works_two() {
    let check = |text: &str, expected: &[&str]| assert_eq!(wrong_keys(text), expected, "{text}");
    let day = "[attendance.shifts.day]\nstart = \"09:00\"\nend = \"18:00\"\n";
    let night = "[attendance.shifts.night]\nstart = \"22:00\"\nend = \"06:00\"\n";
    check(day, &[]);
    check("[attendance.shifts.day]\nstart = \"09:00\"", &["attendance.shifts.day.end"]);
    check(&format!("{day}{night}people = [\"Li Lei\"]"), &[]);
    check(&format!("{day}{night}"), &["attendance.shifts.night.people"]);
    let both = format!("{day}people = [\"Li Lei\"]\n{night}people = [\"Han Meimei\", \"Li Lei\"]");
    check(&both, &["attendance.shifts.night.people"]);
    for (key, value) in
        [("start", "\"9:00\""), ("work_days", "[]"), ("grace_secs", "-1"), ("people", "[\"\"]")]
    {
        let text = format!("{}{key} = {value}", day.replace(&format!("{key} = \"09:00\"\n"), ""));
        check(&text, &[&format!("attendance.shifts.day.{key}")]);
    }
}

#[test]
fn limits_fit_each_other() {
    let check = |text: &str, expected: &[&str]| assert_eq!(wrong_keys(text), expected, "{text}");
    check("clip.pre_roll_secs = 11", &["clip.pre_roll_secs"]);
    check("clip.max_secs = 10", &["clip.max_secs"]);
    check("frame.in_flight_bytes = 1048576", &["frame.max_frame_bytes"]);
    check("ring.total_bytes = 1048576", &["ring.bytes"]);
    let tight = |dialect: &str| format!("[dialects]\nin_flight_bytes = 1048576\n{dialect}\n");
    check(&tight(""), &[]);
    check(&tight("recognise_sized.listen = \"127.0.0.1:4444\""), &["dialects.recognise_sized.max_bytes"]);
    let desk = "desk.listen = [\"127.0.0.1:0\", \"127.0.0.1:0\", \"127.0.0.1:0\", \"127.0.0.1:0\"]";
    check(&tight(desk), &["dialects.desk.max_picture_bytes"]);
    check(&tight(&format!("{desk}\ndesk.max_picture_bytes = 1048576")), &[]);
    let said = load(&tight(desk), &[]).unwrap_err().to_string();
    assert!(said.contains("dialects.desk.max_picture_bytes = 16777216"), "{said}");
    assert!(said.contains("must be at most dialects.in_flight_bytes"), "{said}");
}

#[test]
fn addresses_are_mapped_to_cameras() {
    let settings = loaded("[cameras.door]\naddress = [\"10.0.0.7\", \"fd00::/64\"]");
    let at = |peer: &str| settings.camera_at(peer.parse().unwrap()).map(CameraId::as_str);
    assert_eq!(at("10.0.0.7"), Some("door"));
    assert_eq!(at("::ffff:10.0.0.7"), Some("door"));
    assert_eq!(at("fd00::9"), Some("door"));
    assert_eq!(at("10.0.0.8"), None);
}

#[test]
fn the_data_folder_is_found_without_the_files_of_secrets() {
    let data_dir = |text: &str| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, text).unwrap();
        Settings::load_data_dir(&[path], std::iter::empty())
    };
    let whole = "data_dir = \"/srv/meerkat\"\n[http]\nlisten = \"0.0.0.0:8080\"\ntoken_file = \"/none/http\"\n\
        [cameras.door]\nattendance = true\ntoken_file = \"/none/door\"\n\
        [dialects.desk.facepp]\napi_key = \"0123456789\"\napi_secret_file = \"/none/facepp\"\n\
        [notify]\nproxy_file = \"/none/proxy\"\ntemplates.zh.alert_file = \"/none/alert\"\n\
        [notify.channels.a]\ntype = \"webhook\"\nurl_file = \"/none/url\"\nsecret_file = \"/none/secret\"\n\
        [notify.channels.b]\ntype = \"telegram\"\ntoken_file = \"/none/bot\"\nchat_id = \"1\"\n\
        [notify.channels.c]\ntype = \"feishu\"\nurl = \"https://x/\"\napp_id = \"a\"\napp_secret_file = \"/none/app\"\n\
        [notify.channels.d]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1\"\nuser = \"a\"\npassword_file = \"/none/e\"\n\
        ca_file = \"/none/ca\"\n\
        [notify.channels.e]\ntype = \"ntfy\"\ntopic_file = \"/none/topic\"\n\
        [notify.rules.r]\nchannels = [\"a\", \"b\"]\n";
    assert_eq!(data_dir(whole).unwrap(), PathBuf::from("/srv/meerkat"));
    // Each file is missed once, and nothing else is.
    let missed = wrong_keys(whole);
    assert_eq!(missed.len(), 13, "{missed:?}");
    assert!(missed.iter().all(|key| key.ends_with("_file") || key == "http.listen"), "{missed:?}");
    let keys = |text: &str| -> Vec<String> {
        let errors = data_dir(text).unwrap_err();
        errors.problems().iter().map(|problem| problem.key.clone()).collect()
    };
    assert_eq!(keys("data_dri = \"/srv\"\n"), ["data_dri"]);
    assert_eq!(keys("data_dir = \"\"\n[ring]\nseconds = -1\n"), ["data_dir", "ring.seconds"]);
    assert_eq!(keys("[notify.channels.a]\ntype = \"ntfy\"\n"), ["notify.channels.a.topic"]);
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "hunter2\n").unwrap();
    let settings = loaded(&format!("[cameras.door]\ntoken_file = {:?}", file.to_str().unwrap()));
    let door = settings.camera(&CameraId::parse("door").unwrap());
    assert!(door.token.as_ref().unwrap().matches(b"hunter2"));
    assert!(!format!("{settings:?}").contains("hunter2"));

    std::fs::write(&file, "hunter2 and more\n").unwrap();
    let wrong = [
        format!("[cameras.door]\ntoken_file = {:?}", file.to_str().unwrap()),
        "[cameras.door]\ntoken = \"hunter2 x\"".to_owned(),
        "[cameras.door]\ntoken = [\"hunter2\"]".to_owned(),
        "[cameras.door]\ntokn = \"hunter2\"".to_owned(),
        "[cameras.door]\ntoken = \"hunter2\"\ntoken_file = \"x\"".to_owned(),
        "[notify.channels.a]\ntype = \"webhook\"\nurl = \"ftp://hunter2\"".to_owned(),
        "[notify]\nproxy = \"hunter2@proxy:3128\"".to_owned(),
        "[notify.channels.a]\ntype = \"webhook\"\nurl = \"https://x\"\nsecret = \"hunter2 \"".to_owned(),
    ];
    for text in wrong {
        let errors = load(&text, &[]).unwrap_err();
        assert!(!format!("{errors} {errors:?}").contains("hunter2"), "{text}: {errors}");
    }
}

#[test]
fn a_blank_variable_does_not_open_a_camera() {
    let errors = load("", &[("MEERKAT__CAMERAS__DOOR__TOKEN", "")]).unwrap_err();
    assert_eq!(errors.problems()[0].key, "cameras.door.token", "{errors}");
    let both = [("MEERKAT__CAMERAS__DOOR__TOKEN", "x"), ("MEERKAT__CAMERAS__DOOR__TOKEN_FILE", "")];
    assert!(load("", &both).is_ok());
}

/// Keys of every value that is no section.
fn leaves(value: &config::Value) -> BTreeSet<String> {
    fn walk(prefix: &str, value: &config::Value, keys: &mut BTreeSet<String>) {
        match &value.kind {
            config::ValueKind::Table(table) => {
                for (name, below) in table {
                    let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    walk(&key, below, keys);
                }
            }
            _ => {
                keys.insert(prefix.to_owned());
            }
        }
    }
    let mut keys = BTreeSet::new();
    walk("", value, &mut keys);
    keys
}

#[test]
fn every_key_is_documented_and_every_documented_key_is_read() {
    // Examples are lines with # and no space after it.
    let with_examples: String = DEFAULT_TOML
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(example) if example.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()) => example,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("all.toml");
    std::fs::write(&path, with_examples).unwrap();
    let mut problems = Vec::new();
    let layers = layers::merge(&[path], std::iter::empty(), &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    let mut reader = Reader::new(&layers, problems, NamedFiles::Read);
    Settings::read(&mut reader);
    // What channels of several types have is documented once, and so are templates.
    let of_any_channel = |key: &String| match key.strip_prefix("notify.channels.") {
        Some(rest) => format!("notify.channels.*.{}", rest.split_once('.').map_or(rest, |(_, key)| key)),
        None if key.starts_with("notify.templates.") => {
            format!("notify.templates.*.{}", if key.ends_with("_file") { "*_file" } else { "*" })
        }
        None => key.clone(),
    };
    let asked: BTreeSet<String> = reader.asked().iter().map(of_any_channel).collect();
    let documented: BTreeSet<String> = leaves(&layers.merged).iter().map(of_any_channel).collect();
    assert_eq!(asked.difference(&documented).collect::<Vec<_>>(), Vec::<&String>::new(), "not documented");
    assert_eq!(documented.difference(&asked).collect::<Vec<_>>(), Vec::<&String>::new(), "not read");
}

#[test]
fn the_examples_are_valid() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../config/examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            seen += 1;
            // Where the secrets are is the reader's own business: give them here instead.
            let text = std::fs::read_to_string(&path).unwrap();
            let text: String = text
                .lines()
                .map(|line| match line.split_once("_file = ") {
                    Some((key, _)) if key.ends_with("url") => {
                        format!("{key} = \"https://example.org/x?key=k\"\n")
                    }
                    Some((key, _)) if key.ends_with("token") || key.ends_with("secret") => {
                        format!("{key} = \"0123456789abcdef\"\n")
                    }
                    _ => format!("{line}\n"),
                })
                .collect();
            if let Err(errors) = load(&text, &[]) {
                panic!("{}: {errors}", path.display());
            }
        }
    }
    assert!(seen >= 2);
}
