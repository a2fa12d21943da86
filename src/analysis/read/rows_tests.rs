//! Tests of the rows: what they hold, where what does not fit is, cuts at every byte, and a naive reader beside it.

use std::io::Cursor;

use encoding_rs::GB18030;
use proptest::prelude::*;

use super::*;
use crate::read::encoding::look;
use crate::watch::Watcher;

/// Names and rows of a file.
fn read(bytes: &[u8], limits: &Limits) -> Result<(Vec<String>, Vec<Vec<String>>), AnalysisError> {
    let looked = look(&mut Cursor::new(bytes), &mut Watcher::untimed(limits))?;
    let mut rows = Rows::open(Cursor::new(bytes), &looked, limits)?;
    let names = rows.names().to_vec();
    let mut read = Vec::new();
    while let Some(row) = rows.next()? {
        let cells = (0..names.len()).map(|column| String::from_utf8_lossy(row.cell(column)).into_owned());
        read.push(cells.collect());
    }
    Ok((names, read))
}

fn check(text: &str, names: &[&str], rows: &[&[&str]]) {
    let (own_names, own_rows) = read(text.as_bytes(), &Limits::default()).unwrap();
    assert_eq!(own_names, names, "{text:?}");
    assert_eq!(own_rows, rows, "{text:?}");
}

fn refused(text: &str, limits: &Limits) -> String {
    read(text.as_bytes(), limits).unwrap_err().to_string()
}

#[test]
fn rows_are_those_of_pandas() {
    check("a,b\n1,2\n", &["a", "b"], &[&["1", "2"]]);
    check("\n\r\na,b\r\n\r\n1,2\r\n   \r\n3,4", &["a", "b"], &[&["1", "2"], &["3", "4"]]);
    check("a,b\n1\n", &["a", "b"], &[&["1", ""]]);
    check("a,a,,\n1,2,3,4\n", &["a", "a.1", "Unnamed: 2", "Unnamed: 3"], &[&["1", "2", "3", "4"]]);
    check("a,b\n\"1,\"\"x\"\"\n2\",3\n", &["a", "b"], &[&["1,\"x\"\n2", "3"]]);
    check("a;b\n1,5;2\n", &["a", "b"], &[&["1,5", "2"]]);
    check("a\tb\n1\t2\n", &["a", "b"], &[&["1", "2"]]);
    check("a\n\"\"\n", &["a"], &[&[""]]);
}

#[test]
fn encodings_give_the_same_rows() {
    let text = "城市,人口\n北京,2189\n\"上海,\n浦东\",2487\n";
    let expected = read(text.as_bytes(), &Limits::default()).unwrap();
    let (gbk, _, _) = GB18030.encode(text);
    assert_eq!(read(&gbk, &Limits::default()).unwrap(), expected);
    let marked = [b"\xef\xbb\xbf", text.as_bytes()].concat();
    assert_eq!(read(&marked, &Limits::default()).unwrap(), expected);
    let wide: Vec<u8> = [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    assert_eq!(read(&wide, &Limits::default()).unwrap(), expected);
}

#[test]
fn what_does_not_fit_is_named_with_its_place() {
    let small = Limits { columns: 3, rows: 2, cell_bytes: 8, row_bytes: 20, ..Limits::default() };
    assert_eq!(refused("", &small), "the file is empty: its first line must name the columns");
    assert_eq!(refused("a,b\n1,2\n\n3,4,5\n", &small), "line 4: 3 cells, and the header names 2 columns");
    assert_eq!(refused("a,b,c,d\n", &small), "line 1: over 3 columns");
    assert_eq!(refused("a,b\n1,2,3,4,5\n", &small), "line 2: over 3 columns");
    assert_eq!(refused("a\n1\n2\n3\n", &small), "line 4: over 2 rows");
    assert_eq!(
        refused("a,bö\n1,123456789\n", &small),
        "line 2, column 2 (b\\xc3\\xb6): longer than 8 bytes; is a quote not closed?"
    );
    assert_eq!(refused("a,b,c\n1234567,1234567,1234567\n", &small), "line 2: longer than 20 bytes");
    assert_eq!(refused("a,b\n\n1,\"2\n3\n", &small), "line 3: a quote that begins in this row is not closed");
    let long = format!("a,b\n1,\"2\n{}", "3\n".repeat(100_000));
    assert!(refused(&long, &Limits::default()).contains("line 2, column 2 (b): longer than 65536 bytes"));
}

#[test]
fn a_file_cut_at_any_byte_ends_in_rows_or_in_an_error() {
    let text = "城市,\"人,口\"\n北京,2189\n\"上\"\"海\",\"24\n87\"\r\n广州,\n".as_bytes();
    let (gbk, _, _) = GB18030.encode(std::str::from_utf8(text).unwrap());
    for whole in [text, &gbk] {
        let (_, all) = read(whole, &Limits::default()).unwrap();
        for cut in 0..whole.len() {
            if let Ok((_, rows)) = read(&whole[..cut], &Limits::default()) {
                assert!(rows.len() <= all.len(), "cut at {cut}");
                // Rows that are over are the same; the last may be short.
                let over = rows.len().saturating_sub(1);
                assert_eq!(rows[..over], all[..over], "cut at {cut}");
            }
        }
    }
}

fn quoted(cell: &str) -> String {
    format!("\"{}\"", cell.replace('"', "\"\""))
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        rows in prop::collection::vec(prop::collection::vec("[a-z,\"\n é城]{0,6}", 3), 1..20),
        ending in prop::sample::select(vec!["\n", "\r\n"]),
    ) {
        let line = |cells: &[String]| cells.iter().map(|cell| quoted(cell)).collect::<Vec<_>>().join(",") + ending;
        let text = format!("x,y,z{ending}{}", rows.iter().map(|row| line(row)).collect::<String>());
        let (_, read) = read(text.as_bytes(), &Limits::default()).unwrap();
        prop_assert_eq!(read, rows);
    }

    #[test]
    fn wild_bytes_end_in_rows_or_in_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let small = Limits { columns: 4, cell_bytes: 16, row_bytes: 64, ..Limits::default() };
        if let Ok((names, rows)) = read(&bytes, &small) {
            prop_assert!(names.len() <= 4);
            prop_assert!(rows.iter().flatten().all(|cell| cell.len() <= 16 * 3));
        }
    }
}
