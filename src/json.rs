//! JSON strings.
//!
//! Nothing more is needed: the JSON that this crate writes is flat, with numbers and strings in a fixed order. A
//! serializer would be one more dependency of every program that uses the crate, for these few lines.

use std::fmt::{self, Write};

/// Displays a text as a JSON string.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_quoted(self.0, f, needs_escape)
    }
}

/// Displays a text as a JSON string inside an HTML script element: nothing in it ends the element or begins a comment.
pub(crate) struct QuotedInScript<'a>(pub(crate) &'a str);

impl fmt::Display for QuotedInScript<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_quoted(self.0, f, |character| needs_escape(character) || matches!(character, '<' | '>' | '&'))
    }
}

/// What JSON requires, and the line ends of other languages. No more than that: Perfetto does not decode `\u003c`.
fn needs_escape(character: char) -> bool {
    character.is_control() || matches!(character, '"' | '\\' | '\u{2028}' | '\u{2029}')
}

fn write_quoted(text: &str, f: &mut fmt::Formatter<'_>, needs_escape: impl Fn(char) -> bool) -> fmt::Result {
    f.write_char('"')?;
    let mut written = 0;
    for (at, character) in text.char_indices().filter(|(_, character)| needs_escape(*character)) {
        f.write_str(&text[written..at])?;
        match character {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            other => write!(f, "\\u{:04x}", u32::from(other))?,
        }
        written = at + character.len_utf8();
    }
    f.write_str(&text[written..])?;
    f.write_char('"')
}

/// Displays a JSON value, or `null`.
pub(crate) struct OrNull<T>(pub(crate) Option<T>);

impl<T: fmt::Display> fmt::Display for OrNull<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("null"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{OrNull, Quoted, QuotedInScript};

    #[test]
    fn a_reader_of_json_gets_the_text_back() {
        let all: String = (0..0x3000).chain([0x1f600, 0x10ffff]).filter_map(char::from_u32).collect();
        for text in ["", "plain", "\"\\\n\r\t\0\u{1b}[31m", "</script><!--", "a & b", "\u{2028}日本語👩‍👧", &all]
        {
            for json in [Quoted(text).to_string(), QuotedInScript(text).to_string()] {
                assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
            }
        }
    }

    #[test]
    fn nothing_ends_a_script_element() {
        assert_eq!(QuotedInScript("</script><!--&").to_string(), r#""\u003c/script\u003e\u003c!--\u0026""#);
        assert_eq!(Quoted("</script><!--&").to_string(), r#""</script><!--&""#);
    }

    #[test]
    fn what_is_not_known_is_null() {
        assert_eq!((OrNull(Some(3)).to_string(), OrNull(None::<u64>).to_string()), ("3".into(), "null".into()));
    }
}
