//! Where the frames of `push` come from: picture files, folders, videos, addresses, devices, the drawn scene.
//! Runs on a thread of its own and hands frames over one by one; knows no node.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use meerkat_base::Shutdown;
use meerkat_media::{MediaError, ReadOptions, Reader};
use meerkat_vision::Scene;

use tokio::sync::mpsc::Sender;

use crate::cli::picture_file;

/// Endings of the picture files that are taken out of a folder.
const PICTURE_ENDINGS: &[&str] = &["jpg", "jpeg", "png", "webp", "bmp"];

/// Wait before sources of which one failed are read again.
const RETRY: Duration = Duration::from_secs(1);

/// Size and pace of the drawn scene.
const SCENE: (u32, u32, u32) = (640, 480, 20);

/// One source, as far as it can be told before it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Source {
    /// A picture file, sent as it is.
    Picture(PathBuf),
    /// A video file.
    Video(String),
    /// A camera or a stream, which sets its own pace.
    Live(String),
    /// The drawn scene.
    Synthetic,
}

/// What a source gives.
#[derive(Debug)]
pub(in crate::cli) enum Given {
    /// A frame, with its time since the first frame of its source where that sets a pace.
    Frame {
        /// The encoded picture.
        picture: Bytes,
        /// When it is due.
        due: Due,
    },
    /// A source failed; others go on.
    Failed(anyhow::Error),
}

/// When a frame is to be sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::cli) enum Due {
    /// As soon as the one before is answered.
    Now,
    /// So long after the first frame of the same source.
    After(Duration),
    /// It comes from a live source: now, or never.
    Live,
}

impl Source {
    /// Tells what kind of source the arguments name, in their order. A folder becomes its pictures, sorted by name.
    pub fn parse_all(names: &[String]) -> anyhow::Result<Vec<Self>> {
        let mut sources = Vec::new();
        for name in names {
            if name == "synthetic" {
                sources.push(Self::Synthetic);
            } else if name.contains("://") || name.starts_with("/dev/video") {
                sources.push(Self::Live(name.clone()));
            } else if Path::new(name).is_dir() {
                let pictures = pictures_in(Path::new(name)).with_context(|| format!("folder {name}"))?;
                sources.extend(pictures.into_iter().map(Self::Picture));
            } else if picture_file::is_picture(Path::new(name)).with_context(|| format!("file {name}"))? {
                sources.push(Self::Picture(name.into()));
            } else {
                sources.push(Self::Video(name.clone()));
            }
        }
        Ok(sources)
    }

    /// How many frames it has, where that is known without reading it.
    pub fn frames_hint(&self) -> Option<u64> {
        match self {
            Self::Picture(_) => Some(1),
            Self::Video(name) => Reader::open(name, ReadOptions::default()).ok()?.frames_hint(),
            Self::Live(_) | Self::Synthetic => None,
        }
    }

    /// Hands over all its frames, until it ends, fails, or nobody wants more.
    fn give(&self, quality: u8, stop: &Shutdown, to: &Sender<Given>) -> anyhow::Result<Wanted> {
        match self {
            Self::Picture(path) => {
                let picture = picture_file::read(path).with_context(|| path.display().to_string())?;
                Ok(hand(to, Bytes::from(picture), Due::Now))
            }
            Self::Video(name) => {
                let reader = open(name, stop).map_err(picture_file::not_opened).context(name.clone())?;
                give_stream(reader, quality, to, Due::After)
            }
            Self::Live(name) => give_stream(open(name, stop)?, quality, to, |_| Due::Live),
            Self::Synthetic => give_scene(quality, to),
        }
    }
}

/// Whether anybody still wants frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    More,
    NoMore,
}

/// Hands over the frames of all sources, once or again and again, until nobody wants more.
pub(in crate::cli) fn give_all(
    sources: &[Source],
    forever: bool,
    quality: u8,
    stop: &Shutdown,
    to: &Sender<Given>,
) {
    loop {
        let mut failed = 0;
        for source in sources {
            match source.give(quality, stop, to) {
                Ok(Wanted::More) => {}
                Ok(Wanted::NoMore) => return,
                Err(error) => {
                    failed += 1;
                    if to.blocking_send(Given::Failed(error)).is_err() {
                        return;
                    }
                }
            }
        }
        // Only live sources come back by themselves.
        let all_lost = failed == sources.len() && !sources.iter().any(|s| matches!(s, Source::Live(_)));
        if !forever || all_lost {
            return;
        }
        if failed > 0 {
            std::thread::sleep(RETRY);
        }
    }
}

fn hand(to: &Sender<Given>, picture: Bytes, due: Due) -> Wanted {
    match to.blocking_send(Given::Frame { picture, due }) {
        Ok(()) => Wanted::More,
        Err(_) => Wanted::NoMore,
    }
}

fn open(name: &str, stop: &Shutdown) -> Result<Reader, MediaError> {
    Reader::open(name, ReadOptions { stop: Some(stop.clone()), ..ReadOptions::default() })
}

fn give_stream(
    mut reader: Reader,
    quality: u8,
    to: &Sender<Given>,
    due: impl Fn(Duration) -> Due,
) -> anyhow::Result<Wanted> {
    while let Some((picture, at)) = reader.next_jpeg(quality)? {
        if hand(to, picture, due(at)) == Wanted::NoMore {
            return Ok(Wanted::NoMore);
        }
    }
    Ok(Wanted::More)
}

/// The drawn scene has no end of its own.
fn give_scene(quality: u8, to: &Sender<Given>) -> anyhow::Result<Wanted> {
    let (width, height, fps) = SCENE;
    let scene = Scene::new(width, height);
    for number in 0.. {
        let picture = Bytes::from(meerkat_vision::encode_jpeg(&scene.frame(number)?, quality)?);
        let due = Duration::from_secs(number) / fps;
        if hand(to, picture, Due::After(due)) == Wanted::NoMore {
            break;
        }
    }
    Ok(Wanted::NoMore)
}

fn pictures_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut pictures = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        if ending.is_some_and(|ending| PICTURE_ENDINGS.contains(&ending.as_str())) && path.is_file() {
            pictures.push(path);
        }
    }
    if pictures.is_empty() {
        bail!("there is no picture in it ({})", PICTURE_ENDINGS.join(", "));
    }
    pictures.sort();
    Ok(pictures)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JPEG: &[u8] = b"\xff\xd8\xff\xe0 and so on";

    fn names(folder: &Path, names: &[&str]) -> Vec<String> {
        names.iter().map(|name| folder.join(name).display().to_string()).collect()
    }

    #[test]
    fn sources_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
        write("b.JPG", JPEG);
        write("a.png", b"\x89PNG\r\n\x1a\n");
        write("c.avi", b"RIFF\0\0\0\0AVI LIST");
        write("d.mjpeg", JPEG);
        write("e.txt", b"x");
        let of = |name: &str| Source::parse_all(&names(dir.path(), &[name])).unwrap();
        assert_eq!(of("b.JPG"), [Source::Picture(dir.path().join("b.JPG"))]);
        assert!(matches!(of("c.avi")[..], [Source::Video(_)]));
        assert!(matches!(of("d.mjpeg")[..], [Source::Video(_)]));
        assert_eq!(
            of(""),
            [Source::Picture(dir.path().join("a.png")), Source::Picture(dir.path().join("b.JPG"))]
        );
        let live = ["rtsp://cam/1", "http://cam/2", "/dev/video0", "synthetic"].map(str::to_owned);
        let live = Source::parse_all(&live).unwrap();
        assert!(live[..3].iter().all(|source| matches!(source, Source::Live(_))));
        assert_eq!(live[3], Source::Synthetic);
    }

    #[test]
    fn missing_files_and_empty_folders_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Source::parse_all(&names(dir.path(), &["none.jpg"])).is_err());
        assert!(Source::parse_all(&names(dir.path(), &[""])).is_err());
    }

    fn given(sources: Vec<Source>, forever: bool, take: usize) -> Vec<Given> {
        let (to, mut from) = tokio::sync::mpsc::channel(1);
        let stop = Shutdown::new();
        let thread = std::thread::spawn(move || give_all(&sources, forever, 80, &stop, &to));
        let mut all = Vec::new();
        while all.len() < take {
            let Some(one) = from.blocking_recv() else { break };
            all.push(one);
        }
        drop(from);
        thread.join().unwrap();
        all
    }

    #[test]
    fn a_broken_source_does_not_stop_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let good = dir.path().join("a.jpg");
        fs::write(&good, JPEG).unwrap();
        let sources = vec![Source::Picture(dir.path().join("gone.jpg")), Source::Picture(good)];
        let all = given(sources.clone(), false, 9);
        assert!(
            matches!(&all[..], [Given::Failed(_), Given::Frame { picture, due: Due::Now }] if picture == JPEG)
        );
        assert_eq!(given(sources[1..].to_vec(), true, 9).len(), 9, "again and again");
        assert_eq!(given(sources[..1].to_vec(), true, 9).len(), 1, "nothing to be had: no endless loop");
    }

    #[test]
    fn the_scene_is_paced_and_can_be_left() {
        let all = given(vec![Source::Synthetic], false, 3);
        let dues: Vec<Due> = all
            .iter()
            .map(|given| match given {
                Given::Frame { due, .. } => *due,
                Given::Failed(error) => panic!("{error}"),
            })
            .collect();
        assert_eq!(dues, [0, 50, 100].map(|ms| Due::After(Duration::from_millis(ms))));
    }
}
