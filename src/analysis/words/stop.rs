//! Words that say nothing by themselves, in English and Chinese.

/// Whether a word is left out of a cloud as long as there are others.
pub fn is_stop_word(word: &str) -> bool {
    if word.chars().all(|c| c.is_numeric() || c == '.') {
        return true;
    }
    if word.is_ascii() {
        let lower = word.to_ascii_lowercase();
        return lower.len() < 2 || ENGLISH.binary_search(&lower.as_str()).is_ok();
    }
    CHINESE.contains(&word)
}

/// Sorted.
const ENGLISH: &[&str] = &[
    "about", "above", "after", "again", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be",
    "because", "been", "before", "being", "below", "between", "both", "but", "by", "can", "could", "did",
    "do", "does", "doing", "don't", "down", "during", "each", "few", "for", "from", "further", "had", "has",
    "have", "having", "he", "her", "here", "hers", "him", "his", "how", "i'm", "if", "in", "into", "is",
    "it", "it's", "its", "just", "me", "more", "most", "my", "no", "nor", "not", "now", "of", "off", "on",
    "once", "only", "or", "other", "our", "ours", "out", "over", "own", "same", "she", "should", "so",
    "some", "such", "than", "that", "the", "their", "theirs", "them", "then", "there", "these", "they",
    "this", "those", "through", "to", "too", "under", "until", "up", "very", "was", "we", "were", "what",
    "when", "where", "which", "while", "who", "whom", "why", "will", "with", "would", "you", "your", "yours",
];

const CHINESE: &[&str] = &[
    "的", "了", "和", "是", "在", "就", "都", "而", "及", "与", "着", "或", "也", "又", "我", "你", "他",
    "她", "它", "我们", "你们", "他们", "她们", "它们", "这", "那", "这个", "那个", "这些", "那些", "一个",
    "一", "不", "没", "没有", "有", "很", "到", "说", "要", "去", "会", "把", "被", "让", "给", "对", "从",
    "向", "以", "于", "为", "因为", "所以", "但是", "但", "如果", "虽然", "然后", "可以", "什么", "怎么",
    "吗", "呢", "吧", "啊", "呀", "上", "下", "中", "里", "个", "之", "其", "并", "等", "还", "再", "只",
    "已", "已经", "自己",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_found() {
        assert!(ENGLISH.is_sorted());
        for word in ["the", "The", "a", "的", "12", "3.5", "２"] {
            assert!(is_stop_word(word), "{word}");
        }
        for word in ["None", "cat", "北京", "x1"] {
            assert!(!is_stop_word(word), "{word}");
        }
    }
}
