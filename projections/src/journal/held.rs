//! What the journal's columns cannot hold as it is, in a form that they can. The journal holds every event, whoever wrote
//! it and whatever is in it: an index with a hole would stop the shop.
//!
//! A text with U+0000 has each of them written as U+001A and `0`, and each U+001A as U+001A and `1`. A payload that is no
//! JSON is the JSON text of its bytes in hexadecimal digits, behind U+001A. Neither form is ever the form of anything else,
//! so that what is read is what was written.

use std::borrow::Cow;

use serde::de::IgnoredAny;

const MARK: char = '\u{1A}';
/// What a payload in digits begins with, as JSON.
const BEGIN: &[u8] = br#""\u001a"#;

/// `text` as a column of type `text` holds it.
pub(super) fn hold_text(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', MARK]) {
        return Cow::Borrowed(text);
    }
    let mut held = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\0' => held.extend([MARK, '0']),
            MARK => held.extend([MARK, '1']),
            other => held.push(other),
        }
    }
    Cow::Owned(held)
}

/// The text that [`hold_text`] was given.
pub(super) fn give_text(held: String) -> String {
    if !held.contains(MARK) {
        return held;
    }
    let mut text = String::with_capacity(held.len());
    let mut characters = held.chars();
    while let Some(character) = characters.next() {
        match (character, character == MARK) {
            (_, true) => match characters.next() {
                Some('0') => text.push('\0'),
                _ => text.push(MARK),
            },
            (other, false) => text.push(other),
        }
    }
    text
}

/// `payload` as a column of type `json` holds it. Only looks into it where there is a doubt, for that takes time.
pub(super) fn hold_json(payload: &[u8], doubt: bool) -> Cow<'_, [u8]> {
    let is_odd =
        payload.starts_with(BEGIN) || (doubt && serde_json::from_slice::<IgnoredAny>(payload).is_err());
    if !is_odd {
        return Cow::Borrowed(payload);
    }
    let digits = payload.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let digits = digits.map(|digit| char::from_digit(digit.into(), 16).unwrap_or_default() as u8);
    Cow::Owned(BEGIN.iter().copied().chain(digits).chain([b'"']).collect())
}

/// The payload that [`hold_json`] was given.
pub(super) fn give_json(held: &[u8]) -> Cow<'_, [u8]> {
    let digits = held.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(b"\""));
    let Some(digits) = digits else { return Cow::Borrowed(held) };
    let value = |digit: u8| char::from(digit).to_digit(16).unwrap_or_default() as u8;
    Cow::Owned(digits.chunks_exact(2).map(|pair| value(pair[0]) << 4 | value(pair[1])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_what_was_held_and_nothing_else_is_changed() {
        for text in ["", "anna", "a\0b", "\u{1A}", "\u{1A}0", "\0\u{1A}1\0"] {
            let held = hold_text(text);
            assert!(!held.contains('\0'), "{text:?}");
            assert_eq!(give_text(held.into_owned()), text);
        }
        assert!(matches!(hold_text("anna"), Cow::Borrowed(_)));
        for payload in [&b"{}"[..], br#"{"title":"a\u0000b"}"#, b"", b"{", b"\xff\0", br#""\u001a00""#] {
            let held = hold_json(payload, true);
            assert!(serde_json::from_slice::<IgnoredAny>(&held).is_ok(), "{payload:?}");
            assert_eq!(&*give_json(&held), payload);
        }
        assert!(matches!(hold_json(br#"{"title":"a\u0000b"}"#, true), Cow::Borrowed(_)));
    }
}
