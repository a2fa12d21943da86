//! The part of Python's pickle language that `torch.save` uses for a state dict: names of tensors, where their values
//! lie, and nothing else. A name of a class or function that is not on the list ends the reading; nothing is ever called.

use std::rc::Rc;

use super::value::{Value, deeper, known, made, storage};

/// Most operations of one pickle. A tensor takes about thirty.
const MAX_OPERATIONS: usize = 1 << 21;

/// Why a pickle is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PickleError {
    /// It ends before its end.
    #[error("it ends too early")]
    Short,
    /// An operation that no state dict needs.
    #[error("operation 0x{0:02x} is not understood")]
    Operation(u8),
    /// A class or function that no state dict needs.
    #[error("it names {0:?}, which weights do not need")]
    Name(String),
    /// It contradicts itself, or the language.
    #[error("{0}")]
    Wrong(&'static str),
    /// Too much of something.
    #[error("it has more {0} than weights need")]
    TooMuch(&'static str),
}

use PickleError::{Short, TooMuch, Wrong};

/// Reads one pickle.
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    /// Lengths of the stack where a mark was set.
    marks: Vec<usize>,
    notes: Vec<Value>,
}

impl<'a> Reader<'a> {
    /// Reads at the beginning of these bytes; more may follow.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, stack: Vec::new(), marks: Vec::new(), notes: Vec::new() }
    }

    /// Bytes that were read.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Reads to the end of the pickle.
    ///
    /// # Errors
    /// See [`PickleError`].
    pub fn value(&mut self) -> Result<Value, PickleError> {
        for _ in 0..MAX_OPERATIONS {
            if let Some(value) = self.operation()? {
                return Ok(value);
            }
        }
        Err(TooMuch("operations"))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], PickleError> {
        let end = self.at.checked_add(count).ok_or(Short)?;
        let taken = self.bytes.get(self.at..end).ok_or(Short)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        self.take(N)?.try_into().map_err(|_| Short)
    }

    fn byte(&mut self) -> Result<usize, PickleError> {
        Ok(usize::from(u8::from_le_bytes(self.array()?)))
    }

    fn word(&mut self) -> Result<usize, PickleError> {
        usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| Short)
    }

    fn text(&mut self, length: usize) -> Result<Value, PickleError> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| Wrong("a text is no UTF-8"))?;
        Ok(Value::Text(text.into()))
    }

    fn line(&mut self) -> Result<&'a str, PickleError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length =
            rest.iter().take(256).position(|&byte| byte == b'\n').ok_or(Wrong("a name has no end"))?;
        let line = self.take(length)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| Wrong("a name is no UTF-8"))
    }

    fn push(&mut self, value: Value) {
        self.stack.push(value);
    }

    fn pop(&mut self) -> Result<Value, PickleError> {
        // What lies below a mark belongs to the tuple or dictionary around.
        if self.marks.last().is_some_and(|&mark| mark >= self.stack.len()) {
            return Err(Wrong("a value is missing"));
        }
        self.stack.pop().ok_or(Wrong("a value is missing"))
    }

    /// Everything since the last mark.
    fn marked(&mut self) -> Result<Vec<Value>, PickleError> {
        let mark = self.marks.pop().ok_or(Wrong("a mark is missing"))?;
        Ok(self.stack.split_off(mark))
    }

    fn pairs(&mut self) -> Result<Vec<(Value, Value)>, PickleError> {
        let mut values = self.marked()?.into_iter();
        let mut pairs = Vec::with_capacity(values.len() / 2);
        while let Some(key) = values.next() {
            pairs.push((key, values.next().ok_or(Wrong("a key has no value"))?));
        }
        Ok(pairs)
    }

    fn tuple(&mut self, values: Vec<Value>) -> Result<(), PickleError> {
        let depth = deeper(values.iter())?;
        self.push(Value::Tuple(values.into(), depth));
        Ok(())
    }

    fn last(&mut self, count: usize) -> Result<Vec<Value>, PickleError> {
        let mut values: Vec<Value> = (0..count).map(|_| self.pop()).collect::<Result<_, _>>()?;
        values.reverse();
        Ok(values)
    }

    fn extend_dict(&mut self, pairs: Vec<(Value, Value)>) -> Result<(), PickleError> {
        let inner = deeper(pairs.iter().flat_map(|(key, value)| [key, value]))?;
        match self.stack.last_mut() {
            Some(Value::Dict(entries, depth)) => {
                entries.extend(pairs);
                *depth = inner.max(*depth);
                Ok(())
            }
            _ => Err(Wrong("an entry belongs to no dictionary")),
        }
    }

    fn extend_list(&mut self, values: Vec<Value>) -> Result<(), PickleError> {
        let inner = deeper(values.iter())?;
        match self.stack.last_mut() {
            Some(Value::List(list, depth)) => {
                list.extend(values);
                *depth = inner.max(*depth);
                Ok(())
            }
            _ => Err(Wrong("a value belongs to no list")),
        }
    }

    /// Keeps what is on top under a number.
    fn note(&mut self, number: usize) -> Result<(), PickleError> {
        if number > self.notes.len() {
            return Err(Wrong("notes are not numbered one after the other"));
        }
        let value = match self.stack.last().ok_or(Wrong("a value is missing"))? {
            Value::List(..) | Value::Dict(..) => Value::Noted,
            value => value.clone(),
        };
        match self.notes.get_mut(number) {
            Some(place) => *place = value,
            None => self.notes.push(value),
        }
        Ok(())
    }

    fn noted(&mut self, number: usize) -> Result<(), PickleError> {
        match self.notes.get(number).cloned() {
            Some(Value::Noted) => Err(Wrong("a list or dictionary stands in two places")),
            Some(value) => {
                self.push(value);
                Ok(())
            }
            None => Err(Wrong("a note is missing")),
        }
    }

    /// One operation; the value when it was the last.
    fn operation(&mut self) -> Result<Option<Value>, PickleError> {
        let [code] = self.array()?;
        match code {
            0x80 => _ = self.byte()?,
            b'.' => {
                let value = self.pop()?;
                return if self.stack.is_empty() {
                    Ok(Some(value))
                } else {
                    Err(Wrong("values are left over"))
                };
            }
            b'(' => self.marks.push(self.stack.len()),
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'K' => {
                let value = self.byte()?;
                self.push(Value::Int(value as i64));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()));
            }
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()));
            }
            0x8a => {
                let length = self.byte()?;
                let bytes = self.take(length)?;
                let sign = bytes.last().is_some_and(|&byte| byte >= 0x80);
                let mut whole = [if sign { 0xFF } else { 0 }; 8];
                whole.get_mut(..length).ok_or(Wrong("a number is too large"))?.copy_from_slice(bytes);
                self.push(Value::Int(i64::from_le_bytes(whole)));
            }
            b'X' | b'T' | 0x8c | b'U' => {
                let length = if matches!(code, b'X' | b'T') { self.word()? } else { self.byte()? };
                let text = self.text(length)?;
                self.push(text);
            }
            b')' => self.tuple(Vec::new())?,
            0x85..=0x87 => {
                let values = self.last(usize::from(code - 0x84))?;
                self.tuple(values)?;
            }
            b't' => {
                let values = self.marked()?;
                self.tuple(values)?;
            }
            b']' => self.push(Value::List(Vec::new(), 0)),
            b'a' => {
                let value = self.pop()?;
                self.extend_list(vec![value])?;
            }
            b'e' => {
                let values = self.marked()?;
                self.extend_list(values)?;
            }
            b'}' => self.push(Value::Dict(Vec::new(), 0)),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend_dict(vec![(key, value)])?;
            }
            b'u' => {
                let pairs = self.pairs()?;
                self.extend_dict(pairs)?;
            }
            b'q' => {
                let number = self.byte()?;
                self.note(number)?;
            }
            b'r' => {
                let number = self.word()?;
                self.note(number)?;
            }
            b'h' => {
                let number = self.byte()?;
                self.noted(number)?;
            }
            b'j' => {
                let number = self.word()?;
                self.noted(number)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                let known =
                    known(module, name).ok_or_else(|| PickleError::Name(format!("{module}.{name}")))?;
                self.push(Value::Known(known));
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Storage(Rc::new(storage(&id)?)));
            }
            b'R' => {
                let (arguments, name) = (self.pop()?, self.pop()?);
                let value = made(&name, &arguments)?;
                self.push(value);
            }
            b'b' => {
                // A state dict has notes of its own beside its entries (`_metadata`); they say nothing about values.
                let _ = self.pop()?;
                if !matches!(self.stack.last(), Some(Value::Dict(..))) {
                    return Err(Wrong("something else than a dictionary has a state"));
                }
            }
            code => return Err(PickleError::Operation(code)),
        }
        Ok(None)
    }
}
