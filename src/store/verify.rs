//! Compares what the database says about clips with what lies in the folders, both ways. Only reads; a node may be at
//! work meanwhile, and be asked for the rows. What is done about a finding is decided elsewhere.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::capture::CaptureKind;
use crate::clips::{ClipRow, ClipState};
use crate::database::StoreReader;
use crate::error::{Result, StoreError};
use crate::evidence::sha256_of;
use crate::files::{Folder, PART_PREFIX};
use crate::publish::{PROOF_ENDING, STRIP_ENDING};
use crate::sidecar::ENDING as SIDECAR_ENDING;
use crate::spool::{self, SpoolItem, SpoolReader};

/// A file this young may not have its row yet.
const YOUNG: Duration = Duration::from_secs(60);
/// The kinds of files that have rows.
const KINDS: [CaptureKind; 3] = [CaptureKind::Clip, CaptureKind::Video, CaptureKind::Segment];

/// What is wrong with something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    /// A file without a row.
    Orphan,
    /// A row whose file is gone.
    Missing,
    /// A file that is noted as gone and is there again.
    Returned,
    /// A file of another length or with another SHA-256 than its row says.
    Altered,
    /// A snapshot without a row.
    OrphanSnapshot,
    /// The row of a snapshot whose file is gone.
    MissingSnapshot,
    /// The sidecar of a file is gone, or cannot be read.
    Sidecar,
    /// A strip, proof or sidecar without its file, or a damaged one whose file is gone.
    Stray,
    /// A file that was never completed.
    Unfinished,
    /// A spool that nobody has made a file of yet.
    UnfinishedSpool,
    /// A spool that could not be made into a file.
    SetAside,
    /// A kept spool that is damaged.
    DamagedSpool,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub wrong: Wrong,
    /// Where, relative to the data folder.
    pub path: String,
    /// In words.
    pub detail: String,
}

/// How thoroughly to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyOptions {
    /// Read every file for its SHA-256, and every kept spool for its checksums.
    pub contents: bool,
    /// A node is at work: spools without a file are its business.
    pub node_runs: bool,
}

/// What was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Files with a row.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Files whose SHA-256 was compared.
    pub checksums: u64,
    /// Snapshots with a row.
    pub snapshots: u64,
    /// Spools of all sorts.
    pub spools: u64,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
}

/// What is asked for the rows: the database, or the node that has it.
pub trait Rows {
    /// Why there is no answer.
    type Error: From<StoreError>;

    /// Rows of clips, videos and segments with numbers above `after`, and where the next page begins; none at the end.
    fn clips_after(&mut self, after: u64) -> Result<(Vec<ClipRow>, Option<u64>), Self::Error>;
    /// Whether there is a row for the clip, video or segment at a path.
    fn has_clip(&mut self, path: &str) -> Result<bool, Self::Error>;
    /// Paths of the snapshots with numbers above `after`, and where the next page begins; none at the end.
    fn snapshots_after(&mut self, after: u64) -> Result<(Vec<String>, Option<u64>), Self::Error>;
    /// Whether there is a row for the snapshot at a path.
    fn has_snapshot(&mut self, path: &str) -> Result<bool, Self::Error>;
}

impl Rows for &StoreReader {
    type Error = StoreError;

    fn clips_after(&mut self, after: u64) -> Result<(Vec<ClipRow>, Option<u64>)> {
        let page = StoreReader::clips_after(self, after)?;
        let next = page.last().map(|(number, _)| *number);
        Ok((page.into_iter().map(|(_, row)| row).collect(), next))
    }

    fn has_clip(&mut self, path: &str) -> Result<bool> {
        Ok(self.clip_at(path)?.is_some())
    }

    fn snapshots_after(&mut self, after: u64) -> Result<(Vec<String>, Option<u64>)> {
        let page = StoreReader::snapshots_after(self, after)?;
        let next = page.last().map(|(number, _)| *number);
        Ok((page.into_iter().map(|(_, row)| row.path).collect(), next))
    }

    fn has_snapshot(&mut self, path: &str) -> Result<bool> {
        StoreReader::has_snapshot(self, path)
    }
}

/// Looks at everything in a data folder. `progress` hears how many files have been looked at, and how many there are
/// about.
pub fn verify<R: Rows>(
    rows: R,
    data_dir: &Path,
    options: VerifyOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verified, R::Error> {
    let root = Folder::existing(data_dir)?;
    let mut look = Look { rows, root: &root, options, found: Verified::default() };
    let names = look.names()?;
    look.clips(&names, progress)?;
    look.snapshots(names.snapshots)?;
    look.companions(&names.companions);
    look.spools()?;
    Ok(look.found)
}

struct Look<'a, R> {
    rows: R,
    root: &'a Folder,
    options: VerifyOptions,
    found: Verified,
}

/// Names in the folders, relative to the data folder.
#[derive(Default)]
struct Names {
    videos: BTreeSet<String>,
    snapshots: BTreeSet<String>,
    companions: Vec<String>,
}

impl<R: Rows> Look<'_, R> {
    fn say(&mut self, wrong: Wrong, path: &str, detail: impl Into<String>) {
        self.found.findings.push(Finding { wrong, path: path.to_owned(), detail: detail.into() });
    }

    fn stat(&self, path: &str) -> Option<Metadata> {
        std::fs::symlink_metadata(self.root.path().join(path)).ok().filter(Metadata::is_file)
    }

    fn names(&mut self) -> Result<Names> {
        let mut names = Names::default();
        let mut parts = Vec::new();
        if !self.root.has("capture") {
            return Ok(names);
        }
        let capture = self.root.sub("capture")?;
        for kind in KINDS {
            if !capture.has(kind.as_str()) {
                continue;
            }
            let prefix = format!("capture/{}", kind.as_str());
            walk(&capture.sub(kind.as_str())?, &prefix, 2, &mut |path, name| {
                if name.starts_with(PART_PREFIX) {
                    parts.push(path);
                } else if owner_of(name).is_some() {
                    names.companions.push(path);
                } else if name.ends_with(".mp4") {
                    names.videos.insert(path);
                } else if !name.starts_with('.') {
                    names.snapshots.insert(path);
                }
            })?;
        }
        for path in parts {
            if !self.options.node_runs {
                self.say(
                    Wrong::Unfinished,
                    &path,
                    "the next start of the node removes it; its spool is there",
                );
            }
        }
        Ok(names)
    }

    fn clips(&mut self, names: &Names, progress: &mut dyn FnMut(u64, u64)) -> Result<(), R::Error> {
        let mut seen = BTreeSet::new();
        let mut after = Some(0);
        while let Some(place) = after {
            let (page, next) = self.rows.clips_after(place)?;
            for row in &page {
                if seen.insert(row.path.clone()) {
                    self.row(row)?;
                    progress(self.found.files, names.videos.len() as u64);
                }
            }
            after = next;
        }
        for path in names.videos.iter().filter(|path| !seen.contains(*path)) {
            // Its row may have come meanwhile, or be about to come; or retention was faster.
            let Some(metadata) = self.stat(path) else { continue };
            let may_come = self.options.node_runs && is_young(&metadata);
            if !may_come && !self.rows.has_clip(path)? {
                self.say(Wrong::Orphan, path, format!("{} bytes without a row", metadata.len()));
            }
        }
        Ok(())
    }

    fn row(&mut self, row: &ClipRow) -> Result<(), R::Error> {
        if row.state == ClipState::SetAside {
            if !self.root.path().join(&row.path).is_dir() {
                self.say(Wrong::Missing, &row.path, "a spool that was set aside is gone");
            }
            return Ok(());
        }
        let Some(metadata) = self.stat(&row.path) else {
            // Retention may have been faster.
            if self.rows.has_clip(&row.path)? {
                let noted = row.missing.map(|at| format!(", noted {at}")).unwrap_or_default();
                self.say(Wrong::Missing, &row.path, format!("the file is gone{noted}"));
            }
            return Ok(());
        };
        self.found.files += 1;
        self.found.bytes = self.found.bytes.saturating_add(metadata.len());
        if row.missing.is_some() {
            self.say(Wrong::Returned, &row.path, "noted as gone, and there again");
        }
        match crate::sidecar::read_in(self.root, &row.path) {
            Ok(Some(_)) => {}
            Ok(None) if self.options.node_runs && is_young(&metadata) => {}
            Ok(None) => self.say(Wrong::Sidecar, &row.path, "it has no sidecar"),
            Err(error) => self.say(Wrong::Sidecar, &row.path, format!("its sidecar cannot be read: {error}")),
        }
        if metadata.len() != row.bytes {
            let detail = format!("{} bytes, {} by its row", metadata.len(), row.bytes);
            self.say(Wrong::Altered, &row.path, detail);
        } else if let Some(expected) = row.sha256.as_ref().filter(|_| self.options.contents) {
            let found = match sha256_of(&self.root.path().join(&row.path)) {
                Ok(found) => found,
                Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    return Ok(());
                }
                Err(error) => {
                    self.say(Wrong::Altered, &row.path, format!("cannot be read: {error}"));
                    return Ok(());
                }
            };
            self.found.checksums += 1;
            if &found != expected {
                self.say(Wrong::Altered, &row.path, format!("SHA-256 {found}, {expected} by its row"));
            }
        }
        Ok(())
    }

    /// `unseen` are the names that no row has spoken of yet.
    fn snapshots(&mut self, mut unseen: BTreeSet<String>) -> Result<(), R::Error> {
        let mut after = Some(0);
        while let Some(place) = after {
            let (page, next) = self.rows.snapshots_after(place)?;
            for path in &page {
                unseen.remove(path);
                if self.stat(path).is_some() {
                    self.found.snapshots += 1;
                } else if self.rows.has_snapshot(path)? {
                    self.say(Wrong::MissingSnapshot, path, "the file is gone");
                }
            }
            after = next;
        }
        for path in &unseen {
            let Some(metadata) = self.stat(path) else { continue };
            let young = self.options.node_runs && is_young(&metadata);
            if !young && !self.rows.has_snapshot(path)? {
                self.say(Wrong::OrphanSnapshot, path, "a picture without a row");
            }
        }
        Ok(())
    }

    fn companions(&mut self, paths: &[String]) {
        for path in paths {
            let owner = owner_of(path).unwrap_or(path);
            let Some(metadata) = self.stat(path) else { continue };
            let young = self.options.node_runs && is_young(&metadata);
            if !young && self.stat(owner).is_none() {
                self.say(Wrong::Stray, path, "the file that it belongs to is gone");
            }
        }
    }

    fn spools(&mut self) -> Result<()> {
        if !self.root.has("spool") {
            return Ok(());
        }
        let spools = self.root.sub("spool")?;
        for entry in spools.entries()?.into_iter().filter(|entry| entry.is_folder) {
            match entry.name.as_str() {
                spool::KEPT => {}
                spool::SET_ASIDE => {
                    let aside = spools.sub(spool::SET_ASIDE)?.entries()?;
                    for aside in aside.into_iter().filter(|entry| entry.is_folder) {
                        self.found.spools += 1;
                        let path = format!("spool/{}/{}", spool::SET_ASIDE, aside.name);
                        self.say(
                            Wrong::SetAside,
                            &path,
                            "no file could be made of it; its pictures are kept",
                        );
                    }
                }
                name => {
                    self.found.spools += 1;
                    if !self.options.node_runs {
                        let path = format!("spool/{name}");
                        self.say(Wrong::UnfinishedSpool, &path, "the next start of the node finishes it");
                    }
                }
            }
        }
        for kept in spool::kept(spools.path())? {
            self.found.spools += 1;
            if let Some(detail) = damage(&kept.path, self.options.contents) {
                let name = kept.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                self.say(Wrong::DamagedSpool, &format!("spool/{}/{name}", spool::KEPT), detail);
            }
        }
        Ok(())
    }
}

/// The name of a damaged file that was put aside for one made anew; `number` is how many there were of it before. It goes
/// when its file goes.
pub fn damaged_name(file: &str, number: u32) -> String {
    if number == 0 { format!("{file}{DAMAGED_ENDING}") } else { format!("{file}.{number}{DAMAGED_ENDING}") }
}

const DAMAGED_ENDING: &str = ".damaged";

/// The file that a strip, proof or sidecar stands beside, or that a damaged one was put aside for.
fn owner_of(path: &str) -> Option<&str> {
    if let Some(damaged) = path.strip_suffix(DAMAGED_ENDING) {
        let numbered = damaged.rsplit_once('.').filter(|(_, number)| number.parse::<u32>().is_ok());
        return Some(numbered.map_or(damaged, |(file, _)| file));
    }
    [STRIP_ENDING, PROOF_ENDING, SIDECAR_ENDING].iter().find_map(|ending| path.strip_suffix(ending))
}

fn is_young(metadata: &Metadata) -> bool {
    metadata.modified().ok().and_then(|at| at.elapsed().ok()).is_none_or(|age| age < YOUNG)
}

/// What is wrong with a spool, if anything is.
fn damage(path: &Path, contents: bool) -> Option<String> {
    let mut reader = match SpoolReader::open(path) {
        Ok(reader) => reader,
        Err(error) => return Some(format!("cannot be read: {error}")),
    };
    let mut damaged = 0;
    loop {
        match if contents { reader.next_item() } else { reader.skim_item() } {
            Ok(SpoolItem::Frame(_)) => {}
            Ok(SpoolItem::Corrupt { bytes }) => damaged += bytes,
            Ok(SpoolItem::End(_) | SpoolItem::NotYet) => break,
            Err(error) => return Some(format!("cannot be read: {error}")),
        }
    }
    if damaged > 0 {
        return Some(format!("{damaged} bytes are damaged"));
    }
    reader.chain().is_some_and(|chain| !chain.whole).then(|| "its chain is broken".to_owned())
}

/// Calls `visit` with the path and the name of each file so many folders below.
fn walk(folder: &Folder, prefix: &str, depth: u8, visit: &mut dyn FnMut(String, &str)) -> Result<()> {
    for entry in folder.entries()? {
        let path = format!("{prefix}/{}", entry.name);
        if !entry.is_folder {
            visit(path, &entry.name);
        } else if depth > 0 {
            match folder.sub(&entry.name) {
                Ok(sub) => walk(&sub, &path, depth - 1, visit)?,
                // Retention removes empty folders.
                Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use meerkat_base::WallTime;

    use super::*;
    use crate::clips::SnapshotRow;
    use crate::database::Store;
    use crate::files::Durability;
    use crate::testing::{event, frame, store};

    const DAY: &str = "capture/clip/door/2026-11-20";
    const ALL: VerifyOptions = VerifyOptions { contents: true, node_runs: false };

    fn put(store: &Store, path: &str, bytes: &[u8]) {
        let path = store.folder().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// A clip with its file, strip, sidecar and snapshot.
    fn clip(store: &mut Store, name: &str) -> ClipRow {
        let path = format!("{DAY}/{name}.mp4");
        put(store, &path, name.as_bytes());
        put(store, &format!("{path}{STRIP_ENDING}"), b"strip");
        let snapshot = format!("{DAY}/{name}.jpg");
        put(store, &snapshot, b"jpeg");
        let event = event(1);
        let taken = event.started;
        store.add_snapshot(&SnapshotRow { event: event.id, path: snapshot, taken, bytes: 4 }).unwrap();
        let row = ClipRow {
            event: Some(event.id),
            camera: event.camera.clone(),
            started: event.started,
            duration: Duration::from_secs(1),
            frames: 1,
            bytes: name.len() as u64,
            sha256: Some(sha256_of(&store.folder().join(&path)).unwrap()),
            path,
            state: ClipState::Ok,
            skipped: 0,
            missing: None,
        };
        store.add_clip(&row).unwrap();
        assert!(store.write_sidecar(&row.path, None).unwrap());
        row
    }

    fn look(store: &Store, options: VerifyOptions) -> Verified {
        let reader: &StoreReader = store;
        verify(reader, store.folder(), options, &mut |_, _| {}).unwrap()
    }

    fn findings(store: &Store, options: VerifyOptions) -> Vec<(Wrong, String)> {
        look(store, options).findings.into_iter().map(|finding| (finding.wrong, finding.path)).collect()
    }

    #[test]
    fn what_is_in_order_is_found_so() {
        let (_folder, mut store) = store();
        assert_eq!(look(&store, ALL), Verified::default());
        clip(&mut store, "a");
        clip(&mut store, "bb");
        let found = look(&store, ALL);
        assert_eq!(found.findings, []);
        assert_eq!((found.files, found.bytes, found.checksums, found.snapshots), (2, 3, 2, 2));
    }

    /// Rows that can be had by the page only.
    struct Pages<'a>(&'a StoreReader);

    impl Rows for Pages<'_> {
        type Error = StoreError;

        fn clips_after(&mut self, after: u64) -> Result<(Vec<ClipRow>, Option<u64>)> {
            Rows::clips_after(&mut self.0, after)
        }

        fn has_clip(&mut self, path: &str) -> Result<bool> {
            panic!("a question about {path}");
        }

        fn snapshots_after(&mut self, after: u64) -> Result<(Vec<String>, Option<u64>)> {
            Rows::snapshots_after(&mut self.0, after)
        }

        fn has_snapshot(&mut self, path: &str) -> Result<bool> {
            panic!("a question about {path}");
        }
    }

    #[test]
    fn what_is_in_order_takes_no_question_of_its_own() {
        let (_folder, mut store) = store();
        clip(&mut store, "a");
        clip(&mut store, "bb");
        let found = verify(Pages(&store), store.folder(), ALL, &mut |_, _| {}).unwrap();
        assert_eq!((found.findings, found.files, found.snapshots), (vec![], 2, 2));
    }

    #[test]
    fn each_thing_that_is_wrong_is_named() {
        let (_folder, mut store) = store();
        for name in ["gone", "longer", "other", "back"] {
            clip(&mut store, name);
        }
        let at = |name: &str| format!("{DAY}/{name}");
        std::fs::remove_file(store.folder().join(at("gone.mp4"))).unwrap();
        std::fs::remove_file(store.folder().join(at("gone.jpg"))).unwrap();
        put(&store, &at("longer.mp4"), b"longer and longer");
        put(&store, &at("other.mp4"), b"OTHER");
        store.set_clip_missing(&at("back.mp4"), Some(WallTime(1))).unwrap();
        put(&store, &at("other.mp4.json"), b"{}");
        put(&store, &at("new.mp4"), b"new");
        put(&store, &at("new.jpg"), b"new");
        put(&store, &at(".part-b1-0-x.mp4"), b"half");
        for (name, number) in [("longer", 0), ("longer", 1), ("gone", 0), ("gone", 12)] {
            put(&store, &damaged_name(&at(&format!("{name}.mp4")), number), b"damaged");
        }
        let mut found = findings(&store, ALL);
        found.sort();
        let mut expected = [
            (Wrong::Orphan, at("new.mp4")),
            (Wrong::Missing, at("gone.mp4")),
            (Wrong::Returned, at("back.mp4")),
            (Wrong::Altered, at("longer.mp4")),
            (Wrong::Altered, at("other.mp4")),
            (Wrong::OrphanSnapshot, at("new.jpg")),
            (Wrong::MissingSnapshot, at("gone.jpg")),
            (Wrong::Sidecar, at("other.mp4")),
            (Wrong::Stray, at("gone.mp4.12.damaged")),
            (Wrong::Stray, at("gone.mp4.damaged")),
            (Wrong::Stray, at("gone.mp4.json")),
            (Wrong::Stray, at("gone.mp4.strip.jpg")),
            (Wrong::Unfinished, at(".part-b1-0-x.mp4")),
        ];
        expected.sort();
        assert_eq!(found, expected);

        // Beside a node that is at work what is young may just be in the making.
        let beside = VerifyOptions { contents: false, node_runs: true };
        let found: BTreeSet<Wrong> = findings(&store, beside).into_iter().map(|(wrong, _)| wrong).collect();
        let expected =
            [Wrong::Missing, Wrong::Returned, Wrong::Altered, Wrong::MissingSnapshot, Wrong::Sidecar];
        assert_eq!(found, BTreeSet::from(expected));
    }

    #[test]
    fn spools_of_all_sorts_are_looked_at() {
        let (_folder, store) = store();
        let root = store.folder().join("spool");
        let spool = || {
            let meta = crate::SpoolMeta {
                camera: event(1).camera,
                kind: crate::SpoolKind::Segment,
                started: event(1).started,
                mode: meerkat_base::Mode::People,
                settings: serde_json::Value::Null,
            };
            let mut writer = crate::SpoolWriter::create(&root, &meta, Durability::Process).unwrap();
            writer.append(&frame(1, "picture")).unwrap();
            writer.append(&frame(2, "picture")).unwrap();
            writer.finish().unwrap().path
        };
        spool();
        spool::set_aside(&spool()).unwrap();
        std::fs::write(root.join("set-aside/note.json"), b"{}").unwrap();
        spool::keep(&spool(), "capture/x.mp4").unwrap();
        let damaged = spool::keep(&spool(), "capture/y.mp4").unwrap().join("frames");
        let mut bytes = std::fs::read(&damaged).unwrap();
        let at = bytes.windows(7).position(|window| window == b"picture").unwrap();
        bytes[at] ^= 1;
        std::fs::write(&damaged, bytes).unwrap();
        let wrong =
            |options| findings(&store, options).into_iter().map(|(wrong, _)| wrong).collect::<Vec<_>>();
        let mut all = wrong(ALL);
        all.sort();
        assert_eq!(all, [Wrong::UnfinishedSpool, Wrong::SetAside, Wrong::DamagedSpool]);
        assert_eq!(wrong(VerifyOptions { contents: false, node_runs: true }), [Wrong::SetAside]);
        assert_eq!(look(&store, ALL).spools, 4);
    }
}
