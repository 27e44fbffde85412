//! Texts of tasks on a terminal: kept to one line, whatever they contain.

use std::borrow::Cow;

use console::{AnsiCodeIterator, strip_ansi_codes};

/// No terminal has more columns, so longer texts are cut here.
pub(crate) const WIDEST: usize = 4096;

/// The text without anything that would move the cursor, colour what follows, or need another line.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    let end = text.char_indices().nth(WIDEST).map_or(text.len(), |(end, _)| end);
    let text = &text[..end];
    if !text.contains(|character: char| character.is_control() || joins(character)) {
        return text.into();
    }
    // Unterminated sequences remain, and so do their control characters.
    strip_ansi_codes(text).trim_end().replace(joins, "").replace(char::is_control, " ").into()
}

/// The text with its colours and tabs, and without any other control characters.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    let mut has_style = false;
    for (part, is_sequence) in AnsiCodeIterator::new(text) {
        if !is_sequence {
            printable.extend(part.chars().filter(|&character| character == '\t' || !character.is_control()));
        } else if part.starts_with("\x1b[") && part.ends_with('m') {
            has_style = true;
            printable += part;
        }
    }
    if has_style {
        printable += "\x1b[0m";
    }
    printable
}

/// Whether terminals disagree on how wide a text with this character is: it joins characters into one symbol, widens
/// one, or changes the direction.
fn joins(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{fe0f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::{WIDEST, one_line, printable};

    #[test]
    fn nothing_moves_the_cursor_or_colours_what_follows() {
        let texts = [
            ("plain", "plain"),
            ("日本語", "日本語"),
            ("first\nsecond\tthird\n", "first second third"),
            ("12 %\rOVERWRITTEN", "12 % OVERWRITTEN"),
            ("back\u{8}space", "back space"),
            ("up\u{1b}[2Aaway", "upaway"),
            ("\u{1b}[31mred", "red"),
            ("\u{1b}]0;title\u{7}after", "after"),
            ("\u{9b}31mred", "red"),
            ("👩‍👧", "👩👧"),
        ];
        for (text, shown) in texts {
            assert_eq!(one_line(text), shown, "{text:?}");
        }
        for unterminated in ["\u{1b}", "\u{1b}[", "\u{1b}[31", "\u{1b}]0;title", "\u{9b}", "\u{90}q"] {
            assert!(!one_line(unterminated).contains(char::is_control), "{unterminated:?}");
        }
    }

    #[test]
    fn a_line_keeps_its_colours_and_nothing_else() {
        assert_eq!(printable("plain\t日本語"), "plain\t日本語");
        assert_eq!(printable("\u{1b}[31mred"), "\u{1b}[31mred\u{1b}[0m");
        assert_eq!(printable("a\rb\u{8}c\u{1b}[2Ad\u{1b}]0;title\u{7}e"), "abcde");
        for unterminated in ["\u{1b}", "\u{1b}[31", "\u{1b}]0;title", "\u{9b}", "\u{90}q"] {
            assert!(!printable(unterminated).contains(char::is_control), "{unterminated:?}");
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(one_line(&"語".repeat(1_000_000)).chars().count(), WIDEST);
    }
}
