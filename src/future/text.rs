//! Texts of tasks on a terminal: on one line, whatever is in them.

use std::borrow::Cow;

use console::strip_ansi_codes;

/// No terminal is wider, and more need not be looked at.
const LONGEST: usize = 4096;

/// The text without what would move the cursor, colour what follows, or need another line.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    let end = text.char_indices().nth(LONGEST).map_or(text.len(), |(end, _)| end);
    let text = &text[..end];
    if !text.contains(|character: char| character.is_control() || joins(character)) {
        return text.into();
    }
    // Sequences that do not end remain, and so do their controls.
    strip_ansi_codes(text).trim_end().replace(joins, "").replace(char::is_control, " ").into()
}

/// Whether this makes one symbol of several characters, or a wide one of a narrow one, in some terminals but not in all:
/// without it they agree on how wide the text is.
fn joins(character: char) -> bool {
    matches!(character, '\u{200d}' | '\u{fe0f}')
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, one_line};

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
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(one_line(&"語".repeat(1_000_000)).chars().count(), LONGEST);
    }
}
