//! Records pictures as segments of a length, on a thread of its own. A segment has its final name only when it is whole.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use meerkat_base::{ImageFormat, MonoTime, WallTime};
use meerkat_media::{AviWriter, ClipSettings, ClipSize, ClipWriter, MediaError, Pushed};

use super::SegmentFormat;

/// Pictures that may wait for the encoder.
const WAITING: usize = 64;
/// How the name of a segment ends that is being written.
const PART: &str = "part";

/// What is recorded where.
#[derive(Debug, Clone)]
pub(super) struct SegmentPlan {
    pub folder: PathBuf,
    pub length: Duration,
    pub format: SegmentFormat,
}

impl SegmentFormat {
    fn ending(self) -> &'static str {
        match self {
            SegmentFormat::Avi => "avi",
            SegmentFormat::Mp4 => "mp4",
        }
    }
}

/// What became of a recording.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    folder: PathBuf,
    segments: u64,
    pictures: u64,
    skipped: u64,
    dropped: u64,
}

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { folder, segments, pictures, skipped, dropped } = self;
        write!(f, "{segments} segments with {pictures} pictures in {}", folder.display())?;
        if *skipped > 0 {
            write!(f, ", {skipped} could not be decoded")?;
        }
        if *dropped > 0 {
            write!(f, ", {dropped} left out because the encoder was behind")?;
        }
        Ok(())
    }
}

/// A recording under way.
pub(super) struct Recording {
    to: SyncSender<(Bytes, MonoTime)>,
    thread: JoinHandle<anyhow::Result<Recorded>>,
    dropped: u64,
}

impl Recording {
    /// Makes the folder and begins; the first segment is made with the first picture. `began` is in the names.
    pub fn start(plan: SegmentPlan, began: WallTime) -> anyhow::Result<Self> {
        fs::create_dir_all(&plan.folder)
            .with_context(|| format!("{} cannot be made", plan.folder.display()))?;
        let (to, from) = sync_channel(WAITING);
        let thread = std::thread::spawn(move || record(&plan, began, &from));
        Ok(Self { to, thread, dropped: 0 })
    }

    /// Hands a picture on; false when the recording has failed.
    pub fn take(&mut self, picture: Bytes, at: MonoTime) -> bool {
        match self.to.try_send((picture, at)) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.dropped += 1;
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }

    /// Finishes the segment at hand.
    pub fn finish(self) -> anyhow::Result<Recorded> {
        drop(self.to);
        let recorded = self.thread.join().map_err(|_| anyhow::anyhow!("the recording broke off"))??;
        Ok(Recorded { dropped: self.dropped, ..recorded })
    }
}

fn record(
    plan: &SegmentPlan,
    began: WallTime,
    from: &Receiver<(Bytes, MonoTime)>,
) -> anyhow::Result<Recorded> {
    let mut recorded = Recorded { folder: plan.folder.clone(), ..Recorded::default() };
    let mut open: Option<Segment> = None;
    let mut number = 0;
    while let Ok((picture, at)) = from.recv() {
        if let Some(segment) = open.take_if(|segment| at.since(segment.began) >= plan.length) {
            segment.finish(&mut recorded)?;
        }
        let segment = match &mut open {
            Some(segment) => segment,
            None => {
                number += 1;
                let name = format!("watch_{}_{number:04}.{}", began.compact(), plan.format.ending());
                open.insert(Segment::create(&plan.folder.join(name), plan.format, at)?)
            }
        };
        // What cannot be decoded is counted by the segment itself.
        let _skipped = segment.push(&picture, at)?;
    }
    match open {
        Some(segment) => segment.finish(&mut recorded).map(|()| recorded),
        None => Ok(recorded),
    }
}

enum Writer {
    Avi(AviWriter),
    Mp4(ClipWriter),
}

/// A segment that is being written.
struct Segment {
    writer: Writer,
    path: PathBuf,
    part: PathBuf,
    began: MonoTime,
}

impl Segment {
    fn create(path: &Path, format: SegmentFormat, began: MonoTime) -> anyhow::Result<Self> {
        anyhow::ensure!(!path.exists(), "{} is there already", path.display());
        let part = path.with_extension(format!("{}.{PART}", format.ending()));
        let writer = match format {
            SegmentFormat::Avi => Writer::Avi(AviWriter::create(&part)?),
            SegmentFormat::Mp4 => {
                let settings = ClipSettings { size: ClipSize::AsReceived, ..ClipSettings::default() };
                Writer::Mp4(ClipWriter::create(&part, settings)?)
            }
        };
        Ok(Self { writer, path: path.to_owned(), part, began })
    }

    fn push(&mut self, picture: &[u8], at: MonoTime) -> Result<Pushed, MediaError> {
        let at = at.since(self.began);
        match &mut self.writer {
            Writer::Avi(writer) => writer.push(picture, ImageFormat::Jpeg, at),
            Writer::Mp4(writer) => writer.push(picture, ImageFormat::Jpeg, at),
        }
    }

    fn finish(self, recorded: &mut Recorded) -> anyhow::Result<()> {
        let finished = match self.writer {
            Writer::Avi(writer) => writer.finish(),
            Writer::Mp4(writer) => writer.finish(),
        };
        match finished {
            Ok(info) => {
                fs::rename(&self.part, &self.path)
                    .with_context(|| format!("{} cannot be named", self.path.display()))?;
                recorded.segments += 1;
                recorded.pictures += info.frames;
                recorded.skipped += info.skipped;
                Ok(())
            }
            Err(MediaError::EmptyClip { skipped }) => {
                recorded.skipped += skipped;
                let _ = fs::remove_file(&self.part);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use meerkat_base::{Image, PixelFormat};

    use super::*;

    fn jpeg(shade: u8) -> Bytes {
        let image = Image::new(160, 120, PixelFormat::Bgr8, vec![shade; 160 * 120 * 3]).unwrap();
        meerkat_media::encode_jpeg(&image, 80).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn segments_have_their_length_and_hold_every_picture() {
        for format in [SegmentFormat::Avi, SegmentFormat::Mp4] {
            let folder = tempfile::tempdir().unwrap();
            let plan =
                SegmentPlan { folder: folder.path().join("new"), length: Duration::from_secs(2), format };
            let (to, from) = sync_channel(64);
            for n in 0..50u64 {
                to.send((jpeg(n as u8), MonoTime(n * 100_000_000))).unwrap();
            }
            drop(to);
            fs::create_dir_all(&plan.folder).unwrap();
            let recorded = record(&plan, WallTime(1_795_210_274_123_456), &from).unwrap();
            assert_eq!((recorded.segments, recorded.pictures), (3, 50));
            let names = names(&plan.folder);
            assert_eq!(names.len(), 3, "{names:?}");
            assert!(names[0].starts_with("watch_20261120T213114.123456Z_0001."), "{names:?}");
            let probe = meerkat_media::probe(&plan.folder.join(&names[0])).unwrap();
            assert_eq!((probe.width, probe.height), (160, 120));
            assert!(
                probe.duration.abs_diff(Duration::from_secs(2)) < Duration::from_millis(150),
                "{probe:?}"
            );
        }
    }

    #[test]
    fn a_recording_without_pictures_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let plan = SegmentPlan {
            folder: folder.path().to_owned(),
            length: Duration::from_secs(1),
            format: SegmentFormat::Mp4,
        };
        let mut recording = Recording::start(plan, WallTime(0)).unwrap();
        assert!(recording.take(Bytes::from_static(b"\xff\xd8\xff no picture \xff\xd9"), MonoTime(0)));
        let recorded = recording.finish().unwrap();
        assert_eq!((recorded.segments, recorded.skipped), (0, 1));
        assert_eq!(names(folder.path()), [""; 0]);
    }
}
