//! Tests of what drawings become: forms, sizes, escaping.

use super::*;
use crate::chart::colour::BLACK;

fn drawing() -> Drawing {
    let mut drawing = Drawing::new("test", (400, 300));
    drawing.title("<script>&\"quotes'", "note");
    for n in 0..100 {
        let (x, y) = (n % 10 * 40, n / 10 * 30);
        drawing.put(Mark::Fill([x, y, x + 30, y + 20], (n.try_into().unwrap(), 100, 200)));
        drawing.put(Mark::Dot([x, y], 5, BLACK));
    }
    drawing.put(Mark::Polygon(vec![(10, 10), (90, 10), (50, 90)], BLACK));
    drawing.put(Mark::Line([0, 0, 399, 299], BLACK));
    drawing.put(Mark::Outline([5, 5, 100, 100], BLACK));
    drawing.text([50, 50], Hold::Upwards, 15.0, BLACK, "up");
    drawing
}

#[test]
fn an_svg_keeps_what_peers_wrote_in_quotes() {
    let svg = drawing().svg().unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
    assert!(!svg.contains("<script>") && svg.contains("&lt;script&gt;&amp;"), "{svg}");
}

#[test]
fn pictures_have_the_size_of_the_sheet_and_jpegs_fit_where_they_must() {
    if chosen().is_none() {
        assert!(matches!(drawing().png(), Err(DrawError::NoFont)));
        println!("skipped: there is no font");
        return;
    }
    let png = image::load_from_memory(&drawing().png().unwrap()).unwrap();
    assert_eq!((png.width(), png.height()), (400, 300));
    let whole = drawing().jpeg().unwrap();
    assert!(whole.len() <= CLIENT_JPEG_BYTES);
    for limit in [20_000, 8_000, 6_000] {
        let jpeg = drawing().jpeg_within(limit).unwrap();
        assert!(jpeg.len() <= limit);
        let picture = image::load_from_memory(&jpeg).unwrap();
        assert!(picture.width() >= LEAST_WIDTH && picture.width() <= 400);
    }
    assert!(matches!(drawing().jpeg_within(100), Err(DrawError::TooLarge { limit: 100 })));
}
