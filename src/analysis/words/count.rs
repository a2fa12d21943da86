//! Counts the words of one column in bounded memory: equal cells are gathered first, so that each is cut once.

use std::collections::HashMap;

use super::segment::each_word;
use super::stop::is_stop_word;

/// Distinct cells that are gathered before they are cut.
const GATHERED_CELLS: usize = 16_384;
/// Text of the cells that are gathered, bytes.
const GATHERED_BYTES: usize = 2 << 20;
/// Distinct words; beyond, the rarer half is forgotten.
const DISTINCT_WORDS: usize = 65_536;

/// The word that missing cells become.
pub const MISSING_WORD: &str = "None";

/// A word and how often it occurs.
pub type Count = (String, u64);

/// Counts the words of a column.
#[derive(Debug)]
pub struct WordCounter {
    cells: HashMap<Box<str>, u64>,
    cells_bytes: usize,
    words: HashMap<Box<str>, u64>,
    missing: u64,
    left_bytes: usize,
    /// Cells that came when the budget was spent.
    unread: u64,
    forgot: bool,
}

/// The words of a column, most frequent first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    /// Words that stand for something; all words where there are no others.
    pub counts: Vec<Count>,
    /// Cells that were not looked at, because there was more text than is cut.
    pub unread: u64,
    /// Whether rare words may be missing.
    pub forgot: bool,
}

impl WordCounter {
    /// Cuts at most so many bytes of distinct text.
    pub fn new(budget_bytes: usize) -> Self {
        Self {
            cells: HashMap::new(),
            cells_bytes: 0,
            words: HashMap::new(),
            missing: 0,
            left_bytes: budget_bytes,
            unread: 0,
            forgot: false,
        }
    }

    /// Takes a cell; returns whether much work was done.
    pub fn add(&mut self, cell: &str) -> bool {
        if let Some(count) = self.cells.get_mut(cell) {
            *count += 1;
            return false;
        }
        if self.left_bytes < cell.len() {
            self.unread += 1;
            return false;
        }
        let full = self.cells.len() >= GATHERED_CELLS || self.cells_bytes + cell.len() > GATHERED_BYTES;
        if full {
            self.cut();
        }
        self.left_bytes -= cell.len();
        self.cells_bytes += cell.len();
        self.cells.insert(cell.into(), 1);
        full
    }

    /// Takes a missing cell, which becomes the word `None`.
    pub fn add_missing(&mut self) {
        self.missing += 1;
    }

    /// Cuts the cells that were gathered.
    fn cut(&mut self) {
        let mut cells: Vec<(Box<str>, u64)> = self.cells.drain().collect();
        // The order decides what is forgotten: it must not be chance.
        cells.sort_unstable();
        self.cells_bytes = 0;
        for (cell, times) in cells {
            each_word(&cell, |word| match self.words.get_mut(word) {
                Some(count) => *count += times,
                None => {
                    self.words.insert(word.into(), times);
                }
            });
            if self.words.len() > DISTINCT_WORDS {
                self.forget();
            }
        }
    }

    fn forget(&mut self) {
        let mut words: Vec<(Box<str>, u64)> = self.words.drain().collect();
        sort(&mut words);
        words.truncate(DISTINCT_WORDS / 2);
        self.words = words.into_iter().collect();
        self.forgot = true;
    }

    /// The words, at most so many.
    pub fn finish(mut self, most: usize) -> Words {
        self.cut();
        if self.missing > 0 {
            *self.words.entry(MISSING_WORD.into()).or_default() += self.missing;
        }
        let mut words: Vec<(Box<str>, u64)> = self.words.into_iter().collect();
        sort(&mut words);
        let telling = words.iter().filter(|(word, _)| !is_stop_word(word) && &**word != MISSING_WORD).count();
        let counts = words
            .into_iter()
            .filter(|(word, _)| telling == 0 || !is_stop_word(word))
            .take(most)
            .map(|(word, count)| (word.into_string(), count))
            .collect();
        Words { counts, unread: self.unread, forgot: self.forgot }
    }
}

fn sort(words: &mut [(Box<str>, u64)]) {
    words.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(cells: &[&str], missing: u64) -> Vec<(String, u64)> {
        let mut counter = WordCounter::new(1 << 20);
        cells.iter().for_each(|cell| {
            counter.add(cell);
        });
        (0..missing).for_each(|_| counter.add_missing());
        counter.finish(10).counts
    }

    fn pairs(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
        expected.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect()
    }

    #[test]
    fn words_are_counted_without_those_that_say_nothing() {
        assert_eq!(counts(&["the cat", "a cat", "the dog"], 0), pairs(&[("cat", 2), ("dog", 1)]));
        assert_eq!(counts(&["red"], 3), pairs(&[("None", 3), ("red", 1)]));
        assert_eq!(counts(&["北京的天气", "北京"], 0), pairs(&[("北京", 2), ("天气", 1)]));
    }

    #[test]
    fn where_nothing_else_is_there_every_word_counts() {
        assert_eq!(counts(&["S", "C", "S"], 1), pairs(&[("S", 2), ("C", 1), ("None", 1)]));
        assert_eq!(counts(&["2026-11-20"], 0), pairs(&[("11", 1), ("20", 1), ("2026", 1)]));
        assert_eq!(counts(&["!"], 0), []);
    }

    #[test]
    fn text_beyond_the_budget_and_words_beyond_the_most_are_left_out_and_said() {
        let mut counter = WordCounter::new(10);
        ["apple", "pear", "plum", "apple"].iter().for_each(|cell| {
            counter.add(cell);
        });
        let words = counter.finish(10);
        assert_eq!((words.counts, words.unread), (pairs(&[("apple", 2), ("pear", 1)]), 1));

        let mut counter = WordCounter::new(32 << 20);
        for n in 0..DISTINCT_WORDS + 10 {
            counter.add(&format!("word{n} often"));
        }
        let words = counter.finish(1);
        assert!(words.forgot);
        assert_eq!(words.counts[0].0, "often");
    }
}
