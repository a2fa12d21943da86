//! The house rules that a machine can check: who imports whom, who owns which library, and how files look.
//! The table of `docs/architecture.md` stands here in the form that counts.
// Helpers of tests may unwrap as the tests themselves do.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use config::{FileFormat, Format, Map, Value, ValueKind};

/// A room, its folder, and the rooms that it may import.
const ROOMS: &[(&str, &str, &[&str])] = &[
    ("base", "src/base", &[]),
    ("wire", "src/wire", &["base"]),
    ("settings", "src/settings", &["base"]),
    ("vision", "src/vision", &["base"]),
    ("models", "models", &["base"]),
    ("media", "src/media", &["base"]),
    ("analysis", "src/analysis", &["base"]),
    ("store", "src/store", &["base"]),
    ("outbound", "src/outbound", &["base"]),
    ("notify", "src/notify", &["base", "outbound"]),
    ("actors", "actors", &["base", "wire", "settings", "vision", "media", "store", "outbound", "notify"]),
    ("web", "src/web", &["base", "store", "actors"]),
];

/// Libraries that only these rooms may name. A name that ends in `*` stands for all that begin so.
const OWNED: &[(&str, &[&str])] = &[
    ("opencv", &["vision"]),
    ("ab_glyph", &["analysis", "vision"]),
    ("ffmpeg-*", &["media"]),
    ("candle*", &["models"]),
    ("rusqlite", &["store"]),
    ("ed25519-dalek", &["store"]),
    ("reqwest", &["outbound"]),
    ("lettre", &["notify"]),
    ("rumqttc", &["notify"]),
    ("minijinja", &["notify"]),
    ("image", &["analysis"]),
    ("plotters", &["analysis"]),
    ("jieba-rs", &["analysis"]),
    ("encoding_rs", &["analysis"]),
    // Tables of others are read by the room; the root writes its own lists with `csv`.
    ("csv-core", &["analysis"]),
    ("csv", &[ROOT]),
    ("actix", &["actors"]),
    ("actix-rt", &["actors"]),
    ("actix-web", &["web"]),
    ("regex", &["actors"]),
    ("toml", &["actors"]),
    ("age", &[ROOT]),
    ("clap", &[ROOT]),
    // The root reads manifests with it, in this very test.
    ("config", &["settings", ROOT]),
    ("metrics-exporter-prometheus", &[ROOT]),
];

/// Rooms that open no socket themselves.
const WITHOUT_SOCKETS: &[&str] =
    &["base", "wire", "settings", "vision", "models", "media", "analysis", "store"];

/// Rooms that touch no file either.
const WITHOUT_FILES: &[&str] = &["base", "wire"];

const ROOT: &str = "root";

const LONGEST_FILE: usize = 500;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn manifest(folder: &Path) -> Map<String, Value> {
    let path = folder.join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    FileFormat::Toml.parse(None, &text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn table(value: Option<&Value>) -> Map<String, Value> {
    value.cloned().and_then(|value| value.into_table().ok()).unwrap_or_default()
}

/// Every dependency a manifest names, of whatever kind and for whatever target, with how it is named.
fn dependencies(manifest: &Map<String, Value>) -> Vec<(String, Value)> {
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let mut sections = vec![manifest.clone()];
    sections.extend(table(manifest.get("target")).values().map(|target| table(Some(target))));
    sections.iter().flat_map(|section| kinds.into_iter().flat_map(|kind| table(section.get(kind)))).collect()
}

/// Every room and the root package, with its folder.
fn packages() -> BTreeMap<&'static str, PathBuf> {
    let mut packages: BTreeMap<_, _> =
        ROOMS.iter().map(|&(room, folder, _)| (room, repository().join(folder))).collect();
    packages.insert(ROOT, repository());
    packages
}

fn is_named(pattern: &str, library: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => library.starts_with(beginning),
        None => pattern == library,
    }
}

#[test]
fn the_workspace_has_the_rooms_of_the_table() {
    let workspace = table(manifest(&repository()).get("workspace"));
    let members = workspace["members"].clone().into_array().unwrap();
    let members: BTreeSet<String> = members.iter().map(ToString::to_string).collect();
    let expected: BTreeSet<String> = ROOMS.iter().map(|(_, folder, _)| (*folder).to_owned()).collect();
    assert_eq!(members, expected);
    for (room, folder) in packages() {
        let name = table(manifest(&folder).get("package"))["name"].to_string();
        let expected = if room == ROOT { "meerkat".to_owned() } else { format!("meerkat-{room}") };
        assert_eq!(name, expected, "{}", folder.display());
    }
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    for &(room, folder, allowed) in ROOMS {
        for (library, _) in dependencies(&manifest(&repository().join(folder))) {
            if let Some(imported) = library.strip_prefix("meerkat-")
                && imported != room
                && !allowed.contains(&imported)
            {
                wrong.push(format!("{room} must not import {imported}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{wrong:#?}\nan import between rooms needs a decision in docs/adr/ and this table"
    );
}

#[test]
fn libraries_are_named_only_by_their_owners() {
    let mut wrong = Vec::new();
    for (room, folder) in packages() {
        for (library, _) in dependencies(&manifest(&folder)) {
            let owned = OWNED.iter().find(|(pattern, _)| is_named(pattern, &library));
            if let Some((_, owners)) = owned.filter(|(_, owners)| !owners.contains(&room)) {
                wrong.push(format!("{room} must not use {library}: it belongs to {}", owners.join(" and ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn dependencies_are_named_once_and_lints_hold_everywhere() {
    let mut wrong = Vec::new();
    for (room, folder) in packages() {
        let manifest = manifest(&folder);
        for (library, how) in dependencies(&manifest) {
            let from_workspace = table(Some(&how)).get("workspace").is_some_and(|v| v.to_string() == "true");
            // A room's tests may ask for the room itself with a feature.
            if !from_workspace && library != format!("meerkat-{room}") {
                wrong.push(format!("{room}: {library} must be `workspace = true`"));
            }
        }
        if !table(manifest.get("lints")).contains_key("workspace") {
            wrong.push(format!("{room}: [lints] workspace = true is missing"));
        }
    }
    let workspace = table(manifest(&repository()).get("workspace"));
    let opencv = table(table(workspace.get("dependencies")).get("opencv"));
    if let Some(ValueKind::Array(features)) = opencv.get("features").map(|features| &features.kind)
        && features.iter().any(|feature| feature.to_string() == "videoio")
    {
        wrong.push("opencv without videoio: reading videos is the room media's work".into());
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Rust files that belong to a room; the rooms beside the root's own files are not the root's.
fn sources(room: &str, folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    if room == ROOT {
        let rooms: Vec<PathBuf> = ROOMS.iter().map(|(_, folder, _)| repository().join(folder)).collect();
        for below in ["src", "tests", "benches"] {
            collect(&folder.join(below), &rooms, &mut files);
        }
    } else {
        collect(folder, &[], &mut files);
    }
    files
}

fn collect(folder: &Path, without: &[PathBuf], files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") && !without.contains(&path) {
                collect(&path, without, files);
            }
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}

/// Whether a file is nothing but tests or measurements.
fn is_test_file(path: &Path) -> bool {
    let in_test_folder =
        path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "benches");
    in_test_folder || path.file_stem().is_some_and(|stem| stem == "tests")
}

/// The part of a file that is not tests: what stands before the first `#[cfg(test)]` that opens a module.
fn working_part(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let opens_tests = |pair: &[&str]| {
        pair[0].trim() == "#[cfg(test)]" && pair[1].trim_start().starts_with("mod ") && pair[1].contains('{')
    };
    let end = lines.windows(2).position(opens_tests).unwrap_or(lines.len());
    lines[..end].to_vec()
}

#[test]
fn files_say_what_they_are_and_stay_short() {
    let mut wrong = Vec::new();
    for (room, folder) in packages() {
        for path in sources(room, &folder) {
            let text = fs::read_to_string(&path).unwrap();
            let lines = working_part(&text);
            if !lines.first().is_some_and(|line| line.starts_with("//! ")) {
                wrong.push(format!(
                    "{}: the first line must be `//!` and say what the file is",
                    path.display()
                ));
            }
            if !is_test_file(&path) && lines.len() > LONGEST_FILE {
                wrong.push(format!("{}: {} lines, over {LONGEST_FILE}", path.display(), lines.len()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn quiet_rooms_are_quiet() {
    let sockets = ["TcpStream", "TcpListener", "UdpSocket", "UnixStream", "UnixListener", "tokio::net"];
    let files = ["std::fs", "tokio::fs", "File::open", "std::process"];
    let mut wrong = Vec::new();
    for &(room, folder, _) in ROOMS {
        let mut words: Vec<&str> = Vec::new();
        if WITHOUT_SOCKETS.contains(&room) {
            words.extend(sockets);
        }
        if WITHOUT_FILES.contains(&room) {
            words.extend(files);
        }
        for path in sources(room, &repository().join(folder)) {
            if is_test_file(&path) {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let code = working_part(&text).into_iter().filter(|line| !line.trim_start().starts_with("//"));
            for (number, line) in code.enumerate() {
                if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                    wrong.push(format!("{}, code line {}: {word}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_base_reads_the_wall_clock() {
    let mut wrong = Vec::new();
    for (room, folder) in packages() {
        for path in sources(room, &folder) {
            if room == "base" || is_test_file(&path) {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for line in working_part(&text) {
                if line.contains("SystemTime::now") || line.contains("Timestamp::now") {
                    wrong.push(format!("{}: {}", path.display(), line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "the clock comes in through `new` (base::Clock):\n{wrong:#?}");
}

#[test]
fn the_rules_see_what_they_look_for() {
    assert!(
        is_named("candle*", "candle-core") && is_named("actix", "actix") && !is_named("actix", "actix-web")
    );
    let text = "//! x\nfn a() {}\n#[cfg(test)]\nmod tests {\n}\n";
    assert_eq!(working_part(text).len(), 2);
    assert_eq!(working_part("#[cfg(test)]\nmod tests;\nfn a() {}\n").len(), 3, "a declaration ends nothing");
    let parsed = FileFormat::Toml
        .parse(None, "[dependencies]\na = \"1\"\n[target.'cfg(unix)'.dependencies]\nb = \"1\"\n[dev-dependencies]\nc = \"1\"")
        .unwrap();
    let names: BTreeSet<String> = dependencies(&parsed).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "b", "c"].into_iter().map(str::to_owned).collect());
}
