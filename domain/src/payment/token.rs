//! What a payment method token may look like.

/// The longest token, in characters.
pub const METHOD_TOKEN_MAX: usize = 255;

/// Whether `text` may be a provider's token for a payment method: 1 to 255 visible ASCII characters, and not
/// 12 to 19 digits with nothing but separators between them, for that is a card number and must never reach the log.
pub fn is_method_token(text: &str) -> bool {
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    (1..=METHOD_TOKEN_MAX).contains(&text.len()) && visible && !is_card_number(text)
}

/// Digits and nothing else but what people write between them, as long as card numbers are.
fn is_card_number(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    (12..=19).contains(&digits) && !text.bytes().any(|byte| byte.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::{METHOD_TOKEN_MAX, is_method_token};

    #[test]
    fn a_card_number_is_no_token() {
        for token in ["tok_approve", "pm_1234567890123456", "x", "12345678901"] {
            assert!(is_method_token(token), "{token}");
        }
        for other in [
            "",
            "4111111111111111",
            "4111-1111-1111-1111",
            "4111.1111.1111.1111",
            "4111/1111_1111:1111",
            "a b",
            "tok\n",
            "ü",
            &"x".repeat(METHOD_TOKEN_MAX + 1),
        ] {
            assert!(!is_method_token(other), "{other}");
        }
    }
}
