//! Cuts text into words: Chinese by its dictionary, everything else where a word ends.

use std::sync::LazyLock;

use jieba_rs::Jieba;

/// Longer ones are addresses and keys rather than words, characters.
const LONGEST_WORD: usize = 32;

/// The dictionary takes a moment and some 60 MB: it is read when the first text needs it.
static JIEBA: LazyLock<Jieba> = LazyLock::new(Jieba::new);

/// Calls back with each word of a text.
pub fn each_word(text: &str, mut take: impl FnMut(&str)) {
    if text.is_ascii() {
        let pieces = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '\''));
        pieces.map(|piece| piece.trim_matches(['_', '\''])).filter(|piece| fits(piece)).for_each(take);
        return;
    }
    for token in JIEBA.cut(text, true) {
        if fits(token.word) {
            take(token.word);
        }
    }
}

fn fits(word: &str) -> bool {
    word.chars().any(char::is_alphanumeric) && word.chars().count() <= LONGEST_WORD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut words = Vec::new();
        each_word(text, |word| words.push(word.to_owned()));
        words
    }

    #[test]
    fn texts_are_cut_into_words() {
        assert_eq!(words("Don't panic, it's 'fine' -- a_b!"), ["Don't", "panic", "it's", "fine", "a_b"]);
        assert_eq!(words("我来到北京清华大学，真好"), ["我", "来到", "北京", "清华大学", "真", "好"]);
        assert_eq!(words("北京 weather 晴"), ["北京", "weather", "晴"]);
        assert_eq!(words("…！ ,"), Vec::<String>::new());
        assert_eq!(words(&"x".repeat(33)), Vec::<String>::new());
    }
}
