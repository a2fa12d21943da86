//! Follows the opcodes of the one array that is understood. Makes no objects: a value is what it is known to be.

use bytes::Bytes;

use super::opcodes::{Data, Op, Opcodes};
use super::{BadPickle, Wrong};

/// Such an array takes about 60 opcodes, whatever its size.
const MAX_OPCODES: usize = 256;
/// Things that may be remembered; as many as there may be opcodes.
const MAX_MEMO: usize = MAX_OPCODES;
/// Newest protocol there is.
const NEWEST: u8 = 5;

/// The names that such an array needs.
const NAMES: &[(&[u8], &[u8], Name)] = &[
    (b"numpy.core.multiarray", b"_reconstruct", Name::Reconstruct),
    (b"numpy._core.multiarray", b"_reconstruct", Name::Reconstruct),
    (b"numpy.core.numeric", b"_frombuffer", Name::FromBuffer),
    (b"numpy._core.numeric", b"_frombuffer", Name::FromBuffer),
    (b"numpy", b"ndarray", Name::Ndarray),
    (b"numpy", b"dtype", Name::Dtype),
    (b"_codecs", b"encode", Name::Encode),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Reconstruct,
    FromBuffer,
    Ndarray,
    Dtype,
    Encode,
}

/// What is known of a value. Values are kept in one list and spoken of by their numbers, so that nothing is copied.
#[derive(Debug)]
enum Value {
    None,
    Bool(bool),
    Int(i64),
    Text(Data),
    Bytes(Data),
    /// Bytes that were given another name; the number of the value that has them.
    Same(usize),
    /// Text and bytes in one.
    Old(Data),
    Name(Name),
    Tuple(Vec<usize>),
    /// The type of bytes, `uint8`.
    Dtype,
    /// An array that has no content yet.
    Unbuilt,
    /// The array; the number of the value that has its bytes.
    Array(usize),
}

struct Machine<'b> {
    bytes: &'b [u8],
    values: Vec<Value>,
    stack: Vec<usize>,
    marks: Vec<usize>,
    memo: Vec<Option<usize>>,
    memoized: usize,
}

/// The bytes of the array in a pickle. Where they stand there as they are, they are not copied.
pub fn read(pickle: &Bytes) -> Result<Bytes, BadPickle> {
    let mut opcodes = Opcodes::new(pickle);
    let mut machine = Machine {
        bytes: pickle,
        values: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        memoized: 0,
    };
    for _ in 0..MAX_OPCODES {
        let at = opcodes.at();
        let bad = |wrong| BadPickle { at, wrong };
        let op = opcodes.next().map_err(bad)?;
        if op == Op::Stop {
            let rest = pickle.len() - opcodes.at();
            let array = machine.result().filter(|_| rest == 0).ok_or(bad(Wrong::Structure))?;
            return match machine.into_data(array) {
                Some(Data::Slice(range)) => Ok(pickle.slice(range)),
                Some(Data::Made(bytes)) => Ok(bytes.into()),
                None => Err(bad(Wrong::Structure)),
            };
        }
        machine.follow(op, at).map_err(bad)?;
    }
    Err(BadPickle { at: opcodes.at(), wrong: Wrong::TooLong })
}

impl Machine<'_> {
    fn follow(&mut self, op: Op, at: usize) -> Result<(), Wrong> {
        match op {
            Op::Proto(protocol) if at == 0 && protocol <= NEWEST => {}
            Op::Proto(_) => return Err(Wrong::Argument),
            Op::Frame => {}
            Op::Mark => self.marks.push(self.stack.len()),
            Op::None => self.push(Value::None),
            Op::Bool(flag) => self.push(Value::Bool(flag)),
            Op::Int(number) => self.push(Value::Int(number)),
            Op::Text(data) => self.push(Value::Text(data)),
            Op::Bytes(data) => self.push(Value::Bytes(data)),
            Op::Old(data) => self.push(Value::Old(data)),
            Op::Global(range) => {
                let name = name(self.bytes.get(range).unwrap_or_default())?;
                self.push(Value::Name(name));
            }
            Op::StackGlobal => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Some(module), Some(name)) = (self.text(module), self.text(name)) else {
                    return Err(Wrong::Structure);
                };
                let found = find(module, name)?;
                self.push(Value::Name(found));
            }
            Op::Tuple(count) => {
                let from = match count {
                    Some(count) => self.stack.len().checked_sub(count),
                    None => self.marks.pop(),
                };
                // What stands below a mark that is still open belongs to others.
                let floor = self.marks.last().copied().unwrap_or(0);
                let from = from.filter(|&from| from >= floor && from <= self.stack.len());
                let items = self.stack.split_off(from.ok_or(Wrong::Structure)?);
                self.push(Value::Tuple(items));
            }
            Op::Reduce => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                let made = self.reduce(callable, arguments).ok_or(Wrong::Structure)?;
                self.push(made);
            }
            Op::Build => {
                let (state, object) = (self.pop()?, self.pop()?);
                let made = self.build(object, state).ok_or(Wrong::Structure)?;
                // Whoever remembers the object remembers what it has become.
                *self.values.get_mut(object).ok_or(Wrong::Structure)? = made;
                self.stack.push(object);
            }
            Op::Put(index) => self.put(index)?,
            Op::Memoize => {
                self.put(self.memoized)?;
                self.memoized += 1;
            }
            Op::Get(index) => {
                let known = self.memo.get(index).copied().flatten().ok_or(Wrong::Argument)?;
                self.stack.push(known);
            }
            Op::Stop => return Err(Wrong::Structure),
        }
        Ok(())
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn pop(&mut self) -> Result<usize, Wrong> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(Wrong::Structure);
        }
        self.stack.pop().ok_or(Wrong::Structure)
    }

    fn put(&mut self, index: usize) -> Result<(), Wrong> {
        let top = self.stack.last().copied().ok_or(Wrong::Structure)?;
        if index >= MAX_MEMO {
            return Err(Wrong::Argument);
        }
        if self.memo.len() <= index {
            self.memo.resize(index + 1, None);
        }
        if let Some(place) = self.memo.get_mut(index) {
            *place = Some(top);
        }
        Ok(())
    }

    fn value(&self, number: usize) -> Option<&Value> {
        match self.values.get(number) {
            Some(Value::Same(other)) => self.values.get(*other),
            value => value,
        }
    }

    fn data<'d>(&'d self, data: &'d Data) -> &'d [u8] {
        match data {
            Data::Slice(range) => self.bytes.get(range.clone()).unwrap_or_default(),
            Data::Made(bytes) => bytes,
        }
    }

    fn text(&self, number: usize) -> Option<&[u8]> {
        match self.values.get(number)? {
            Value::Text(data) | Value::Old(data) => Some(self.data(data)),
            _ => None,
        }
    }

    /// The number of the value that has the bytes.
    fn bytes_of(&self, number: usize) -> Option<usize> {
        match self.values.get(number)? {
            Value::Bytes(_) | Value::Old(_) => Some(number),
            Value::Same(other) => Some(*other),
            _ => None,
        }
    }

    fn raw(&self, number: usize) -> Option<&[u8]> {
        match self.value(self.bytes_of(number)?)? {
            Value::Bytes(data) | Value::Old(data) | Value::Text(data) => Some(self.data(data)),
            _ => None,
        }
    }

    fn tuple(&self, number: usize) -> Option<&[usize]> {
        match self.values.get(number)? {
            Value::Tuple(items) => Some(items),
            _ => None,
        }
    }

    fn int(&self, number: usize) -> Option<i64> {
        match self.values.get(number)? {
            Value::Int(number) => Some(*number),
            Value::Bool(flag) => Some(i64::from(*flag)),
            _ => None,
        }
    }

    fn is_none(&self, number: usize) -> bool {
        matches!(self.values.get(number), Some(Value::None))
    }

    fn is_dtype(&self, number: usize) -> bool {
        matches!(self.values.get(number), Some(Value::Dtype))
    }

    /// Whether this is the shape of an array with so many bytes: `(n,)`.
    fn is_shape(&self, number: usize, bytes: usize) -> bool {
        let length = self.tuple(number).and_then(|shape| <&[usize; 1]>::try_from(shape).ok());
        length.and_then(|&[length]| self.int(length)).and_then(|length| usize::try_from(length).ok())
            == Some(bytes)
    }

    /// What a call gives; `None` for a call that no such array has.
    fn reduce(&self, callable: usize, arguments: usize) -> Option<Value> {
        let Some(Value::Name(callable)) = self.values.get(callable) else { return None };
        match (callable, self.tuple(arguments)?) {
            (Name::Encode, &[text, encoding]) => {
                let right = self.text(encoding)? == b"latin1" && self.text(text).is_some();
                right.then_some(Value::Same(text))
            }
            (Name::Dtype, &[kind, align, copy]) => {
                let right = self.text(kind)? == b"u1" && self.int(align)? == 0 && self.int(copy)? == 1;
                right.then_some(Value::Dtype)
            }
            (Name::Reconstruct, &[class, shape, kind]) => {
                let is_array = matches!(self.values.get(class), Some(Value::Name(Name::Ndarray)));
                let right = is_array && self.is_shape(shape, 0) && self.raw(kind)? == b"b";
                right.then_some(Value::Unbuilt)
            }
            (Name::FromBuffer, &[bytes, dtype, shape, order]) => {
                let length = self.raw(bytes)?.len();
                let right = self.is_dtype(dtype)
                    && self.is_shape(shape, length)
                    && matches!(self.text(order)?, b"C" | b"F" | b"A");
                if right { self.bytes_of(bytes).map(Value::Array) } else { None }
            }
            _ => None,
        }
    }

    /// What an object becomes with this state; `None` for a state that no such array has.
    fn build(&self, object: usize, state: usize) -> Option<Value> {
        match (self.values.get(object)?, self.tuple(state)?) {
            (Value::Dtype, &[version, order, subtype, names, fields, size, alignment, flags]) => {
                let right = self.int(version)? == 3
                    && self.text(order)? == b"|"
                    && [subtype, names, fields].into_iter().all(|part| self.is_none(part))
                    && self.int(size)? == -1
                    && self.int(alignment)? == -1
                    && self.int(flags)? == 0;
                right.then_some(Value::Dtype)
            }
            (Value::Unbuilt, &[version, shape, dtype, order, bytes]) => {
                let length = self.raw(bytes)?.len();
                let right = self.int(version)? == 1
                    && self.is_shape(shape, length)
                    && self.is_dtype(dtype)
                    // For one dimension the orders are the same.
                    && matches!(self.int(order)?, 0 | 1);
                if right { self.bytes_of(bytes).map(Value::Array) } else { None }
            }
            _ => None,
        }
    }

    /// The array, when it is all that is left.
    fn result(&self) -> Option<usize> {
        match (self.stack.as_slice(), self.marks.as_slice()) {
            (&[only], []) => match self.values.get(only)? {
                Value::Array(bytes) => Some(*bytes),
                _ => None,
            },
            _ => None,
        }
    }

    fn into_data(mut self, number: usize) -> Option<Data> {
        if number >= self.values.len() {
            return None;
        }
        match self.values.swap_remove(number) {
            Value::Bytes(data) | Value::Old(data) | Value::Text(data) => Some(data),
            _ => None,
        }
    }
}

/// Module and name as they stand on two lines.
fn name(lines: &[u8]) -> Result<Name, Wrong> {
    let mut parts = lines.splitn(2, |&byte| byte == b'\n');
    match (parts.next(), parts.next()) {
        (Some(module), Some(name)) => find(module, name),
        _ => Err(Wrong::Name),
    }
}

fn find(module: &[u8], name: &[u8]) -> Result<Name, Wrong> {
    let found = NAMES.iter().find(|(of, named, _)| *of == module && *named == name);
    found.map(|(_, _, name)| *name).ok_or(Wrong::Name)
}
