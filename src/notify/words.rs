//! Fits words to what services allow: cutting by bytes or characters, taking the meaning out of marks. Which marks mean
//! something where is each service's own knowledge.

use crate::render::printable;

/// Replaces marks by their full-width forms, which look alike and mean nothing to any service, and takes out what cannot
/// be seen.
pub(crate) fn disarm(text: &str, marks: &[char]) -> String {
    printable(text).chars().map(|c| if marks.contains(&c) { full_width(c) } else { c }).collect()
}

/// The full-width form of printable ASCII (Unicode block FF00..FFEF); other characters stay.
fn full_width(c: char) -> char {
    match c {
        '!'..='~' => char::from_u32(u32::from(c) + 0xfee0).unwrap_or(c),
        other => other,
    }
}

/// Marks that call people.
pub(crate) const CALLS: &[char] = &['<', '>', '@'];

/// Marks that call people or mean something in the Markdown of these services.
pub(crate) const MARKDOWN: &[char] =
    &['<', '>', '@', '[', ']', '(', ')', '*', '_', '`', '#', '~', '|', '!', '\\', '&', '$', '{', '}'];

/// At most so many bytes, cut between characters, the last of them an ellipsis if anything is missing.
pub(crate) fn cut(text: &str, most_bytes: usize) -> String {
    if text.len() <= most_bytes {
        return text.to_owned();
    }
    let mut end = most_bytes.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1; // 0 is a boundary
    }
    let mut out = text.get(..end).unwrap_or_default().to_owned();
    out.push('…');
    out
}

/// Splits off a beginning of at most so many UTF-16 units, at the end of a line if there is one in it.
pub(crate) fn split_utf16(text: &str, most_units: usize) -> (&str, &str) {
    let mut units = 0;
    for (at, c) in text.char_indices() {
        units += c.len_utf16();
        if units > most_units {
            let (fits, _) = text.split_at(at);
            let line_end = fits.rfind('\n').unwrap_or(at);
            let (head, tail) = text.split_at(if line_end == 0 { at } else { line_end });
            return (head, tail.trim_start_matches('\n'));
        }
    }
    (text, "")
}

/// Takes a link that is nothing but one: `http` or `https`, and no character that ends it or means something in
/// Markdown.
pub(crate) fn plain_link(link: &str) -> Option<&str> {
    let begins = link.starts_with("https://") || link.starts_with("http://");
    let plain = link.bytes().all(|b| b.is_ascii_graphic() && !b"<>()[]{}\"'`\\|*".contains(&b));
    (begins && plain && link.len() <= 2_048).then_some(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_keeps_characters_whole() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcdef", 5), "ab…");
        assert_eq!(cut("门门门", 8), "门…");
        assert_eq!(cut("门门门", 9), "门门门");
        for length in 3..20 {
            let out = cut(&"a😀门é".repeat(5), length);
            assert!(out.len() <= length && out.ends_with('…'), "{length}: {out}");
        }
    }

    #[test]
    fn splitting_counts_as_telegram_does() {
        assert_eq!(split_utf16("abc", 3), ("abc", ""));
        assert_eq!(split_utf16("a😀b", 3), ("a😀", "b"));
        assert_eq!(split_utf16("a😀b", 2), ("a", "😀b"));
        assert_eq!(split_utf16("one\ntwo\nthree", 9), ("one\ntwo", "three"));
        assert_eq!(split_utf16("\nabcdef", 3), ("\nab", "cdef"));
        assert_eq!(split_utf16("", 0), ("", ""));
    }

    #[test]
    fn marks_lose_their_meaning() {
        assert_eq!(disarm("<@all> 门\u{202e}", CALLS), "＜＠all＞ 门");
        assert_eq!(disarm("[x](http://y) **b** #", MARKDOWN), "［x］（http://y） ＊＊b＊＊ ＃");
    }

    #[test]
    fn links_are_links() {
        assert_eq!(plain_link("https://h/c/1.mp4?x=1&sig=a-b_c"), Some("https://h/c/1.mp4?x=1&sig=a-b_c"));
        for bad in [
            "javascript:alert(1)",
            "https://h/a b",
            "https://h/)[x](http://y",
            "https://h/\n@all",
            "",
            "https://h/门",
        ] {
            assert_eq!(plain_link(bad), None, "{bad}");
        }
    }
}
