//! One letter in its MIME form: the text, the same as HTML with the picture in it, and the clip as a file. Whatever
//! stands in it was escaped or encoded here; no text can add a header or a tag.

use bytes::Bytes;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, Message, MultiPart, SinglePart};
use meerkat_base::WallTime;
use std::time::{Duration, SystemTime};

/// A subject is cut here, characters.
const SUBJECT_CHARS: usize = 120;

/// What a letter is made of.
pub(super) struct Letter<'a> {
    pub from: &'a Mailbox,
    pub to: &'a [Mailbox],
    /// What its Message-ID is made of: the same for every attempt. Letters, digits, `-` and `.`.
    pub id: &'a str,
    /// What the ids of the letters are made of that it belongs to.
    pub references: &'a [String],
    pub date: WallTime,
    /// Its first line is the subject too.
    pub text: &'a str,
    /// A JPEG.
    pub picture: Option<&'a Bytes>,
    /// An MP4 with its name.
    pub file: Option<(&'a str, &'a Bytes)>,
}

impl Letter<'_> {
    /// The letter as it is handed over: ASCII only, lines of at most 998 bytes that end in CRLF (RFC 5322).
    pub fn bytes(&self) -> Result<Vec<u8>, String> {
        let domain = self.from.email.domain();
        let named = |id: &str| format!("<{id}@{domain}>");
        let raw = |name: &'static str, value: &str| {
            HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
        };
        let mut builder = Message::builder()
            .from(self.from.clone())
            .subject(subject(self.text))
            .date(system_time(self.date))
            .message_id(Some(named(self.id)))
            // No holiday notice answers a machine (RFC 3834).
            .raw_header(raw("Auto-Submitted", "auto-generated"))
            .raw_header(raw("X-Auto-Response-Suppress", "All"));
        for mailbox in self.to {
            builder = builder.to(mailbox.clone());
        }
        if let Some(first) = self.references.last() {
            let all: Vec<String> = self.references.iter().map(|id| named(id)).collect();
            builder = builder.in_reply_to(named(first)).references(all.join(" "));
        }
        let picture_id = format!("picture.{}@{domain}", self.id);
        let html = html(self.text, self.picture.map(|_| picture_id.as_str()));
        let plain = SinglePart::plain(self.text.to_owned());
        let alternatives = match self.picture {
            None => MultiPart::alternative().singlepart(plain).singlepart(SinglePart::html(html)),
            Some(picture) => {
                let part = Attachment::new_inline_with_name(picture_id, "picture.jpg".to_owned())
                    .body(picture.to_vec(), content_type("image/jpeg")?);
                let related = MultiPart::related().singlepart(SinglePart::html(html)).singlepart(part);
                MultiPart::alternative().singlepart(plain).multipart(related)
            }
        };
        let whole = match self.file {
            None => alternatives,
            Some((name, file)) => {
                let part = Attachment::new(name.to_owned()).body(file.to_vec(), content_type("video/mp4")?);
                MultiPart::mixed().multipart(alternatives).singlepart(part)
            }
        };
        builder.multipart(whole).map(|message| message.formatted()).map_err(|error| error.to_string())
    }
}

fn content_type(text: &str) -> Result<ContentType, String> {
    ContentType::parse(text).map_err(|error| error.to_string())
}

fn system_time(time: WallTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(time.0).unwrap_or(0))
}

/// The first line, which cannot hold a line feed.
fn subject(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    let mut subject: String = first.chars().filter(|c| !c.is_control()).take(SUBJECT_CHARS).collect();
    if subject.len() < first.len() {
        subject.push('…');
    }
    subject
}

/// The text as HTML, the first line larger, lines that are nothing but an address as links.
fn html(text: &str, picture_id: Option<&str>) -> String {
    let mut body = String::new();
    for (number, line) in text.lines().enumerate() {
        let escaped = escape(line);
        let is_address = line.starts_with("https://") || line.starts_with("http://");
        body.push_str(&match number {
            0 => format!("<p style=\"font-size:1.15em;font-weight:bold\">{escaped}</p>\r\n<p>"),
            _ if is_address && !line.contains(' ') => format!("<a href=\"{escaped}\">{escaped}</a><br>\r\n"),
            _ => format!("{escaped}<br>\r\n"),
        });
    }
    body.push_str("</p>\r\n");
    if let Some(id) = picture_id {
        body.push_str(&format!(
            "<p><img src=\"cid:{}\" alt=\"\" style=\"max-width:100%\"></p>\r\n",
            escape(id)
        ));
    }
    format!(
        "<!DOCTYPE html>\r\n<html><head><meta charset=\"utf-8\"></head>\r\n\
         <body style=\"font-family:sans-serif\">\r\n{body}</body></html>\r\n"
    )
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_escaped_and_only_addresses_are_links() {
        let shown =
            html("<b>&\n\"x\" 'y'\nhttps://example.org/a?b=1&c=\"><script>\nsee https://example.org", None);
        assert!(shown.contains("&lt;b&gt;&amp;</p>"), "{shown}");
        assert!(shown.contains("&quot;x&quot; &#39;y&#39;<br>"), "{shown}");
        assert!(
            shown.contains("<a href=\"https://example.org/a?b=1&amp;c=&quot;&gt;&lt;script&gt;\">"),
            "{shown}"
        );
        assert!(shown.contains("see https://example.org<br>") && !shown.contains("<img"), "{shown}");
    }

    #[test]
    fn a_subject_is_one_short_line() {
        assert_eq!(subject("one\r\nBcc: all@example.org"), "one");
        assert_eq!(subject("a\u{0}b\rc"), "abc…");
        assert_eq!(subject(&"长".repeat(200)).chars().count(), SUBJECT_CHARS + 1);
        assert_eq!(subject(""), "");
    }
}
