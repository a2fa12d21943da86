//! Files that lie, contradict themselves or are cut: an error each, and neither a panic nor memory for what is claimed.

use proptest::prelude::*;

use super::Ir;
use crate::graph::openvino::import;
use crate::graph::{ImportError, check, reference};

/// A small network with constants of several kinds, a window, and shape arithmetic.
pub(in crate::graph) fn small() -> (String, Vec<u8>) {
    let mut ir = Ir::default();
    let x = ir.parameter(&[1, 2, 4, 4]);
    let weight = ir.constant("f16", &[1, 2, 2, 3, 3], &[0x3400u16; 36].map(u16::to_le_bytes).concat());
    let weight = ir.layer("Convert", "opset1", r#"destination_type="f32""#, &[(weight, 0)], 1);
    let window = r#"strides="1,1" dilations="1,1" pads_begin="1,1" pads_end="1,1" auto_pad="explicit""#;
    let conv = ir.layer("GroupConvolution", "opset1", window, &[(x, 0), (weight, 0)], 1);
    let slope = ir.floats(&[2], &[0.5, 0.25]);
    let active = ir.layer("PReLU", "opset1", "", &[(conv, 0), (slope, 0)], 1);
    let shape = ir.layer("ShapeOf", "opset3", r#"output_type="i64""#, &[(active, 0)], 1);
    let wanted = ir.integers(&[2], &[0, -1]);
    let flat = ir.layer("Reshape", "opset1", r#"special_zero="true""#, &[(active, 0), (wanted, 0)], 1);
    let bound = [ir.integers(&[1], &[1]), ir.integers(&[1], &[2]), ir.integers(&[1], &[1])].map(|id| (id, 0));
    let sliced = ir.layer(
        "StridedSlice",
        "opset1",
        r#"begin_mask="0" end_mask="0""#,
        &[(shape, 0), bound[0], bound[1], bound[2]],
        1,
    );
    let count = ir.layer("Convert", "opset1", r#"destination_type="f32""#, &[(sliced, 0)], 1);
    let scaled = ir.layer("Multiply", "opset1", r#"auto_broadcast="numpy""#, &[(flat, 0), (count, 0)], 1);
    let made = ir.layer("SoftMax", "opset8", r#"axis="1""#, &[(scaled, 0)], 1);
    ir.result(made, 0);
    (ir.xml(), ir.bin)
}

fn survives(xml: &str, bin: &[u8]) {
    if let Ok(graph) = import(xml, bin, &[]) {
        assert_eq!(check(&graph), Ok(()));
        let total: usize = graph.inputs.iter().map(|id| graph.tensor(*id).len()).sum();
        if total < 1 << 12 {
            let inputs: Vec<Vec<f32>> =
                graph.inputs.iter().map(|id| vec![0.5; graph.tensor(*id).len()]).collect();
            let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
            reference::run(&graph, &inputs).unwrap();
        }
    }
}

#[test]
fn cut_at_every_byte() {
    let (xml, bin) = small();
    assert!(import(&xml, &bin, &[]).is_ok());
    for length in 0..xml.len() {
        assert!(import(&xml[..length], &bin, &[]).is_err(), "{length}");
    }
    for length in 0..bin.len() {
        assert!(import(&xml, &bin[..length], &[]).is_err(), "{length}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn characters_changed(changes in prop::collection::vec((any::<prop::sample::Index>(), 0u8..128), 1..4)) {
        let (xml, bin) = small();
        let mut changed = xml.into_bytes();
        for (place, value) in changes {
            let place = place.index(changed.len());
            changed[place] = value;
        }
        survives(&String::from_utf8(changed).unwrap(), &bin);
    }

    #[test]
    fn numbers_changed(place in any::<prop::sample::Index>(), number in prop::sample::select(vec![
        "0", "1", "2", "3", "-1", "99", "4294967296", "9223372036854775807", "18446744073709551615", "-9223372036854775808", "1e30", "nan",
    ])) {
        let (xml, bin) = small();
        let digits: Vec<usize> = xml.bytes().enumerate().filter(|(_, byte)| byte.is_ascii_digit()).map(|(at, _)| at).collect();
        let at = digits[place.index(digits.len())];
        survives(&format!("{}{number}{}", &xml[..at], &xml[at + 1..]), &bin);
    }

    #[test]
    fn any_text(text in ".{0,200}") {
        survives(&text, &[]);
    }
}

#[track_caller]
fn refused(xml: &str, bin: &[u8]) -> ImportError {
    import(xml, bin, &[]).unwrap_err()
}

#[test]
fn constants_must_lie_inside_of_the_weights() {
    let mut ir = Ir::default();
    let x = ir.parameter(&[1, 4]);
    let w = ir.floats(&[4], &[1.0; 4]);
    let made = ir.layer("Add", "opset1", "", &[(x, 0), (w, 0)], 1);
    ir.result(made, 0);
    let (xml, bin) = (ir.xml(), ir.bin);
    assert!(import(&xml, &bin, &[]).is_ok());
    let constant = r#"shape="4" offset="0" size="16""#;
    for lie in [
        r#"shape="4" offset="1" size="16""#,
        r#"shape="4" offset="18446744073709551615" size="16""#,
        r#"shape="4" offset="-1" size="16""#,
        r#"shape="4" offset="0" size="15""#,
        r#"shape="5" offset="0" size="20""#,
        r#"shape="67108864" offset="0" size="268435456""#,
        r#"shape="4611686018427387904,4,4" offset="0" size="0""#,
        r#"shape="4611686018427387904,0" offset="0" size="0""#,
        r#"shape="1,1,1,1,1,1,1,1,4" offset="0" size="16""#,
        r#"offset="0" size="16""#,
    ] {
        let error = refused(&xml.replace(constant, lie), &bin);
        assert!(
            matches!(error, ImportError::Invalid { .. } | ImportError::TooLarge { .. }),
            "{lie}: {error}"
        );
    }
}

#[test]
fn constants_that_overlap_are_limited() {
    let mut ir = Ir { bin: vec![0; 64], ..Ir::default() };
    let mut sum = ir.parameter(&[1]);
    for offset in 0..20 {
        let data = format!(r#"element_type="u8" shape="40" offset="{offset}" size="40""#);
        let w = ir.layer("Const", "opset1", &data, &[], 1);
        let w = ir.layer("Convert", "opset1", r#"destination_type="f32""#, &[(w, 0)], 1);
        sum = ir.layer("Add", "opset1", "", &[(sum, 0), (w, 0)], 1);
    }
    ir.result(sum, 0);
    let error = refused(&ir.xml(), &ir.bin);
    assert!(matches!(error, ImportError::TooLarge { what: "bytes of all constants", .. }), "{error}");
    // The same bytes again are no overlap.
    let same =
        (1..20).fold(ir.xml(), |xml, offset| xml.replace(&format!(r#"offset="{offset}""#), r#"offset="0""#));
    assert!(import(&same, &ir.bin, &[]).is_ok());
}

#[test]
fn a_graph_must_be_one() {
    let mut ir = Ir::default();
    let x = ir.parameter(&[1, 4]);
    let a = ir.layer("Add", "opset1", "", &[(x, 0), (x + 2, 0)], 1);
    let b = ir.layer("ReLU", "opset1", "", &[(a, 0)], 1);
    ir.result(b, 0);
    assert!(refused(&ir.xml(), &[]).to_string().contains("cycle"));
    let mut ir = Ir::default();
    let x = ir.parameter(&[1, 4]);
    let a = ir.layer("ReLU", "opset1", "", &[(x, 0)], 1);
    ir.result(a, 0);
    let xml = ir.xml();
    for (from, to, reason) in [
        (r#"from-layer="0""#, r#"from-layer="7""#, "a layer that there is not"),
        (r#"to-layer="1""#, r#"to-layer="x""#, "a layer that there is not"),
        (r#"from-port="9""#, r#"from-port="8""#, "a port that there is not"),
        (r#"to-port="0""#, r#"to-port="1""#, "a port that there is not"),
        (r#"<layer id="1""#, r#"<layer id="0""#, "two layers"),
        (r#"<layer id="1""#, "<layer", r#"without "id""#),
        (
            "<edges>",
            "<edges><edge from-layer=\"0\" from-port=\"9\" to-layer=\"1\" to-port=\"0\"/>",
            "two edges",
        ),
        (r#"type="Result""#, r#"type="Sink""#, "no output"),
        ("net", "nest", "no OpenVINO network"),
    ] {
        let error = refused(&xml.replace(from, to), &[]).to_string();
        assert!(error.contains(reason), "{reason}: {error}");
    }
    let start = xml.find("<edge ").unwrap();
    let end = start + xml[start..].find("/>").unwrap() + 2;
    let cut = format!("{}{}", &xml[..start], &xml[end..]);
    assert!(refused(&cut, &[]).to_string().contains("nothing leads to input port"));
}

#[test]
fn nothing_is_expanded() {
    let bomb = format!(
        r#"<?xml version="1.0"?><!DOCTYPE net [<!ENTITY a "{}"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><net name="&b;" version="11"/>"#,
        "x".repeat(1000)
    );
    assert!(refused(&bomb, &[]).to_string().contains("DTD"));
    let deep = format!("<net version=\"11\">{}{}</net>", "<a>".repeat(200_000), "</a>".repeat(200_000));
    assert!(refused(&deep, &[]).to_string().contains("no <layers>"));
    let unclosed = "<a>".repeat(1_000_000);
    assert!(import(&unclosed, &[], &[]).is_err());
    let many = format!("<net version=\"11\">{}</net>", "<a/>".repeat(1 << 20));
    assert!(refused(&many, &[]).to_string().contains("nodes limit"));
    let wide: String = (0..100_000).map(|place| format!(" a{place}=\"\"")).collect();
    let error = refused(&format!("<net{wide}/>"), &[]);
    assert!(
        matches!(error, ImportError::TooLarge { what: "number of attributes of an XML element", .. }),
        "{error}"
    );
    let names: String = (0..1000).map(|place| format!("<a xmlns:n{place}=\"u{place}\">")).collect();
    assert!(refused(&names, &[]).to_string().contains("namespaces"));
    let large = " ".repeat(crate::graph::limits::MAX_XML_BYTES + 1);
    assert!(matches!(refused(&large, &[]), ImportError::TooLarge { .. }));
}
