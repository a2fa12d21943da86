//! Carries pixels between [`Image`] and OpenCV's `Mat`. The one place where sizes become `i32`.

use meerkat_base::{Image, PixelFormat};
use opencv::boxed_ref::BoxedRef;
use opencv::core::{CV_8UC1, CV_8UC3, Mat, MatTraitConst, MatTraitConstManual, Size, Vec3b};

use crate::VisionError;

/// Width and height as OpenCV wants them.
pub(crate) fn size(width: u32, height: u32) -> Result<Size, VisionError> {
    match (i32::try_from(width), i32::try_from(height)) {
        (Ok(w), Ok(h)) if w > 0 && h > 0 => Ok(Size::new(w, h)),
        _ => Err(VisionError::TooLarge { width, height }),
    }
}

/// Lends the pixels of an image to OpenCV without copying them.
pub(crate) fn borrow(image: &Image) -> Result<BoxedRef<'_, Mat>, VisionError> {
    let size = size(image.width(), image.height())?;
    Ok(match image.format() {
        PixelFormat::Gray8 => Mat::new_rows_cols_with_bytes::<u8>(size.height, size.width, image.data())?,
        PixelFormat::Bgr8 => Mat::new_rows_cols_with_bytes::<Vec3b>(size.height, size.width, image.data())?,
    })
}

/// Copies a `Mat` of 8-bit grey or BGR pixels out of OpenCV.
pub(crate) fn to_image(mat: &Mat) -> Result<Image, VisionError> {
    let format = match mat.typ() {
        t if t == CV_8UC1 => PixelFormat::Gray8,
        t if t == CV_8UC3 => PixelFormat::Bgr8,
        _ => return Err(VisionError::Undecodable),
    };
    let (width, height) = extent(mat);
    let data = if mat.is_continuous() {
        mat.data_bytes()?.to_vec()
    } else {
        mat.try_clone()?.data_bytes()?.to_vec()
    };
    Image::new(width, height, format, data).map_err(|_| VisionError::Undecodable)
}

/// Width and height of a two-dimensional `Mat`.
pub(crate) fn extent(mat: &Mat) -> (u32, u32) {
    (u32::try_from(mat.cols()).unwrap_or(0), u32::try_from(mat.rows()).unwrap_or(0))
}
