//! Faces that match nobody, as they are listed, and which of them somebody can be enrolled of.

use std::io::ErrorKind;
use std::path::Path;

use meerkat_base::FaceRecogniser;
use meerkat_store::confine::read_picture;
use meerkat_store::{StoreError, StoreReader, UnknownPicture};
use meerkat_web::{PeopleError, PictureProblem, UnknownSummary};
use tracing::warn;

use super::judge::{Judged, judge};

/// All groups with their pictures.
pub(crate) fn list(store: &StoreReader) -> Result<Vec<UnknownSummary>, StoreError> {
    let mut groups = Vec::new();
    for group in store.unknown_groups()? {
        let pictures = store.unknown_pictures(group.group)?;
        groups.push(UnknownSummary {
            group: group.group,
            first: group.first,
            last: group.last,
            seen: group.seen,
            pictures: pictures.into_iter().map(|picture| shown(store.folder(), picture)).collect(),
        });
    }
    Ok(groups)
}

fn shown(folder: &Path, picture: UnknownPicture) -> meerkat_web::UnknownPicture {
    let file = picture.path.strip_prefix(folder).unwrap_or(&picture.path);
    meerkat_web::UnknownPicture {
        number: picture.number,
        camera: picture.camera.to_string(),
        at: picture.at,
        width_px: picture.width_px,
        file: file.to_string_lossy().into_owned(),
    }
}

/// A picture, unless it went meanwhile.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, PeopleError> {
    match read_picture(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PeopleError::Failed(format!("{}: {error}", path.display()))),
    }
}

/// The pictures of a group that can be used, encoded and as they were judged.
///
/// # Errors
/// [`PeopleError::Pictures`] when none can.
pub(super) fn usable(
    recogniser: &mut dyn FaceRecogniser,
    pictures: &[UnknownPicture],
) -> Result<(Vec<Vec<u8>>, Vec<Judged>), PeopleError> {
    let (mut usable, mut good, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for (index, picture) in pictures.iter().enumerate() {
        let Some(bytes) = read(&picture.path)? else { continue };
        match judge(recogniser, &bytes) {
            Ok(judged) => {
                usable.push(bytes);
                good.push(judged);
            }
            Err(unusable) => problems.push(PictureProblem {
                number: index + 1,
                reason: unusable.reason,
                problem: unusable.words,
            }),
        }
    }
    for problem in &problems {
        warn!(
            number = problem.number,
            problem.problem, "a picture of an unknown face is left out of an enrolment"
        );
    }
    if usable.is_empty() { Err(PeopleError::Pictures(problems)) } else { Ok((usable, good)) }
}
