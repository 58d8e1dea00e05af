//! Text of files on a terminal or a page: without characters that move a cursor or turn the reading direction.
//!
//! Names of photos, classes and models come from people whom nobody knows. An escape sequence in one would colour, clear or retitle
//! the reader's terminal; a right-to-left override would show `photo.exe` with the ending of a photo.

use std::borrow::Cow;
use std::fmt::Write;

/// The text with its harmful characters as `\u001b`, which is how JSON writes them, too. Line breaks and tabs stay.
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_harmful(character) {
            // All of them have four digits.
            let _ = write!(shown, "\\u{:04x}", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Longest word of a message, in characters: a path is shorter, a damaged file's name may be megabytes.
const LONGEST: usize = 500;

/// The text with the middle of very long words left out.
pub fn shortened(text: &str) -> Cow<'_, str> {
    let is_long = |word: &str| word.len() > LONGEST && word.chars().count() > LONGEST;
    if !text.split_whitespace().any(is_long) {
        return Cow::Borrowed(text);
    }
    let words = text.split_inclusive(char::is_whitespace).map(|word| {
        if !is_long(word) {
            return word.to_owned();
        }
        let count = word.chars().count();
        let (start, end): (String, String) =
            (word.chars().take(200).collect(), word.chars().skip(count - 100).collect());
        format!("{start}…{end}")
    });
    words.collect::<String>().into()
}

/// Control characters, separators of lines and paragraphs, and Unicode's marks of direction (its property `Bidi_Control`).
fn is_harmful(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        _ => character.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmful_characters_are_written_out_and_all_others_stay() {
        assert_eq!(shown("\u{1b}]0;title\u{7}a\u{9b}31m\rb"), "\\u001b]0;title\\u0007a\\u009b31m\\u000db");
        assert_eq!(shown("photo\u{202e}gnp.exe"), "photo\\u202egnp.exe");
        let usual = "größe\t部品 🔩\nعربي עברית";
        assert!(matches!(shown(usual), Cow::Borrowed(text) if text == usual));
        assert_eq!(shortened(usual), usual);
        let name = format!("{}{}", "a".repeat(1000), "b".repeat(1000));
        let expected = format!("name\n{}…{}", "a".repeat(200), "b".repeat(99));
        assert_eq!(shortened(&format!("name\n{name} unknown")), format!("{expected} unknown"));
        // Still JSON, and of the same value.
        let json = serde_json::to_string("a\u{1b}\u{202e}b").unwrap();
        assert_eq!(serde_json::from_str::<String>(&shown(&json)).unwrap(), "a\u{1b}\u{202e}b");
    }
}
