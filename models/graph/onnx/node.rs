//! One node of an ONNX graph while it is imported: its inputs, and attributes each of which must be asked for, so that
//! one that nobody understands refuses the node.

use std::cell::RefCell;

use super::proto;
use super::proto::kind;
use crate::graph::build::Builder;
use crate::graph::error::{At, ImportError};
use crate::graph::lower::{axis, sizes};
use crate::graph::{Kind, TensorId};

/// A node, its inputs (none where the file leaves one out) and which attributes were asked for.
pub(super) struct Call<'a> {
    pub at: At<'a>,
    pub inputs: &'a [Option<TensorId>],
    /// Version of the operator set.
    pub opset: i64,
    node: &'a proto::Node,
    read: RefCell<Vec<bool>>,
}

impl<'a> Call<'a> {
    pub fn new(at: At<'a>, node: &'a proto::Node, inputs: &'a [Option<TensorId>], opset: i64) -> Self {
        Self { at, inputs, opset, node, read: RefCell::new(vec![false; node.attribute.len()]) }
    }

    pub fn optional(&self, place: usize) -> Option<TensorId> {
        self.inputs.get(place).copied().flatten()
    }

    pub fn input(&self, place: usize) -> Result<TensorId, ImportError> {
        self.optional(place).ok_or_else(|| self.at.invalid(format!("input {place} is missing")))
    }

    /// All inputs, none left out.
    pub fn all(&self) -> Result<Vec<TensorId>, ImportError> {
        (0..self.inputs.len()).map(|place| self.input(place)).collect()
    }

    /// An output that the file gives a name.
    pub fn wants_output(&self, place: usize) -> bool {
        self.node.output.get(place).is_some_and(|name| !name.is_empty())
    }

    pub fn outputs(&self) -> usize {
        self.node.output.len()
    }

    fn attribute(&self, name: &str, expected: i32) -> Result<Option<&'a proto::Attribute>, ImportError> {
        let Some(place) = self.node.attribute.iter().position(|attribute| attribute.name == name) else {
            return Ok(None);
        };
        if let Some(read) = self.read.borrow_mut().get_mut(place) {
            *read = true;
        }
        let attribute = &self.node.attribute[place];
        // Old files leave the type out.
        if attribute.kind != expected && attribute.kind != 0 {
            return Err(self.at.invalid(format!("attribute {name:?} is of type {}", attribute.kind)));
        }
        Ok(Some(attribute))
    }

    /// Attributes that do not change what is computed here.
    pub fn ignore(&self, names: &[&str]) {
        for (read, attribute) in self.read.borrow_mut().iter_mut().zip(&self.node.attribute) {
            *read |= names.contains(&attribute.name.as_str());
        }
    }

    pub fn int(&self, name: &str, default: i64) -> Result<i64, ImportError> {
        Ok(self.attribute(name, kind::INT)?.map_or(default, |attribute| attribute.i))
    }

    pub fn optional_int(&self, name: &str) -> Result<Option<i64>, ImportError> {
        Ok(self.attribute(name, kind::INT)?.map(|attribute| attribute.i))
    }

    pub fn flag(&self, name: &str, default: bool) -> Result<bool, ImportError> {
        Ok(self.int(name, i64::from(default))? != 0)
    }

    pub fn float(&self, name: &str, default: f32) -> Result<f32, ImportError> {
        Ok(self.attribute(name, kind::FLOAT)?.map_or(default, |attribute| attribute.f))
    }

    pub fn optional_float(&self, name: &str) -> Result<Option<f32>, ImportError> {
        Ok(self.attribute(name, kind::FLOAT)?.map(|attribute| attribute.f))
    }

    pub fn ints(&self, name: &str) -> Result<Option<&'a [i64]>, ImportError> {
        Ok(self.attribute(name, kind::INTS)?.map(|attribute| attribute.ints.as_slice()))
    }

    pub fn floats(&self, name: &str) -> Result<Option<&'a [f32]>, ImportError> {
        Ok(self.attribute(name, kind::FLOATS)?.map(|attribute| attribute.floats.as_slice()))
    }

    pub fn tensor(&self, name: &str) -> Result<Option<&'a proto::Tensor>, ImportError> {
        Ok(self.attribute(name, kind::TENSOR)?.and_then(|attribute| attribute.t.as_deref()))
    }

    pub fn text(&self, name: &str, default: &'a str) -> Result<&'a str, ImportError> {
        let Some(attribute) = self.attribute(name, kind::STRING)? else { return Ok(default) };
        std::str::from_utf8(&attribute.s)
            .ok()
            .filter(|text| text.len() < 64)
            .ok_or_else(|| self.at.invalid(format!("attribute {name:?} is no word")))
    }

    /// An attribute that must have this value where it is given.
    pub fn only(&self, name: &str, value: i64) -> Result<(), ImportError> {
        match self.int(name, value)? {
            given if given == value => Ok(()),
            given => Err(self.at.unsupported(format!("{name}={given}"))),
        }
    }

    /// Integers that are an attribute before operator set `since` and an input from then on.
    pub fn moved_ints(
        &self,
        build: &Builder,
        name: &str,
        since: i64,
        place: usize,
    ) -> Result<Option<Vec<i64>>, ImportError> {
        if self.opset < since {
            return Ok(self.ints(name)?.map(<[i64]>::to_vec));
        }
        self.optional(place).map(|id| build.integers(self.at, id, name)).transpose()
    }

    pub fn integers(&self, build: &Builder, place: usize, what: &str) -> Result<Vec<i64>, ImportError> {
        build.integers(self.at, self.input(place)?, what)
    }

    pub fn sizes(&self, build: &Builder, place: usize, what: &str) -> Result<Vec<usize>, ImportError> {
        sizes(self.at, &self.integers(build, place, what)?, what)
    }

    /// Attribute `axis`, counted from the end where negative.
    pub fn axis(&self, default: i64, rank: usize) -> Result<usize, ImportError> {
        axis(self.at, self.int("axis", default)?, rank)
    }

    /// A scalar of any kind.
    pub fn number(&self, build: &Builder, place: usize, default: f32) -> Result<f32, ImportError> {
        self.optional(place).map_or(Ok(default), |id| build.float(self.at, id, "a parameter"))
    }

    /// All inputs are constants, integers among them.
    pub fn on_integers(&self, build: &Builder) -> bool {
        self.inputs.iter().flatten().all(|id| build.get(*id).kind == Kind::I64)
    }

    /// Refuses the node when it has an attribute that was not asked for.
    pub fn all_read(&self) -> Result<(), ImportError> {
        let read = self.read.borrow();
        match self.node.attribute.iter().zip(read.iter()).find(|(_, read)| !**read) {
            Some((attribute, _)) => {
                let name: String = attribute.name.chars().take(64).collect();
                Err(self.at.unsupported(format!("attribute {name:?}")))
            }
            None => Ok(()),
        }
    }
}
