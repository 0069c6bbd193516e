//! `diff`.

use std::process::ExitCode;

use icecore::state::{Diff, Difference};
use icecore::{LogId, Result, Store};
use serde_json::{Map, Value, json};

use crate::output::{Output, shown};
use crate::state::must_exist;
use crate::time::{self, Point};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Signs: + is new, - is gone, ~ is changed; below a changed document, in the same signs, the places in it that differ. The exit code is 0 whether anything differs or not.\n\nExamples:\n  icecore diff acme/session/s-1 3 5\n  icecore diff acme/session/s-1 2026-01-31T12:00:00Z --json-patch"
)]
pub struct Args {
    /// The log: tenant/kind/key
    log: LogId,
    /// The first moment (version 0: before the first commit)
    #[arg(value_name = "VERSION|TIME")]
    from: Point,
    /// The second moment; by default now
    #[arg(value_name = "VERSION|TIME")]
    to: Option<Point>,
    /// Only a JSON Patch, RFC 6902, of one object that has the documents as its members
    #[arg(long)]
    json_patch: bool,
}

pub async fn run(args: &Args, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let log = store.log(args.log.clone());
    must_exist(&log).await?;
    let diff = log.diff(args.from.into(), time::or_now(args.to)).await?;
    if args.json_patch {
        output.line(&diff.json_patch().to_string())?;
    } else {
        print(&args.log, &diff, output)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what differs: an object for programs, signs for people.
pub fn print(log: &LogId, diff: &Diff, output: &mut Output) -> Result<()> {
    if output.is_json() {
        let differences: Vec<_> = diff.differences.iter().map(difference_json).collect();
        let object = json!({
            "log": log.as_str(),
            "from": diff.from.0,
            "to": diff.to.0,
            "differences": differences,
            "json_patch": diff.json_patch(),
        });
        return output.line(&object.to_string());
    }
    for difference in &diff.differences {
        let key = shown(&difference.key);
        match (&difference.from, &difference.to) {
            (Some(from), Some(to)) => changed(diff, difference, from, to, output)?,
            (None, Some(to)) => output.line(&format!("+ {key} {}", output.value(&to.to_string())))?,
            (Some(from), None) => output.line(&format!("- {key} {}", output.value(&from.to_string())))?,
            (None, None) => {}
        }
    }
    let count = match diff.differences.len() {
        0 => "No document differs".to_owned(),
        1 => "1 document differs".to_owned(),
        count => format!("{count} documents differ"),
    };
    output.note(&format!("{count} from version {} to version {}", diff.from, diff.to));
    Ok(())
}

fn difference_json(difference: &Difference) -> Value {
    let mut object = Map::new();
    object.insert("key".to_owned(), difference.key.as_str().into());
    for (name, side) in [("from", &difference.from), ("to", &difference.to)] {
        if let Some(value) = side {
            object.insert(name.to_owned(), value.clone());
        }
    }
    Value::Object(object)
}

/// A changed document: its key, and each step of the JSON Patch from one value to the other, with what was there before.
fn changed(
    diff: &Diff,
    difference: &Difference,
    from: &Value,
    to: &Value,
    output: &mut Output,
) -> Result<()> {
    let key = shown(&difference.key);
    let one = Diff { from: diff.from, to: diff.to, differences: vec![difference.clone()] };
    let steps = one.json_patch();
    let escaped = difference.key.replace('~', "~0").replace('/', "~1");
    let place = |step: &Value| {
        let path = step["path"].as_str()?.strip_prefix('/')?.strip_prefix(&escaped)?.to_owned();
        (!path.is_empty()).then_some(path)
    };
    let steps: Vec<_> = steps.as_array().into_iter().flatten().collect();
    // Where nothing is left of the value there are no places in it.
    let Some(steps) = steps.into_iter().map(|step| Some((place(step)?, step))).collect::<Option<Vec<_>>>()
    else {
        let (from, to) = (output.value(&from.to_string()), output.value(&to.to_string()));
        return output.line(&format!("~ {key} {from} -> {to}"));
    };
    output.line(&format!("~ {key}"))?;
    // Each step is told of the value as the steps before left it: of a list they move the places.
    let mut value = from.clone();
    for (path, step) in steps {
        let new = step.get("value");
        let old = take_step(&mut value, &path, new, step["op"] == "add");
        let show = |value: Option<&Value>| value.map(|value| output.value(&value.to_string()));
        let (sign, text) = match (show(old.as_ref()), show(new)) {
            (None, new) => ('+', new.unwrap_or_default()),
            (Some(old), None) => ('-', old),
            (Some(old), Some(new)) => ('~', format!("{old} -> {new}")),
        };
        output.line(&format!("    {sign} {} {text}", shown(&path)))?;
    }
    Ok(())
}

/// Takes one step of a patch, and gives what was in that place. Source: RFC 6902, of which the steps are `add`, `remove` and `replace`.
fn take_step(value: &mut Value, path: &str, new: Option<&Value>, is_add: bool) -> Option<Value> {
    let (parent, last) = path.rsplit_once('/')?;
    let last = last.replace("~1", "/").replace("~0", "~");
    match (value.pointer_mut(parent)?, new.cloned()) {
        (Value::Object(members), Some(new)) => members.insert(last, new),
        (Value::Object(members), None) => members.shift_remove(&last),
        (Value::Array(items), Some(new)) if is_add => {
            items.insert(last.parse().unwrap_or(items.len()).min(items.len()), new);
            None
        }
        (Value::Array(items), Some(new)) => {
            Some(std::mem::replace(items.get_mut(last.parse::<usize>().ok()?)?, new))
        }
        (Value::Array(items), None) => {
            let place = last.parse().ok().filter(|place| *place < items.len())?;
            Some(items.remove(place))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_gives_what_was_in_its_place() {
        let mut value = json!({"list": [1, 2, 3], "a/b~c": "old"});
        let mut step = |path, new: Option<Value>, is_add| take_step(&mut value, path, new.as_ref(), is_add);

        assert_eq!(step("/list/0", None, false), Some(json!(1)));
        assert_eq!(step("/list/1", Some(json!(4)), false), Some(json!(3)));
        assert_eq!(step("/list/2", Some(json!(5)), true), None);
        assert_eq!(step("/a~1b~0c", Some(json!("new")), false), Some(json!("old")));
        assert_eq!(step("/list/9", None, false), None);
        assert_eq!(step("/none/at/all", None, false), None);
        assert_eq!(value, json!({"list": [2, 4, 5], "a/b~c": "new"}));
    }
}
