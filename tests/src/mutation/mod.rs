//! Inputs that readers of foreign files have never seen: valid files with some of their numbers, names and bytes changed.
//!
//! Random bytes are refused by the first parser and test nothing else. These files are taken apart, changed inside, and put together
//! again with right lengths and checksums, so that the change reaches the code behind. `--bin mutations` tries many of them.

mod backbones;
mod datasets;
mod json;
mod models;
mod photos;
mod sites;

use std::path::Path;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The source of all decisions about a changed file.
pub struct Choices(Box<dyn FnMut() -> u32>);

impl Choices {
    /// Decisions by chance, equal for equal seeds.
    pub fn random(seed: u64) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        Self(Box::new(move || generator.next_u32()))
    }

    /// Decisions by the bytes of a fuzzer, two for each, from the start again where they end.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let mut bytes = if bytes.is_empty() { vec![0] } else { bytes.to_vec() }.into_iter().cycle();
        Self(Box::new(move || {
            u32::from_le_bytes([bytes.next(), bytes.next(), None, None].map(Option::unwrap_or_default))
        }))
    }

    /// A number below `count`, which is not 0.
    fn below(&mut self, count: usize) -> usize {
        (self.0)() as usize % count
    }

    /// True once in so many times.
    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// How many changes a file gets: mostly one, so that the others do not hide what it does.
    fn changes(&mut self) -> usize {
        *self.pick(&[1, 1, 1, 2, 3, 8])
    }
}

/// What became of a changed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is no JSON, pickle or picture any more.
    Unparsed,
    /// It was refused behind the first parser.
    Refused,
    /// It was read.
    Read,
}

/// A reader of foreign files.
pub struct Reader {
    /// Name on the command line.
    pub name: &'static str,
    /// What its first parser is.
    pub first: &'static str,
    /// Changes a valid file and reads it; files that have to lie on a disk lie in the folder, which is the reader's own.
    ///
    /// Panics if the message is not one sentence.
    pub attempt: fn(&mut Choices, &Path) -> Outcome,
}

/// All readers.
pub const READERS: [Reader; 10] = [
    Reader { name: "photo", first: "the picture's header", attempt: photos::attempt },
    Reader { name: "safetensors", first: "the header's JSON", attempt: backbones::safetensors },
    Reader { name: "pth", first: "the archive and the pickle's opcodes", attempt: backbones::pth },
    Reader { name: "import", first: "the archive and the pickle's opcodes", attempt: backbones::import },
    Reader { name: "hf-folder", first: "JSON", attempt: backbones::folder },
    Reader { name: "model", first: "JSON", attempt: models::model },
    Reader { name: "shard", first: "the header's JSON", attempt: models::shard },
    Reader { name: "real-iad", first: "JSON", attempt: datasets::real_iad },
    Reader { name: "visa", first: "CSV of five columns", attempt: datasets::visa },
    Reader { name: "site", first: "JSON", attempt: sites::site },
];

/// The outcome of a reader, whose message must be one readable sentence.
fn outcome(parsed: bool, result: Result<(), String>) -> Outcome {
    match result {
        Ok(()) => Outcome::Read,
        Err(message) => {
            assert!(!message.is_empty() && message.len() < 30_000, "{} characters: {message}", message.len());
            assert!(!message.contains("RUST_BACKTRACE") && !message.contains("Stack backtrace"), "{message}");
            if parsed { Outcome::Refused } else { Outcome::Unparsed }
        }
    }
}
