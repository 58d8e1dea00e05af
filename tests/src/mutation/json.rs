//! JSON with some of its numbers, names and entries changed.

use serde_json::{Value, json};

use super::Choices;

/// Numbers at the limits of the types that readers use.
pub fn number(choices: &mut Choices, value: &Value) -> Value {
    let near = value.as_i64().unwrap_or_default();
    let extremes = [
        json!(0),
        json!(1),
        json!(-1),
        json!(near.wrapping_add(1)),
        json!(near.wrapping_sub(1)),
        json!(near.wrapping_mul(2)),
        json!(255),
        json!(256),
        json!(65_536),
        json!(i32::MAX),
        json!(u32::MAX),
        json!(1u64 << 32),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1e308),
        json!(1e-308),
        json!(0.5),
        json!(-0.5),
    ];
    choices.pick(&extremes).clone()
}

/// Makes some changes anywhere in a value.
pub fn change(choices: &mut Choices, value: &mut Value) {
    for _ in 0..choices.changes() {
        let mut places = Vec::new();
        list(value, String::new(), &mut places);
        let place = choices.pick(&places).clone();
        let names: Vec<String> =
            places.iter().filter_map(|place| place.rsplit('/').next().map(str::to_owned)).collect();
        let other = value.pointer(choices.pick::<String>(&places)).cloned().unwrap_or_default();
        let Some(found) = value.pointer_mut(&place) else { continue };
        match found {
            Value::Number(_) => *found = number(choices, found),
            Value::String(text) => *found = string(choices, text),
            Value::Array(items) if !items.is_empty() => {
                let at = choices.below(items.len());
                match choices.below(4) {
                    0 => drop(items.remove(at)),
                    1 => items.push(items[at].clone()),
                    2 => items.clear(),
                    _ => items[at] = other,
                }
            }
            Value::Object(entries) if !entries.is_empty() => {
                let key = entries.keys().nth(choices.below(entries.len())).cloned().unwrap_or_default();
                match choices.below(4) {
                    0 => drop(entries.remove(&key)),
                    1 => drop(entries.insert(key, other)),
                    _ => {
                        let taken = entries.remove(&key).unwrap_or_default();
                        entries.insert(choices.pick(&names).clone(), taken);
                    }
                }
            }
            _ => *found = other,
        }
    }
}

/// Another text: empty, long, of digits, cut, doubled, with a path.
fn string(choices: &mut Choices, text: &str) -> Value {
    let half: String = text.chars().take(text.chars().count() / 2).collect();
    let digits: String = text.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    let texts = [
        String::new(),
        "a".repeat(10_000),
        digits,
        half,
        text.repeat(2),
        format!("../{text}"),
        text.to_uppercase(),
        "0".into(),
    ];
    json!(choices.pick(&texts))
}

/// Pointers to everything in a value; of long lists of numbers to the first and the last.
fn list(value: &Value, here: String, places: &mut Vec<String>) {
    match value {
        Value::Array(items) => {
            let ends = |i: usize| i < 3 || i + 1 == items.len();
            let items = items.iter().enumerate().filter(|(i, item)| !item.is_number() || ends(*i));
            items.for_each(|(i, item)| list(item, format!("{here}/{i}"), places));
        }
        Value::Object(entries) => entries.iter().for_each(|(key, item)| {
            list(item, format!("{here}/{}", key.replace('~', "~0").replace('/', "~1")), places);
        }),
        _ => {}
    }
    places.push(here);
}
