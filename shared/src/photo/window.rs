//! Range of 16-bit grey that becomes black to white.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// Values of 16-bit grey that become 0 and 255; those between become levels in proportion, those outside black or white.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    low: u16,
    high: u16,
}

impl Window {
    /// The window from `low` to `high`.
    ///
    /// # Errors
    /// [`Error::Config`] if it is empty.
    pub fn new(low: u16, high: u16) -> Result<Self> {
        if low >= high {
            return Err(Error::config(format!(
                "the window {low}..{high} of 16-bit grey is empty: the first value must be lower"
            )));
        }
        Ok(Self { low, high })
    }

    /// The value that becomes black.
    pub fn low(self) -> u16 {
        self.low
    }

    /// The value that becomes white.
    pub fn high(self) -> u16 {
        self.high
    }

    /// Level of a value, rounded to the nearest.
    pub fn level(self, value: u16) -> u8 {
        let (width, above) = (u32::from(self.high - self.low), u32::from(value.clamp(self.low, self.high) - self.low));
        ((above * 255 + width / 2) / width) as u8
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.low, self.high)
    }
}

impl FromStr for Window {
    type Err = Error;

    /// `LOW..HIGH`.
    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once("..").and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
        let (low, high) = parts
            .ok_or_else(|| Error::config(format!("{text} is no window LOW..HIGH of values from 0 to {}", u16::MAX)))?;
        Self::new(low, high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_levels() {
        let window = Window::new(1000, 47_000).unwrap();
        assert_eq!([0, 1000, 24_000, 47_000, 65_535].map(|value| window.level(value)), [0, 0, 128, 255, 255]);
        assert_eq!(Window::new(7, 8).unwrap().level(8), 255);
        assert_eq!(Window::new(0, 65_535).unwrap().level(257), 1);
        let eight_bits = Window::new(0, 255).unwrap();
        assert!((0..=255).all(|value| u16::from(eight_bits.level(value)) == value));
    }

    #[test]
    fn it_is_written_as_it_is_read() {
        let window: Window = "1000..47000".parse().unwrap();
        assert_eq!(window.to_string(), "1000..47000");
        for wrong in ["5..5", "9..2"] {
            assert!(wrong.parse::<Window>().unwrap_err().to_string().contains("is empty"), "{wrong}");
        }
        for wrong in ["", "12", "1..70000", "-1..5", "a..b"] {
            assert!(wrong.parse::<Window>().unwrap_err().to_string().contains("is no window LOW..HIGH"), "{wrong}");
        }
    }
}
