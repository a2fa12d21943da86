//! Which keys of the dialects a running node cannot take over: they are named, so that nobody waits for their effect.

use super::{DeskSettings, DialectsSettings, DoorSettings, WatchDialectSettings};

/// Collects the keys that differ.
struct Keys(Vec<String>);

impl Keys {
    fn note<T: PartialEq>(&mut self, key: &str, started: &T, wanted: &T) {
        if started != wanted {
            self.0.push(format!("dialects.{key}"));
        }
    }

    fn door(&mut self, name: &str, started: Option<&DoorSettings>, wanted: Option<&DoorSettings>) {
        let (Some(started), Some(wanted)) = (started, wanted) else {
            // Switched on or off.
            return self.note(&format!("{name}.listen"), &started.is_some(), &wanted.is_some());
        };
        let mut note = |key: &str, differs: bool| self.note(&format!("{name}.{key}"), &differs, &false);
        note("listen", started.listen != wanted.listen);
        note("max_connections", started.max_connections != wanted.max_connections);
        note(
            "max_connections_per_address",
            started.max_connections_per_address != wanted.max_connections_per_address,
        );
    }

    fn watch(&mut self, started: &WatchDialectSettings, wanted: &WatchDialectSettings) {
        self.note("watch.camera", &started.camera, &wanted.camera);
        self.note("watch.log_max_bytes", &started.log_max_bytes, &wanted.log_max_bytes);
        self.note("watch.log_files", &started.log_files, &wanted.log_files);
    }

    fn desk(&mut self, started: &DeskSettings, wanted: &DeskSettings) {
        self.note("desk.max_clients", &started.max_clients, &wanted.max_clients);
        self.note("desk.keep_minutes", &started.keep, &wanted.keep);
        self.note("desk.pictures_bytes", &started.pictures_bytes, &wanted.pictures_bytes);
        self.note("desk.chat.time_zone", &started.chat.time_zone, &wanted.chat.time_zone);
        let (relay, wanted_relay) = (&started.relay, &wanted.relay);
        self.note("desk.relay.max_file_bytes", &relay.max_file_bytes, &wanted_relay.max_file_bytes);
        self.note("desk.relay.sender_bytes", &relay.sender_bytes, &wanted_relay.sender_bytes);
        self.note("desk.relay.total_bytes", &relay.total_bytes, &wanted_relay.total_bytes);
        self.note("desk.relay.files", &relay.files, &wanted_relay.files);
        self.note("desk.relay.keep_hours", &relay.keep, &wanted_relay.keep);
        let (csv, wanted_csv) = (&started.csv, &wanted.csv);
        self.note("desk.csv.total_bytes", &csv.total_bytes, &wanted_csv.total_bytes);
        self.note("desk.csv.analysis_secs", &csv.analysis_limit, &wanted_csv.analysis_limit);
        self.note("desk.facepp", &started.facepp, &wanted.facepp);
    }
}

impl DialectsSettings {
    /// Keys that differ in `wanted` from what the node `self` was started with, and that only a restart takes over; in
    /// the order of `config/default.toml`. Everything else that differs can be taken over.
    pub fn wait_for_restart(&self, wanted: &Self) -> Vec<String> {
        let mut keys = Keys(Vec::new());
        keys.note("io_threads", &self.io_threads, &wanted.io_threads);
        keys.note("in_flight_bytes", &self.in_flight_bytes, &wanted.in_flight_bytes);
        keys.note("examine_waiting", &self.examine_waiting, &wanted.examine_waiting);
        keys.note("examine_timeout_secs", &self.examine_timeout, &wanted.examine_timeout);
        keys.note("font", &self.font, &wanted.font);
        for name in Self::NAMES {
            keys.door(name, self.door(name), wanted.door(name));
            match (name, (&self.watch, &wanted.watch), (&self.desk, &wanted.desk)) {
                ("watch", (Some(started), Some(wanted)), _) => keys.watch(started, wanted),
                ("desk", _, (Some(started), Some(wanted))) => keys.desk(started, wanted),
                _ => {}
            }
        }
        keys.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::loaded;

    const ALL: &str = "[dialects.watch]\nlisten = \"127.0.0.1:9999\"\ncamera = \"yard\"\n\
        [dialects.recognise_sized]\nlisten = \"127.0.0.1:4444\"\n\
        [dialects.desk]\nlisten = [\"127.0.0.1:0\", \"127.0.0.1:0\", \"127.0.0.1:0\", \"127.0.0.1:0\"]\n";

    #[test]
    fn keys_that_need_a_restart_are_named_and_others_are_not() {
        let check = |section: &str, line: &str, expected: &[&str]| {
            let changed = ALL.replace(section, &format!("{section}\n{line}"));
            let (started, wanted) = (loaded(ALL).dialects, loaded(&changed).dialects);
            assert_eq!(started.wait_for_restart(&wanted), expected, "{line}");
        };
        let (watch, sized, desk) = ("[dialects.watch]", "[dialects.recognise_sized]", "[dialects.desk]");
        check(watch, "", &[]);
        for live in [
            "size = \"320x240\"",
            "quality = 50",
            "max_datagram_bytes = 9000",
            "max_frames_per_second = 5",
            "max_viewers_per_address = 2",
            "stall_timeout_secs = 5",
            "idle_timeout_secs = 5",
            "allow = [\"10.0.0.0/8\"]",
        ] {
            check(watch, live, &[]);
        }
        check(watch, "max_connections = 5", &["dialects.watch.max_connections"]);
        check(watch, "log_files = 5", &["dialects.watch.log_files"]);
        check(watch, "log_max_bytes = 5000", &["dialects.watch.log_max_bytes"]);
        check(sized, "quality = 50\nmax_bytes = 5000", &[]);
        check(
            sized,
            "max_connections_per_address = 5",
            &["dialects.recognise_sized.max_connections_per_address"],
        );
        check(desk, "chat_silence_ms = 5\nmax_picture_bytes = 5000\nstall_timeout_secs = 5", &[]);
        check(
            desk,
            "max_clients = 5\nkeep_minutes = 5",
            &["dialects.desk.max_clients", "dialects.desk.keep_minutes"],
        );
        check(desk, "csv.max_bytes = 5000\ncsv.analysis_secs = 5", &["dialects.desk.csv.analysis_secs"]);
        check(desk, "relay.files = 5", &["dialects.desk.relay.files"]);
        check(
            desk,
            "facepp.api_key = \"key-of-the-account\"\nfacepp.api_secret = \"secret-of-the-account\"",
            &["dialects.desk.facepp"],
        );
        let shared = format!("[dialects]\nio_threads = 2\nmin_bytes_per_second = 5\n{ALL}");
        assert_eq!(loaded(ALL).dialects.wait_for_restart(&loaded(&shared).dialects), ["dialects.io_threads"]);
    }

    #[test]
    fn a_dialect_that_is_switched_or_moved_waits_for_a_restart() {
        let (none, all) = (loaded("").dialects, loaded(ALL).dialects);
        let listens = ["dialects.recognise_sized.listen", "dialects.watch.listen", "dialects.desk.listen"];
        assert_eq!(none.wait_for_restart(&all), listens);
        assert_eq!(all.wait_for_restart(&none), listens);
        let moved = loaded(&ALL.replace("9999", "9998").replace("yard", "door")).dialects;
        assert_eq!(all.wait_for_restart(&moved), ["dialects.watch.listen", "dialects.watch.camera"]);
    }
}
