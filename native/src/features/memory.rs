//! Photos' features in memory: page-locked if a GPU trains, so that it fetches them while the processor goes on.

use candle_core::{DType, Device, Result, Tensor};

use super::held::Held;

/// Values in ordinary memory, as bytes.
struct Ordinary {
    bytes: Vec<u8>,
    dtype: DType,
}

impl Held for Ordinary {
    fn fetch(&self, device: &Device) -> Result<Tensor> {
        let count = self.bytes.len() / self.dtype.size_in_bytes();
        Tensor::from_raw_buffer(&self.bytes, self.dtype, &[count], device)
    }
}

/// Keeps photos' features in memory.
#[derive(Default)]
pub struct Memory {
    /// Whether page-locked memory has run out.
    refused: bool,
}

impl Memory {
    /// Keeps a photo's values `[count]`. Values from a GPU go to page-locked memory while there is any.
    ///
    /// # Errors
    /// If the device fails.
    pub fn keep(&mut self, photo: &Tensor) -> Result<Box<dyn Held>> {
        self.keep_with(photo, lock)
    }

    fn keep_with(
        &mut self,
        photo: &Tensor,
        lock: impl FnOnce(&Tensor) -> Option<Result<Box<dyn Held>>>,
    ) -> Result<Box<dyn Held>> {
        let locked = if self.refused { None } else { lock(photo) };
        match locked {
            Some(Ok(locked)) => return Ok(locked),
            Some(Err(error)) => {
                let reason = error.to_string();
                eprintln!(
                    "dinomaly: no more page-locked memory ({}): further features go to ordinary memory, from which a GPU fetches more slowly",
                    reason.lines().next().unwrap_or_default()
                );
                self.refused = true;
            }
            None => {}
        }
        Ok(Box::new(Ordinary { bytes: super::bytes(photo)?, dtype: photo.dtype() }))
    }
}

/// The values in page-locked memory, which the photo's GPU reads directly; `None` if the processor trains.
fn lock(photo: &Tensor) -> Option<Result<Box<dyn Held>>> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = photo.device() {
        return Some(super::page_locked::lock(photo, device));
    }
    debug_assert!(!photo.device().is_cuda());
    None
}

#[cfg(test)]
mod tests {
    use candle_core::bail;

    use super::*;

    /// Stands for page-locked memory; its value differs from the photo's.
    struct Locked;

    impl Held for Locked {
        fn fetch(&self, device: &Device) -> Result<Tensor> {
            Tensor::new(&[7f32], device)
        }
    }

    #[test]
    fn once_refused_features_lie_in_ordinary_memory() {
        let photo = Tensor::new(&[1f32, -2.5], &Device::Cpu).unwrap();
        let fetched = |held: Box<dyn Held>| held.fetch(&Device::Cpu).unwrap().to_vec1::<f32>().unwrap();
        let mut memory = Memory::default();
        assert_eq!(fetched(memory.keep_with(&photo, |_| Some(Ok(Box::new(Locked)))).unwrap()), [7.0]);
        let refusing = |_: &Tensor| -> Option<Result<Box<dyn Held>>> { Some((|| bail!("out of memory"))()) };
        assert_eq!(fetched(memory.keep_with(&photo, refusing).unwrap()), [1.0, -2.5]);
        assert_eq!(fetched(memory.keep_with(&photo, |_| panic!("asked for again")).unwrap()), [1.0, -2.5]);
        assert_eq!(fetched(Memory::default().keep(&photo).unwrap()), [1.0, -2.5]);
    }
}
