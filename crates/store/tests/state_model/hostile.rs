//! Values, keys, histories and damage that could break a state.

use super::*;

#[tokio::test]
async fn ten_thousand_documents_are_put_listed_compared_forked_and_set_back() {
    let (store, log) = new();
    for part in 0..10 {
        let mut changes = Changes::new();
        for number in part * 1_000..(part + 1) * 1_000 {
            changes = changes.put(format!("k-{number:05}"), Json::of(&number).unwrap());
        }
        log.commit(changes).await.unwrap();
    }

    let state = log.state().await.unwrap();
    assert_eq!(state.len(), 10_000);
    assert_eq!(state.after("k-", Some("k-09998")).map(|(key, _)| key).collect::<Vec<_>>(), ["k-09999"]);
    log.fork(&fork_of(&log), At::Head).await.unwrap();
    assert_eq!(store.log(fork_of(&log)).state().await.unwrap().len(), 10_000);
    log.rollback(At::Version(Version(1))).await.unwrap().unwrap();
    assert_eq!(log.state().await.unwrap().len(), 1_000);
    let diff = log.diff(At::Head, At::Version(Version(10))).await.unwrap();
    assert_eq!(diff.json_patch().as_array().unwrap().len(), 9_000);
}

#[tokio::test]
async fn an_entry_holds_65_536_changes_and_not_one_more() {
    let (_, log) = new();
    let many = |count: usize| {
        (0..count).fold(Changes::new(), |changes, number| changes.put(number.to_string(), text("1")))
    };

    let more = log.commit(many(65_537)).await.unwrap_err();
    let asked = log.commit(many(65_537).only_if_new()).await.unwrap_err();
    log.commit(many(65_536).only_if_new()).await.unwrap();

    assert_eq!((more.kind(), asked.kind()), (ErrorKind::Invalid, ErrorKind::Invalid));
    assert_eq!(log.state().await.unwrap().len(), 65_536);
    // What does not fit leaves the log as it is.
    log.transact(count).await.unwrap();
    assert_eq!(counted(&log).await, 1);
    assert_eq!(log.fork(&fork_of(&log), At::Head).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_value_of_16_mib_is_kept_patched_and_set_back() {
    let (_, log) = new();
    let large = json!({ "text": "x".repeat(16 << 20) });
    log.put("large", of(&large)).await.unwrap();
    log.patch("large", text(r#"{"more":1}"#)).await.unwrap();
    log.patch("large", text(r#"{"text":null}"#)).await.unwrap();

    let found = log.document("large").await.unwrap().unwrap().value().unwrap();
    assert_eq!(found, json!({"more": 1}));
    log.rollback(At::Version(Version(1))).await.unwrap().unwrap();
    assert_eq!(log.document("large").await.unwrap().unwrap().json, of(&large).bytes());
}

#[tokio::test]
async fn a_state_larger_than_what_may_be_kept_is_read_all_the_same() {
    let log = log(&store_with(&faulty(), |settings| settings.state_bytes_max = 1_000));
    for number in 0..50 {
        log.put(&format!("k-{number}"), of(&json!("x".repeat(100)))).await.unwrap();
        assert_eq!(log.state().await.unwrap().len(), number + 1);
    }
}

/// A look at a log of many commits reads only those that are new.
#[tokio::test]
async fn a_state_that_is_kept_reads_only_what_came_since() {
    let (bent, store) = over(Bent::default(), LONG);
    let log = log(&store);
    for _ in 0..50 {
        log.append(event("one")).await.unwrap();
    }
    log.state().await.unwrap();
    let before = bent.read.load(Ordering::SeqCst);

    log.put("a", text("1")).await.unwrap();
    assert_eq!(log.state().await.unwrap().len(), 1);
    assert_eq!(bent.read.load(Ordering::SeqCst) - before, 0, "what this process appends need not be read");

    let elsewhere = Store::new(Arc::clone(store.backend()));
    elsewhere.log(log.id().clone()).put("b", text("2")).await.unwrap();
    let before = bent.read.load(Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!(log.state().await.unwrap().len(), 2);
    }
    assert_eq!(bent.read.load(Ordering::SeqCst) - before, 1);
}

// Strange.

#[tokio::test]
async fn values_nested_as_deep_as_may_be_are_kept_patched_and_compared() {
    let (_, log) = new();
    let deep = |open: &str, close: &str, depth: usize, inner: &str| {
        format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
    };
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let document = deep(open, close, 127, "1");
        log.put("deep", text(&document)).await.unwrap();
        assert_eq!(log.document("deep").await.unwrap().unwrap().json, document);
        assert!(Json::text(deep(open, close, 128, "1")).is_err());
    }
    // A patch begins where the document does, and so makes it no deeper than it is itself.
    let patch = deep(r#"{"a":"#, "}", 126, r#"{"b":2}"#);
    for key in ["deep", "other"] {
        log.patch(key, text(&patch)).await.unwrap();
        log.patch(key, text(r#"{"c":[]}"#)).await.unwrap();
        let document = log.document(key).await.unwrap().unwrap();
        assert_eq!(document.value().unwrap()["c"], json!([]));
        log.put("again", Json::text(document.json).unwrap()).await.unwrap();
    }
    let diff = log.diff(At::Version(Version(0)), At::Head).await.unwrap();
    assert_eq!(diff.json_patch().as_array().unwrap().len(), 3);
}

/// Source: RFC 7396, appendix A, and more of its kind.
#[tokio::test]
async fn a_merge_patch_does_what_the_standard_says() {
    let (_, log) = new();
    let cases = [
        (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
        (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
        (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
        (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
        (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
        (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
        (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
        (r#"{"a":"foo"}"#, "null", "null"),
        (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
        (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
        ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
        ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ("1", "{}", "{}"),
        ("null", r#"{"":{"":null}}"#, r#"{"":{}}"#),
        (r#"{"a":1,"a":2}"#, r#"{"b":1,"b":null}"#, r#"{"a":2}"#),
        (r#"{"a":1,"a":2}"#, r#"{"b":null,"b":1e999}"#, r#"{"a":2,"b":1e999}"#),
    ];
    for (document, patch, wanted) in cases {
        log.put("k", text(document)).await.unwrap();
        log.patch("k", text(patch)).await.unwrap();
        let found = log.document("k").await.unwrap().unwrap().value().unwrap();
        assert_eq!(found, serde_json::from_str::<Value>(wanted).unwrap(), "{document} {patch}");
    }
}

/// However it is written.
const PRIVATE: [&str; 3] =
    ["$serde_json::private::", r"\u0024serde_json::private::", r"$serde\u005Fjson::private\u003a:"];

/// What members are called is nobody's business. `serde_json` takes an object with one of these for something else: a number, or a text
/// that is read as JSON in its place.
#[tokio::test]
async fn members_with_names_that_our_parser_keeps_for_itself_stay_what_they_are_or_are_refused() {
    for (name, value) in [("Number", r#""12""#), ("RawValue", r#""[1]""#)] {
        for private in PRIVATE {
            let (_, log) = new();
            let document = format!(r#"{{"{private}{name}":{value}}}"#);
            let Ok(json) = Json::text(document.clone()) else { continue };
            log.put("k", json).await.unwrap();
            log.patch("k", text(r#"{"more":1}"#)).await.unwrap();
            let found = log.document("k").await.unwrap().unwrap();
            let found = String::from_utf8(found.json.to_vec()).unwrap();
            assert!(found.contains("private"), "{document} became {found}");
        }
    }
    // No member is named so.
    for harmless in [r#""$serde_json""#, r#"{"a":"serde_json::private"}"#, r#"{"$":"\u0024"}"#] {
        text(harmless);
    }
}

/// A log with such a document could be neither read nor changed any more, for ever: a patch writes the value as it was read, and that is
/// nested deeper than may be read.
#[tokio::test]
async fn no_document_and_no_patch_makes_a_state_that_cannot_be_read() {
    for private in PRIVATE {
        let (_, log) = new();
        let deep = |inner: &str| format!("{}{inner}{}", "[".repeat(100), "]".repeat(100));
        let hidden = serde_json::to_string(&deep("1")).unwrap();
        let raw = format!(r#"{{"{private}RawValue":{hidden}}}"#);
        let Ok(json) = Json::text(format!(r#"{{"a":{}}}"#, deep(&raw))) else { continue };
        log.put("k", json).await.unwrap();
        log.patch("k", text(r#"{"b":1}"#)).await.unwrap();
        log.patch("k", text(r#"{"c":1}"#)).await.unwrap();

        log.state().await.unwrap();
    }
}

/// Each text in a text begins anew to count how deep it is; in the end the stack was used up, and the process with it.
#[test]
fn a_value_hidden_in_texts_in_texts_does_not_use_up_the_stack() {
    for private in PRIVATE {
        let mut document = "1".to_owned();
        for _ in 0..60 {
            // Every mark of the text within is written as `\u005c` and `\u0022`, which makes it longer only little by little.
            let hidden = document.replace('\\', r"\u005c").replace('"', r"\u0022");
            let (open, close) = ("[".repeat(120), "]".repeat(120));
            document = format!(r#"{open}{{"{private}RawValue":"{hidden}"}}{close}"#);
        }
        let checked = std::thread::Builder::new()
            .stack_size(2 << 20)
            .spawn(move || Json::text(document).map(|json| json.bytes().len()))
            .unwrap()
            .join();
        assert!(checked.unwrap().is_err(), "{private}");
    }
}

#[tokio::test]
async fn a_patch_that_removes_a_member_leaves_the_others_in_their_order() {
    let (_, log) = new();
    log.put("k", text(r#"{"a":1,"b":2,"c":3,"d":4}"#)).await.unwrap();

    log.patch("k", text(r#"{"a":null}"#)).await.unwrap();

    assert_eq!(log.document("k").await.unwrap().unwrap().json, r#"{"b":2,"c":3,"d":4}"#);
}

#[tokio::test]
async fn keys_are_any_text_and_conditions_name_them() {
    let (_, log) = new();
    let longest = "\u{10FFFF}".repeat(256);
    let keys = ["\u{10FFFF}", "\u{10FFFF}\u{10FFFF}", "\n", "\u{0}", "\u{0}\u{0}", "/", "~", "$", &longest];
    for key in keys {
        log.put(key, text("1")).await.unwrap();
    }
    let state = log.state().await.unwrap();

    assert_eq!(state.documents("").count(), keys.len());
    assert_eq!(state.documents("\u{10FFFF}").count(), 3);
    assert_eq!(state.after("\u{10FFFF}", Some("\u{10FFFF}")).count(), 2);
    assert_eq!(state.after("", Some(&longest)).count(), 0);
    assert_eq!(state.documents("\u{0}").count(), 2);
    for key in keys {
        let error = log.commit(Changes::new().only_if(Condition::Absent(key.to_owned()))).await.unwrap_err();
        assert_eq!(error.fact("failed"), Some(&*format!("{key} absent")));
    }
    for key in ["", &"\u{10FFFF}".repeat(257)] {
        assert_eq!(log.delete(key).await.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(log.patch(key, text("1")).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    let diff = log.diff(At::Version(Version(0)), At::Head).await.unwrap();
    let mut patched = json!({});
    for operation in diff.json_patch().as_array().unwrap() {
        apply_json_patch(&mut patched, operation);
    }
    assert_eq!(patched.as_object().unwrap().len(), keys.len());
}

// Damaged, trimmed, sealed, read only.

#[tokio::test]
async fn a_commit_that_is_damaged_is_named_and_what_was_before_can_be_read() {
    let (bent, store) = over(Bent::default(), LONG);
    let log = log(&store);
    for number in 1..=6 {
        log.put("n", Json::of(&number).unwrap()).await.unwrap();
    }
    *bent.flipped.lock().unwrap() = Some(Version(4));

    for at in [At::Head, At::Version(Version(4)), At::Version(Version(5))] {
        let error = log.state_at(at).await.unwrap_err();
        assert_eq!((error.kind(), error.fact("version")), (ErrorKind::Corrupt, Some("4")), "{at:?}");
        assert_eq!(error.fact("log"), Some("acme/session/s-1"));
    }
    assert_eq!(log.state_at(At::Version(Version(3))).await.unwrap().get("n").unwrap().json, "3");
    for error in [log.transact(count).await, log.rollback(At::Version(Version(3))).await] {
        let error = error.unwrap_err();
        assert_eq!((error.kind(), error.fact("version")), (ErrorKind::Corrupt, Some("4")));
    }
    log.fork(&fork_of(&log), At::Version(Version(3))).await.unwrap();
    let (mut history, mut seen) = (log.history("n"), Vec::new());
    let error = loop {
        match history.next_page().await {
            Ok(page) => seen.extend(page.iter().map(|one| one.version.0)),
            Err(error) => break error,
        }
    };
    assert_eq!((seen, error.fact("version")), (vec![6, 5], Some("4")));
    // Restored.
    *bent.flipped.lock().unwrap() = None;
    assert_eq!(log.state().await.unwrap().get("n").unwrap().json, "6");
    log.transact(count).await.unwrap();
}

/// It was not written by us, but by another program, or by a hand.
#[tokio::test]
async fn an_event_that_holds_no_json_is_damage_of_its_commit() {
    let no_merges =
        [("add", "\"1\""), ("add", "1e1000000000"), ("append", "{}"), ("append", "[1"), ("union", "")];
    for (kind, data) in [("put", "{"), ("patch", "{"), ("patch", "")].into_iter().chain(no_merges) {
        let (store, log) = new();
        log.put("k", text("1")).await.unwrap();
        let events = vec![document_event(kind, "k", data)];
        append_by_hand(&log, events, Flags::default(), &**store.backend()).await;
        log.patch("k", text(r#"{"a":1}"#)).await.unwrap();

        let error = log.state().await.unwrap_err();

        assert_eq!(error.kind(), ErrorKind::Corrupt, "{kind} {data}: {error}");
        assert!(log.state_at(At::Version(Version(1))).await.is_ok());
    }
}

/// As its comment says; a type that does not fit is another thing.
#[tokio::test]
async fn a_document_that_is_no_json_is_corrupt() {
    let (store, log) = new();
    log.put("k", text("1")).await.unwrap();
    append_by_hand(&log, vec![document_event("put", "k", "{")], Flags::default(), &**store.backend()).await;

    let document = log.document("k").await.unwrap().unwrap();

    assert_eq!(document.value().unwrap_err().kind(), ErrorKind::Corrupt);
}

/// Else nobody could tell it from one in which nothing happened.
#[tokio::test]
async fn a_history_that_a_dropped_body_is_missing_from_says_so() {
    let (store, log) = new();
    for number in 1..=3 {
        log.put("n", Json::of(&number).unwrap()).await.unwrap();
    }
    store.backend().drop_bodies(log.id(), &[Version(2)]).await.unwrap();

    let (mut history, mut seen) = (log.history("n"), Vec::new());
    let ended = loop {
        match history.next_page().await {
            Ok(page) if page.is_empty() => break None,
            Ok(page) => seen.extend(page.iter().map(|one| one.version.0)),
            Err(error) => break Some(error.kind()),
        }
    };

    assert!(
        ended == Some(ErrorKind::NotFound) || seen.contains(&2),
        "it says that all there was is {seen:?}"
    );
}

#[tokio::test]
async fn a_dropped_body_is_refused_by_whoever_needs_it() {
    let (store, log) = new();
    for number in 1..=3 {
        log.put("n", Json::of(&number).unwrap()).await.unwrap();
    }
    store.backend().drop_bodies(log.id(), &[Version(2)]).await.unwrap();
    let other = Store::new(Arc::clone(store.backend())).log(log.id().clone());

    let exists = Changes::new().put("n", text("4")).only_if(Condition::Exists("n".into()));
    let errors = [
        other.state().await.map(drop),
        other.transact(count).await.map(drop),
        other.diff(At::Version(Version(1)), At::Head).await.map(drop),
        other.rollback(At::Version(Version(1))).await.map(drop),
        other.commit(exists).await.map(drop),
    ];
    for error in errors {
        let error = error.unwrap_err();
        assert_eq!((error.kind(), error.fact("version")), (ErrorKind::NotFound, Some("2")), "{error}");
    }
    // Without a condition it does not matter what the state is.
    other.put("n", text("4")).await.unwrap();
}

#[tokio::test]
async fn behind_a_base_the_state_begins_anew_and_what_was_trimmed_before_it_is_refused() {
    let (store, log) = new();
    for number in 1..=3 {
        log.put("n", Json::of(&number).unwrap()).await.unwrap();
    }
    log.state().await.unwrap();
    let base = append_base(&log, store.backend()).await;
    // It was made by hand, and says that there are no documents.
    assert!(log.state().await.unwrap().is_empty());
    assert_eq!(log.state_at(At::Version(Version(3))).await.unwrap().get("n").unwrap().json, "3");
    log.put("m", text("1")).await.unwrap();
    store.backend().close(log.id(), base.previous()).await.unwrap();
    store.backend().sweep(log.id()).await.unwrap();

    for log in [log.clone(), Store::new(Arc::clone(store.backend())).log(log.id().clone())] {
        let state = log.state().await.unwrap();
        assert_eq!(state.get("m").unwrap().json, "1");
        assert!(state.get("n").is_none());
        for at in [At::Version(Version(1)), At::Version(Version(3)), At::Time(Timestamp(0))] {
            let error = log.state_at(at).await.unwrap_err();
            let facts = (error.kind(), error.fact("trimmed_through"));
            assert_eq!(facts, (ErrorKind::NotFound, Some("3")), "{at:?}: {error}");
        }
        assert!(log.state_at(At::Version(base)).await.unwrap().is_empty());
        log.transact(count).await.unwrap();
    }
    assert_eq!(counted(&log).await, 2);
    assert!(log.history("n").next_page().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_sealed_log_can_be_read_and_not_changed() {
    let (store, log) = new();
    log.put("a", text("1")).await.unwrap();
    append_by_hand(&log, Vec::new(), Flags { seal: true, ..Flags::default() }, &**store.backend()).await;

    for log in [log.clone(), Store::new(Arc::clone(store.backend())).log(log.id().clone())] {
        assert_eq!(log.state().await.unwrap().len(), 1);
        assert_eq!(log.put("a", text("2")).await.unwrap_err().kind(), ErrorKind::Refused);
        assert_eq!(log.transact(count).await.unwrap_err().kind(), ErrorKind::Refused);
        assert_eq!(log.rollback(At::Version(Version(0))).await.unwrap_err().kind(), ErrorKind::Refused);
        assert_eq!(log.transact(|_| Ok(Changes::new())).await.unwrap(), None);
    }
    log.fork(&fork_of(&log), At::Head).await.unwrap();
}

#[tokio::test]
async fn a_store_that_only_reads_shows_the_state_and_changes_nothing() {
    let (bent, store) = over(Bent::default(), LONG);
    log(&store).put("a", text("1")).await.unwrap();
    let reading = Bent { memory: Arc::clone(&bent.memory), read_only: true, ..Bent::default() };
    let (_, reading) = over(reading, LONG);
    let log = log(&reading);

    assert_eq!(log.state().await.unwrap().len(), 1);
    assert_eq!(log.state_at(At::Version(Version(1))).await.unwrap().len(), 1);
    let refused = [
        log.put("a", text("2")).await.map(drop),
        log.patch("a", text("2")).await.map(drop),
        log.delete("a").await.map(drop),
        log.transact(count).await.map(drop),
        log.commit(Changes::new().delete("a").only_if(Condition::Exists("a".into()))).await.map(drop),
        log.rollback(At::Version(Version(0))).await.map(drop),
        log.fork(&fork_of(&log), At::Head).await.map(drop),
    ];
    assert!(refused.iter().all(|told| told.as_ref().is_err_and(|error| error.kind() == ErrorKind::Refused)));
    assert_eq!(log.state().await.unwrap().version, Version(1));
}

#[tokio::test]
async fn a_log_without_a_commit_was_empty_at_every_time() {
    let (_, log) = new();

    assert!(log.state_at(At::Time(Timestamp(i64::MAX))).await.unwrap().is_empty());
    assert!(log.diff(At::Time(Timestamp(5)), At::Head).await.unwrap().differences.is_empty());
}

/// A store was restored from a copy under a process that runs, or a log was deleted and begun anew.
#[tokio::test]
async fn a_state_that_is_kept_is_of_the_history_that_is_there_now() {
    for (before, now) in [(3, 2), (3, 5), (3, 3), (1, 1)] {
        let (bent, store) = over(Bent::default(), LONG);
        let log = log(&store);
        for _ in 0..before {
            log.put("a", text("1")).await.unwrap();
        }
        log.state().await.unwrap();
        let other = Arc::new(Memory::default());
        let restored = Store::new(Arc::clone(&other) as Arc<dyn Backend>).log(log.id().clone());
        for _ in 0..now {
            restored.put("b", text("2")).await.unwrap();
        }
        *bent.other.lock().unwrap() = Some(other);

        let state = log.state().await.unwrap();

        let keys: Vec<_> = state.documents("").map(|(key, _)| key).collect();
        assert_eq!(keys, ["b"], "{before} commits, and now {now}");
    }
}

// Beside others.
