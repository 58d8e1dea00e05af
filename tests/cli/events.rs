//! Event files of a training, read back as TensorBoard reads them.

use std::fs;

use dinomaly::training::schedule::Schedule;
use dinomaly::training::tensorboard::Event;
use prost::Message;

use crate::broken_off::{kill, start};
use crate::workshop::{Workshop, names};

/// The events of a file's bytes: records of length, its checksum, protocol buffer, its checksum.
fn events(mut bytes: &[u8]) -> Result<Vec<Event>, String> {
    let masked = |data: &[u8]| (crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)).to_le_bytes();
    let mut take = |count: usize| {
        let (taken, rest) = bytes.split_at_checked(count).ok_or("cut short")?;
        bytes = rest;
        Ok::<_, String>(taken)
    };
    let mut events = Vec::new();
    while let Ok(length) = take(8) {
        let good = take(4)? == masked(length);
        let data = take(u64::from_le_bytes(length.try_into().unwrap()) as usize)?;
        if !good || take(4)? != masked(data) {
            return Err(format!("a checksum of record {} is wrong", events.len()));
        }
        events.push(Event::decode(data).map_err(|e| e.to_string())?);
    }
    Ok(events)
}

#[test]
fn event_files_say_what_happened_and_a_resumed_run_takes_back_what_was_lost() {
    let shop = Workshop::new();
    let train =
        || shop.train("model", "--iterations 80 --checkpoint-every 10 --mining-warmup 20 --tensorboard @events");
    kill(start(train(), &shop.path("model.training/checkpoint.safetensors")));
    let text = shop.succeed(train());
    let resumed: usize =
        text.split("resuming after iteration ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
    let files: Vec<_> = names(&shop.path("events"));
    assert!(files.len() == 2 && files.iter().all(|name| name.starts_with("events.out.tfevents.")), "{files:?}");
    let read = |name: &String| events(&fs::read(shop.path("events").join(name)).unwrap()).unwrap();
    let (first, second) = (read(&files[0]), read(&files[1]));
    for events in [&first, &second] {
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
    }
    let session = second[1].session.as_ref().expect("a run that goes on says so");
    assert_eq!((second[1].step as usize, session.status), (resumed + 1, 1));
    let steps: Vec<i64> = second[2..].iter().map(|event| event.step).collect();
    assert_eq!(steps, (resumed as i64 + 1..=80).collect::<Vec<_>>());
    let value = |event: &Event, tag: &str| {
        let value = event.summary.as_ref()?.values.iter().find(|value| value.tag == tag)?;
        Some(f64::from(value.simple_value?))
    };
    let schedule = Schedule { mining_warmup: 20, ..Schedule::official(80) };
    for event in first[1..].iter().chain(&second[2..]) {
        let iteration = event.step as usize - 1;
        let near = |tag: &str, expected: f64| {
            let found = value(event, tag).unwrap();
            assert!((found - expected).abs() <= 1e-6 * expected, "{tag} at {iteration}: {found}, expected {expected}");
        };
        near("learning rate", schedule.learning_rate(iteration));
        near("easy share", schedule.mining(iteration).rate);
        for tag in ["loss", "gradient norm", "photos per second"] {
            assert!(value(event, tag).is_some_and(|value| value.is_finite() && value > 0.0), "{tag} at {iteration}");
        }
    }
    let mut damaged = fs::read(shop.path("events").join(&files[0])).unwrap();
    let last = damaged.len() - 6;
    damaged[last] ^= 1;
    assert!(events(&damaged).unwrap_err().to_string().contains("checksum"));
}
