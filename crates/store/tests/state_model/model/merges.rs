//! Merges, on values: with numbers as they are added on paper.

use super::*;

#[derive(Debug, Clone)]
pub struct Merged {
    pub operation: &'static str,
    pub pointer: &'static str,
    pub operand: Value,
}

impl Merged {
    pub fn merge(&self) -> Merge {
        let merge = match self.operation {
            "add" => Merge::add(&self.operand),
            "append" => Merge::append(&self.operand),
            _ => Merge::union(&self.operand),
        };
        merge.unwrap().pointer(self.pointer)
    }
}

/// Parts of what is generated as values, and of what is not.
const POINTERS: [&str; 11] =
    ["", "", "", "/x", "/x/y", "/y", "/z/0", "/", "/~01~1/0", "/turns", "/turns/0/id"];

pub fn merged() -> impl Strategy<Value = Merged> {
    let number = prop::sample::select(vec!["1", "-1", "0.50", "1e2", "-123456789012345678901234567890"]);
    let items = || prop::collection::vec(value(), 0..3).prop_map(Value::Array);
    let what = prop_oneof![
        2 => (Just("add"), number.prop_map(|text| serde_json::from_str(text).unwrap())),
        1 => (Just("append"), items()),
        1 => (Just("union"), items()),
    ];
    (what, prop::sample::select(POINTERS.to_vec())).prop_map(|((operation, operand), pointer)| Merged {
        operation,
        pointer,
        operand,
    })
}

/// Whether it changed the value.
pub fn merge(value: &mut Value, pointer: &str, operation: &str, operand: &Value) -> bool {
    let Some(rest) = pointer.strip_prefix('/') else { return merge_here(value, operation, operand) };
    let (step, rest) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let step = step.replace("~1", "/").replace("~0", "~");
    if value.is_null() {
        *value = json!({});
    }
    match value {
        Value::Object(members) => {
            let mut inner = members.get(&step).cloned().unwrap_or_default();
            let is_done = merge(&mut inner, rest, operation, operand);
            if is_done {
                members.insert(step, inner);
            }
            is_done
        }
        Value::Array(items) => {
            let item = step.parse().ok().and_then(|at: usize| items.get_mut(at));
            item.is_some_and(|item| merge(item, rest, operation, operand))
        }
        _ => false,
    }
}

fn merge_here(value: &mut Value, operation: &str, operand: &Value) -> bool {
    match (operation, &*value) {
        ("add", Value::Null) => *value = added(&json!(0), operand),
        ("add", Value::Number(_)) => *value = added(value, operand),
        ("append" | "union", Value::Null | Value::Array(_)) => {
            let mut items = value.as_array().cloned().unwrap_or_default();
            for item in operand.as_array().unwrap() {
                if operation == "append" || !items.contains(item) {
                    items.push(item.clone());
                }
            }
            *value = items.into();
        }
        _ => return false,
    }
    true
}

/// So many columns behind the point, and as many before it.
const POINT: i32 = 500;

/// A number in columns, the lowest first, and how many stand behind the point.
fn columns(number: &Value) -> (Vec<i32>, i32) {
    let text = number.to_string();
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = mantissa.strip_prefix('-').map_or((1, mantissa), |digits| (-1, digits));
    let (exponent, point) =
        (exponent.parse::<i32>().unwrap(), digits.find('.').unwrap_or(digits.len()) as i32);
    let mut columns = vec![0; 2 * POINT as usize];
    let mut last = 0;
    for (place, digit) in digits.chars().filter_map(|digit| digit.to_digit(10)).enumerate() {
        last = point + exponent - 1 - place as i32;
        columns[(POINT + last) as usize] = sign * digit as i32;
    }
    (columns, (-last).max(0))
}

/// Column by column, what is carried last; then written.
fn added(a: &Value, b: &Value) -> Value {
    let ((a, a_behind), (b, b_behind)) = (columns(a), columns(b));
    let mut sum: Vec<i32> = a.iter().zip(b).map(|(a, b)| a + b).collect();
    let is_negative = sum.iter().rev().find(|digit| **digit != 0).is_some_and(|digit| *digit < 0);
    let mut carry = 0;
    for column in &mut sum {
        let digit = if is_negative { -*column } else { *column } + carry;
        (*column, carry) = (digit.rem_euclid(10), digit.div_euclid(10));
    }
    let highest = sum.iter().rposition(|digit| *digit > 0).unwrap_or(0).max(POINT as usize);
    let behind = a_behind.max(b_behind);
    let written = |from: usize, to: usize| sum[from..to].iter().rev().map(i32::to_string).collect::<String>();
    let (whole, fraction) =
        (written(POINT as usize, highest + 1), written((POINT - behind) as usize, POINT as usize));
    let sign = if is_negative { "-" } else { "" };
    let point = if behind > 0 { "." } else { "" };
    serde_json::from_str(&format!("{sign}{whole}{point}{fraction}")).unwrap()
}
