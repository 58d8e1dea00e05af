//! TensorBoard event files: TFRecords of protocol buffers.
//!
//! Format: tensorflow/core/lib/io/record_writer.h and tensorflow/core/util/event.proto. Only the fields that are written are declared
//! here.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use prost::Message;

/// An event, with one of the optional parts.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    /// Number of finished iterations.
    #[prost(int64, tag = "2")]
    pub step: i64,
    /// Version of the format, in the first event of a file.
    #[prost(string, optional, tag = "3")]
    pub file_version: Option<String>,
    /// Values of a step.
    #[prost(message, optional, tag = "5")]
    pub summary: Option<Summary>,
    /// Marks a resumed run.
    #[prost(message, optional, tag = "7")]
    pub session: Option<Session>,
}

/// Values of a step.
#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    /// In writing order.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<Value>,
}

/// A value with its name.
#[derive(Clone, PartialEq, Message)]
pub struct Value {
    /// Name of the curve.
    #[prost(string, tag = "1")]
    pub tag: String,
    /// The value, also written if 0.
    #[prost(float, optional, tag = "2")]
    pub simple_value: Option<f32>,
}

/// Marks the start of a run. Events of other files at this and later steps no longer count.
#[derive(Clone, PartialEq, Message)]
pub struct Session {
    /// 1 marks a start.
    #[prost(int32, tag = "1")]
    pub status: i32,
}

/// A writer of an event file.
#[derive(Debug)]
pub struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Creates a new file in a folder, for a run with `done` finished iterations.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn begin(folder: &Path, done: usize) -> Result<Self> {
        // TensorBoard reads the files of a folder in alphabetical order.
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

    /// One record: length, its checksum, the event, its checksum. Written in one piece, so that readers only see complete records.
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

/// CRC-32C, rotated and shifted, because the checksum of data with checksums would be weak.
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
