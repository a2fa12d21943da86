//! Values of constants as files store them: little-endian bytes of the usual types.

use super::Data;

/// What a file says its values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Stored {
    F16,
    Bf16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    Bool,
}

impl Stored {
    /// Bytes of one value.
    pub fn width(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }
}

/// Widens or narrows the values to what the graph works with. None when the bytes are no whole number of values or an
/// unsigned integer is too large.
pub(super) fn decode(stored: Stored, bytes: &[u8]) -> Option<Data> {
    if !bytes.len().is_multiple_of(stored.width()) {
        return None;
    }
    Some(match stored {
        Stored::F16 => Data::F32(two(bytes).map(|value| f16(u16::from_le_bytes(value))).collect()),
        Stored::Bf16 => Data::F32(
            two(bytes).map(|value| f32::from_bits(u32::from(u16::from_le_bytes(value)) << 16)).collect(),
        ),
        Stored::F32 => Data::F32(four(bytes).map(f32::from_le_bytes).collect()),
        Stored::F64 => Data::F32(eight(bytes).map(|value| f64::from_le_bytes(value) as f32).collect()),
        Stored::I8 => Data::I64(bytes.iter().map(|value| i64::from(value.cast_signed())).collect()),
        Stored::U8 => Data::I64(bytes.iter().map(|value| i64::from(*value)).collect()),
        Stored::Bool => Data::I64(bytes.iter().map(|value| i64::from(*value != 0)).collect()),
        Stored::I16 => Data::I64(two(bytes).map(|value| i64::from(i16::from_le_bytes(value))).collect()),
        Stored::U16 => Data::I64(two(bytes).map(|value| i64::from(u16::from_le_bytes(value))).collect()),
        Stored::I32 => Data::I64(four(bytes).map(|value| i64::from(i32::from_le_bytes(value))).collect()),
        Stored::U32 => Data::I64(four(bytes).map(|value| i64::from(u32::from_le_bytes(value))).collect()),
        Stored::I64 => Data::I64(eight(bytes).map(i64::from_le_bytes).collect()),
        Stored::U64 => {
            let values = eight(bytes).map(|value| i64::try_from(u64::from_le_bytes(value)).ok());
            Data::I64(values.collect::<Option<Vec<i64>>>()?.into())
        }
    })
}

fn two(bytes: &[u8]) -> impl Iterator<Item = [u8; 2]> {
    bytes.as_chunks().0.iter().copied()
}

fn four(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    bytes.as_chunks().0.iter().copied()
}

fn eight(bytes: &[u8]) -> impl Iterator<Item = [u8; 8]> {
    bytes.as_chunks().0.iter().copied()
}

/// IEEE 754 half precision: 1 bit sign, 5 bits exponent with bias 15, 10 bits fraction.
pub(super) fn f16(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let exponent = u32::from(bits >> 10) & 0x1f;
    let fraction = u32::from(bits) & 0x3ff;
    match exponent {
        // Subnormal: fraction times 2^-24.
        0 => f32::from_bits(sign | (fraction as f32 * f32::from_bits(0x3380_0000)).to_bits()),
        0x1f => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_widened_exactly() {
        for (bits, value) in [
            (0x0000, 0.0),
            (0x8000, -0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0400, 6.103_515_6e-5),
            (0x03ff, 6.097_555e-5),
            (0x0001, 5.960_464_5e-8),
            (0x3555, 0.333_251_95),
            (0x7c00, f32::INFINITY),
            (0xfc00, f32::NEG_INFINITY),
        ] {
            assert_eq!(f16(bits).to_bits(), f32::to_bits(value), "{bits:#06x}");
        }
        assert!(f16(0x7e00).is_nan());
    }

    #[test]
    fn every_type_is_read() {
        let floats = |stored, bytes: &[u8]| decode(stored, bytes).unwrap().f32().unwrap().to_vec();
        let integers = |stored, bytes: &[u8]| decode(stored, bytes).unwrap().i64().unwrap().to_vec();
        assert_eq!(floats(Stored::F16, &[0, 0x3c, 0, 0xc0]), [1.0, -2.0]);
        assert_eq!(floats(Stored::Bf16, &[0x80, 0x3f]), [1.0]);
        assert_eq!(floats(Stored::F32, &1.5f32.to_le_bytes()), [1.5]);
        assert_eq!(floats(Stored::F64, &(-2.25f64).to_le_bytes()), [-2.25]);
        assert_eq!(integers(Stored::I8, &[0xff, 2]), [-1, 2]);
        assert_eq!(integers(Stored::U8, &[0xff, 2]), [255, 2]);
        assert_eq!(integers(Stored::Bool, &[0, 7]), [0, 1]);
        assert_eq!(integers(Stored::I16, &[0xfe, 0xff]), [-2]);
        assert_eq!(integers(Stored::U16, &[0xfe, 0xff]), [65534]);
        assert_eq!(integers(Stored::I32, &(-3i32).to_le_bytes()), [-3]);
        assert_eq!(integers(Stored::U32, &u32::MAX.to_le_bytes()), [4_294_967_295]);
        assert_eq!(integers(Stored::I64, &i64::MIN.to_le_bytes()), [i64::MIN]);
        assert_eq!(integers(Stored::U64, &5u64.to_le_bytes()), [5]);
        assert_eq!(decode(Stored::U64, &u64::MAX.to_le_bytes()), None);
        assert_eq!(decode(Stored::I32, &[1, 2, 3]), None);
        assert_eq!(decode(Stored::F32, &[]).map(|data| data.len()), Some(0));
    }
}
