//! The preprocessor as a file: `preprocessor_config.json`.

use serde::{Deserialize, Serialize};

use crate::photo::preprocess::{Geometry, Preprocessor, Resized, check_tiles};
use crate::photo::tiles::Tiles;
use crate::photo::window::Window;
use crate::{Error, Result};

/// `preprocessor_config.json` of a `BitImageProcessor`, the Hugging Face class that resizes to a fixed size, crops the centre
/// and normalises.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HuggingFace {
    image_processor_type: String,
    do_convert_rgb: bool,
    do_resize: bool,
    size: Size,
    resample: u32,
    do_center_crop: bool,
    crop_size: Size,
    do_rescale: bool,
    rescale_factor: f64,
    do_normalize: bool,
    image_mean: [f32; 3],
    image_std: [f32; 3],
    /// Not of Hugging Face: values of 16-bit grey that become black and white.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grey16_window: Option<[u16; 2]>,
    /// Not of Hugging Face: tiles that are resized to `size` one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tiles: Option<Tiles>,
    /// Not of Hugging Face: `float32`, if resized values are not rounded to bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resize_dtype: Option<ResizeDtype>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ResizeDtype {
    Float32,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Size {
    height: usize,
    width: usize,
}

impl Size {
    fn square(name: &str, side: Self) -> Result<usize> {
        if side.height != side.width {
            return Err(Error::config(format!("{name} {}x{} is not square", side.height, side.width)));
        }
        Ok(side.height)
    }
}

const PROCESSOR: &str = "BitImageProcessor";
/// Pillow's number for its bilinear filter.
const BILINEAR: u32 = 2;
const RESCALE: f64 = 1.0 / 255.0;

impl From<Preprocessor> for HuggingFace {
    fn from(p: Preprocessor) -> Self {
        let size = |side| Size { height: side, width: side };
        Self {
            image_processor_type: PROCESSOR.into(),
            do_convert_rgb: true,
            do_resize: true,
            size: size(p.geometry.resize),
            resample: BILINEAR,
            do_center_crop: true,
            crop_size: size(p.geometry.crop),
            do_rescale: true,
            rescale_factor: RESCALE,
            do_normalize: true,
            image_mean: p.mean,
            image_std: p.std,
            grey16_window: p.window.map(|window| [window.low(), window.high()]),
            tiles: p.tiles,
            resize_dtype: (p.resized == Resized::Floats).then_some(ResizeDtype::Float32),
        }
    }
}

impl TryFrom<HuggingFace> for Preprocessor {
    type Error = Error;

    fn try_from(file: HuggingFace) -> Result<Self> {
        if file.image_processor_type != PROCESSOR {
            let found = file.image_processor_type;
            return Err(Error::config(format!("image_processor_type is {found:?}, only {PROCESSOR:?} is supported")));
        }
        for (name, value) in [
            ("do_convert_rgb", file.do_convert_rgb),
            ("do_resize", file.do_resize),
            ("do_center_crop", file.do_center_crop),
            ("do_rescale", file.do_rescale),
            ("do_normalize", file.do_normalize),
        ] {
            if !value {
                return Err(Error::config(format!("{name} is false, only true is supported")));
            }
        }
        if file.resample != BILINEAR {
            return Err(Error::config(format!(
                "resample is {}, only {BILINEAR} (bilinear) is supported",
                file.resample
            )));
        }
        if (file.rescale_factor / RESCALE - 1.0).abs() > 1e-6 {
            return Err(Error::config(format!("rescale_factor is {}, only 1/255 is supported", file.rescale_factor)));
        }
        if file.image_mean.iter().any(|mean| !mean.is_finite()) {
            return Err(Error::config(format!("image_mean {:?} must be finite", file.image_mean)));
        }
        if file.image_std.iter().any(|&std| !(std > 0.0 && std.is_finite())) {
            return Err(Error::config(format!("image_std {:?} must be positive and finite", file.image_std)));
        }
        let geometry =
            Geometry { resize: Size::square("size", file.size)?, crop: Size::square("crop_size", file.crop_size)? };
        geometry.check_crop()?;
        let resized = file.resize_dtype.map_or(Resized::Bytes, |ResizeDtype::Float32| Resized::Floats);
        check_tiles(file.tiles, resized, geometry)?;
        let window = file.grey16_window.map(|[low, high]| Window::new(low, high)).transpose()?;
        Ok(Self { geometry, tiles: file.tiles, mean: file.image_mean, std: file.image_std, window, resized })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config() -> Value {
        serde_json::to_value(Preprocessor::imagenet(Geometry { resize: 448, crop: 392 })).unwrap()
    }

    #[test]
    fn the_hugging_face_file_is_written_and_read_back() {
        let expected = json!({
            "image_processor_type": "BitImageProcessor", "do_convert_rgb": true, "do_resize": true,
            "size": {"height": 448, "width": 448}, "resample": 2, "do_center_crop": true,
            "crop_size": {"height": 392, "width": 392}, "do_rescale": true, "rescale_factor": 1.0 / 255.0,
            "do_normalize": true, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
        });
        let preprocessor = Preprocessor::imagenet(Geometry { resize: 448, crop: 392 });
        let text = serde_json::to_string(&preprocessor).unwrap();
        assert_eq!(serde_json::from_str::<Preprocessor>(&text).unwrap(), preprocessor);
        assert_eq!(serde_json::from_value::<Preprocessor>(expected).unwrap(), preprocessor);
        assert!(text.contains("\"image_mean\":[0.485,0.456,0.406]"), "{text}");
    }

    #[test]
    fn tiles_are_written_and_read_back_and_others_refused() {
        let whole = Preprocessor::imagenet(Geometry { resize: 392, crop: 392 });
        let preprocessor = Preprocessor { tiles: Some(Tiles::new(784)), ..whole };
        let mut file = serde_json::to_value(&preprocessor).unwrap();
        assert_eq!(file["tiles"], json!({ "size": 784, "overlap": 0.25 }));
        assert_eq!(serde_json::from_value::<Preprocessor>(file.clone()).unwrap(), preprocessor);
        file["tiles"]["size"] = json!(10);
        let error = serde_json::from_value::<Preprocessor>(file).unwrap_err().to_string();
        assert!(error.contains("tiles of 10 pixels cannot be resized to 392"), "{error}");
        let mut cropped = config();
        cropped["tiles"] = json!({ "size": 784, "overlap": 0.25 });
        let error = serde_json::from_value::<Preprocessor>(cropped).unwrap_err().to_string();
        assert!(error.contains("leaves its border out"), "{error}");
        assert!(config().get("tiles").is_none() && config().get("resize_dtype").is_none());
    }

    #[test]
    fn values_that_are_not_rounded_are_written_and_read_back() {
        let bytes = Preprocessor::imagenet(Geometry { resize: 448, crop: 448 });
        let floats = Preprocessor { resized: Resized::Floats, ..bytes.clone() };
        let mut file = serde_json::to_value(&floats).unwrap();
        assert_eq!(file["resize_dtype"], "float32");
        assert_eq!(serde_json::from_value::<Preprocessor>(file.clone()).unwrap(), floats);
        file["resize_dtype"] = json!("float16");
        assert!(serde_json::from_value::<Preprocessor>(file).unwrap_err().to_string().contains("float16"));
        let mut tiled = serde_json::to_value(Preprocessor { tiles: Some(Tiles::new(784)), ..bytes }).unwrap();
        tiled["resize_dtype"] = json!("float32");
        let error = serde_json::from_value::<Preprocessor>(tiled).unwrap_err().to_string();
        assert!(error.contains("tiles are rounded to bytes"), "{error}");
    }

    #[test]
    fn what_a_file_asks_for_and_is_not_done_is_refused_by_name() {
        for (name, value) in [
            ("image_processor_type", json!("ViTImageProcessor")),
            ("do_convert_rgb", json!(false)),
            ("do_resize", json!(false)),
            ("do_center_crop", json!(false)),
            ("do_rescale", json!(false)),
            ("do_normalize", json!(false)),
            ("resample", json!(3)),
            ("rescale_factor", json!(1.0)),
            ("size", json!({"height": 448, "width": 400})),
            ("size", json!({"shortest_edge": 448})),
            ("crop_size", json!({"height": 392, "width": 400})),
            ("image_std", json!([0.2, 0.0, 0.2])),
            ("image_mean", json!([1e39, 0.0, 0.2])),
            ("do_pad", json!(true)),
        ] {
            let mut file = config();
            file[name] = value;
            let error = serde_json::from_value::<Preprocessor>(file).unwrap_err().to_string();
            let word = if error.contains("shortest_edge") { "shortest_edge" } else { name };
            assert!(error.contains(word), "{name}: {error}");
        }
        let mut small = config();
        small["size"] = json!({"height": 224, "width": 224});
        let error = serde_json::from_value::<Preprocessor>(small).unwrap_err().to_string();
        assert!(error.contains("a crop of 392 pixels cannot be cut out of 224"), "{error}");
        let mut missing = config();
        missing.as_object_mut().unwrap().remove("resample");
        let error = serde_json::from_value::<Preprocessor>(missing).unwrap_err().to_string();
        assert!(error.contains("resample"), "{error}");
    }
}
