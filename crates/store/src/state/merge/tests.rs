use proptest::prelude::*;
use serde_json::json;

use super::*;

fn text(text: &str) -> Json {
    Json::text(text.to_owned()).unwrap()
}

fn made(operation: &str, pointer: &str, operand: &str) -> Merge {
    let made = match operation {
        "add" => Merge::add(&text(operand)),
        "append" => Merge::append(&text(operand)),
        _ => Merge::union(&text(operand)),
    };
    made.unwrap().pointer(pointer)
}

/// What a document becomes; `None` if a merge does nothing.
fn after(document: &str, merge: &Merge) -> Option<String> {
    let mut json = Bytes::copy_from_slice(document.as_bytes());
    let is_done = merge.apply(&mut json, &mut Places::default()).unwrap();
    assert!(is_done || json == document, "{document}: changed in vain");
    is_done.then(|| String::from_utf8(json.to_vec()).unwrap())
}

#[test]
fn a_merge_changes_what_it_names_and_leaves_every_other_byte() {
    for (document, (operation, pointer, operand), wanted) in [
        ("null", ("add", "", "5"), "5"),
        ("null", ("append", "", "[1]"), "[1]"),
        ("null", ("append", "", "[]"), "[]"),
        ("null", ("union", "", "[1,1]"), "[1]"),
        ("null", ("add", "/a/b", "1e2"), r#"{"a":{"b":100}}"#),
        (" 1 ", ("add", "", "0.5"), " 1.5 "),
        ("{}", ("add", "/a", "1"), r#"{"a":1}"#),
        ("{ }", ("append", "/a", "[ 1 , 2 ]"), r#"{ "a":[1 , 2]}"#),
        (
            r#"{ "z": 3.50 , "a" : [ 1 ] }"#,
            ("append", "/a", r#"["x"]"#),
            r#"{ "z": 3.50 , "a" : [ 1 ,"x"] }"#,
        ),
        (r#"{"a":[ ]}"#, ("append", "/a", "[1]"), r#"{"a":[ 1]}"#),
        (r#"{"a":[1]}"#, ("append", "/a", " [ ] "), r#"{"a":[1]}"#),
        (r#"{"a":[1]}"#, ("add", "/a/0", "1"), r#"{"a":[2]}"#),
        (r#"{"a":[0,{"n":1}]}"#, ("add", "/a/1/n", "-1"), r#"{"a":[0,{"n":0}]}"#),
        (r#"{"a":[0,{"n":1}]}"#, ("add", "/a/1/m/k", "2"), r#"{"a":[0,{"n":1,"m":{"k":2}}]}"#),
        (r#"{"a":null,"b":1}"#, ("add", "/a/x/y", "2"), r#"{"a":{"x":{"y":2}},"b":1}"#),
        (r#"{"a":null,"b":1}"#, ("append", "/a", "[2]"), r#"{"a":[2],"b":1}"#),
        (r#"{"a":[null]}"#, ("append", "/a/0/x", "[2]"), r#"{"a":[{"x":[2]}]}"#),
        // Of members of one name the last counts, as for whoever parses them.
        (r#"{"a":1,"b":0,"a":2}"#, ("add", "/a", "1"), r#"{"a":1,"b":0,"a":3}"#),
        (r#"{"":1,"/":2,"~":3}"#, ("add", "/", "1"), r#"{"":2,"/":2,"~":3}"#),
        (r#"{"":1,"/":2,"~":3}"#, ("add", "/~1", "1"), r#"{"":1,"/":3,"~":3}"#),
        (r#"{"":1,"~1":2,"~":3}"#, ("add", "/~01", "1"), r#"{"":1,"~1":3,"~":3}"#),
        (r#"{"\u0061":1}"#, ("add", "/a", "1"), r#"{"\u0061":2}"#),
        (r#"{"é\"\\":{"]":1}}"#, ("add", "/é\"\\/]", "1"), r#"{"é\"\\":{"]":2}}"#),
        ("{}", ("add", "/\"\n\u{0}", "1"), "{\"\\\"\\n\\u0000\":1}"),
        (r#"{"0":{"01":1}}"#, ("add", "/0/01", "1"), r#"{"0":{"01":2}}"#),
        ("[1,2]", ("union", "", "[2,1.0,3,3]"), "[1,2,1.0,3]"),
        ("[1,1]", ("union", "", "[1]"), "[1,1]"),
        (
            r#"[{"a":1,"b":[2]}]"#,
            ("union", "", r#"[{"b":[2],"a":1},{"b":[2.0],"a":1}]"#),
            r#"[{"a":1,"b":[2]},{"b":[2.0],"a":1}]"#,
        ),
        (r#"["a"]"#, ("union", "", r#"["\u0061","A"]"#), r#"["a","A"]"#),
        ("123456789012345678901234567890", ("add", "", "1"), "123456789012345678901234567891"),
    ] {
        let found = after(document, &made(operation, pointer, operand));
        assert_eq!(found.as_deref(), Some(wanted), "{document}: {operation} {pointer} {operand}");
    }
}

#[test]
fn a_merge_into_something_else_changes_nothing() {
    for (document, operation, pointer) in [
        ("[]", "add", ""),
        ("\"5\"", "add", ""),
        ("true", "add", ""),
        ("1", "append", ""),
        ("{}", "union", ""),
        ("1", "add", "/a"),
        ("\"a\"", "append", "/a/b"),
        (r#"{"a":false}"#, "add", "/a/b"),
        ("[1]", "add", "/1"),
        ("[1]", "add", "/-"),
        ("[1]", "add", "/00"),
        ("[1]", "add", "/a"),
        ("[[]]", "append", "/0/0/0"),
        ("1e5000", "add", ""),
    ] {
        let merge = made(operation, pointer, if operation == "add" { "1" } else { "[1]" });
        assert_eq!(after(document, &merge), None, "{document}: {operation} {pointer}");
        assert_eq!(merge.would_apply(document.as_bytes(), &Places::default()), Some(false));
    }
}

#[test]
fn what_is_no_merge_is_refused() {
    for wrong in ["\"1\"", "null", "[1]", "1e400"] {
        assert_eq!(Merge::add(&text(wrong)).unwrap_err().kind(), ErrorKind::Invalid, "{wrong}");
    }
    for wrong in ["1", "null", "{}", "\"[]\""] {
        assert_eq!(Merge::append(&text(wrong)).unwrap_err().kind(), ErrorKind::Invalid, "{wrong}");
        assert_eq!(Merge::union(&text(wrong)).unwrap_err().kind(), ErrorKind::Invalid, "{wrong}");
    }
    let deep = |depth: usize| text(&("[".repeat(depth) + &"]".repeat(depth)));
    let (most, long) = ("/a".repeat(32), "/".to_owned() + &"a".repeat(1_023));
    for pointer in ["", "/", "/a~0~1", "//", "/é", &most, &long] {
        assert!(Merge::add(&1).unwrap().pointer(pointer).check().is_ok(), "{pointer}");
    }
    for pointer in
        ["a", "/~", "/~2", "/a~", "/$serde_json::private::x", &(most.clone() + "/a"), &(long + "a")]
    {
        assert_eq!(
            Merge::add(&1).unwrap().pointer(pointer).check().unwrap_err().kind(),
            ErrorKind::Invalid,
            "{pointer}"
        );
    }
    // As deep as a value may be, wherever it stands.
    assert!(Merge::append(&deep(127)).unwrap().check().is_ok());
    assert!(Merge::append(&deep(127)).unwrap().pointer("/a").check().is_err());
    assert!(Merge::append(&deep(95)).unwrap().pointer(&*most).check().is_ok());
    assert!(Merge::append(&deep(96)).unwrap().pointer(&*most).check().is_err());
    let document = after("null", &Merge::append(&deep(95)).unwrap().pointer(most)).unwrap();
    assert!(check::check_json(document.as_bytes()).is_ok());
}

/// Whoever wrote it: an error of the state, and never a panic.
#[test]
fn what_another_program_wrote_does_no_harm() {
    let mut json = Bytes::from_static(b"[1]");
    for operation in [Operation::Add, Operation::Append, Operation::Union] {
        for operand in [
            &b""[..],
            b" ",
            b"[",
            b"]",
            b"[1",
            b"[1,]",
            b"[,]",
            b"nul",
            b"-",
            b"1e",
            b"\"\\ud800\"",
            b"[\"\\ud800\"]",
            b"\xff",
            b"[\xff]",
        ] {
            let merge = Merge { operation, pointer: String::new(), operand: Bytes::from_static(operand) };
            let error = merge.apply(&mut json, &mut Places::default()).unwrap_err();
            assert_eq!((error.kind(), &json[..]), (ErrorKind::Corrupt, &b"[1]"[..]), "{operand:?}");
        }
        let operand = Bytes::from_static(if operation == Operation::Add { b"1" } else { b"[1]" });
        for document in [
            &b""[..],
            b" ",
            b"{",
            b"[1",
            b"{\"a\"",
            b"{\"a\":",
            b"{\"a\":1",
            b"[1}",
            b"{]",
            b"\"",
            b"\"\\",
            b"tru",
            b"\xff",
        ] {
            for pointer in ["", "/a", "/0"] {
                let merge = Merge { operation, pointer: pointer.to_owned(), operand: operand.clone() };
                let mut json = Bytes::from_static(document);
                let told = merge.apply(&mut json, &mut Places::default());
                assert_eq!(told.unwrap_err().kind(), ErrorKind::Corrupt, "{document:?} {pointer}");
                assert_eq!(merge.would_apply(document, &Places::default()), None);
            }
        }
    }
}

/// What the page of the format says, on values.
fn model(value: &mut Value, steps: &[&str], operation: &str, operand: &Value) -> bool {
    let Some((step, rest)) = steps.split_first() else {
        return match (operation, value) {
            ("add", value @ (Value::Null | Value::Number(_))) => {
                let old = if value.is_null() { "0".to_owned() } else { value.to_string() };
                let sum = decimal::sum(old.as_bytes(), operand.to_string().as_bytes()).unwrap();
                *value = serde_json::from_str(&sum).unwrap();
                true
            }
            ("append" | "union", value @ (Value::Null | Value::Array(_))) => {
                let mut items = value.as_array().cloned().unwrap_or_default();
                for item in operand.as_array().unwrap() {
                    if operation == "append" || !items.contains(item) {
                        items.push(item.clone());
                    }
                }
                *value = items.into();
                true
            }
            _ => false,
        };
    };
    match value {
        Value::Null => {
            let mut members = json!({ *step: null });
            let is_done = model(&mut members[*step], rest, operation, operand);
            *value = members;
            is_done
        }
        Value::Object(members) => {
            let mut inner = members.get(*step).cloned().unwrap_or_default();
            let is_done = model(&mut inner, rest, operation, operand);
            if is_done {
                members.insert((*step).to_owned(), inner);
            }
            is_done
        }
        Value::Array(items) if step.parse::<usize>().is_ok_and(|at| at < items.len()) => {
            model(&mut items[step.parse::<usize>().unwrap()], rest, operation, operand)
        }
        _ => false,
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        2 => Just(Value::Null),
        3 => prop::sample::select(vec!["0", "1", "1.0", "-2.50", "12345678901234567890123"])
            .prop_map(|text| serde_json::from_str(text).unwrap()),
        1 => prop::sample::select(vec!["", "x", "]\"\\", "é,"]).prop_map(|text| json!(text)),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let member = prop::sample::select(vec!["a", "b", "0", "", "é\""]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((member, inner), 0..4).prop_map(|members| {
                Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            }),
        ]
    })
}

type Step = (&'static str, Vec<&'static str>, Value);

fn step() -> impl Strategy<Value = Step> {
    let steps = prop::collection::vec(prop::sample::select(vec!["a", "b", "0", "1", "", "é\""]), 0..4);
    let number = prop::sample::select(vec!["1", "-1", "0.25", "99999999999999999999", "0"])
        .prop_map(|text| serde_json::from_str(text).unwrap());
    let items = || prop::collection::vec(value(), 0..3).prop_map(Value::Array);
    prop_oneof![
        (Just("add"), steps.clone(), number),
        (Just("append"), steps.clone(), items()),
        (Just("union"), steps, items()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Written with and without spaces; and with what was remembered of the places before, as without.
    #[test]
    fn merges_one_after_the_other_come_to_what_the_model_says(
        begin in value(), is_spaced in any::<bool>(), steps in prop::collection::vec(step(), 1..25),
    ) {
        let text = if is_spaced { serde_json::to_string_pretty(&begin) } else { serde_json::to_string(&begin) };
        let (mut value, mut json, mut places) = (begin, Bytes::from(text.unwrap()), Places::default());
        for (operation, steps, operand) in steps {
            let pointer: String = steps.iter().map(|step| format!("/{step}")).collect();
            let merge = made(operation, &pointer, &operand.to_string());
            let before = json.clone();
            let mut wanted = value.clone();
            let is_done = model(&mut wanted, &steps, operation, &operand);
            if is_done {
                value = wanted;
            }

            prop_assert_eq!(merge.would_apply(&json, &places), Some(is_done));
            prop_assert_eq!(merge.apply(&mut json, &mut places).unwrap(), is_done, "{} {}", operation, pointer);

            let found: Value = serde_json::from_slice(&json).unwrap();
            prop_assert_eq!(&found, &value, "{:?} {} {}", json, operation, pointer);
            let mut again = before;
            merge.apply(&mut again, &mut Places::default()).unwrap();
            prop_assert_eq!(&again, &json, "what is remembered made a difference");
            places.check(&json);
        }
    }
}
