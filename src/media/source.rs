//! What kind of source a text names, and what FFmpeg may do for each kind: which protocols and which containers.
//! A file or a camera must not make FFmpeg open anything else (playlists, `concat:`, `subfile:`).

use std::path::PathBuf;
use std::time::Duration;

use ffmpeg_next::Dictionary;

use crate::error::MediaError;
use crate::redact::redact_url;

/// Containers that hold their own data. Playlists and descriptions that point elsewhere (hls, dash, concat, sdp,
/// image2 with its file patterns, …) are not among them.
const CONTAINERS: &str = "mov,mp4,matroska,webm,avi,gif,mpegts,mpeg,mpegvideo,flv,asf,ogg,ivf,nut,mjpeg,h264,hevc,m4v,\
                          yuv4mpegpipe,apng,jpeg_pipe,png_pipe,webp_pipe,bmp_pipe";

/// A source of frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A regular file.
    File(PathBuf),
    /// A local camera, `/dev/videoN`.
    Device(String),
    /// An `http://` address: endless motion JPEG, a single picture, or a file.
    Http(String),
    /// The same over TLS.
    Https(String),
    /// An `rtsp://` camera.
    Rtsp(String),
}

impl Source {
    /// Tells the kind. What is no address and no device is a file name, also if it looks like another FFmpeg protocol.
    pub(crate) fn parse(text: &str) -> Result<Self, MediaError> {
        let refuse = |reason: &str| MediaError::Open { name: redact_url(text), reason: reason.into() };
        if text.is_empty() || text.contains('\0') {
            return Err(refuse("not a file name, device or address"));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return match scheme.to_ascii_lowercase().as_str() {
                "http" => Ok(Source::Http(text.into())),
                "https" => Ok(Source::Https(text.into())),
                "rtsp" => Ok(Source::Rtsp(text.into())),
                _ => Err(refuse("only http, https and rtsp addresses can be read")),
            };
        }
        let number = text.strip_prefix("/dev/video");
        if number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())) {
            return Ok(Source::Device(text.into()));
        }
        Ok(Source::File(PathBuf::from(text)))
    }

    /// FFmpeg's options for opening it.
    pub(crate) fn options(&self, limit: Duration) -> Dictionary<'static> {
        let mut options = Dictionary::new();
        let (containers, protocols) = match self {
            Source::File(_) => (CONTAINERS, ""),
            Source::Device(_) => ("video4linux2,v4l2", "file"),
            Source::Http(_) => (HTTP_CONTAINERS, "http,tcp"),
            Source::Https(_) => (HTTP_CONTAINERS, "https,tls,tcp"),
            Source::Rtsp(_) => ("rtsp", "rtsp,rtp,tcp,udp"),
        };
        options.set("format_whitelist", containers);
        // An empty list would mean "all"; this one names no protocol there is.
        options.set("protocol_whitelist", if protocols.is_empty() { "none" } else { protocols });
        match self {
            Source::File(_) | Source::Device(_) => {}
            Source::Http(_) | Source::Https(_) => {
                // A camera answers itself. What it redirects to was not configured by anybody.
                options.set("max_redirects", "0");
                // Cameras are reached directly, whatever proxy the environment names.
                options.set("http_proxy", "");
                options.set("icy", "0");
                options.set("tls_verify", "1");
                live(&mut options);
            }
            Source::Rtsp(_) => {
                options.set("rtsp_flags", "prefer_tcp");
                options.set("allowed_media_types", "video");
                options.set("timeout", &limit.as_micros().min(i64::MAX as u128).to_string());
                live(&mut options);
            }
        }
        options
    }
}

/// As [`CONTAINERS`], and the multipart form in which cameras send JPEGs.
const HTTP_CONTAINERS: &str = "mpjpeg,mjpeg,jpeg_pipe,png_pipe,webp_pipe,bmp_pipe,mov,mp4,matroska,webm,avi,gif,\
                               mpegts,flv,h264,hevc";

/// Look at as little as possible before the first frame is given out.
fn live(options: &mut Dictionary) {
    options.set("fpsprobesize", "0");
    options.set("analyzeduration", "2000000");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart() {
        let check = |text: &str, expected: Source| assert_eq!(Source::parse(text).unwrap(), expected);
        check("a.mp4", Source::File("a.mp4".into()));
        check("concat:a.mp4|b.mp4", Source::File("concat:a.mp4|b.mp4".into()));
        check("/dev/video0", Source::Device("/dev/video0".into()));
        check("/dev/videos.mp4", Source::File("/dev/videos.mp4".into()));
        check("HTTP://cam/x", Source::Http("HTTP://cam/x".into()));
        check("https://cam/x", Source::Https("https://cam/x".into()));
        check("rtsp://cam/x", Source::Rtsp("rtsp://cam/x".into()));
    }

    #[test]
    fn other_protocols_are_refused_without_showing_credentials() {
        for text in ["ftp://u:hunter2@h/x", "file:///etc/passwd", "tcp://u:hunter2@h:1", "rtsp://a\0b", ""] {
            let error = Source::parse(text).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
