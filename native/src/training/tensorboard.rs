//! What a training says of itself, for TensorBoard: event files, that is TFRecords of protocol buffers.
//!
//! Format: tensorflow/core/lib/io/record_writer.h and tensorflow/core/util/event.proto, of which only what is written is
//! declared.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use prost::Message;

/// An event: one of the optional parts.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    /// Iterations done.
    #[prost(int64, tag = "2")]
    pub step: i64,
    /// First event of a file.
    #[prost(string, optional, tag = "3")]
    pub file_version: Option<String>,
    /// Values of a step.
    #[prost(message, optional, tag = "5")]
    pub summary: Option<Summary>,
    /// A run that goes on.
    #[prost(message, optional, tag = "7")]
    pub session: Option<Session>,
}

/// Values of a step.
#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    /// In the order in which they were written.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<Value>,
}

/// A value with its name.
#[derive(Clone, PartialEq, Message)]
pub struct Value {
    /// Name of the curve.
    #[prost(string, tag = "1")]
    pub tag: String,
    /// The value; written even if it is 0.
    #[prost(float, optional, tag = "2")]
    pub simple_value: Option<f32>,
}

/// Says that a run (re)starts: what other files say of this and later steps no longer counts.
#[derive(Clone, PartialEq, Message)]
pub struct Session {
    /// 1 for a start.
    #[prost(int32, tag = "1")]
    pub status: i32,
}

/// An event file that is being written.
#[derive(Debug)]
pub struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Begins a file of its own in a folder, for a run of which `done` iterations are done.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn begin(folder: &Path, done: usize) -> Result<Self> {
        // TensorBoard reads the files of a folder in the order of their names.
        let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        let path = folder.join(format!("events.out.tfevents.{nanoseconds}.dinomaly"));
        let create = || fs::create_dir_all(folder).and_then(|()| File::create_new(&path));
        let file = create().with_context(|| format!("event file {} cannot be created", path.display()))?;
        let mut events = Self { path, file };
        events.write(Event { file_version: Some("brain.Event:2".into()), ..event(0)? })?;
        if done > 0 {
            events.write(Event { session: Some(Session { status: 1 }), ..event(done + 1)? })?;
        }
        Ok(events)
    }

    /// Adds the values of a step.
    ///
    /// # Errors
    /// If the disk is full.
    pub fn add(&mut self, step: usize, values: &[(&str, f64)]) -> Result<()> {
        let value = |&(tag, value): &(&str, f64)| Value { tag: tag.into(), simple_value: Some(value as f32) };
        let summary = Summary { values: values.iter().map(value).collect() };
        self.write(Event { summary: Some(summary), ..event(step)? })
    }

    /// One record: length, its checksum, the event, its checksum. In one piece, so that a reader finds whole records.
    fn write(&mut self, event: Event) -> Result<()> {
        let data = event.encode_to_vec();
        let length = (data.len() as u64).to_le_bytes();
        let record = [&length[..], &masked(&length), &data, &masked(&data)].concat();
        self.file.write_all(&record).with_context(|| format!("event file {} cannot be written", self.path.display()))
    }
}

fn event(step: usize) -> Result<Event> {
    let wall_time = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    Ok(Event { wall_time, step: step as i64, ..Event::default() })
}

/// CRC-32C, rotated and shifted so that the checksum of data that holds checksums stays a good one.
fn masked(data: &[u8]) -> [u8; 4] {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_those_that_tensorboard_reads() {
        // By hand: field and type, then the value; step 3, a summary of one value, its tag, its four bytes.
        let summary = Summary { values: vec![Value { tag: "loss".into(), simple_value: Some(0.5) }] };
        let event = Event { step: 3, summary: Some(summary), ..Event::default() };
        let expected = [16, 3, 42, 13, 10, 11, 10, 4, b'l', b'o', b's', b's', 21, 0, 0, 0, 63];
        assert_eq!(event.encode_to_vec(), expected);
        // RFC 3720 B.4: CRC-32C of 32 zero bytes is 0x8a9136aa.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
    }
}
