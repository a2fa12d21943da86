//! One encoded picture to pixels and back, with FFmpeg's own decoders (mjpeg, png, webp, bmp) and its mjpeg encoder.
//!
//! EXIF orientation is applied to what becomes part of a clip, and to nothing else: else pixels come as they are stored. Transparency is dropped. Of an animated or
//! multi-picture file the first picture counts. A JPEG that is damaged inside comes as far as the decoder can mend it.

use bytes::Bytes;
use ffmpeg_next::codec::{self, Flags, threading};
use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame::side_data;
use ffmpeg_next::{Dictionary, Error, Packet, Rational, color, decoder, encoder, frame, packet};
use meerkat_base::{Image, ImageFormat, PixelFormat};

use crate::error::{MediaError, PictureFault, at};
use crate::library::{init, is_again, new_frame};
use crate::orientation::Orientation;
use crate::scale::Scaler;

/// Largest picture that is decoded: 64 megapixels. Checked by the decoder before it asks for memory.
pub const MAX_PIXELS: u32 = 64 << 20;

/// More bytes than this are no picture of [`MAX_PIXELS`] (an uncompressed one has 4 bytes per pixel).
const MAX_ENCODED_BYTES: usize = (MAX_PIXELS as usize) * 4 + (1 << 20);

/// After a picture of more pixels than this the decoder's buffers are given back.
const KEEP_PIXELS: u64 = 8 << 20;

/// Decodes one picture. For many, keep a [`PictureDecoder`].
pub fn decode_picture(bytes: &[u8], format: ImageFormat, pixels: PixelFormat) -> Result<Image, PictureFault> {
    PictureDecoder::new().decode(bytes, format, pixels)
}

/// Encodes a picture as a baseline 4:2:0 JPEG. For many of one size, keep a [`JpegEncoder`].
///
/// `quality` is 1..=100 with the usual meaning (values outside are clamped); sides are at most 65,500 pixels.
pub fn encode_jpeg(image: &Image, quality: u8) -> Result<Bytes, MediaError> {
    JpegEncoder::new(quality).encode(image)
}

/// Decodes pictures one after another, on the calling thread; keeps its buffers as long as format and size stay.
#[derive(Default)]
pub struct PictureDecoder {
    open: Option<(ImageFormat, decoder::Video)>,
    scaler: Scaler,
}

impl PictureDecoder {
    /// A decoder that has nothing yet.
    pub fn new() -> Self {
        init();
        Self::default()
    }

    /// Decodes one picture to plain memory.
    pub fn decode(
        &mut self,
        bytes: &[u8],
        format: ImageFormat,
        pixels: PixelFormat,
    ) -> Result<Image, PictureFault> {
        let frame = self.decode_frame(bytes, format)?;
        self.scaler.image(&frame, pixels).map_err(undecodable)
    }

    /// As [`PictureDecoder::decode_frame`], turned as its EXIF part says.
    pub(crate) fn decode_upright(
        &mut self,
        bytes: &[u8],
        format: ImageFormat,
    ) -> Result<frame::Video, PictureFault> {
        let stored = self.decode_frame(bytes, format)?;
        let orientation = stored
            .side_data(side_data::Type::DisplayMatrix)
            .map(|matrix| Orientation::from_display_matrix(matrix.data()))
            .unwrap_or_default();
        if orientation.is_upright() {
            return Ok(stored);
        }
        let image = self.scaler.image(&stored, PixelFormat::Bgr8).map_err(undecodable)?;
        frame_of(&orientation.apply(image)).map_err(undecodable)
    }

    /// Decodes one picture to a frame in whatever pixel format the picture has.
    pub(crate) fn decode_frame(
        &mut self,
        bytes: &[u8],
        format: ImageFormat,
    ) -> Result<frame::Video, PictureFault> {
        if bytes.is_empty() || bytes.len() > MAX_ENCODED_BYTES {
            return Err(PictureFault::BadLength { bytes: bytes.len() });
        }
        let decoder = match self.open.take().filter(|(open, _)| *open == format) {
            Some(open) => &mut self.open.insert(open).1,
            None => &mut self.open.insert((format, open_decoder(format)?)).1,
        };
        let decoded = decode_one(decoder, bytes);
        let keep = decoded
            .as_ref()
            .is_ok_and(|frame| u64::from(frame.width()) * u64::from(frame.height()) <= KEEP_PIXELS);
        if !keep {
            self.open = None;
        }
        decoded.map_err(undecodable)
    }
}

/// The image as a frame of its own.
fn frame_of(image: &Image) -> Result<frame::Video, Error> {
    let pixel = match image.format() {
        PixelFormat::Gray8 => Pixel::GRAY8,
        PixelFormat::Bgr8 => Pixel::BGR24,
    };
    let mut frame = new_frame(pixel, image.width(), image.height())?;
    let row = image.width() as usize * image.format().channels();
    let stride = frame.stride(0);
    for (from, to) in image.data().chunks_exact(row).zip(frame.data_mut(0).chunks_mut(stride)) {
        if let Some(to) = to.get_mut(..row) {
            to.copy_from_slice(from);
        }
    }
    Ok(frame)
}

fn undecodable(error: Error) -> PictureFault {
    PictureFault::Undecodable { reason: error.to_string() }
}

fn open_decoder(format: ImageFormat) -> Result<decoder::Video, PictureFault> {
    let id = match format {
        ImageFormat::Jpeg => codec::Id::MJPEG,
        ImageFormat::Png => codec::Id::PNG,
        ImageFormat::Webp => codec::Id::WEBP,
        ImageFormat::Bmp => codec::Id::BMP,
        ImageFormat::Unknown => return Err(PictureFault::UnknownFormat),
    };
    let codec = decoder::find(id).ok_or_else(|| undecodable(Error::DecoderNotFound))?;
    open_video_decoder(codec::Context::new_with_codec(codec), codec).map_err(undecodable)
}

/// Opens a decoder on one thread that refuses frames of more than [`MAX_PIXELS`].
pub(crate) fn open_video_decoder(
    mut context: codec::Context,
    codec: ffmpeg_next::Codec,
) -> Result<decoder::Video, Error> {
    context.set_threading(threading::Config::count(1));
    let mut options = Dictionary::new();
    options.set("max_pixels", &MAX_PIXELS.to_string());
    context.decoder().open_as_with(codec, options)?.video()
}

fn decode_one(decoder: &mut decoder::Video, bytes: &[u8]) -> Result<frame::Video, Error> {
    // The length was checked, so the packet fits its 31-bit size field.
    let mut packet = Packet::copy(bytes);
    // Without the flag the PNG decoder takes a picture of unchanged size as a difference to the one before.
    packet.set_flags(packet::Flags::KEY);
    decoder.send_packet(&packet)?;
    let mut frame = frame::Video::empty();
    match decoder.receive_frame(&mut frame) {
        Err(error) if is_again(error) => Err(Error::InvalidData),
        Err(error) => Err(error),
        Ok(()) if frame.width() == 0 || frame.height() == 0 => Err(Error::InvalidData),
        Ok(()) => {
            // One picture gives one frame; if a file holds more, they must not turn up with the next picture.
            let mut surplus = frame::Video::empty();
            while decoder.receive_frame(&mut surplus).is_ok() {}
            Ok(frame)
        }
    }
}

/// Encodes pictures as JPEG one after another, on the calling thread; keeps its buffers as long as the size stays.
pub struct JpegEncoder {
    quantizer: i32,
    open: Option<encoder::video::Encoder>,
    scaler: Scaler,
    /// Pictures encoded; the encoder wants times that advance.
    count: i64,
}

impl JpegEncoder {
    /// An encoder of one quality, 1..=100 with the usual meaning; values outside are clamped.
    pub fn new(quality: u8) -> Self {
        init();
        Self { quantizer: quantizer(quality), open: None, scaler: Scaler::default(), count: 0 }
    }

    /// Encodes one picture as a baseline 4:2:0 JPEG with JFIF header.
    pub fn encode(&mut self, image: &Image) -> Result<Bytes, MediaError> {
        self.encode_frame(&frame_of(image).map_err(at("taking over a picture"))?)
    }

    /// Encodes a decoded frame of any pixel format.
    pub(crate) fn encode_frame(&mut self, source: &frame::Video) -> Result<Bytes, MediaError> {
        let (width, height) = (source.width(), source.height());
        let mut frame = self
            .scaler
            .run(source, Pixel::YUVJ420P, width, height)
            .map_err(at("converting a picture for JPEG"))?;
        frame.set_pts(Some(self.count));
        self.count += 1;
        let encoder = match self.open.take().filter(|e| (e.width(), e.height()) == (width, height)) {
            Some(open) => self.open.insert(open),
            None => self.open.insert(self.open_encoder(width, height)?),
        };
        let mut packet = Packet::empty();
        let result = encoder.send_frame(&frame).and_then(|()| encoder.receive_packet(&mut packet));
        if let Err(error) = result {
            self.open = None;
            return Err(at("encoding a JPEG")(error));
        }
        Ok(Bytes::copy_from_slice(packet.data().unwrap_or_default()))
    }

    fn open_encoder(&self, width: u32, height: u32) -> Result<encoder::video::Encoder, MediaError> {
        let codec = encoder::find(codec::Id::MJPEG).ok_or(MediaError::NoEncoder { name: "mjpeg" })?;
        let mut context = codec::Context::new_with_codec(codec);
        context.set_threading(threading::Config::count(1));
        // Leaves the library's name and version out of every picture.
        context.set_flags(Flags::BITEXACT);
        let step = "opening the JPEG encoder";
        let mut video = context.encoder().video().map_err(at(step))?;
        video.set_width(width);
        video.set_height(height);
        video.set_format(Pixel::YUVJ420P);
        video.set_color_range(color::Range::JPEG);
        video.set_aspect_ratio(Rational(1, 1));
        video.set_time_base(Rational(1, 25));
        video.set_qmin(self.quantizer);
        video.set_qmax(self.quantizer);
        let mut options = Dictionary::new();
        // The tables of annex K, in one pass; best-fitting tables save a few percent for a third more work.
        options.set("huffman", "default");
        video.open_as_with(codec, options).map_err(at(step))
    }
}

/// FFmpeg's step 1..=31 for a quality of 1..=100. Its table at step 13 is about as coarse as that of ITU-T T.81
/// annex K, which the usual scale calls 50; from there the usual scale's factor applies.
fn quantizer(quality: u8) -> i32 {
    let quality = i32::from(quality.clamp(1, 100));
    let percent = if quality < 50 { 5000 / quality } else { 200 - 2 * quality };
    ((13 * percent + 50) / 100).clamp(1, 31)
}

/// Whether bytes are a JPEG that any decoder takes: begins as one and brings its Huffman tables. Motion JPEG in AVI
/// and from some cameras leaves them out.
pub(crate) fn is_standalone_jpeg(bytes: &[u8]) -> bool {
    let Some(mut rest) = bytes.strip_prefix(&[0xFF, 0xD8]) else { return false };
    let mut tables = false;
    while let [0xFF, marker, tail @ ..] = rest {
        rest = match *marker {
            0xFF => &rest[1..],
            0x01 | 0xD0..=0xD7 => tail,
            0xDA => return tables,
            0xD8 | 0xD9 => return false,
            _ => {
                tables |= *marker == 0xC4;
                let [high, low, ..] = tail else { return false };
                match tail.get(usize::from(u16::from_be_bytes([*high, *low]))..) {
                    Some(next) => next,
                    None => return false,
                }
            }
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{bmp, picture, png_gray};

    fn mean_difference(a: &Image, b: &Image) -> f64 {
        assert_eq!((a.width(), a.height(), a.format()), (b.width(), b.height(), b.format()));
        let sum: u64 = a.data().iter().zip(b.data()).map(|(&a, &b)| u64::from(a.abs_diff(b))).sum();
        sum as f64 / a.data().len() as f64
    }

    #[test]
    fn a_jpeg_comes_back_as_it_went() {
        for (width, height) in [(64, 48), (63, 47), (1, 1), (2, 1), (17, 1), (640, 480)] {
            let image = picture(width, height, 3);
            let jpeg = encode_jpeg(&image, 95).unwrap();
            assert!(is_standalone_jpeg(&jpeg));
            let back = decode_picture(&jpeg, ImageFormat::Jpeg, PixelFormat::Bgr8).unwrap();
            let difference = mean_difference(&image, &back);
            assert!(difference < 4.0, "{width}x{height} differs by {difference}");
        }
    }

    #[test]
    fn one_encoder_takes_pictures_of_any_size() {
        let mut encoder = JpegEncoder::new(90);
        for (width, height) in [(64, 48), (64, 48), (33, 9), (64, 48)] {
            let bytes = encoder.encode(&picture(width, height, 1)).unwrap();
            let image = decode_picture(&bytes, ImageFormat::Jpeg, PixelFormat::Gray8).unwrap();
            assert_eq!((image.width(), image.height()), (width, height));
        }
        assert!(
            encoder.encode(&Image::new(70_000, 1, PixelFormat::Gray8, vec![0; 70_000]).unwrap()).is_err()
        );
        assert!(encoder.encode(&picture(16, 16, 1)).is_ok(), "a failure is not for ever");
    }

    #[test]
    fn black_and_white_stay_black_and_white() {
        for level in [0u8, 128, 255] {
            for format in [PixelFormat::Bgr8, PixelFormat::Gray8] {
                let image = Image::new(32, 32, format, vec![level; 32 * 32 * format.channels()]).unwrap();
                let jpeg = encode_jpeg(&image, 90).unwrap();
                let back = decode_picture(&jpeg, ImageFormat::Jpeg, format).unwrap();
                assert!(
                    back.data().iter().all(|&b| b.abs_diff(level) <= 2),
                    "{level} became {}",
                    back.data()[0]
                );
            }
        }
    }

    #[test]
    fn quality_costs_bytes() {
        let image = picture(320, 240, 1);
        let sizes: Vec<usize> =
            [1, 30, 50, 70, 90, 100].iter().map(|&q| encode_jpeg(&image, q).unwrap().len()).collect();
        assert!(sizes.is_sorted(), "{sizes:?}");
        assert!(sizes[0] * 2 < sizes[5]);
    }

    #[test]
    fn other_formats_are_read() {
        let image = picture(21, 13, 5);
        let back = decode_picture(&bmp(&image), ImageFormat::Bmp, PixelFormat::Bgr8).unwrap();
        assert_eq!(back, image);
        let gray = Image::new(3, 2, PixelFormat::Gray8, vec![0, 50, 100, 150, 200, 255]).unwrap();
        let back = decode_picture(&png_gray(&gray), ImageFormat::Png, PixelFormat::Gray8).unwrap();
        assert_eq!(back, gray);
    }

    #[test]
    fn pictures_do_not_depend_on_the_ones_before() {
        let mut decoder = PictureDecoder::new();
        let first = Image::new(4, 4, PixelFormat::Gray8, vec![200; 16]).unwrap();
        let second = Image::new(4, 4, PixelFormat::Gray8, (0..16).map(|i| i * 10).collect()).unwrap();
        for image in [&first, &second, &first] {
            assert_eq!(
                &decoder.decode(&png_gray(image), ImageFormat::Png, PixelFormat::Gray8).unwrap(),
                image
            );
        }
        assert!(decoder.decode(b"\x89PNG\r\n\x1a\nrubbish", ImageFormat::Png, PixelFormat::Gray8).is_err());
        assert_eq!(
            &decoder.decode(&png_gray(&second), ImageFormat::Png, PixelFormat::Gray8).unwrap(),
            &second
        );
    }

    #[test]
    fn a_claimed_size_beyond_the_limit_is_refused() {
        let mut jpeg = encode_jpeg(&picture(16, 16, 1), 80).unwrap().to_vec();
        let sof = jpeg.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
        jpeg[sof + 5..sof + 9].copy_from_slice(&[0xFF, 0x00, 0xFF, 0x00]);
        let fault = decode_picture(&jpeg, ImageFormat::Jpeg, PixelFormat::Bgr8).unwrap_err();
        assert!(matches!(fault, PictureFault::Undecodable { .. }), "{fault}");

        let mut bitmap = bmp(&picture(16, 16, 1));
        bitmap[18..26].copy_from_slice(&[0, 0x40, 0, 0, 0, 0x40, 0, 0]);
        assert!(decode_picture(&bitmap, ImageFormat::Bmp, PixelFormat::Bgr8).is_err());
    }

    #[test]
    fn rubbish_is_an_error_and_nothing_else() {
        let jpeg = encode_jpeg(&picture(64, 64, 1), 80).unwrap();
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Webp, ImageFormat::Bmp] {
            for bytes in [&b""[..], b"x", b"\xFF\xD8\xFF\xD9", &jpeg[..20], &[0; 4096]] {
                assert!(decode_picture(bytes, format, PixelFormat::Bgr8).is_err(), "{format:?} {bytes:?}");
            }
        }
        assert_eq!(
            decode_picture(&jpeg, ImageFormat::Unknown, PixelFormat::Bgr8),
            Err(PictureFault::UnknownFormat)
        );
        // Cut or damaged anywhere: a picture or an error.
        for at in 0..jpeg.len() {
            let _ = decode_picture(&jpeg[..at], ImageFormat::Jpeg, PixelFormat::Bgr8);
        }
    }

    #[test]
    fn a_jpeg_without_tables_is_told_apart() {
        let jpeg = encode_jpeg(&picture(16, 16, 1), 80).unwrap();
        assert!(is_standalone_jpeg(&jpeg));
        let mut without = jpeg.to_vec();
        while let Some(at) = without.windows(2).position(|w| w == [0xFF, 0xC4]) {
            let length = usize::from(u16::from_be_bytes([without[at + 2], without[at + 3]]));
            without.drain(at..at + 2 + length);
        }
        assert!(!is_standalone_jpeg(&without));
        for at in 0..jpeg.len().min(700) {
            let _ = is_standalone_jpeg(&jpeg[..at]);
        }
    }
}
