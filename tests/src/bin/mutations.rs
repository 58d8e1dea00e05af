//! Reads many changed files, and prints for each reader what became of them, the longest time and the memory.
//!
//! `mutations COUNT [READER…]`: so many files of each reader, all readers if none is named. Ends with 1 at the first panic, at a file that
//! takes more than a second, and at more than 1 GiB of memory; the line names the file's number, and `mutations COUNT READER --only
//! NUMBER` repeats it alone.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use dinomaly_tests::mutation::{Choices, Outcome, READERS, Reader};

/// Longest time of one file.
const PATIENCE: Duration = Duration::from_secs(1);

/// Most memory of the process, in bytes.
const MEMORY: u64 = 1 << 30;

#[derive(Parser)]
struct Args {
    /// Number of files for each reader
    count: u64,
    /// Names of readers [default: all]
    readers: Vec<String>,
    /// Number of the only file to read
    #[arg(long)]
    only: Option<u64>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(unknown) = args.readers.iter().find(|name| READERS.iter().all(|reader| reader.name != *name)) {
        bail!("there is no reader {unknown}: {}", READERS.map(|reader| reader.name).join(", "));
    }
    println!(
        "| reader | first parser | files | past it, % | read, % | longest, ms | memory, MB |\n|---|---|---|---|---|---|---|"
    );
    for reader in
        READERS.iter().filter(|reader| args.readers.is_empty() || args.readers.iter().any(|n| n == reader.name))
    {
        let numbers = args.only.map_or(0..args.count, |number| number..number + 1);
        println!("{}", attempts(reader, numbers)?);
    }
    Ok(())
}

/// A row of the table.
fn attempts(reader: &Reader, numbers: std::ops::Range<u64>) -> Result<String> {
    let Reader { name, first, attempt } = reader;
    let folder = tempfile::tempdir()?;
    let count = numbers.end - numbers.start;
    let (mut past, mut read, mut longest) = (0, 0, Duration::ZERO);
    for number in numbers {
        let own = folder.path().join((number % 2).to_string());
        fs::create_dir_all(&own)?;
        let once = || {
            let begun = Instant::now();
            catch_unwind(AssertUnwindSafe(|| attempt(&mut Choices::random(number), &own)))
                .map(|outcome| (outcome, begun.elapsed()))
                .map_err(|_| anyhow::anyhow!("{name}: file {number} panicked, as said above"))
        };
        let (outcome, mut took) = once()?;
        if took > PATIENCE {
            // Another program may have been running.
            took = took.min(once()?.1);
        }
        if took > PATIENCE {
            bail!("{name}: file {number} took {took:?}");
        }
        longest = longest.max(took);
        past += u64::from(outcome != Outcome::Unparsed);
        read += u64::from(outcome == Outcome::Read);
        fs::remove_dir_all(&own)?;
    }
    let memory = peak()?;
    if memory > MEMORY {
        bail!("{name}: {} MB of memory were used", memory >> 20);
    }
    let percent = |part: u64| 100.0 * part as f64 / count as f64;
    let milliseconds = longest.as_secs_f64() * 1e3;
    Ok(format!(
        "| {name} | {first} | {count} | {:.0} | {:.0} | {milliseconds:.0} | {} |",
        percent(past),
        percent(read),
        memory >> 20
    ))
}

/// Largest memory of this process so far, in bytes; 0 where the system does not tell it.
fn peak() -> Result<u64> {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return Ok(0) };
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the system tells the memory")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}
