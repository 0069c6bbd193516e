//! Whether bytes are one JSON value that every reader can read: RFC 8259, not nested too deep, each text whole.
//!
//! It is asked of every value that is written and of many that are read, so most are passed in one look that knows only what is usual; `serde_json` judges the
//! rest, and says what is wrong.

use icecore_log::{Error, ErrorKind, Result};
use serde_json::value::RawValue;

/// `serde_json` reads an object with a member named so as something else; what that hides may be deep.
pub(crate) const PRIVATE: &str = "$serde_json::private::";
/// As deep as `serde_json` reads values.
const DEPTH_MAX: usize = 127;

/// # Errors
/// [`ErrorKind::Invalid`] if it is no JSON value, or could not be read as one when it is patched or compared. Nothing is built for that:
/// as values, 16 MiB may be 600.
pub(crate) fn check_json(json: &[u8]) -> Result<()> {
    check_json_at(json, 0)
}

/// As [`check_json`], of what is to stand so deep in a document.
pub(crate) fn check_json_at(json: &[u8], depth: usize) -> Result<()> {
    if is_usual(json, depth) {
        return Ok(());
    }
    let invalid = || Error::new(ErrorKind::Invalid, "changing a document");
    // This does not count how deep it is, and uses no stack for it.
    serde_json::from_slice::<&RawValue>(json).map_err(|error| {
        invalid()
            .with("line", error.line())
            .with("column", error.column())
            .advise("A document is one JSON value")
    })?;
    check_texts_and_depth(json, depth).map_err(|advice| invalid().advise(advice))
}

/// Of what is JSON.
fn check_texts_and_depth(json: &[u8], mut depth: usize) -> Result<(), &'static str> {
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        at += 1;
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                let begin = at - 1;
                let mut has_escape = false;
                // Most of a large document is text without escapes: it is passed over many bytes at a time.
                while let Some(found) = json.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
                    at += found;
                    if json[at] == b'"' {
                        break;
                    }
                    (has_escape, at) = (true, at + 2);
                }
                at += 1;
                if has_escape || json.get(begin + 1) == Some(&b'$') {
                    let text: String = serde_json::from_slice(json.get(begin..at).unwrap_or_default())
                        .map_err(|_| "A text holds half of a surrogate pair")?;
                    if text.starts_with(PRIVATE) {
                        return Err("No text may begin with $serde_json::private::");
                    }
                }
            }
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err("It is nested more than 127 deep");
        }
    }
    Ok(())
}

/// Whether it is good for certain; if not, it may be good all the same.
fn is_usual(json: &[u8], depth: usize) -> bool {
    let Some(levels_max) = DEPTH_MAX.checked_sub(depth) else { return false };
    let mut usual = Usual { json, at: 0, objects: 0, level: 0, levels_max };
    std::str::from_utf8(json).is_ok() && usual.document().is_some()
}

/// A look at JSON, which ends with `None` at what is wrong or unusual.
struct Usual<'a> {
    json: &'a [u8],
    at: usize,
    /// Of each level, from the lowest bit, whether it is an object.
    objects: u128,
    level: usize,
    levels_max: usize,
}

impl Usual<'_> {
    fn document(&mut self) -> Option<()> {
        loop {
            let opened = self.value()?;
            if !opened && !self.goes_on()? {
                return Some(());
            }
        }
    }

    /// Passes over a value, or over the beginning of one that is not empty: then the next value is in it.
    fn value(&mut self) -> Option<bool> {
        match self.next()? {
            b'"' => self.text()?,
            b'{' => return self.open(true),
            b'[' => return self.open(false),
            b't' => self.word(b"rue")?,
            b'f' => self.word(b"alse")?,
            b'n' => self.word(b"ull")?,
            b'-' => {
                let first = self.byte()?;
                self.number(first)?;
            }
            first => self.number(first)?,
        }
        Some(false)
    }

    fn open(&mut self, is_object: bool) -> Option<bool> {
        let bit = 1_u128.checked_shl(u32::try_from(self.level).ok()?)?;
        self.level += 1;
        if self.level > self.levels_max {
            return None;
        }
        self.objects = if is_object { self.objects | bit } else { self.objects & !bit };
        let begin = self.at;
        if self.next()? == if is_object { b'}' } else { b']' } {
            self.level -= 1;
            return Some(false);
        }
        self.at = begin;
        if is_object {
            self.name()?;
        }
        Some(true)
    }

    /// Passes over what stands between two values; `false` at the end.
    fn goes_on(&mut self) -> Option<bool> {
        loop {
            let Some(level) = self.level.checked_sub(1) else {
                self.blanks();
                return (self.at == self.json.len()).then_some(false);
            };
            match (self.next()?, self.objects >> level & 1 == 1) {
                (b',', true) => return self.name().map(|()| true),
                (b',', false) => return Some(true),
                (b'}', true) | (b']', false) => self.level = level,
                _ => return None,
            }
        }
    }

    /// The name of a member, and its colon.
    fn name(&mut self) -> Option<()> {
        (self.next()? == b'"').then_some(())?;
        self.text()?;
        (self.next()? == b':').then_some(())
    }

    /// The rest of a text behind its quotation mark.
    fn text(&mut self) -> Option<()> {
        let begin = self.at;
        loop {
            self.at += ordinary(self.json.get(self.at..)?);
            match self.byte()? {
                b'"' => break,
                b'\\' => self.escape()?,
                _ => return None,
            }
        }
        // One of `serde_json`'s own begins so, or hides that it does.
        match self.json.get(begin)? {
            b'$' => (!matches!(self.json.get(begin + 1)?, b's' | b'\\')).then_some(())?,
            b'\\' => (*self.json.get(begin + 1)? != b'u').then_some(())?,
            _ => {}
        }
        Some(())
    }

    fn escape(&mut self) -> Option<()> {
        match self.byte()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let digits = self.json.get(self.at..self.at + 4)?;
                self.at += 4;
                let is_half = matches!(digits[0], b'd' | b'D') && !digits[1].is_ascii_digit()
                    || matches!(digits[..2], [b'd' | b'D', b'8' | b'9']);
                (digits.iter().all(u8::is_ascii_hexdigit) && !is_half).then_some(())
            }
            _ => None,
        }
    }

    /// The rest of a number behind its first digit.
    fn number(&mut self, first: u8) -> Option<()> {
        match first {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return None,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.some_digits()?;
        }
        Some(())
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self) -> Option<()> {
        self.byte()?.is_ascii_digit().then(|| self.digits())
    }

    fn word(&mut self, rest: &[u8]) -> Option<()> {
        self.json.get(self.at..)?.starts_with(rest).then_some(())?;
        self.at += rest.len();
        Some(())
    }

    fn blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn next(&mut self) -> Option<u8> {
        self.blanks();
        self.byte()
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }
}

/// How many bytes of a text come before one that ends it, begins an escape, or may not be in it. Eight are looked at together.
fn ordinary(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let special = special(u64::from_le_bytes(*eight));
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += eight.len();
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let is_special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    at + rest.iter().position(is_special).unwrap_or(rest.len())
}

/// The highest bit of the first byte that is special, if there is one; above it, others may be set. Source: "Bit Twiddling Hacks", Anderson.
fn special(eight: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let is_below = |bytes: u64, bound: u64| bytes.wrapping_sub(EACH * bound) & !bytes;
    let is = |byte: u8| is_below(eight ^ (EACH * u64::from(byte)), 1);
    (is_below(eight, 0x20) | is(b'"') | is(b'\\')) & EACH << 7
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As `serde_json` judges it.
    fn is_good(json: &[u8], depth: usize) -> bool {
        serde_json::from_slice::<&RawValue>(json).is_ok() && check_texts_and_depth(json, depth).is_ok()
    }

    /// What is usual is good, at each depth; what is not usual may be good too.
    fn check(json: &[u8]) {
        for depth in [0, 1, 125, 126, 127, 128, usize::MAX] {
            assert!(!is_usual(json, depth) || is_good(json, depth), "{depth}: {}", json.escape_ascii());
        }
    }

    #[test]
    fn what_is_usual_is_passed_in_one_look() {
        let long = format!("\"{}\"", "x".repeat(200));
        let deep = format!("{}1{}", "[".repeat(127), "]".repeat(127));
        let usual = [
            "0",
            "-0.5e+10",
            "12E3",
            "true",
            "false",
            "null",
            "\"\"",
            " [ ] ",
            "{ }",
            "[[],{}]",
            "[1,2 , 3]",
            "{\"a\":1,\"b\":{\"c\":[null]}}",
            "\"\\n\\\"\\\\\\/\"",
            "\"a\\u00e9\"",
            "\"é\"",
            "\"a$s\"",
            "\"$a\"",
            &long,
            &deep,
        ];
        for json in usual {
            assert!(is_usual(json.as_bytes(), 0), "{json}");
            check(json.as_bytes());
        }
        assert!(!is_usual(deep.as_bytes(), 1));
        assert!(!is_usual(format!("[{deep}]").as_bytes(), 0));
    }

    #[test]
    fn what_is_wrong_or_strange_is_not() {
        let strange = [
            "",
            " ",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "+1",
            "tru",
            "nulll",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "{\"a\":1,}",
            "[1 2]",
            "[1}",
            "{\"a\":1]",
            "[",
            "]",
            "\"",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\n\"",
            "1 2",
            "\"a\" x",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\uDBFF\"",
            "\"\\ude00\\ud83d\"",
            "\"$serde_json::private::RawValue\"",
            "\"\\u0024serde_json::private::RawValue\"",
            "\"$\\u0073erde_json::private::RawValue\"",
            "\u{feff}1",
            "[\"\u{7}\"]",
        ];
        for json in strange {
            assert!(!is_usual(json.as_bytes(), 0), "{json}");
            check(json.as_bytes());
        }
        assert!(!is_usual(b"\"\xff\"", 0) && !is_usual(b"\"\xed\xa0\x80\"", 0));
        // What is only unusual is good all the same.
        for json in ["\"\\ud83d\\ude00\"", "\"$serious\"", "\"\\u0061\"", "\"$\\u0073ome\""] {
            assert!(!is_usual(json.as_bytes(), 0) && check_json(json.as_bytes()).is_ok(), "{json}");
        }
    }

    #[test]
    fn the_first_special_byte_of_a_text_is_found_wherever_it_stands() {
        for special in [0, 0x1f, b'"', b'\\'] {
            for at in 0..40 {
                for ordinary in [0x20, b'a', 0x7f, 0x80, 0xff, b'#', b']'] {
                    let mut bytes = vec![ordinary; 41];
                    bytes[at] = special;
                    // Another one behind it.
                    bytes[40] = b'"';
                    assert_eq!(super::ordinary(&bytes), at, "{special} among {ordinary}");
                }
            }
        }
        assert_eq!(ordinary(&[b'a'; 9]), 9);
    }

    /// Text that is nearly JSON.
    fn near_json() -> impl Strategy<Value = String> {
        let token = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "\\",
            "\"a\"",
            "\"$serde_json::private::\"",
            "\\u00",
            "\\ud8",
            "00",
            "1",
            "-",
            ".5",
            "e9",
            "true",
            "null",
            " ",
            "\n",
            "\u{1}",
            "é",
            "$",
        ]);
        prop::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat())
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(|number| serde_json::json!(number)),
            ".{0,80}".prop_map(Into::into),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::vec((".{0,9}", inner), 0..6)
                    .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn what_is_passed_in_one_look_is_good(text in near_json(), bytes in prop::collection::vec(any::<u8>(), 0..9)) {
            check(text.as_bytes());
            check(format!("[{text}]").as_bytes());
            check(format!("\"{text}\"").as_bytes());
            check(&bytes);
        }

        #[test]
        fn what_serde_json_writes_is_good_and_with_a_byte_changed_as_good_as_it_is(
            value in value(), is_pretty in any::<bool>(), at in any::<prop::sample::Index>(), byte in any::<u8>()
        ) {
            let text = if is_pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let mut json = text.unwrap().into_bytes();
            prop_assert!(check_json(&json).is_ok());
            check(&json);
            let at = at.index(json.len());
            json[at] = byte;
            check(&json);
            json.truncate(at);
            check(&json);
        }
    }
}
