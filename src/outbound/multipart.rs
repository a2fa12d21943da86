//! Bodies of `multipart/form-data` (RFC 7578): fields and files in one request. Written by hand because services want
//! the plainest form there is: quoted ASCII names, one Content-Type per file, a length for the whole.

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

/// A form under construction.
#[derive(Debug)]
pub struct Form {
    boundary: String,
    body: BytesMut,
}

impl Form {
    /// An empty form. Its boundary is random: no file can contain it but by guessing 122 bits.
    pub fn new() -> Self {
        Self { boundary: format!("meerkat-{}", Uuid::new_v4().simple()), body: BytesMut::new() }
    }

    /// Adds a field.
    #[must_use]
    pub fn text(mut self, name: &'static str, value: &str) -> Self {
        let head = format!("--{}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n", self.boundary);
        self.body.put_slice(head.as_bytes());
        self.body.put_slice(value.as_bytes());
        self.body.put_slice(b"\r\n");
        self
    }

    /// Adds a file. Characters of its name that do not belong into a quoted ASCII name become `_`.
    #[must_use]
    pub fn file(
        mut self,
        name: &'static str,
        file_name: &str,
        content_type: &'static str,
        bytes: &[u8],
    ) -> Self {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let file_name: String = file_name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
        let head = format!(
            "--{}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file_name}\"\r\n\
             Content-Type: {content_type}\r\n\r\n",
            self.boundary
        );
        self.body.reserve(head.len() + bytes.len() + self.boundary.len() + 8);
        self.body.put_slice(head.as_bytes());
        self.body.put_slice(bytes);
        self.body.put_slice(b"\r\n");
        self
    }

    /// The Content-Type and the whole body.
    pub(crate) fn finish(mut self) -> (String, Bytes) {
        self.body.put_slice(format!("--{}--\r\n", self.boundary).as_bytes());
        (format!("multipart/form-data; boundary={}", self.boundary), self.body.freeze())
    }
}

impl Default for Form {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_what_the_standard_says() {
        let mut form = Form::new();
        form.boundary = "b".into();
        let form =
            form.text("chat_id", "-100 门").file("photo", "a\"\r\nb 门.jpg", "image/jpeg", b"\xff\xd8\r\n");
        let (kind, body) = form.finish();
        assert_eq!(kind, "multipart/form-data; boundary=b");
        let expected = [
            "--b\r\nContent-Disposition: form-data; name=\"chat_id\"\r\n\r\n-100 门\r\n".as_bytes(),
            b"--b\r\nContent-Disposition: form-data; name=\"photo\"; filename=\"a___b__.jpg\"\r\n",
            b"Content-Type: image/jpeg\r\n\r\n\xff\xd8\r\n\r\n--b--\r\n",
        ]
        .concat();
        assert_eq!(body, expected);
        assert_ne!(Form::new().boundary, Form::new().boundary);
    }
}
