//! `icecore expire`, and what is said of expiry elsewhere.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

mod support;

use serde_json::json;
use support::*;

const LOG: &str = "acme/session/s-1";

#[test]
fn an_expiry_is_told_by_the_history_as_it_was_given() {
    for place in Place::each() {
        place.run(&["put", LOG, "cart", "1", "--expires-at", "2126-01-31T12:00:00Z"]).done();
        place.run(&["expire", LOG, "cart", "--sliding", "90m"]).done();
        place.run(&["expire", LOG, "cart", "--touch"]).done();
        place.run(&["expire", LOG, "cart", "--pin"]).done();
        place.run(&["expire", LOG, "cart", "--never"]).done();

        let told = place.json(&["history", LOG, "cart"]).done().json();
        let told: Vec<_> = told.iter().map(|one| json!([one["change"], one["value"]])).collect();
        let wanted = [
            json!(["expire", null]),
            json!(["expire", {"pinned": true}]),
            json!(["touch", null]),
            json!(["expire", {"sliding": "90m"}]),
            json!(["expire", {"at": "2126-01-31T12:00:00Z"}]),
            json!(["put", 1]),
        ];
        assert_eq!(told, wanted);
    }
}

#[test]
fn what_has_expired_is_not_there_and_is_there_in_the_past() {
    for place in Place::each() {
        place.run(&["put", LOG, "stays", "1"]).done();
        place.run(&["put", LOG, "cart", "2", "--ttl", "0s"]).done();

        assert_eq!(place.json(&["state", LOG]).done().json()[0]["documents"], json!({"stays": 1}));
        place.run(&["state", LOG, "cart"]).failed(4, "");
        place.run(&["expire", LOG, "cart", "--touch"]).failed(4, "");
        place.run(&["expire", LOG]).failed(2, "--ttl");
        // What was due a moment ago is removed later: nothing is told of it yet.
        let told = place.run(&["maintain", "--dry-run"]).done();
        assert!(told.stdout.is_empty() && told.stderr.contains("Nothing that expired"), "{told:?}");
    }
}
