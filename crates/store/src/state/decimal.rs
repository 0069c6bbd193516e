//! Sums of JSON numbers, exact to the last digit: a counter that is added to a million times must not drift.
//!
//! A number is its sign, its digits, and how many of these stand behind the point. A sum has as many behind the point as that of the two that has more, so
//! that it does not matter in which order numbers are added: `0.1 + 0.2` is `0.3`, `1 + 1.0` is `2.0`, and `1e2 + 1` is `101`.

use std::cmp::Ordering;

/// What may be added has at most so many digits before the point, and behind it: more than any float has.
pub(crate) const OPERAND_DIGITS_MAX: usize = 400;
/// What it is added to may have so many: no counter comes there by what is added.
const SUM_DIGITS_MAX: usize = 1_000;

/// A number, written out: without leading zeros, and at least with the digits behind the point.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Decimal {
    is_negative: bool,
    /// From 0 to 9, the highest first.
    digits: Vec<u8>,
    /// How many of them are behind the point.
    scale: usize,
}

/// Whether this text of a JSON number is one that may be added.
pub(crate) fn can_be_added(number: &[u8]) -> bool {
    Decimal::parse(number, OPERAND_DIGITS_MAX).is_some()
}

/// The sum of two JSON numbers, as text; `None` if one of them is no number, or has too many digits.
pub(crate) fn sum(a: &[u8], b: &[u8]) -> Option<String> {
    let (mut a, mut b) = (Decimal::parse(a, SUM_DIGITS_MAX)?, Decimal::parse(b, SUM_DIGITS_MAX)?);
    let scale = a.scale.max(b.scale);
    for one in [&mut a, &mut b] {
        one.digits.resize(one.digits.len() + scale - one.scale, 0);
    }
    let digits = a.digits.len().max(b.digits.len());
    for one in [&mut a, &mut b] {
        one.digits.splice(..0, std::iter::repeat_n(0, digits - one.digits.len()));
    }
    let (is_negative, digits) = match (a.is_negative == b.is_negative, a.digits.cmp(&b.digits)) {
        (true, _) => (a.is_negative, added(&a.digits, &b.digits)),
        (false, Ordering::Less) => (b.is_negative, subtracted(&b.digits, &a.digits)),
        (false, _) => (a.is_negative, subtracted(&a.digits, &b.digits)),
    };
    let sum = Decimal::of(is_negative, digits, scale);
    (sum.digits.len() - scale <= SUM_DIGITS_MAX).then(|| sum.text())
}

/// Of two that have as many digits.
fn added(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut sum = vec![0; a.len() + 1];
    let mut carry = 0;
    for place in (0..a.len()).rev() {
        let digit = a[place] + b[place] + carry;
        (sum[place + 1], carry) = (digit % 10, digit / 10);
    }
    sum[0] = carry;
    sum
}

/// Of two that have as many digits, the second of which is no larger.
fn subtracted(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut difference = vec![0; a.len()];
    let mut borrow = 0;
    for place in (0..a.len()).rev() {
        let digit = 10 + a[place] - b[place] - borrow;
        (difference[place], borrow) = (digit % 10, 1 - digit / 10);
    }
    difference
}

impl Decimal {
    fn of(is_negative: bool, mut digits: Vec<u8>, scale: usize) -> Self {
        let zeros = digits.iter().take_while(|digit| **digit == 0).count().min(digits.len() - scale);
        digits.drain(..zeros);
        // There is one zero.
        Self { is_negative: is_negative && digits.iter().any(|digit| *digit > 0), digits, scale }
    }

    /// Reads the text of a JSON number; `None` if it is none, or has more digits than that before the point, or behind it.
    fn parse(text: &[u8], digits_max: usize) -> Option<Self> {
        let (is_negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
        let exponent_at = text.iter().position(|byte| matches!(byte, b'e' | b'E'));
        let (mantissa, exponent) = match exponent_at {
            Some(at) => (&text[..at], std::str::from_utf8(&text[at + 1..]).ok()?.parse::<i64>().ok()?),
            None => (text, 0),
        };
        let point = mantissa.iter().position(|byte| *byte == b'.');
        let (whole, fraction) =
            point.map_or((mantissa, &[][..]), |at| (&mantissa[..at], &mantissa[at + 1..]));
        let is_digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
        if !is_digits(whole) || (point.is_some() && !is_digits(fraction)) {
            return None;
        }
        // Before anything is written out: a short exponent may stand for more digits than there is memory.
        let leading = whole.iter().chain(fraction).take_while(|byte| **byte == b'0').count();
        let (whole_digits, scale) =
            (whole.len() as i64, fraction.len() as i64 - exponent.clamp(-1 << 32, 1 << 32));
        let before = whole_digits - leading as i64 + exponent.clamp(-1 << 32, 1 << 32);
        if scale > digits_max as i64 || before > digits_max as i64 {
            return None;
        }
        let mut digits: Vec<u8> =
            whole.iter().chain(fraction).skip(leading).map(|byte| byte - b'0').collect();
        if digits.is_empty() {
            digits.push(0);
        } else if scale < 0 {
            digits.resize(digits.len() + scale.unsigned_abs() as usize, 0);
        }
        let scale = scale.max(0) as usize;
        if digits.len() < scale {
            digits.splice(..0, std::iter::repeat_n(0, scale - digits.len()));
        }
        Some(Self::of(is_negative, digits, scale))
    }

    fn text(&self) -> String {
        let (whole, fraction) = self.digits.split_at(self.digits.len() - self.scale);
        let mut text = String::with_capacity(self.digits.len() + 3);
        if self.is_negative {
            text.push('-');
        }
        if whole.is_empty() {
            text.push('0');
        }
        text.extend(whole.iter().map(|digit| char::from(b'0' + digit)));
        if !fraction.is_empty() {
            text.push('.');
            text.extend(fraction.iter().map(|digit| char::from(b'0' + digit)));
        }
        text
    }
}

#[cfg(test)]
mod tests;
