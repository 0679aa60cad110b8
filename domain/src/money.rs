//! Money as integer minor units with a currency. Arithmetic is checked; currencies never mix.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The currencies of ISO 4217 that somebody can pay with, in order: without metals, funds of accounts, test codes and `XXX`.
const ISO_4217: &[&str] = &[
    "AED", "AFN", "ALL", "AMD", "ANG", "AOA", "ARS", "AUD", "AWG", "AZN", "BAM", "BBD", "BDT", "BGN", "BHD",
    "BIF", "BMD", "BND", "BOB", "BOV", "BRL", "BSD", "BTN", "BWP", "BYN", "BZD", "CAD", "CDF", "CHE", "CHF",
    "CHW", "CLF", "CLP", "CNY", "COP", "COU", "CRC", "CUP", "CVE", "CZK", "DJF", "DKK", "DOP", "DZD", "EGP",
    "ERN", "ETB", "EUR", "FJD", "FKP", "GBP", "GEL", "GHS", "GIP", "GMD", "GNF", "GTQ", "GYD", "HKD", "HNL",
    "HTG", "HUF", "IDR", "ILS", "INR", "IQD", "IRR", "ISK", "JMD", "JOD", "JPY", "KES", "KGS", "KHR", "KMF",
    "KPW", "KRW", "KWD", "KYD", "KZT", "LAK", "LBP", "LKR", "LRD", "LSL", "LYD", "MAD", "MDL", "MGA", "MKD",
    "MMK", "MNT", "MOP", "MRU", "MUR", "MVR", "MWK", "MXN", "MXV", "MYR", "MZN", "NAD", "NGN", "NIO", "NOK",
    "NPR", "NZD", "OMR", "PAB", "PEN", "PGK", "PHP", "PKR", "PLN", "PYG", "QAR", "RON", "RSD", "RUB", "RWF",
    "SAR", "SBD", "SCR", "SDG", "SEK", "SGD", "SHP", "SLE", "SOS", "SRD", "SSP", "STN", "SVC", "SYP", "SZL",
    "THB", "TJS", "TMT", "TND", "TOP", "TRY", "TTD", "TWD", "TZS", "UAH", "UGX", "USD", "USN", "UYI", "UYU",
    "UYW", "UZS", "VED", "VES", "VND", "VUV", "WST", "XAF", "XCD", "XCG", "XOF", "XPF", "YER", "ZAR", "ZMW",
    "ZWG",
];

/// An ISO 4217 currency.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

impl Currency {
    /// Pound sterling.
    pub const GBP: Self = Self(*b"GBP");
    /// Euro.
    pub const EUR: Self = Self(*b"EUR");

    /// The currency of an ISO 4217 code in upper case, such as `EUR`.
    ///
    /// # Errors
    /// No code of that list, or one of no currency, such as `XXX` and `XAU`.
    pub fn new(code: &str) -> Result<Self, MoneyError> {
        let currency = Self::stored(code)?;
        if ISO_4217.binary_search(&code).is_err() {
            return Err(MoneyError::Currency { code: code.to_owned() });
        }
        Ok(currency)
    }

    /// A currency that was taken once: lists change, and what is on the log is read for ever.
    fn stored(code: &str) -> Result<Self, MoneyError> {
        match code.as_bytes() {
            [a, b, c] if [a, b, c].iter().all(|l| l.is_ascii_uppercase()) => Ok(Self([*a, *b, *c])),
            _ => Err(MoneyError::Currency { code: code.chars().take(80).collect() }),
        }
    }

    /// The code, such as `EUR`.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???")
    }

    /// How many digits the minor unit has (ISO 4217): 2 for most, 0 for JPY, 3 for KWD.
    pub fn exponent(self) -> u32 {
        match &self.0 {
            b"BIF" | b"CLP" | b"DJF" | b"GNF" | b"ISK" | b"JPY" | b"KMF" | b"KRW" | b"PYG" | b"RWF"
            | b"UGX" | b"VND" | b"VUV" | b"XAF" | b"XOF" | b"XPF" => 0,
            b"BHD" | b"IQD" | b"JOD" | b"KWD" | b"LYD" | b"OMR" | b"TND" => 3,
            b"CLF" | b"UYW" => 4,
            _ => 2,
        }
    }
}

impl TryFrom<String> for Currency {
    type Error = MoneyError;

    fn try_from(code: String) -> Result<Self, MoneyError> {
        Self::stored(&code)
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.code().to_owned()
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// An amount in the minor unit of its currency: 12.34 EUR is `1234`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// The amount in minor units; negative amounts are owed.
    pub amount_minor: i64,
    /// Its currency.
    pub currency: Currency,
}

impl Money {
    /// `amount_minor` of `currency`.
    pub const fn new(amount_minor: i64, currency: Currency) -> Self {
        Self { amount_minor, currency }
    }

    /// Nothing, in `currency`.
    pub const fn zero(currency: Currency) -> Self {
        Self::new(0, currency)
    }

    /// The sum.
    ///
    /// # Errors
    /// Another currency, or beyond 2⁶³.
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        self.same_currency(other)?;
        self.amount_minor
            .checked_add(other.amount_minor)
            .map(|sum| Self::new(sum, self.currency))
            .ok_or(MoneyError::Overflow)
    }

    /// The difference.
    ///
    /// # Errors
    /// Another currency, or beyond 2⁶³.
    pub fn checked_sub(self, other: Self) -> Result<Self, MoneyError> {
        self.same_currency(other)?;
        self.amount_minor
            .checked_sub(other.amount_minor)
            .map(|rest| Self::new(rest, self.currency))
            .ok_or(MoneyError::Overflow)
    }

    /// This amount `quantity` times.
    ///
    /// # Errors
    /// Beyond 2⁶³.
    pub fn checked_mul(self, quantity: i64) -> Result<Self, MoneyError> {
        self.amount_minor
            .checked_mul(quantity)
            .map(|product| Self::new(product, self.currency))
            .ok_or(MoneyError::Overflow)
    }

    fn same_currency(self, other: Self) -> Result<(), MoneyError> {
        if self.currency == other.currency {
            Ok(())
        } else {
            Err(MoneyError::Mixed { left: self.currency, right: other.currency })
        }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = 10_u64.pow(self.currency.exponent());
        let (sign, amount) = (if self.amount_minor < 0 { "-" } else { "" }, self.amount_minor.unsigned_abs());
        match self.currency.exponent() as usize {
            0 => write!(f, "{sign}{amount} {}", self.currency),
            digits => write!(f, "{sign}{}.{:0digits$} {}", amount / unit, amount % unit, self.currency),
        }
    }
}

/// Why an amount cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not an ISO 4217 code.
    #[error("{code:?} is not a currency code of three capital letters")]
    Currency {
        /// The offending text.
        code: String,
    },
    /// Two currencies in one sum.
    #[error("{left} and {right} do not add")]
    Mixed {
        /// One of the two.
        left: Currency,
        /// The other.
        right: Currency,
    },
    /// Beyond the range of a 64-bit integer.
    #[error("the amount exceeds the range of a 64-bit integer")]
    Overflow,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_currency_is_one_of_iso_4217() {
        assert!(ISO_4217.is_sorted(), "it is searched by halves");
        for code in ["EUR", "GBP", "JPY", "KWD", "AED", "ZWG"] {
            assert_eq!(Currency::new(code).map(|currency| currency.code().to_owned()), Ok(code.to_owned()));
        }
        for code in ["ZZZ", "XXX", "QQQ", "XTS", "XAU", "eur", "EURO", "", "€"] {
            let refused = MoneyError::Currency { code: code.to_owned() };
            assert_eq!(Currency::new(code), Err(refused), "{code}");
        }
    }

    #[test]
    fn a_currency_that_was_taken_once_is_read_for_ever() {
        let stored: Currency = serde_json::from_str("\"QQQ\"").expect("three letters");
        assert_eq!(stored.code(), "QQQ");
        assert!(serde_json::from_str::<Currency>("\"qqq\"").is_err());
    }

    #[test]
    fn amounts_print_with_the_digits_of_their_currency() {
        let print = |amount, code| Money::new(amount, Currency::new(code).unwrap()).to_string();
        assert_eq!(print(-1234, "EUR"), "-12.34 EUR");
        assert_eq!(print(7, "JPY"), "7 JPY");
        assert_eq!(print(1005, "KWD"), "1.005 KWD");
        assert_eq!(print(i64::MIN, "GBP"), "-92233720368547758.08 GBP");
    }

    #[test]
    fn currencies_do_not_mix() {
        let mixed = Money::new(1, Currency::GBP).checked_add(Money::new(1, Currency::EUR));
        assert_eq!(mixed, Err(MoneyError::Mixed { left: Currency::GBP, right: Currency::EUR }));
    }

    proptest! {
        #[test]
        fn arithmetic_is_exact_or_refused(a in any::<i64>(), b in any::<i64>()) {
            let (x, y) = (Money::new(a, Currency::GBP), Money::new(b, Currency::GBP));
            prop_assert_eq!(x.checked_add(y).ok().map(|m| i128::from(m.amount_minor)),
                Some(i128::from(a) + i128::from(b)).filter(|sum| i64::try_from(*sum).is_ok()));
            prop_assert_eq!(x.checked_mul(b).ok().map(|m| i128::from(m.amount_minor)),
                Some(i128::from(a) * i128::from(b)).filter(|product| i64::try_from(*product).is_ok()));
        }
    }
}
