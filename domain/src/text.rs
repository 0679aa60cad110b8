//! What a text may hold, in one place. What is on the log is read for ever, so the strictest of all its readers decides:
//! Postgres keeps no U+0000 in `text` and `jsonb`, a terminal obeys control characters, and whoever reads a list is
//! misled by characters that turn the direction of writing.
//!
//! A text that somebody asks for is checked by its [`TextRule`] and refused. One that came from outside and cannot be
//! refused any more, such as the words of a payment provider, is made fit by [`TextRule::tidy`].

use std::borrow::Cow;

use crate::{Refusal, RefusalFamily};

/// How long a text may be, and whether it has lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextRule {
    chars_max: usize,
    lines: bool,
}

/// What people call a thing, in one line.
pub const TITLE: TextRule = TextRule::line(300);
/// What a thing is.
pub const DESCRIPTION: TextRule = TextRule::lines(10_000);
/// Why something is done or was found, by a person or a process.
pub const REASON: TextRule = TextRule::lines(500);
/// As [`REASON`], where it stays as the only account of something that was left out or settled by hand.
pub const ACCOUNT: TextRule = TextRule::lines(1_000);
/// A name, a number or a code of somebody else's system: a supplier's document, a provider's code, who did it.
pub const LABEL: TextRule = TextRule::line(255);
/// A reference to somebody else's document, in one line.
pub const REFERENCE: TextRule = TextRule::line(500);

/// What stands for a character that may not be there.
const REPLACEMENT: char = '\u{FFFD}';

impl TextRule {
    /// One line of at most so many characters.
    pub const fn line(chars_max: usize) -> Self {
        Self { chars_max, lines: false }
    }

    /// Lines, with tabs, of at most so many characters together.
    pub const fn lines(chars_max: usize) -> Self {
        Self { chars_max, lines: true }
    }

    /// The longest text, in characters.
    pub const fn chars_max(self) -> usize {
        self.chars_max
    }

    /// Whether `text` may be on the log.
    ///
    /// # Errors
    /// What is wrong with it, `field` being where it stands in the request.
    pub fn check(self, field: &str, text: &str) -> Result<(), TextError> {
        let mut count = 0;
        let mut forbidden = None;
        for character in text.chars() {
            if forbidden.is_none() && !self.allows(character) {
                forbidden = Some((count, character));
            }
            count += 1;
        }
        if count > self.chars_max {
            return Err(TextError::TooLong { field: field.to_owned(), found: count, limit: self.chars_max });
        }
        match forbidden {
            Some((at, character)) => Err(TextError::Forbidden { field: field.to_owned(), character, at }),
            None => Ok(()),
        }
    }

    /// As [`TextRule::check`], and the text says something.
    ///
    /// # Errors
    /// See [`TextRule::check`]; [`TextError::Missing`] for one of nothing but white space.
    pub fn check_present(self, field: &str, text: &str) -> Result<(), TextError> {
        if text.trim().is_empty() {
            return Err(TextError::Missing { field: field.to_owned() });
        }
        self.check(field, text)
    }

    /// The text as it may be on the log: cut where it is too long, with U+FFFD for each character that may not be there.
    pub fn tidy(self, text: &str) -> Cow<'_, str> {
        if self.check("", text).is_ok() {
            return Cow::Borrowed(text);
        }
        let fit = |character| if self.allows(character) { character } else { REPLACEMENT };
        Cow::Owned(text.chars().take(self.chars_max).map(fit).collect())
    }

    fn allows(self, character: char) -> bool {
        (self.lines && matches!(character, '\n' | '\t')) || !is_forbidden(character)
    }
}

/// Characters that are in no text: control characters (C0, DEL and C1), line and paragraph separators, which break a
/// line in some readers and not in others, and what embeds, overrides or isolates a direction of writing. The marks that
/// such writing needs, U+200E, U+200F and U+061C, stay.
const fn is_forbidden(character: char) -> bool {
    matches!(
        character,
        '\0'..='\u{1F}' | '\u{7F}'..='\u{9F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
    )
}

/// The last gate before the log, whoever made the event and forgot a rule: the first character in the texts of a JSON
/// value that no text holds. In JSON as `serde_json` writes it, where C0 controls are escaped and nothing else is.
pub fn forbidden_in_json(json: &[u8]) -> Option<char> {
    let mut rest = json;
    while let Some((&byte, after)) = rest.split_first() {
        match (byte, after) {
            (b'\\', [b'u', b'0', b'0', high, low, ..]) => {
                let digits = [*high, *low];
                let code =
                    std::str::from_utf8(&digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
                match code.map(char::from) {
                    Some('\n' | '\t') | None => rest = &after[5..],
                    Some(character) if is_forbidden(character) => return Some(character),
                    Some(_) => rest = &after[5..],
                }
            }
            (b'\\', [b'b', ..]) => return Some('\u{8}'),
            (b'\\', [b'f', ..]) => return Some('\u{C}'),
            (b'\\', [b'r', ..]) => return Some('\r'),
            // Another escape, of one character: a quote or a backslash among them.
            (b'\\', [_, after @ ..]) => rest = after,
            (0x7F, _) => return Some('\u{7F}'),
            (0xC2 | 0xE2, _) => {
                let length = if byte == 0xC2 { 2 } else { 3 };
                let (character, after) = rest.split_at(length.min(rest.len()));
                let character = std::str::from_utf8(character).ok().and_then(|text| text.chars().next());
                match character.filter(|character| is_forbidden(*character)) {
                    Some(character) => return Some(character),
                    None => rest = after,
                }
            }
            _ => rest = after,
        }
    }
    None
}

/// Why a text is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// A text that must be there is empty.
    #[error("{field} is empty")]
    Missing {
        /// Which text.
        field: String,
    },
    /// A text is longer than anybody would read.
    #[error("{field} has {found} characters, more than {limit}")]
    TooLong {
        /// Which text.
        field: String,
        /// Its length.
        found: usize,
        /// The longest allowed.
        limit: usize,
    },
    /// A character that not every reader of the log can hold or show.
    #[error(
        "{field} holds U+{:04X} as character {}: leave out control characters and those that change the direction of \
         writing",
        u32::from(*character),
        at + 1
    )]
    Forbidden {
        /// Which text.
        field: String,
        /// The character.
        character: char,
        /// How many come before it.
        at: usize,
    },
}

impl Refusal for TextError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "TEXT_MISSING",
            Self::TooLong { .. } => "TEXT_TOO_LONG",
            Self::Forbidden { .. } => "TEXT_INVALID",
        }
    }

    fn family(&self) -> RefusalFamily {
        RefusalFamily::Invalid
    }

    fn field(&self) -> Option<String> {
        let (Self::Missing { field } | Self::TooLong { field, .. } | Self::Forbidden { field, .. }) = self;
        Some(field.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_some_reader_cannot_hold_or_show_is_refused_with_its_place() {
        for character in
            ['\0', '\u{1B}', '\r', '\u{7F}', '\u{85}', '\u{9B}', '\u{2028}', '\u{202E}', '\u{2066}']
        {
            let text = format!("ab{character}c");
            for rule in [TITLE, DESCRIPTION, REASON, LABEL] {
                let refused = TextError::Forbidden { field: "title".to_owned(), character, at: 2 };
                assert_eq!(rule.check("title", &text), Err(refused), "{character:?}");
                assert_eq!(rule.tidy(&text), "ab\u{FFFD}c");
            }
        }
        assert_eq!(REASON.check("r", "two\nlines,\ta tab"), Ok(()));
        assert!(TITLE.check("t", "two\nlines").is_err());
    }

    #[test]
    fn what_people_write_is_fine() {
        for text in ["", "Größe 38 – naïve", "茶杯", "שלום\u{200F}", "👩‍👩‍👧", "e\u{301}", "\"a\\b\"", "\u{FEFF}"]
        {
            assert_eq!(TITLE.check("title", text), Ok(()), "{text}");
            assert_eq!(TITLE.tidy(text), text);
            let json = serde_json::to_vec(&[text]).unwrap();
            assert_eq!(forbidden_in_json(&json), None, "{text}");
        }
    }

    #[test]
    fn a_length_is_counted_in_characters() {
        let long = "é".repeat(301);
        let refused = TextError::TooLong { field: "title".to_owned(), found: 301, limit: 300 };
        assert_eq!(TITLE.check("title", &long), Err(refused));
        assert_eq!(TITLE.tidy(&long).chars().count(), 300);
        assert_eq!(
            TITLE.check_present("title", " \t "),
            Err(TextError::Missing { field: "title".to_owned() })
        );
    }

    #[test]
    fn no_control_character_passes_the_last_gate_in_json() {
        for code in 0..=0x2100 {
            let Some(character) = char::from_u32(code) else { continue };
            for text in
                [format!("{character}"), format!("\\{character}"), format!("a\\\\u0000\"{character}b")]
            {
                let json = serde_json::to_vec(&serde_json::json!({ "a": [{ "b": text }] })).unwrap();
                let expected =
                    (is_forbidden(character) && !matches!(character, '\n' | '\t')).then_some(character);
                assert_eq!(forbidden_in_json(&json), expected, "{code:04X}");
            }
        }
    }
}
