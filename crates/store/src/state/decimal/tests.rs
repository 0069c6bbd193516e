use proptest::prelude::*;

use super::*;

fn sum_of(a: &str, b: &str) -> Option<String> {
    sum(a.as_bytes(), b.as_bytes())
}

#[test]
fn sums_are_exact_and_keep_the_digits_behind_the_point() {
    for (a, b, wanted) in [
        ("0.1", "0.2", "0.3"),
        ("1", "1", "2"),
        ("1", "1.0", "2.0"),
        ("1.50", "1.5", "3.00"),
        ("9007199254740993", "1", "9007199254740994"),
        ("123456789012345678901234567890", "-1", "123456789012345678901234567889"),
        ("1e2", "1", "101"),
        ("1E+2", "1e-2", "100.01"),
        ("12.5e1", "0", "125"),
        ("0.00e1", "0", "0.0"),
        ("5e-324", "0", &format!("0.{}5", "0".repeat(323))),
        ("1.7976931348623157e308", "-1.7976931348623157e308", "0"),
        ("-0", "0", "0"),
        ("-0.0", "-0", "0.0"),
        ("-5", "5", "0"),
        ("-5", "3", "-2"),
        ("5", "-3", "2"),
        ("3", "-5", "-2"),
        ("-1", "-0.25", "-1.25"),
        ("99", "1", "100"),
        ("100", "-1", "99"),
        ("0e399", "1", "1"),
    ] {
        assert_eq!(sum_of(a, b).as_deref(), Some(wanted), "{a} + {b}");
        assert_eq!(sum_of(b, a).as_deref(), Some(wanted), "{b} + {a}");
    }
}

#[test]
fn a_short_text_that_stands_for_many_digits_is_no_number_to_add() {
    let long = |digits: usize| "9".repeat(digits);
    for (number, can) in [
        (&*long(400), true),
        (&*long(401), false),
        (&*format!("0.{}", long(400)), true),
        (&*format!("-0.{}", long(401)), false),
        ("1e399", true),
        ("1e400", false),
        ("0.001e402", true),
        ("0.001e403", false),
        ("1e-400", true),
        ("1e-401", false),
        ("1e1000000000", false),
        ("1e-1000000000", false),
        ("1e99999999999999999999999", false),
        ("-1e-99999999999999999999999", false),
        ("0e1000000000", false),
    ] {
        assert_eq!(can_be_added(number.as_bytes()), can, "{number}");
    }
    for text in ["", "-", "null", "\"1\"", "[1]", "1.", ".5", "1e", "--1", "1.5.2", "1e1.5", "0x1", "1 ", "é"]
    {
        assert_eq!((can_be_added(text.as_bytes()), sum_of(text, "1")), (false, None), "{text}");
    }
    // However often the longest is added, the bound of a sum is far away; and it holds.
    assert_eq!(sum_of(&long(400), &long(400)).unwrap().len(), 401);
    assert_eq!(sum_of(&long(1_000), "0"), Some(long(1_000)));
    assert_eq!(sum_of(&long(1_000), "1"), None);
}

/// As many columns as any number of the test has, and digits that are carried only at the end.
const COLUMNS: usize = 2_200;
const POINT: usize = 1_100;

fn columns(text: &str) -> Vec<i32> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap();
    let mantissa = mantissa.trim_start_matches('-');
    let point = mantissa.find('.').unwrap_or(mantissa.len()) as i32;
    let mut columns = vec![0; COLUMNS];
    for (place, digit) in mantissa.chars().filter(|c| *c != '.').enumerate() {
        let column = POINT as i32 + point + exponent - 1 - place as i32;
        if digit != '0' {
            columns[column as usize] = sign * digit.to_digit(10).unwrap() as i32;
        }
    }
    columns
}

/// The same value, in the same columns: all of one sign, and less than ten.
fn carried(mut columns: Vec<i32>) -> Vec<i32> {
    let is_negative = columns.iter().rev().find(|digit| **digit != 0).is_some_and(|digit| *digit < 0);
    let sign = if is_negative { -1 } else { 1 };
    let mut carry = 0;
    for column in &mut columns {
        let digit = sign * *column + carry;
        (*column, carry) = (sign * digit.rem_euclid(10), digit.div_euclid(10));
    }
    assert_eq!(carry, 0);
    columns
}

fn number() -> impl Strategy<Value = String> {
    let exponent = prop_oneof![3 => Just(String::new()), 2 => "[eE][+-]?[0-9]{1,2}", 1 => "e-?[123][0-9]{2}"];
    ("-?(0|[1-9][0-9]{0,40})", prop_oneof![Just(String::new()), "\\.[0-9]{1,40}"], exponent)
        .prop_map(|(whole, fraction, exponent)| whole + &fraction + &exponent)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_sum_has_the_digits_that_columns_on_paper_give(a in number(), b in number()) {
        prop_assume!(can_be_added(a.as_bytes()) && can_be_added(b.as_bytes()));
        let found = sum_of(&a, &b).unwrap();

        let added = columns(&a).into_iter().zip(columns(&b)).map(|(a, b)| a + b).collect();
        prop_assert_eq!(carried(columns(&found)), carried(added), "{} + {} = {}", a, b, found);
        prop_assert!(found.bytes().all(|byte| byte.is_ascii_digit() || b"-.".contains(&byte)));
        prop_assert!(serde_json::from_str::<serde_json::Value>(&found).is_ok(), "{}", found);
        prop_assert!(found != "-0" && !found.starts_with("-0.0") || found.bytes().any(|byte| (b'1'..=b'9').contains(&byte)));
        prop_assert_eq!(sum_of(&b, &a).unwrap(), found);
    }

    /// So that it makes no difference who was first.
    #[test]
    fn in_which_order_numbers_are_added_makes_no_difference_to_the_text(a in number(), b in number(), c in number()) {
        prop_assume!([&a, &b, &c].iter().all(|one| can_be_added(one.as_bytes())));
        let all = |x: &str, y: &str, z: &str| sum_of(&sum_of(&sum_of("0", x).unwrap(), y).unwrap(), z).unwrap();
        let first = all(&a, &b, &c);
        for (x, y, z) in [(&a, &c, &b), (&b, &a, &c), (&b, &c, &a), (&c, &a, &b), (&c, &b, &a)] {
            prop_assert_eq!(&all(x, y, z), &first);
        }
    }
}
