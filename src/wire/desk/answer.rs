//! What the server says. Old clients read an answer with one `recv(1024)`, so every text fits that.

/// Longest answer in words, bytes.
pub const MAX_TEXT_ANSWER_BYTES: usize = 1024;

/// Go on, or done.
pub const OK: &str = "OK";
/// The whole file to be passed on has arrived.
pub const RELAY_STORED: &str = "接收加密文件完成";
/// There is no face on the picture.
pub const NO_FACE: &str = "No face";

/// Longest name of an object, bytes.
const MAX_NAME_BYTES: usize = 160;
/// Objects in one answer.
const MAX_OBJECTS: usize = 5;

/// The first face of a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Face {
    /// `Male`, `Female` or `Unknown`.
    pub gender: &'static str,
    /// Years; 0 when it is not known.
    pub age: u32,
    /// 0..=100; 0 when nobody judged it.
    pub beauty: f64,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Pixels from the upper edge.
    pub top: u32,
    /// Pixels from the left edge.
    pub left: u32,
}

/// A size or a number of pictures.
pub fn count(number: usize) -> String {
    number.to_string()
}

/// `gender,age,score,width,top,height,left`.
pub fn face(face: &Face) -> String {
    let beauty = if face.beauty.is_finite() { face.beauty.clamp(0.0, 100.0) } else { 0.0 };
    let Face { gender, age, width, height, top, left, .. } = face;
    format!("{gender},{age},{beauty:.2},{width},{top},{height},{left}")
}

/// `name!score!name!score…` of the first five, without a `!` at the end.
pub fn objects<'a>(found: impl IntoIterator<Item = (&'a str, f32)>) -> String {
    let mut answer = String::new();
    for (name, score) in found.into_iter().take(MAX_OBJECTS) {
        if !answer.is_empty() {
            answer.push('!');
        }
        let score = if score.is_finite() { score } else { 0.0 };
        let plain: String = name.chars().map(|c| if c == '!' || c.is_control() { ' ' } else { c }).collect();
        answer.push_str(cut_to(&plain, MAX_NAME_BYTES));
        answer.push_str(&format!("!{score:.5}"));
    }
    answer
}

/// What went wrong, where the old protocol has no word for it. The connection closes behind it.
pub fn error(reason: &str) -> String {
    cut_text(&format!("error: {reason}"))
}

/// As much of a text as an answer holds.
pub fn cut_text(text: &str) -> String {
    cut_to(text, MAX_TEXT_ANSWER_BYTES).to_owned()
}

fn cut_to(text: &str, bytes: usize) -> &str {
    // `str::floor_char_boundary` is younger than the oldest compiler that may build this.
    let end = (0..=bytes.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    &text[..end]
}
