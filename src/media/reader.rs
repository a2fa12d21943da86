//! Frames of a file, a device or an address, one after another, on the calling thread. No reconnecting and no
//! pacing: a source that fails is opened again by its owner, and a file is read as fast as it is asked for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ffmpeg_next::codec::Id;
use ffmpeg_next::{Error, Packet, decoder, frame};
use meerkat_base::{Image, MonoTime, PixelFormat, Shutdown};

use crate::error::MediaError;
use crate::input::{Input, Watch};
use crate::library::is_again;
use crate::orientation::Orientation;
use crate::picture::{JpegEncoder, is_standalone_jpeg};
use crate::redact::redact_url;
use crate::scale::Scaler;
use crate::source::Source;

/// How to read.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// The longest that opening may take, and the longest until each next frame. Looking up a host name is the
    /// system's and not covered.
    pub timeout: Duration,
    /// Ends waiting early.
    pub stop: Option<Shutdown>,
}

impl Default for ReadOptions {
    /// Ten seconds.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), stop: None }
    }
}

/// An open source of frames.
///
/// Sources are files (mp4, mkv, avi, gif, single pictures, …), `/dev/videoN`, `rtsp://`, and `http://` or `https://`
/// addresses of motion JPEG, of single pictures or of files. Nothing a source contains makes FFmpeg open another.
/// Redirects are not followed and certificates are checked.
pub struct Reader {
    input: Input,
    watch: Arc<Watch>,
    codec: Id,
    decoder: decoder::Video,
    draining: bool,
    packet: Packet,
    frame: frame::Video,
    scaler: Scaler,
    jpeg: Option<(u8, JpegEncoder)>,
    orientation: Orientation,
    times: Times,
}

impl Reader {
    /// Opens a source and finds its video.
    pub fn open(source: &str, options: ReadOptions) -> Result<Self, MediaError> {
        let kind = Source::parse(source)?;
        let watch = Watch::new(redact_url(source), options.timeout, options.stop);
        let input = Input::open(&kind, Arc::clone(&watch))?;
        let decoder = input.decoder()?;
        let is_stored = matches!(kind, Source::File(_));
        let times = Times {
            tick: input.seconds_per_tick(),
            frame: Duration::from_secs_f64(1.0 / input.fps().unwrap_or(25.0)),
            by_arrival: !is_stored && !input.has_times(),
            first_tick: None,
            first_arrival: None,
            last: None,
        };
        Ok(Self {
            orientation: input.orientation(),
            codec: decoder.id(),
            decoder,
            draining: false,
            packet: Packet::empty(),
            frame: frame::Video::empty(),
            scaler: Scaler::default(),
            jpeg: None,
            times,
            input,
            watch,
        })
    }

    /// The next frame, upright (the container's rotation applied; EXIF is not), as `Bgr8`, and its time since the
    /// first frame. `None` at the end. Sizes may change from frame to frame.
    pub fn next_image(&mut self) -> Result<Option<(Image, Duration)>, MediaError> {
        self.watch.begin();
        let Some(at) = self.next_frame()? else { return Ok(None) };
        let image = self
            .scaler
            .image(&self.frame, PixelFormat::Bgr8)
            .map_err(|error| self.watch.read_error(error))?;
        Ok(Some((self.orientation.apply(image), at)))
    }

    /// The next frame as a JPEG, upright, and its time since the first frame. `None` at the end. Motion JPEG passes
    /// through unchanged; `quality` (1..=100) is for everything else.
    pub fn next_jpeg(&mut self, quality: u8) -> Result<Option<(Bytes, Duration)>, MediaError> {
        self.watch.begin();
        if self.codec == Id::MJPEG && self.orientation.is_upright() {
            return self.next_motion_jpeg(quality);
        }
        let Some(at) = self.next_frame()? else { return Ok(None) };
        Ok(Some((self.encode(quality)?, at)))
    }

    /// How many frames the container says there are; not all of them need to be readable.
    pub fn frames_hint(&self) -> Option<u64> {
        self.input.frames_hint()
    }

    /// Frames per second as the container says.
    pub fn fps(&self) -> Option<f64> {
        self.input.fps()
    }

    /// Width and height in pixels of the upright frame, as far as known before one was decoded.
    pub fn size(&self) -> Option<(u32, u32)> {
        let size = (self.decoder.width(), self.decoder.height());
        (size.0 > 0 && size.1 > 0).then(|| self.orientation.size(size))
    }

    /// Motion JPEG: each packet is a picture, but those without tables of their own are made whole first.
    fn next_motion_jpeg(&mut self, quality: u8) -> Result<Option<(Bytes, Duration)>, MediaError> {
        loop {
            if !self.input.read(&mut self.packet)? {
                return Ok(None);
            }
            let at = self.times.of(self.packet.pts().or(self.packet.dts()), self.watch.now());
            let data = self.packet.data().unwrap_or_default();
            if is_standalone_jpeg(data) {
                return Ok(Some((Bytes::copy_from_slice(data), at)));
            }
            let sent = self.decoder.send_packet(&self.packet);
            if sent.and_then(|()| self.decoder.receive_frame(&mut self.frame)).is_ok() {
                return Ok(Some((self.encode(quality)?, at)));
            }
        }
    }

    fn encode(&mut self, quality: u8) -> Result<Bytes, MediaError> {
        let encoder = match self.jpeg.take().filter(|(open, _)| *open == quality) {
            Some(open) => &mut self.jpeg.insert(open).1,
            None => &mut self.jpeg.insert((quality, JpegEncoder::new(quality))).1,
        };
        if self.orientation.is_upright() {
            return encoder.encode_frame(&self.frame);
        }
        let image = self
            .scaler
            .image(&self.frame, PixelFormat::Bgr8)
            .map_err(|error| self.watch.read_error(error))?;
        encoder.encode(&self.orientation.apply(image))
    }

    /// Decodes up to the next frame; it is in `self.frame` then. Damaged parts are passed over.
    fn next_frame(&mut self) -> Result<Option<Duration>, MediaError> {
        loop {
            match self.decoder.receive_frame(&mut self.frame) {
                Ok(()) if self.frame.width() == 0 || self.frame.height() == 0 => continue,
                Ok(()) => return Ok(Some(self.times.of(self.frame.timestamp(), self.watch.now()))),
                Err(Error::Eof) => return Ok(None),
                Err(_) if self.draining => return Ok(None),
                // It wants more, or what it had was damaged.
                Err(_) => {}
            }
            if self.input.read(&mut self.packet)? {
                match self.decoder.send_packet(&self.packet) {
                    Err(error) if is_again(error) => return Err(self.watch.read_error(error)),
                    // A damaged packet; the next one may be whole.
                    Ok(()) | Err(_) => {}
                }
            } else {
                self.draining = true;
                if self.decoder.send_eof().is_err() {
                    return Ok(None);
                }
            }
        }
    }
}

/// Times of frames since the first one; they never go back.
struct Times {
    /// Seconds of one tick.
    tick: f64,
    /// Distance of two frames when nothing better is known.
    frame: Duration,
    /// Whether a frame's time is when it came, because the source says none.
    by_arrival: bool,
    /// The first tick that was told, and the time it got: frames before it may have had none.
    first_tick: Option<(i64, Duration)>,
    first_arrival: Option<MonoTime>,
    last: Option<Duration>,
}

impl Times {
    fn of(&mut self, tick: Option<i64>, now: MonoTime) -> Duration {
        let next = self.last.map_or(Duration::ZERO, |last| last.saturating_add(self.frame));
        let time = match (self.by_arrival, tick) {
            (true, _) => now.since(*self.first_arrival.get_or_insert(now)),
            (false, Some(tick)) => {
                let (first, offset) = *self.first_tick.get_or_insert((tick, next));
                let seconds = tick.saturating_sub(first) as f64 * self.tick;
                offset.saturating_add(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO))
            }
            (false, None) => next,
        };
        let time = self.last.map_or(time, |last| time.max(last));
        self.last = Some(time);
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::path::{Path, PathBuf};
    use std::sync::mpsc;
    use std::thread;

    use meerkat_base::ImageFormat;

    use crate::clip::{ClipSettings, ClipSize, ClipWriter, Pushed};
    use crate::picture::{decode_picture, encode_jpeg};
    use crate::testing::{picture, shared};

    fn jpeg(width: u32, height: u32, step: u32) -> Vec<u8> {
        encode_jpeg(&picture(width, height, step), 85).unwrap().to_vec()
    }

    fn quick() -> ReadOptions {
        ReadOptions { timeout: Duration::from_millis(400), stop: None }
    }

    /// Long enough for a busy machine to open a camera that answers, short enough to wait for once.
    fn patient() -> ReadOptions {
        ReadOptions { timeout: Duration::from_secs(3), stop: None }
    }

    fn open(path: &Path) -> Result<Reader, MediaError> {
        Reader::open(path.to_str().unwrap(), ReadOptions::default())
    }

    fn open_error(source: &str, options: ReadOptions) -> MediaError {
        Reader::open(source, options).err().unwrap()
    }

    fn count(reader: &mut Reader) -> usize {
        std::iter::from_fn(|| reader.next_image().unwrap()).count()
    }

    fn clip(folder: &Path, frames: u32) -> PathBuf {
        let path = folder.join("clip.mp4");
        let settings = ClipSettings { size: ClipSize::AsReceived, ..ClipSettings::default() };
        let mut writer = ClipWriter::create(&path, settings).unwrap();
        for step in 0..frames {
            let at = Duration::from_millis(u64::from(step) * 40);
            assert_eq!(writer.push(&jpeg(64, 48, step), ImageFormat::Jpeg, at).unwrap(), Pushed::Encoded);
        }
        writer.finish().unwrap();
        path
    }

    // === A camera on loopback ===

    /// Serves one connection: reads the request, then does what the test wants. Gives the address.
    fn camera(serve: impl FnOnce(TcpStream) + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                request.push(byte[0]);
            }
            serve(stream);
        });
        address
    }

    const MULTIPART: &[u8] =
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n";

    fn part(jpeg: &[u8]) -> Vec<u8> {
        let head = format!("--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", jpeg.len());
        [head.as_bytes(), jpeg, b"\r\n"].concat()
    }

    /// A listener that nobody may ever connect to.
    struct Untouched(TcpListener);

    impl Untouched {
        fn new() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            Self(listener)
        }

        fn url(&self) -> String {
            format!("http://{}/secret.mp4", self.0.local_addr().unwrap())
        }

        fn check(&self) {
            assert!(self.0.accept().is_err(), "a source made FFmpeg connect elsewhere");
        }
    }

    #[test]
    fn times_begin_at_zero_and_never_go_back() {
        let check = |ticks: &[Option<i64>], expected_ms: &[u64]| {
            let mut times = Times {
                tick: 0.001,
                frame: Duration::from_millis(40),
                by_arrival: false,
                first_tick: None,
                first_arrival: None,
                last: None,
            };
            let seen: Vec<Duration> = ticks.iter().map(|&tick| times.of(tick, MonoTime(0))).collect();
            let expected: Vec<Duration> = expected_ms.iter().map(|&ms| Duration::from_millis(ms)).collect();
            assert_eq!(seen, expected, "{ticks:?}");
        };
        check(&[Some(500), Some(600), Some(550), Some(700)], &[0, 100, 100, 200]);
        check(&[Some(-100), None, Some(0)], &[0, 40, 100]);
        check(&[None, None, Some(900), Some(1000)], &[0, 40, 80, 180]);
        check(
            &[Some(i64::MIN), Some(0), Some(i64::MIN)],
            &[0, 9_223_372_036_854_776_000, 9_223_372_036_854_776_000],
        );
    }

    // === Addresses ===

    #[test]
    fn motion_jpeg_passes_through_unchanged() {
        let pictures: Vec<Vec<u8>> = (0..5).map(|step| jpeg(64, 48, step)).collect();
        let sent = pictures.clone();
        let address = camera(move |mut stream| {
            stream.write_all(MULTIPART).unwrap();
            for picture in &sent {
                stream.write_all(&part(picture)).unwrap();
            }
        });
        let mut reader = Reader::open(&format!("http://{address}/video"), ReadOptions::default()).unwrap();
        assert_eq!(reader.size(), Some((64, 48)));
        let mut last = Duration::ZERO;
        for picture in &pictures {
            let (bytes, at) = reader.next_jpeg(80).unwrap().unwrap();
            assert!(bytes == picture[..], "a picture was changed");
            assert!(at >= last);
            last = at;
        }
        // Nothing says where such a stream ends, so a closed connection is a loss.
        assert!(matches!(reader.next_jpeg(80), Err(MediaError::Read { .. })));
    }

    #[test]
    fn a_live_camera_is_read_frame_by_frame() {
        // The camera sends the next picture only when told: the reader must not wait for more than it needs.
        let (tell, told) = mpsc::channel::<()>();
        let address = camera(move |mut stream| {
            stream.write_all(MULTIPART).unwrap();
            for step in 0.. {
                stream.write_all(&part(&jpeg(320, 240, step))).unwrap();
                if told.recv().is_err() {
                    return;
                }
            }
        });
        let mut reader = Reader::open(&format!("http://{address}/"), ReadOptions::default()).unwrap();
        for _ in 0..8 {
            assert!(reader.next_image().unwrap().is_some());
            tell.send(()).unwrap();
        }
    }

    /// A JPEG of the standard Huffman tables as RTP packets (RFC 2435, type 1, tables in the first packet), each in
    /// the frame of RTSP's own connection (RFC 2326, 10.12).
    fn rtp(jpeg: &[u8], number: u32) -> Vec<u8> {
        let find = |marker: u8| jpeg.windows(2).position(|w| w == [0xFF, marker]).unwrap();
        let table = &jpeg[find(0xDB) + 5..][..64];
        let size = &jpeg[find(0xC0) + 5..][..4];
        let blocks = |at: usize| (u16::from_be_bytes([size[at], size[at + 1]]) / 8) as u8;
        let scan_head = find(0xDA);
        let scan_start = scan_head + 2 + usize::from(jpeg[scan_head + 3]);
        let scan = &jpeg[scan_start..jpeg.len() - 2];
        let mut out = Vec::new();
        for (index, chunk) in scan.chunks(1000).enumerate() {
            let offset = index * 1000;
            let last = offset + chunk.len() == scan.len();
            let mut packet = vec![0x80, 26 | u8::from(last) << 7];
            packet.extend((number as u16 * 100 + index as u16).to_be_bytes());
            packet.extend((1_000_000 + number * 3600).to_be_bytes());
            packet.extend(7u32.to_be_bytes());
            packet.extend((offset as u32).to_be_bytes());
            packet.extend([1, 255, blocks(2), blocks(0)]);
            if index == 0 {
                packet.extend([0, 0, 0, 64]);
                packet.extend(table);
            }
            packet.extend(chunk);
            out.extend([b'$', 0]);
            out.extend((packet.len() as u16).to_be_bytes());
            out.extend(packet);
        }
        out
    }

    /// A camera that speaks RTSP and sends `frames` pictures.
    fn rtsp_camera(frames: u32) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut answers = stream.try_clone().unwrap();
            let mut lines = std::io::BufReader::new(stream);
            let (mut method, mut sequence) = (String::new(), String::new());
            let mut line = String::new();
            while std::io::BufRead::read_line(&mut lines, &mut line).is_ok_and(|read| read > 0) {
                let text = std::mem::take(&mut line);
                if let Some(number) = text.strip_prefix("CSeq: ") {
                    sequence = number.trim().to_owned();
                } else if text.ends_with("RTSP/1.0\r\n") {
                    method = text.split(' ').next().unwrap().to_owned();
                } else if text == "\r\n" {
                    let sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:t\r\n";
                    let more = match method.as_str() {
                        "DESCRIBE" => {
                            format!(
                                "Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
                                sdp.len()
                            )
                        }
                        "SETUP" => {
                            "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n\r\n".into()
                        }
                        "OPTIONS" => "Public: DESCRIBE, SETUP, PLAY\r\n\r\n".into(),
                        _ => "Session: 1\r\n\r\n".into(),
                    };
                    let _ = write!(answers, "RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\n{more}");
                    if method == "PLAY" {
                        for number in 0..frames {
                            let _ = answers.write_all(&rtp(&jpeg(320, 240, number), number));
                        }
                    }
                }
            }
        });
        address
    }

    #[test]
    fn an_rtsp_camera_is_read() {
        let source = format!("rtsp://u:hunter2@{}/live", rtsp_camera(20));
        let mut reader = Reader::open(&source, patient()).unwrap();
        assert_eq!(reader.size(), Some((320, 240)));
        for number in 0..5 {
            let (image, at) = reader.next_image().unwrap().unwrap();
            assert_eq!((image.width(), image.height()), (320, 240));
            assert_eq!(at, Duration::from_millis(number * 40));
        }
        let mut frames = 5;
        let error = loop {
            match reader.next_jpeg(80) {
                Ok(Some((bytes, _))) => {
                    decode_picture(&bytes, ImageFormat::Jpeg, PixelFormat::Bgr8).unwrap();
                    frames += 1;
                }
                Ok(None) => panic!("the camera did not hang up"),
                Err(error) => break error,
            }
        };
        assert_eq!(frames, 20);
        assert!(matches!(error, MediaError::TimedOut { .. }), "{error}");
        assert!(!error.to_string().contains("hunter2"));
    }

    #[test]
    fn a_single_picture_has_one_frame() {
        let bytes = jpeg(40, 30, 1);
        let sent = bytes.clone();
        let address = camera(move |mut stream| {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
                sent.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&sent).unwrap();
        });
        let mut reader = Reader::open(&format!("http://{address}/shot.jpg"), ReadOptions::default()).unwrap();
        assert_eq!(reader.next_jpeg(80).unwrap().unwrap().0, bytes);
        assert!(reader.next_jpeg(80).unwrap().is_none());
    }

    #[test]
    fn a_camera_that_never_answers_times_out() {
        for scheme in ["http", "rtsp"] {
            let (hold, held) = mpsc::channel::<()>();
            let address = camera(move |_stream| {
                let _ = held.recv();
            });
            let source = format!("{scheme}://admin:hunter2@{address}/live?pwd=hunter2");
            let error = open_error(&source, quick());
            assert!(matches!(error, MediaError::TimedOut { .. }), "{error}");
            let text = format!("{error} {error:?}");
            assert!(!text.contains("hunter2") && !text.contains("admin"), "{text}");
            assert!(text.contains(&address), "{text}");
            drop(hold);
        }
    }

    #[test]
    fn a_camera_that_falls_silent_times_out() {
        let (hold, held) = mpsc::channel::<()>();
        let address = camera(move |mut stream| {
            stream.write_all(MULTIPART).unwrap();
            for step in 0..3 {
                stream.write_all(&part(&jpeg(64, 48, step))).unwrap();
            }
            let _ = held.recv();
        });
        let mut reader = Reader::open(&format!("http://{address}/"), patient()).unwrap();
        let error = loop {
            match reader.next_image() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream did not end"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, MediaError::TimedOut { .. }), "{error}");
        drop(hold);
    }

    #[test]
    fn waiting_ends_when_told() {
        let stop = Shutdown::new();
        let (hold, held) = mpsc::channel::<()>();
        let trigger = stop.clone();
        let address = camera(move |_stream| {
            trigger.trigger();
            let _ = held.recv();
        });
        let options = ReadOptions { timeout: Duration::from_secs(600), stop: Some(stop) };
        let error = open_error(&format!("http://{address}/"), options);
        assert!(matches!(error, MediaError::Stopped { .. }), "{error}");
        drop(hold);
    }

    #[test]
    fn refusals_are_errors_without_credentials() {
        for answer in ["401 Unauthorized", "404 Not Found", "500 Internal Server Error"] {
            let address = camera(move |mut stream| {
                let _ = write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n");
            });
            let error = open_error(&format!("http://u:hunter2@{address}/"), ReadOptions::default());
            assert!(matches!(error, MediaError::Open { .. }), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = open_error(&format!("http://{closed}/"), ReadOptions::default());
        assert!(matches!(error, MediaError::Open { .. }), "{error}");
    }

    #[test]
    fn redirects_are_not_followed() {
        let elsewhere = Untouched::new();
        let url = elsewhere.url();
        let address = camera(move |mut stream| {
            let _ = write!(stream, "HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n");
        });
        open_error(&format!("http://{address}/"), quick());
        elsewhere.check();
    }

    #[test]
    fn playlists_open_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let target = clip(folder.path(), 3);
        let target = target.to_str().unwrap();
        let elsewhere = Untouched::new();
        let url = elsewhere.url();
        let lists = [
            format!("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{url}\n#EXT-X-ENDLIST\n"),
            format!("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n"),
            format!("ffconcat version 1.0\nfile '{target}'\n"),
            format!("ffconcat version 1.0\nfile '{url}'\n"),
            format!(
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 5004 RTP/AVP 26\r\na={url}\r\n"
            ),
        ];
        for (index, list) in lists.into_iter().enumerate() {
            for ending in ["m3u8", "mp4", "sdp", "ffconcat"] {
                let path = folder.path().join(format!("{index}.{ending}"));
                fs::write(&path, &list).unwrap();
                let error = open(&path).err().unwrap();
                assert!(matches!(error, MediaError::Open { .. }), "{error}");
            }
            let address = camera(move |mut stream| {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\n";
                let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{list}", list.len());
            });
            open_error(&format!("http://{address}/list.m3u8"), quick());
        }
        elsewhere.check();
    }

    #[test]
    fn other_protocols_in_a_name_are_file_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = clip(folder.path(), 3);
        let path = path.display();
        for source in [
            format!("concat:{path}|{path}"),
            format!("subfile,,start,0,end,100,,:{path}"),
            format!("file:{path}"),
            format!("async:{path}"),
            "pipe:0".into(),
            "lavfi:testsrc".into(),
        ] {
            let error = open_error(&source, quick());
            assert!(matches!(error, MediaError::Open { .. }), "{source}: {error}");
        }
    }

    // === Files and devices ===

    #[test]
    fn what_is_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for source in [folder.path().to_str().unwrap(), "/dev/null", "/dev/video987", "no such file.mp4"] {
            let error = open_error(source, quick());
            assert!(matches!(error, MediaError::Open { .. }), "{source}: {error}");
        }
    }

    #[test]
    fn a_clip_is_read_in_both_ways() {
        let folder = tempfile::tempdir().unwrap();
        let path = clip(folder.path(), 10);
        let mut reader = open(&path).unwrap();
        assert_eq!((reader.frames_hint(), reader.size()), (Some(10), Some((64, 48))));
        assert!((reader.fps().unwrap() - 25.0).abs() < 0.1, "{:?}", reader.fps());
        assert_eq!(count(&mut reader), 10);
        assert!(reader.next_image().unwrap().is_none(), "the end stays the end");

        let mut reader = open(&path).unwrap();
        for step in 0..10 {
            let (bytes, at) = reader.next_jpeg(90).unwrap().unwrap();
            assert!(at.abs_diff(Duration::from_millis(step * 40)) < Duration::from_micros(30));
            let image = decode_picture(&bytes, ImageFormat::Jpeg, PixelFormat::Bgr8).unwrap();
            assert_eq!((image.width(), image.height()), (64, 48));
        }
        assert!(reader.next_jpeg(90).unwrap().is_none());
    }

    #[test]
    fn a_rotated_clip_comes_upright() {
        let folder = tempfile::tempdir().unwrap();
        let path = clip(folder.path(), 2);
        let (plain, _) = open(&path).unwrap().next_image().unwrap().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let matrix = bytes.windows(4).position(|w| w == b"tkhd").unwrap() + 4 + 40;
        let one = 1i32 << 16;
        for (cell, value) in [(0, 0), (1, one), (3, -one), (4, 0)] {
            bytes[matrix + cell * 4..][..4].copy_from_slice(&i32::to_be_bytes(value));
        }
        fs::write(&path, bytes).unwrap();

        let mut reader = open(&path).unwrap();
        assert_eq!(reader.size(), Some((48, 64)));
        let (turned, _) = reader.next_image().unwrap().unwrap();
        assert_eq!((turned.width(), turned.height()), (48, 64));
        let pixel = |image: &Image, x: u32, y: u32| {
            let at = ((y * image.width() + x) * 3) as usize;
            image.data()[at..at + 3].to_vec()
        };
        // Clockwise: what was at the bottom left is at the top left now.
        assert_eq!(pixel(&turned, 0, 0), pixel(&plain, 0, 47));
        assert_eq!(pixel(&turned, 47, 0), pixel(&plain, 0, 0));
        assert_eq!(pixel(&turned, 0, 63), pixel(&plain, 63, 47));
        let (jpeg, _) = reader.next_jpeg(90).unwrap().unwrap();
        let image = decode_picture(&jpeg, ImageFormat::Jpeg, PixelFormat::Bgr8).unwrap();
        assert_eq!((image.width(), image.height()), (48, 64));
    }

    #[test]
    fn motion_jpeg_without_tables_is_made_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("raw.mjpeg");
        let mut raw = Vec::new();
        for step in 0..4 {
            let mut bytes = jpeg(64, 48, step);
            while let Some(at) = bytes.windows(2).position(|w| w == [0xFF, 0xC4]) {
                let length = usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
                bytes.drain(at..at + 2 + length);
            }
            raw.extend(bytes);
        }
        fs::write(&path, raw).unwrap();
        let mut reader = open(&path).unwrap();
        for step in 0..4 {
            let (bytes, at) = reader.next_jpeg(90).unwrap().unwrap();
            assert!(is_standalone_jpeg(&bytes));
            assert_eq!(at, Duration::from_millis(step * 40));
        }
        assert!(reader.next_jpeg(90).unwrap().is_none());
    }

    #[test]
    fn a_gif_is_read() {
        let mut gif = b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0".to_vec();
        for pixel in [0x44, 0x4c, 0x44] {
            gif.extend(b"\x21\xf9\x04\0\x0a\0\0\0\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02");
            gif.extend([pixel, 1, 0]);
        }
        gif.push(0x3b);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gif");
        fs::write(&path, gif).unwrap();
        let mut reader = open(&path).unwrap();
        let frames: Vec<(Image, Duration)> = std::iter::from_fn(|| reader.next_image().unwrap()).collect();
        let levels: Vec<u8> = frames.iter().map(|(image, _)| image.data()[0]).collect();
        assert_eq!(levels, [255, 0, 255]);
        assert_eq!(frames[2].1, Duration::from_millis(200));
    }

    #[test]
    fn damaged_files_give_frames_or_errors() {
        let folder = tempfile::tempdir().unwrap();
        let whole = fs::read(clip(folder.path(), 20)).unwrap();
        let path = folder.path().join("damaged.mp4");
        let read = |bytes: &[u8]| -> Result<usize, MediaError> {
            fs::write(&path, bytes).unwrap();
            let mut reader = open(&path)?;
            let mut frames = 0;
            while let Some((image, _)) = reader.next_image()? {
                assert_eq!(image.data().len(), (image.width() * image.height() * 3) as usize);
                frames += 1;
                assert!(frames <= 1000, "frames without end");
            }
            let mut reader = open(&path)?;
            while reader.next_jpeg(80)?.is_some() {}
            Ok(frames)
        };
        assert_eq!(read(&whole).unwrap(), 20);
        let most = read(&whole[..whole.len() * 3 / 4]).unwrap();
        assert!((1..20).contains(&most), "{most} frames of a cut clip");
        assert!(read(b"").is_err());
        assert!(read(b"neither fish nor fowl").is_err());
        assert!(read(&[0; 100_000]).is_err());
        // Damage at many places, the same ones in every run.
        let mut state = 12345u32;
        for _ in 0..60 {
            let mut bytes = whole.clone();
            for _ in 0..8 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = state as usize % bytes.len();
                bytes[at] = (state >> 24) as u8;
            }
            let _ = read(&bytes);
            let _ = read(&whole[..state as usize % whole.len()]);
        }
    }

    #[test]
    fn the_shared_videos_are_read_to_their_end() {
        let check = |name: &str, size: (u32, u32), frames: usize| {
            let Some(path) = shared(name) else { return };
            let found = crate::probe::probe(&path).unwrap();
            assert_eq!(((found.width, found.height), found.frames), (size, frames as u64), "{name}");
            let mut reader = open(&path).unwrap();
            assert_eq!(reader.size(), Some(size));
            assert_eq!(count(&mut reader), frames, "{name}");
        };
        check("video/vtest/vtest.mp4", (480, 360), 795);
        check("video/intel/car-detection.mp4", (768, 432), 377);
        let Some(path) = shared("video/intel/preview/classroom.gif") else { return };
        let mut reader = open(&path).unwrap();
        assert_eq!(count(&mut reader) as u64, crate::probe::probe(&path).unwrap().frames);
    }
}
