//! What each mode promises a camera, seen from the camera and from the disk.

use std::os::unix::fs::PermissionsExt;

use crate::harness::{Plan, files_below, jpeg};

#[test]
fn mode_1_keeps_every_picture_as_it_was_sent() {
    let mut node = Plan::new().start();
    let pictures: Vec<Vec<u8>> = (0..5).map(|seed| jpeg(320, 240, seed)).collect();
    let mut camera = node.camera("door", 1);
    for picture in &pictures {
        assert_eq!(camera.frame(picture), b'1');
    }
    let folder = node.data().join("capture/image/door");
    let files = files_below(&folder);
    let stored: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert_eq!(stored, pictures, "the files in the order of their names, {files:?}");
    for file in &files {
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o7777, 0o600, "{file:?}");
        assert_eq!(file.extension().unwrap(), "jpg");
    }
    assert!(node.stop().success());
}
