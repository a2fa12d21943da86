//! How long the analysis of a table takes, and each of its charts. A plain program that prints figures:
//! `cargo bench -p meerkat-analysis --bench million [-- FILE.csv]`; without a file a million rows of ten columns are drawn.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on may as well panic")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Cursor;
use std::time::Instant;

use meerkat_analysis::{Analysis, Limits};

/// A sequence that looks random and is the same every time.
struct Dice(u64);

impl Dice {
    /// From 0 to 1.
    fn roll(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Eight columns of numbers, one of them with missing ones, two of text, one of them Chinese.
fn table(rows: u32) -> String {
    const KINDS: [&str; 4] = ["前门有人经过", "后院", "gate opened", "hall"];
    let mut dice = Dice(7);
    let mut text = String::from("a,b,c,d,e,f,g,h,kind,note\n");
    for n in 0..rows {
        let (x, y, z) = (dice.roll(), dice.roll(), dice.roll());
        let missing = if n % 50 == 0 { String::new() } else { format!("{:.4}", -y.ln()) };
        let kind = KINDS[(z * 4.0) as usize % 4];
        writeln!(
            text,
            "{n},{x:.6},{:.6},{:.3},{missing},{},{:.2},{:.6},{kind},seen {} times",
            x + y,
            z * 1000.0,
            (x * 100.0) as u32,
            100.0 + 15.0 * (x - y),
            z.powi(4),
            (y * 500.0) as u32
        )
        .unwrap();
    }
    text
}

fn main() {
    let file = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let bytes = match &file {
        Some(path) => std::fs::read(path).unwrap(),
        None => table(1_000_000).into_bytes(),
    };
    let began = Instant::now();
    let analysis = Analysis::of_csv(Cursor::new(&bytes), &Limits::default()).unwrap();
    let rows = analysis.summary().rows;
    println!("analysis of {rows} rows, {} bytes: {:.2?}", bytes.len(), began.elapsed());
    let mut drawings =
        vec![analysis.heat_map(), analysis.skewness(), analysis.missing(), analysis.pair_grid()];
    let began = Instant::now();
    drawings.extend(analysis.word_clouds());
    println!("word clouds laid out: {:.2?}", began.elapsed());
    for drawing in &drawings {
        let began = Instant::now();
        let svg = black_box(drawing.svg().unwrap()).len();
        let svg_took = began.elapsed();
        let began = Instant::now();
        match drawing.jpeg() {
            Ok(jpeg) => println!(
                "{:<12} SVG {svg:>8} bytes in {svg_took:>8.2?}, JPEG {:>6} bytes in {:.2?}",
                drawing.name(),
                jpeg.len(),
                began.elapsed()
            ),
            Err(error) => println!("{:<12} SVG {svg:>8} bytes in {svg_took:>8.2?}; {error}", drawing.name()),
        }
    }
}
