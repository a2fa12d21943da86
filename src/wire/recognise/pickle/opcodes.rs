//! The opcodes of a pickle as Python's `pickletools` lists them, with their arguments. Cuts them off the front one by one;
//! knows nothing of what they mean together.

use std::ops::Range;

use memchr::memchr;

use super::Wrong;

/// Longest decimal number that is read.
const MAX_DIGITS: usize = 20;

/// Bytes of an argument: those of the message, or made of them where they were written in another way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Data {
    /// They stand there as they are.
    Slice(Range<usize>),
    /// Decoded.
    Made(Vec<u8>),
}

/// One opcode with its argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Op {
    /// Which protocol it is written in.
    Proto(u8),
    /// The next bytes belong together; nothing to do.
    Frame,
    Mark,
    Stop,
    None,
    Bool(bool),
    Int(i64),
    /// Text whose characters are all below U+0100, as bytes.
    Text(Data),
    Bytes(Data),
    /// A string of Python 2, which is text and bytes in one.
    Old(Data),
    /// Module and name, with the line end between them.
    Global(Range<usize>),
    StackGlobal,
    /// So many values, or all since the mark.
    Tuple(Option<usize>),
    Reduce,
    Build,
    Put(usize),
    Memoize,
    Get(usize),
}

/// Cuts opcodes off the front of a pickle.
#[derive(Debug)]
pub(super) struct Opcodes<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Opcodes<'b> {
    pub fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Where the next opcode stands.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The next opcode.
    pub fn next(&mut self) -> Result<Op, Wrong> {
        let code = self.byte()?;
        Ok(match code {
            0x80 => Op::Proto(self.byte()?),
            0x95 => {
                self.skip(8)?;
                Op::Frame
            }
            b'(' => Op::Mark,
            b'.' => Op::Stop,
            b'N' => Op::None,
            0x88 => Op::Bool(true),
            0x89 => Op::Bool(false),
            b'I' => self.decimal()?,
            b'L' => self.long()?,
            b'J' => Op::Int(i64::from(i32::from_le_bytes(self.array()?))),
            b'K' => Op::Int(i64::from(self.byte()?)),
            b'M' => Op::Int(i64::from(u16::from_le_bytes(self.array()?))),
            0x8A => self.long1()?,
            b'V' => Op::Text(self.raw_unicode()?),
            b'X' => Op::Text(self.utf8::<4>()?),
            0x8C => Op::Text(self.utf8::<1>()?),
            0x8D => Op::Text(self.utf8::<8>()?),
            b'B' => Op::Bytes(Data::Slice(self.counted::<4>()?)),
            b'C' => Op::Bytes(Data::Slice(self.counted::<1>()?)),
            0x8E | 0x96 => Op::Bytes(Data::Slice(self.counted::<8>()?)),
            b'S' => Op::Old(self.quoted()?),
            b'T' => Op::Old(Data::Slice(self.counted::<4>()?)),
            b'U' => Op::Old(Data::Slice(self.counted::<1>()?)),
            b'c' => Op::Global(self.global()?),
            0x93 => Op::StackGlobal,
            b')' => Op::Tuple(Some(0)),
            0x85 => Op::Tuple(Some(1)),
            0x86 => Op::Tuple(Some(2)),
            0x87 => Op::Tuple(Some(3)),
            b't' => Op::Tuple(None),
            b'R' => Op::Reduce,
            b'b' => Op::Build,
            b'p' => Op::Put(self.index()?),
            b'q' => Op::Put(usize::from(self.byte()?)),
            b'r' => Op::Put(u32::from_le_bytes(self.array()?) as usize),
            0x94 => Op::Memoize,
            b'g' => Op::Get(self.index()?),
            b'h' => Op::Get(usize::from(self.byte()?)),
            b'j' => Op::Get(u32::from_le_bytes(self.array()?) as usize),
            _ => return Err(Wrong::Opcode),
        })
    }

    fn byte(&mut self) -> Result<u8, Wrong> {
        let byte = self.bytes.get(self.at).copied().ok_or(Wrong::CutOff)?;
        self.at += 1;
        Ok(byte)
    }

    fn skip(&mut self, count: usize) -> Result<Range<usize>, Wrong> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len()).ok_or(Wrong::CutOff)?;
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    fn slice(&self, range: &Range<usize>) -> &'b [u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Wrong> {
        let range = self.skip(N)?;
        self.slice(&range).try_into().map_err(|_| Wrong::CutOff)
    }

    /// Bytes behind their count, which is a little-endian number of `N` bytes.
    fn counted<const N: usize>(&mut self) -> Result<Range<usize>, Wrong> {
        let mut count = [0; 8];
        for (to, from) in count.iter_mut().zip(self.array::<N>()?) {
            *to = from;
        }
        let count = usize::try_from(u64::from_le_bytes(count)).map_err(|_| Wrong::CutOff)?;
        self.skip(count)
    }

    /// The rest of the line, without its end.
    fn line(&mut self) -> Result<Range<usize>, Wrong> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = memchr(b'\n', rest).ok_or(Wrong::CutOff)?;
        let range = self.skip(length)?;
        self.at += 1;
        Ok(range)
    }

    fn number(text: &[u8]) -> Result<i64, Wrong> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= MAX_DIGITS);
        text.and_then(|text| text.parse().ok()).ok_or(Wrong::Argument)
    }

    /// `I…`, which is a truth value when it has a leading zero.
    fn decimal(&mut self) -> Result<Op, Wrong> {
        let line = self.line()?;
        match self.slice(&line) {
            b"00" => Ok(Op::Bool(false)),
            b"01" => Ok(Op::Bool(true)),
            text => Self::number(text).map(Op::Int),
        }
    }

    /// `L…L`.
    fn long(&mut self) -> Result<Op, Wrong> {
        let line = self.line()?;
        let text = self.slice(&line);
        Self::number(text.strip_suffix(b"L").unwrap_or(text)).map(Op::Int)
    }

    /// A little-endian number in two's complement, of as many bytes as the first one says.
    fn long1(&mut self) -> Result<Op, Wrong> {
        let range = self.counted::<1>()?;
        let bytes = self.slice(&range);
        let negative = bytes.last().is_some_and(|&last| last >= 0x80);
        let mut number = [if negative { 0xFF } else { 0 }; 8];
        if bytes.len() > number.len() {
            return Err(Wrong::Argument);
        }
        number[..bytes.len()].copy_from_slice(bytes);
        Ok(Op::Int(i64::from_le_bytes(number)))
    }

    fn index(&mut self) -> Result<usize, Wrong> {
        let line = self.line()?;
        Self::number(self.slice(&line))
            .and_then(|number| usize::try_from(number).map_err(|_| Wrong::Argument))
    }

    /// Two lines: module, and name in it.
    fn global(&mut self) -> Result<Range<usize>, Wrong> {
        let module = self.line()?;
        let name = self.line()?;
        Ok(module.start..name.end)
    }

    /// A line in Python's raw-unicode-escape: `\uXXXX` and `\UXXXXXXXX` are characters, every other byte is Latin-1.
    fn raw_unicode(&mut self) -> Result<Data, Wrong> {
        let line = self.line()?;
        let mut rest = self.slice(&line);
        if memchr(b'\\', rest).is_none() {
            return Ok(Data::Slice(line));
        }
        let mut made = Vec::with_capacity(rest.len());
        while let Some(at) = memchr(b'\\', rest) {
            let (before, escape) = rest.split_at(at);
            made.extend_from_slice(before);
            let digits = match escape.get(1) {
                Some(b'u') => 4,
                Some(b'U') => 8,
                // Any other backslash is one, and so is the byte behind it.
                _ => {
                    let length = escape.len().min(2);
                    made.extend_from_slice(&escape[..length]);
                    rest = &escape[length..];
                    continue;
                }
            };
            made.push(hex(escape.get(2..2 + digits).ok_or(Wrong::Argument)?)?);
            rest = &escape[2 + digits..];
        }
        made.extend_from_slice(rest);
        Ok(Data::Made(made))
    }

    /// Text in UTF-8 behind its count.
    fn utf8<const N: usize>(&mut self) -> Result<Data, Wrong> {
        let range = self.counted::<N>()?;
        let bytes = self.slice(&range);
        if bytes.is_ascii() {
            return Ok(Data::Slice(range));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Wrong::Argument)?;
        let latin: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
        latin.map(Data::Made).map_err(|_| Wrong::Argument)
    }

    /// A string as Python 2 shows it: in quotes, with escapes.
    fn quoted(&mut self) -> Result<Data, Wrong> {
        let line = self.line()?;
        let inside = match self.slice(&line) {
            [quote @ (b'\'' | b'"'), inside @ .., last] if quote == last => inside,
            _ => return Err(Wrong::Argument),
        };
        let mut made = Vec::with_capacity(inside.len());
        let mut rest = inside;
        while let Some(at) = memchr(b'\\', rest) {
            let (before, escape) = rest.split_at(at);
            made.extend_from_slice(before);
            let (byte, length) = match escape.get(1) {
                Some(b'x') => (hex(escape.get(2..4).ok_or(Wrong::Argument)?)?, 4),
                Some(b'n') => (b'\n', 2),
                Some(b'r') => (b'\r', 2),
                Some(b't') => (b'\t', 2),
                Some(&itself @ (b'\\' | b'\'' | b'"')) => (itself, 2),
                _ => return Err(Wrong::Argument),
            };
            made.push(byte);
            rest = &escape[length..];
        }
        made.extend_from_slice(rest);
        Ok(Data::Made(made))
    }
}

/// A character below U+0100 in hexadecimal digits.
fn hex(digits: &[u8]) -> Result<u8, Wrong> {
    let mut value: u32 = 0;
    for &digit in digits {
        let digit = char::from(digit).to_digit(16).ok_or(Wrong::Argument)?;
        value = value << 4 | digit;
        if value > 0xFF {
            return Err(Wrong::Argument);
        }
    }
    u8::try_from(value).map_err(|_| Wrong::Argument)
}
