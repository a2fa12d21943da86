//! The colours of the charts.

/// Red, green, blue.
pub type Rgb = (u8, u8, u8);

pub const BLACK: Rgb = (30, 30, 30);
pub const GREY: Rgb = (130, 130, 130);
pub const PALE: Rgb = (225, 225, 225);
pub const WHITE: Rgb = (255, 255, 255);
pub const BLUE: Rgb = (55, 110, 165);
pub const RED: Rgb = (190, 60, 55);

/// Colours of things that stand side by side, told apart also by those who do not see red and green (Okabe and Ito).
const SIDE_BY_SIDE: [Rgb; 8] = [
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (213, 94, 0),
    (120, 110, 20),
    (110, 80, 160),
];

/// The colour of the n-th of several things.
pub fn nth(n: usize) -> Rgb {
    SIDE_BY_SIDE[n % SIDE_BY_SIDE.len()]
}

/// From blue at -1 over white to red at 1; grey for not-a-number.
pub fn diverging(value: f64) -> Rgb {
    if value.is_nan() {
        return PALE;
    }
    let end = if value < 0.0 { BLUE } else { RED };
    between(WHITE, end, value.abs())
}

/// From white at 0 to dark blue at 1.
pub fn rising(share: f64) -> Rgb {
    const MIDDLE: Rgb = (90, 160, 200);
    const DARK: Rgb = (10, 50, 110);
    if share < 0.5 { between(WHITE, MIDDLE, share * 2.0) } else { between(MIDDLE, DARK, share * 2.0 - 1.0) }
}

/// Black or white, whichever can be read on a colour.
pub fn readable_on((red, green, blue): Rgb) -> Rgb {
    let light = 299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue);
    if light > 140_000 { BLACK } else { WHITE }
}

fn between(from: Rgb, to: Rgb, share: f64) -> Rgb {
    let share = share.clamp(0.0, 1.0);
    let mix = |from: u8, to: u8| (f64::from(from) + (f64::from(to) - f64::from(from)) * share).round() as u8;
    (mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_and_the_middle() {
        assert_eq!((diverging(-1.0), diverging(0.0), diverging(1.0)), (BLUE, WHITE, RED));
        assert_eq!(diverging(f64::NAN), PALE);
        assert_eq!((rising(0.0), rising(1.0), rising(9.0)), (WHITE, (10, 50, 110), (10, 50, 110)));
        assert_eq!((readable_on(WHITE), readable_on((10, 50, 110))), (BLACK, WHITE));
    }
}
