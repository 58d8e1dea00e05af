//! Verdicts → the files that MVTec AD 2's evaluation server takes: `anomaly_images/CLASS/SPLIT/NAME.tiff`, the map at the photo's size in
//! half precision, and `anomaly_images_thresholded/CLASS/SPLIT/NAME.png`, white above the pixel threshold.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinomaly_core::maps::heatmap::on_photo;
use half::f16;
use tiff::encoder::colortype::ColorType;
use tiff::encoder::{Compression, DeflateLevel, TiffEncoder};
use tiff::tags::{PhotometricInterpretation, SampleFormat};

use super::detect::Verdict;
use crate::dataset::MVTEC_AD2_SUBMITTED;
use crate::system::atomic::{check_file, write_file};

/// A folder of files to submit.
#[derive(Clone, Debug)]
pub struct Submission {
    folder: PathBuf,
}

impl Submission {
    /// Files in a folder, which is made when the first is written.
    ///
    /// # Errors
    /// If it cannot be written to.
    pub fn new(folder: &Path) -> Result<Self> {
        check_file(&folder.join("map.tiff"))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Writes the files of a photo. `pixel_threshold` replaces the model's.
    ///
    /// # Errors
    /// If the photo does not lie in a folder of the private test, there is no pixel threshold, or a file cannot be written.
    pub fn write(&self, verdict: &Verdict, pixel_threshold: Option<f32>) -> Result<()> {
        let path = verdict.path.display();
        let place = place(&verdict.path)?;
        let Some(threshold) = pixel_threshold.or(verdict.judgement.pixel_threshold) else {
            bail!(
                "photo {path} has no thresholded map: the model has no pixel threshold, set one with dinomaly calibrate"
            );
        };
        let (width, height) = (verdict.photo.width, verdict.photo.height);
        let region = verdict.detection.region;
        let region = (region.x0, region.y0, region.x1, region.y1);
        let map = on_photo(&verdict.detection.map, region, width as usize, height as usize)?;
        let above = map.iter().map(|&value| if value > threshold { u8::MAX } else { 0 }).collect();
        let above = image::GrayImage::from_raw(width, height, above).context("a picture of the photo's size")?;
        let mut png = Cursor::new(Vec::new());
        above.write_to(&mut png, image::ImageFormat::Png)?;
        let tiff = tiff(width, height, &map).with_context(|| format!("the map of photo {path} cannot be written"))?;
        let file = |folder: &str, ending: &str| self.folder.join(folder).join(&place).with_extension(ending);
        write_file(&file("anomaly_images", "tiff"), &tiff)?;
        write_file(&file("anomaly_images_thresholded", "png"), png.get_ref())
    }
}

/// `CLASS/SPLIT/NAME` of a photo.
fn place(photo: &Path) -> Result<PathBuf> {
    // As it was given: links may lead to folders of other names.
    let whole = std::path::absolute(photo).with_context(|| format!("photo {} cannot be read", photo.display()))?;
    let mut names = whole.iter().rev();
    match [names.next(), names.next(), names.next()] {
        [Some(name), Some(split), Some(class)] if MVTEC_AD2_SUBMITTED.iter().any(|wanted| *wanted == split) => {
            Ok(Path::new(class).join(split).join(name))
        }
        _ => bail!(
            "photo {} does not lie in CLASS/{}: only these photos of MVTec AD 2 are submitted",
            photo.display(),
            MVTEC_AD2_SUBMITTED.join(" or CLASS/")
        ),
    }
}

/// One channel of half precision.
struct GreyHalf;

impl ColorType for GreyHalf {
    type Inner = u16;
    const TIFF_VALUE: PhotometricInterpretation = PhotometricInterpretation::BlackIsZero;
    const BITS_PER_SAMPLE: &'static [u16] = &[16];
    const SAMPLE_FORMAT: &'static [SampleFormat] = &[SampleFormat::IEEEFP];

    fn horizontal_predict(row: &[u16], result: &mut Vec<u16>) {
        // Not asked for.
        result.extend_from_slice(row);
    }
}

/// A map as TIFF in half precision, deflated.
fn tiff(width: u32, height: u32, map: &[f32]) -> Result<Vec<u8>> {
    let bits: Vec<u16> = map.iter().map(|&value| f16::from_f32(value).to_bits()).collect();
    let mut file = Cursor::new(Vec::new());
    let encoder = TiffEncoder::new(&mut file)?.with_compression(Compression::Deflate(DeflateLevel::Balanced));
    { encoder }.write_image::<GreyHalf>(width, height, &bits)?;
    Ok(file.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_written_in_half_precision() {
        let map: Vec<f32> = (0..6).map(|i| i as f32 / 4.0).collect();
        let file = tiff(3, 2, &map).unwrap();
        let mut decoder = tiff::decoder::Decoder::new(Cursor::new(&file)).unwrap();
        assert_eq!(decoder.dimensions().unwrap(), (3, 2));
        let tiff::decoder::DecodingResult::F16(read) = decoder.read_image().unwrap() else { panic!("another type") };
        assert_eq!(read.iter().map(|value| value.to_f32()).collect::<Vec<_>>(), map);
    }

    #[test]
    fn photos_of_other_folders_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let photo = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            place(&path)
        };
        let expected = Path::new("can/test_private/000_regular.png");
        assert_eq!(photo("can/test_private/000_regular.png").unwrap(), expected);
        assert!(photo("can/test_private_mixed/000_mixed.png").is_ok());
        let error = photo("can/test_public/good/000_regular.png").unwrap_err().to_string();
        assert!(error.ends_with("does not lie in CLASS/test_private or CLASS/test_private_mixed: only these photos of MVTec AD 2 are submitted"), "{error}");
    }
}
