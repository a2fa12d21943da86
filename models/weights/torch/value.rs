//! What the pickle of a state dict is made of: texts and numbers, where values lie, the few classes and functions that
//! are known, and what these would make.

use std::rc::Rc;

use super::pickle::PickleError::{self, TooMuch, Wrong};

/// Deepest nesting of tuples and dictionaries.
const MAX_DEPTH: u8 = 16;
/// Most dimensions of a tensor.
const MAX_RANK: usize = 8;

/// Type of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Scalar {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Scalar {
    /// Bytes of one value.
    pub fn size_bytes(self) -> usize {
        match self {
            Scalar::F64 | Scalar::I64 => 8,
            Scalar::F32 | Scalar::I32 => 4,
            Scalar::F16 | Scalar::Bf16 | Scalar::I16 => 2,
            Scalar::I8 | Scalar::U8 | Scalar::Bool => 1,
        }
    }
}

/// Values that tensors are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// Type of the values.
    pub scalar: Scalar,
    /// What it is called in the file.
    pub key: Rc<str>,
    /// How many values.
    pub values: usize,
}

/// A tensor of a state dict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTensor {
    /// Its name.
    pub name: Rc<str>,
    /// Where its values are.
    pub storage: Rc<Storage>,
    /// The first of them.
    pub offset: usize,
    /// Sizes of its dimensions.
    pub shape: Vec<usize>,
    /// Steps of its dimensions, in values.
    pub strides: Vec<usize>,
}

/// The classes and functions that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Scalar),
}

/// The name of a class or function as it stands in the pickle.
pub(super) fn known(module: &str, name: &str) -> Option<Named> {
    Some(Named(match (module, name) {
        ("collections", "OrderedDict") => Name::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2") => Name::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Name::RebuildParameter,
        ("torch", kind) => Name::Storage(match kind {
            "DoubleStorage" => Scalar::F64,
            "FloatStorage" => Scalar::F32,
            "HalfStorage" => Scalar::F16,
            "BFloat16Storage" => Scalar::Bf16,
            "LongStorage" => Scalar::I64,
            "IntStorage" => Scalar::I32,
            "ShortStorage" => Scalar::I16,
            "CharStorage" => Scalar::I8,
            "ByteStorage" => Scalar::U8,
            "BoolStorage" => Scalar::Bool,
            _ => return None,
        }),
        _ => return None,
    }))
}

/// What a pickle makes.
#[derive(Debug, Clone)]
pub enum Value {
    None,
    Bool(bool),
    Int(i64),
    Text(Rc<str>),
    /// Values and how deep they are nested.
    Tuple(Rc<[Value]>, u8),
    /// As a tuple; what is in it comes after it was noted, so it cannot be got back from the notes.
    List(Vec<Value>, u8),
    /// As a list.
    Dict(Vec<(Value, Value)>, u8),
    /// A list or dictionary that was noted.
    Noted,
    Known(Named),
    Storage(Rc<Storage>),
    Tensor(Rc<StoredTensor>),
}

/// A class or function, to be looked at only in here.
#[derive(Debug, Clone, Copy)]
pub struct Named(Name);

impl Value {
    fn depth(&self) -> u8 {
        match self {
            Value::Tuple(_, depth) | Value::List(_, depth) | Value::Dict(_, depth) => *depth,
            _ => 0,
        }
    }

    fn size(&self) -> Result<usize, PickleError> {
        match self {
            Value::Int(value) => usize::try_from(*value).map_err(|_| Wrong("a size is negative")),
            _ => Err(Wrong("a size is no number")),
        }
    }

    fn sizes(&self) -> Result<Vec<usize>, PickleError> {
        match self {
            Value::Tuple(values, _) if values.len() <= MAX_RANK => values.iter().map(Value::size).collect(),
            Value::Tuple(..) => Err(TooMuch("dimensions")),
            _ => Err(Wrong("a shape is no tuple")),
        }
    }

    /// The value under a name of a dictionary.
    pub fn entry(&self, name: &str) -> Option<&Value> {
        let Value::Dict(entries, _) = self else { return None };
        entries
            .iter()
            .find(|(key, _)| matches!(key, Value::Text(text) if &**text == name))
            .map(|(_, value)| value)
    }

    /// The tensors of a state dict.
    ///
    /// # Errors
    /// When it is something else.
    pub fn tensors(self) -> Result<Vec<StoredTensor>, &'static str> {
        const OTHER: &str = "it holds something else than a state dict: save `model.state_dict()`";
        let Value::Dict(entries, _) = self else { return Err(OTHER) };
        entries
            .into_iter()
            .map(|entry| match entry {
                (Value::Text(name), Value::Tensor(tensor)) => Ok(StoredTensor { name, ..(*tensor).clone() }),
                _ => Err(OTHER),
            })
            .collect()
    }

    /// The texts of a list.
    ///
    /// # Errors
    /// When it is something else.
    pub fn texts(self) -> Result<Vec<Rc<str>>, &'static str> {
        const OTHER: &str = "its keys are no list of texts";
        let Value::List(values, _) = self else { return Err(OTHER) };
        let text = |value| if let Value::Text(text) = value { Ok(text) } else { Err(OTHER) };
        values.into_iter().map(text).collect()
    }
}

/// How deep something is that contains these.
pub(super) fn deeper<'a>(mut values: impl Iterator<Item = &'a Value>) -> Result<u8, PickleError> {
    let depth = values.try_fold(0, |most, value| {
        let depth = value.depth();
        (depth < MAX_DEPTH).then_some(depth.max(most))
    });
    depth.map(|depth| depth + 1).ok_or(TooMuch("nesting"))
}

/// `('storage', type, key, place, count)`, before 1.6 with a `None` behind.
pub(super) fn storage(id: &Value) -> Result<Storage, PickleError> {
    let Value::Tuple(parts, _) = id else { return Err(Wrong("a storage is no tuple")) };
    let (parts, view) = (parts.get(..5).unwrap_or_default(), parts.get(5..).unwrap_or_default());
    match (parts, view) {
        (
            [
                Value::Text(word),
                Value::Known(Named(Name::Storage(scalar))),
                Value::Text(key),
                Value::Text(_),
                values,
            ],
            [] | [Value::None],
        ) if &**word == "storage" => {
            Ok(Storage { scalar: *scalar, key: Rc::clone(key), values: values.size()? })
        }
        _ => Err(Wrong("a storage is of another kind")),
    }
}

/// What a known function makes of its arguments.
pub(super) fn made(name: &Value, arguments: &Value) -> Result<Value, PickleError> {
    let (Value::Known(Named(name)), Value::Tuple(arguments, _)) = (name, arguments) else {
        return Err(Wrong("a call of what is no function"));
    };
    match (name, &**arguments) {
        (Name::OrderedDict, []) => Ok(Value::Dict(Vec::new(), 0)),
        (Name::RebuildParameter, [tensor @ Value::Tensor(_), ..]) => Ok(tensor.clone()),
        (Name::RebuildTensor, [Value::Storage(storage), offset, shape, strides, ..]) => {
            let (shape, strides) = (shape.sizes()?, strides.sizes()?);
            if shape.len() != strides.len() {
                return Err(Wrong("a tensor has not as many steps as dimensions"));
            }
            let storage = Rc::clone(storage);
            let tensor = StoredTensor { name: "".into(), storage, offset: offset.size()?, shape, strides };
            Ok(Value::Tensor(Rc::new(tensor)))
        }
        _ => Err(Wrong("a call with arguments of another kind")),
    }
}
