//! Exact numbers: how integers, doubles and decimals compare, add up and are read from text.
//!
//! A double stands for the decimal number it prints as (its shortest form), so `0.1` is one tenth. That makes comparing
//! and summing exact and independent of order.

use std::cmp::Ordering;
use std::str::FromStr;

use bigdecimal::BigDecimal;
use bigdecimal::num_bigint::BigInt;
use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

/// The most decimal digits, before and after the point together, that a number may need when written out.
pub const NUMBER_DIGITS_MAX: i64 = 1024;

/// Decimal digits kept by a division that does not come out even.
pub const DIVISION_DIGITS: u64 = 34;

/// Integers up to this size are exact as doubles.
const EXACT_IN_DOUBLE: u64 = 1 << 53;

/// An exact decimal number of any size up to [`NUMBER_DIGITS_MAX`]; always in its shortest form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(BigDecimal);

/// A number outside what Turnstile can hold.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a number with more than {NUMBER_DIGITS_MAX} digits")]
pub struct NumberTooLarge;

impl Decimal {
    /// Zero, where sums start.
    pub fn zero() -> Self {
        Decimal(BigDecimal::from(0))
    }

    #[allow(clippy::needless_pass_by_value)] // all callers hand over what they just computed
    fn checked(number: BigDecimal) -> Result<Self, NumberTooLarge> {
        let number = number.normalized();
        let (digits, scale) = number.as_bigint_and_exponent();
        let written = (digits.bits() as i64).saturating_mul(30_103) / 100_000;
        // A positive scale is digits after the point, which are among those written or zeros before them.
        let width = if scale > 0 { written.max(scale) } else { written.saturating_sub(scale) };
        if width > NUMBER_DIGITS_MAX { Err(NumberTooLarge) } else { Ok(Decimal(number)) }
    }

    /// Reads a plain or scientific decimal literal.
    pub fn parse(text: &str) -> Option<Result<Self, NumberTooLarge>> {
        // An absurd exponent is refused before anything is computed with it.
        if let Some(at) = text.find(['e', 'E'])
            && text[at + 1..].parse::<i64>().is_ok_and(|exponent| exponent.abs() > 2 * NUMBER_DIGITS_MAX)
        {
            return Some(Err(NumberTooLarge));
        }
        BigDecimal::from_str(text).ok().map(Self::checked)
    }

    /// The exact value of the decimal number a double prints as; `None` for infinities and NaN.
    pub fn from_double(double: f64) -> Option<Self> {
        if !double.is_finite() {
            return None;
        }
        let mut buffer = ryu::Buffer::new();
        BigDecimal::from_str(buffer.format_finite(double)).ok().map(|number| Decimal(number.normalized()))
    }

    /// The sum, exactly.
    pub fn plus(&self, other: &Decimal) -> Result<Self, NumberTooLarge> {
        Self::checked(&self.0 + &other.0)
    }

    /// The difference, exactly.
    pub fn minus(&self, other: &Decimal) -> Result<Self, NumberTooLarge> {
        Self::checked(&self.0 - &other.0)
    }

    /// The product, exactly.
    pub fn times(&self, other: &Decimal) -> Result<Self, NumberTooLarge> {
        Self::checked(&self.0 * &other.0)
    }

    /// The quotient to [`DIVISION_DIGITS`] digits; `None` when `other` is zero.
    pub fn over(&self, other: &Decimal) -> Option<Result<Self, NumberTooLarge>> {
        if other.is_zero() {
            return None;
        }
        Some(Self::checked((&self.0 / &other.0).with_prec(DIVISION_DIGITS)))
    }

    /// The remainder, with the sign of `self`; `None` when `other` is zero.
    pub fn modulo(&self, other: &Decimal) -> Option<Result<Self, NumberTooLarge>> {
        if other.is_zero() {
            return None;
        }
        Some(Self::checked(&self.0 % &other.0))
    }

    /// Whether it needs at most `digits` digits before the point and as many after it.
    pub fn fits(&self, digits: i64) -> bool {
        let (_, exponent, text) = self.scientific();
        exponent <= digits && text.len() as i64 - exponent <= digits
    }

    /// The number with its sign changed.
    #[must_use]
    pub fn negated(&self) -> Self {
        Decimal(-&self.0)
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        self.0.sign() == bigdecimal::num_bigint::Sign::NoSign
    }

    /// Whether it is an integer, of any size.
    pub fn is_whole(&self) -> bool {
        self.0.is_integer()
    }

    /// The integer it is, if it is one and fits.
    pub fn to_int(&self) -> Option<i64> {
        if !self.0.is_integer() {
            return None;
        }
        let (digits, exponent) = self.0.with_scale(0).into_bigint_and_exponent();
        debug_assert_eq!(exponent, 0);
        i64::try_from(digits).ok()
    }

    /// The integer part, towards zero, if it fits.
    pub fn truncated(&self) -> Option<i64> {
        i64::try_from(self.0.with_scale_round(0, bigdecimal::RoundingMode::Down).into_bigint_and_exponent().0).ok()
    }

    /// The nearest double.
    pub fn to_double(&self) -> f64 {
        self.0.to_scientific_notation().parse().unwrap_or(f64::NAN)
    }

    /// Sign (-1, 0, 1), decimal exponent and significant digits: the number is 0.DIGITS × 10^exponent.
    pub(crate) fn scientific(&self) -> (i8, i64, String) {
        let (digits, scale) = self.0.as_bigint_and_exponent();
        let text = digits.magnitude().to_string();
        let trimmed = text.trim_end_matches('0');
        let sign = match digits.sign() {
            bigdecimal::num_bigint::Sign::Minus => -1,
            bigdecimal::num_bigint::Sign::NoSign => return (0, 0, String::new()),
            bigdecimal::num_bigint::Sign::Plus => 1,
        };
        (sign, text.len() as i64 - scale, trimmed.to_owned())
    }
}

impl From<i64> for Decimal {
    fn from(int: i64) -> Self {
        Decimal(BigDecimal::from(int).normalized())
    }
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.to_plain_string())
    }
}

impl Encode for Decimal {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let (digits, scale) = self.0.as_bigint_and_exponent();
        digits.to_signed_bytes_le().encode(encoder)?;
        scale.encode(encoder)
    }
}

impl<C> Decode<C> for Decimal {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let digits = Vec::<u8>::decode(decoder)?;
        let scale = i64::decode(decoder)?;
        if scale.abs() > 4 * NUMBER_DIGITS_MAX || digits.len() as i64 > NUMBER_DIGITS_MAX {
            return Err(DecodeError::Other("a decimal out of range"));
        }
        Ok(Decimal(BigDecimal::new(BigInt::from_signed_bytes_le(&digits), scale).normalized()))
    }
}

bincode::impl_borrow_decode!(Decimal);

/// Compares an integer with a double by exact value; NaN is above everything, so that the order is total.
pub fn compare_int_double(int: i64, double: f64) -> Ordering {
    if double.is_nan() {
        return Ordering::Less;
    }
    if int.unsigned_abs() < EXACT_IN_DOUBLE {
        return (int as f64).partial_cmp(&double).unwrap_or(Ordering::Less);
    }
    compare_decimal_double(&Decimal::from(int), double)
}

/// Compares a decimal with a double by exact value.
pub fn compare_decimal_double(decimal: &Decimal, double: f64) -> Ordering {
    match Decimal::from_double(double) {
        Some(other) => decimal.cmp(&other),
        None if double == f64::NEG_INFINITY => Ordering::Greater,
        None => Ordering::Less,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap().unwrap()
    }

    #[test]
    fn tenths_add_up_to_one() {
        let tenth = Decimal::from_double(0.1).unwrap();
        let sum = (0..10).fold(Decimal::zero(), |sum, _| sum.plus(&tenth).unwrap());
        assert_eq!(sum, Decimal::from(1));
    }

    #[test]
    fn far_apart_sizes_lose_nothing_in_any_order() {
        let parts = [decimal("1e30"), decimal("1e-10"), decimal("-1e30")];
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [0, 2, 1]] {
            let sum = order.iter().fold(Decimal::zero(), |sum, &i| sum.plus(&parts[i]).unwrap());
            assert_eq!(sum.to_string(), "0.0000000001");
        }
    }

    /// Summands may have 400 digits on each side of the point; if this failed, such sums would stop the process.
    #[test]
    fn the_largest_and_the_smallest_summand_fit_one_sum() {
        let sum = decimal("-9.9e399").plus(&decimal("1e-400")).unwrap();
        assert_eq!(sum.plus(&decimal("9.9e399")).unwrap(), decimal("1e-400"));
        assert!(decimal("1e1023").plus(&decimal("1e-2")).is_err());
    }

    #[test]
    fn comparing_is_exact_beyond_what_doubles_hold() {
        assert_eq!(compare_int_double((1 << 53) + 1, 9_007_199_254_740_992.0), Ordering::Greater);
        assert_eq!(compare_int_double(5, 5.0), Ordering::Equal);
        assert_eq!(compare_decimal_double(&decimal("0.1"), 0.1), Ordering::Equal);
    }

    #[test]
    fn absurd_exponents_are_refused_at_once() {
        assert_eq!(Decimal::parse("1e999999999"), Some(Err(NumberTooLarge)));
        assert_eq!(Decimal::parse("1e2000"), Some(Err(NumberTooLarge)));
        assert!(Decimal::parse("1e400").unwrap().is_ok());
    }

    #[test]
    fn stored_form_is_frozen() {
        let bytes = crate::model::codec::encode(1, &decimal("-12.5"));
        assert_eq!(bytes, [1, 1, 131, 2]);
        assert_eq!(crate::model::codec::decode::<Decimal>(1, &bytes).unwrap(), decimal("-12.5"));
    }
}
