//! Attributes of one layer's `<data>`, each of which must be asked for: one that nobody understands refuses the layer.

use std::cell::Cell;
use std::str::FromStr;

use super::document::Layer;
use crate::graph::error::{At, ImportError};
use crate::graph::limits::MAX_XML_ATTRIBUTES;

/// A layer's attributes and which of them were asked for.
pub(super) struct Attributes<'a> {
    pub at: At<'a>,
    data: &'a [(&'a str, &'a str)],
    read: Cell<u128>,
}

const _: () = assert!(MAX_XML_ATTRIBUTES <= 128, "one bit for each");

impl<'a> Attributes<'a> {
    pub fn new(layer: &'a Layer<'a>) -> Self {
        Self { at: layer.at(), data: &layer.data, read: Cell::new(0) }
    }

    pub fn text(&self, key: &str) -> Option<&'a str> {
        let place = self.data.iter().position(|(name, _)| *name == key)?;
        self.read.set(self.read.get() | 1 << (place % 128));
        Some(self.data[place].1.trim())
    }

    /// Attributes that do not change what is computed here.
    pub fn ignore(&self, keys: &[&str]) {
        for key in keys {
            self.text(key);
        }
    }

    fn parse<T: FromStr>(&self, key: &str, text: &str) -> Result<T, ImportError> {
        text.trim()
            .parse()
            .map_err(|_| self.at.invalid(format!("attribute {key:?} cannot be {}", quoted(text))))
    }

    pub fn value<T: FromStr>(&self, key: &str) -> Result<Option<T>, ImportError> {
        self.text(key).map(|text| self.parse(key, text)).transpose()
    }

    pub fn needed<T: FromStr>(&self, key: &str) -> Result<T, ImportError> {
        self.value(key)?.ok_or_else(|| self.at.invalid(format!("attribute {key:?} is missing")))
    }

    pub fn or<T: FromStr>(&self, key: &str, default: T) -> Result<T, ImportError> {
        Ok(self.value(key)?.unwrap_or(default))
    }

    pub fn boolean(&self, key: &str, default: bool) -> Result<bool, ImportError> {
        match self.text(key) {
            None => Ok(default),
            Some("true" | "True" | "1") => Ok(true),
            Some("false" | "False" | "0") => Ok(false),
            Some(text) => Err(self.at.invalid(format!("attribute {key:?} cannot be {}", quoted(text)))),
        }
    }

    /// Values separated by commas.
    pub fn list<T: FromStr>(&self, key: &str) -> Result<Option<Vec<T>>, ImportError> {
        match self.text(key) {
            None => Ok(None),
            Some("") => Ok(Some(Vec::new())),
            Some(text) => {
                text.split(',').map(|piece| self.parse(key, piece)).collect::<Result<_, _>>().map(Some)
            }
        }
    }

    pub fn needed_list<T: FromStr>(&self, key: &str) -> Result<Vec<T>, ImportError> {
        self.list(key)?.ok_or_else(|| self.at.invalid(format!("attribute {key:?} is missing")))
    }

    /// An attribute that may only have these values; the first is taken when it is missing.
    pub fn choice(&self, key: &str, allowed: &[&'static str]) -> Result<&'static str, ImportError> {
        let Some(text) = self.text(key) else { return Ok(allowed.first().copied().unwrap_or_default()) };
        allowed
            .iter()
            .copied()
            .find(|value| value.eq_ignore_ascii_case(text))
            .ok_or_else(|| self.at.unsupported(format!("{key}={}", quoted(text))))
    }

    /// Refuses the layer when it has an attribute that was not asked for.
    pub fn all_read(&self) -> Result<(), ImportError> {
        let unread =
            self.data.iter().enumerate().find(|(place, _)| self.read.get() >> (place % 128) & 1 == 0);
        match unread {
            Some((_, (key, _))) => Err(self.at.unsupported(format!("attribute {}", quoted(key)))),
            None => Ok(()),
        }
    }
}

/// Text of a file for a message: escaped and not too long.
pub(super) fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(64).collect::<String>())
}
