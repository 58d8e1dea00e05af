//! What a checkpoint of anomalib says beside its tensors: the arguments that its model was made with (`hyper_parameters`), and its
//! pre-processor (`anomalib_pre_processor_config`, since 2.7). Read from anomalib 2.7.0's `Dinomaly` and `PreProcessor`.

use anyhow::{Context, Result, bail};
use dinomaly_core::photo::preprocess::Geometry;
use serde::Deserialize;
use serde_json::Value as Json;

use super::backbone::{Checkpoint, Origin};

/// Layers that `DINO_ARCHITECTURES` names for a "huge" encoder, and heads of its decoder. Those of the others are the published ones.
const HUGE_LAYERS: [usize; 8] = [3, 9, 12, 15, 18, 21, 24, 27];
const HUGE_HEADS: usize = 20;

/// Arguments of `Dinomaly`. Others are of training, or objects.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Arguments {
    encoder_name: Option<String>,
    decoder_depth: Option<usize>,
    target_layers: Option<Vec<usize>>,
    #[serde(default)]
    fuse_layer_encoder: Json,
    #[serde(default)]
    fuse_layer_decoder: Json,
    #[serde(default)]
    remove_class_token: bool,
    #[serde(default)]
    use_context_recentering: bool,
}

/// Resolution and normalisation of photos.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pixels {
    /// Resolution.
    pub geometry: Geometry,
    /// Per-channel mean.
    pub mean: [f32; 3],
    /// Per-channel standard deviation.
    pub std: [f32; 3],
}

/// What a checkpoint says beside its tensors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Saved {
    arguments: Arguments,
    /// Resolution and normalisation; `None` if it does not say them.
    pub pixels: Option<Pixels>,
    /// Whether it says that it has no pre-processor, or one that it could not save.
    pub is_without_pixels: bool,
}

impl Saved {
    /// Reads what a checkpoint says.
    ///
    /// # Errors
    /// If it is not understood, or says what is not supported.
    pub(crate) fn of(checkpoint: &dyn Checkpoint) -> Result<Self> {
        let mut saved = Self::default();
        if let Some(arguments) = checkpoint.settings("hyper_parameters") {
            saved.arguments = Arguments::deserialize(arguments).context("its hyper_parameters are not understood")?;
        }
        for (name, value) in [
            ("fuse_layer_encoder", &saved.arguments.fuse_layer_encoder),
            ("fuse_layer_decoder", &saved.arguments.fuse_layer_decoder),
        ] {
            if !value.is_null() {
                bail!("its hyper_parameters have {name} {value}, with which anomalib's own model does not run");
            }
        }
        let has_none = |settings: &Json| settings["pre_processor"] == false;
        saved.is_without_pixels = checkpoint.settings("anomalib_components_enabled").is_some_and(has_none);
        if let Some(config) = checkpoint.settings("anomalib_pre_processor_config") {
            let transform = &config["transform"];
            saved.is_without_pixels |= transform.is_null();
            if !transform.is_null() {
                saved.pixels = Some(Pixels::of(transform).context("its anomalib_pre_processor_config")?);
            }
        }
        Ok(saved)
    }

    /// timm's name of the encoder.
    pub fn encoder_name(&self) -> Option<&str> {
        self.arguments.encoder_name.as_deref()
    }

    /// The library whose encoder it is: anomalib takes antialiasing from timm's module of vision transformers, not from that of EVA.
    pub fn origin(&self) -> Option<Origin> {
        self.encoder_name().filter(|name| name.starts_with("eva")).map(|_| Origin::Timm)
    }

    /// Layers that are collected, if they are not the published ones. anomalib collects them in ascending
    /// order, also if they are listed in another (findings/anomalib-target-layers.sh).
    pub fn layers(&self) -> Option<Vec<usize>> {
        let mut listed = self.arguments.target_layers.clone();
        listed.iter_mut().for_each(|layers| layers.sort_unstable());
        listed.or_else(|| self.is_huge().then(|| HUGE_LAYERS.to_vec()))
    }

    /// Heads of the decoder, if they are not the encoder's.
    pub fn decoder_heads(&self) -> Option<usize> {
        self.is_huge().then_some(HUGE_HEADS)
    }

    /// Number of decoder blocks.
    pub fn decoder_blocks(&self) -> Option<usize> {
        self.arguments.decoder_depth
    }

    /// Whether class and register tokens are dropped before the bottleneck.
    pub fn removes_class_token(&self) -> bool {
        self.arguments.remove_class_token
    }

    /// Whether every layer's class token is subtracted from its patches.
    pub fn recentres(&self) -> bool {
        self.arguments.use_context_recentering
    }

    /// Whether the name's first word of size that anomalib knows is "huge".
    fn is_huge(&self) -> bool {
        let sizes = ["small", "base", "large", "huge"];
        let found = self.encoder_name().and_then(|name| sizes.into_iter().find(|size| name.contains(size)));
        found == Some("huge")
    }
}

/// A transform as anomalib writes it.
#[derive(Deserialize)]
struct Transform {
    class_path: String,
    init_args: Json,
}

impl Pixels {
    /// Reads transforms: to a square, perhaps its centre, perhaps normalised.
    fn of(transform: &Json) -> Result<Self> {
        let transform = Transform::deserialize(transform).context("is not understood")?;
        let steps: Vec<Transform> = match transform.name() {
            "Compose" => {
                Vec::deserialize(&transform.init_args["transforms"]).context("has a Compose of no transforms")?
            }
            _ => vec![transform],
        };
        let mut geometry: Option<Geometry> = None;
        let mut normal: Option<([f32; 3], [f32; 3])> = None;
        for step in &steps {
            match step.name() {
                "Resize" if geometry.is_none() && normal.is_none() => {
                    let side = step.square("size")?;
                    let smooth = step.init_args["antialias"] != false && step.init_args["interpolation"] == "bilinear";
                    if !smooth {
                        bail!("resizes without antialiasing or not bilinearly, which is not supported");
                    }
                    geometry = Some(Geometry { resize: side, crop: side });
                }
                "CenterCrop" | "ExportableCenterCrop" => match &mut geometry {
                    Some(geometry) => geometry.crop = step.square("size")?.min(geometry.crop),
                    None => bail!("crops before it resizes, which is not supported"),
                },
                "Normalize" if normal.is_none() => normal = Some((step.colours("mean")?, step.colours("std")?)),
                other => bail!(
                    "has the transform {other} here, which is not supported: expected Resize, CenterCrop, Normalize"
                ),
            }
        }
        let geometry = geometry.context("has no Resize, and photos of any size are not supported")?;
        let (mean, std) = normal.unwrap_or(([0.0; 3], [1.0; 3]));
        Ok(Self { geometry, mean, std })
    }
}

impl Transform {
    fn name(&self) -> &str {
        self.class_path.rsplit('.').next().unwrap_or_default()
    }

    /// Side of a square. One number is a square for a crop, and the shorter side for a resize.
    fn square(&self, argument: &str) -> Result<usize> {
        let value = &self.init_args[argument];
        match (Vec::<usize>::deserialize(value).as_deref(), value.as_u64()) {
            (Ok([height, width]), _) if height == width => Ok(*height),
            (Ok([side]), _) if self.name() != "Resize" => Ok(*side),
            (Err(_), Some(side)) if self.name() != "Resize" => Ok(side as usize),
            _ => bail!("has a {} to {value}: expected two equal sides", self.name()),
        }
    }

    fn colours(&self, argument: &str) -> Result<[f32; 3]> {
        let value = &self.init_args[argument];
        let colours = <[f32; 3]>::deserialize(value).ok();
        let colours = colours.filter(|colours| argument != "std" || colours.iter().all(|std| *std > 0.0));
        colours.with_context(|| {
            format!("has a Normalize with {argument} {value}: expected a number for each of red, green, blue")
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn step(name: &str, arguments: Json) -> Json {
        json!({ "class_path": format!("torchvision.transforms.v2.{name}"), "init_args": arguments })
    }

    fn resize(size: Json) -> Json {
        step("Resize", json!({ "size": size, "interpolation": "bilinear", "max_size": null, "antialias": true }))
    }

    fn compose(steps: &[Json]) -> Json {
        step("Compose", json!({ "transforms": steps }))
    }

    #[test]
    fn transforms_say_sizes_and_normalisation() {
        let normalize = step("Normalize", json!({ "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1], "inplace": false }));
        let crop = step("CenterCrop", json!({ "size": [392, 392] }));
        let whole = Pixels::of(&compose(&[resize(json!([448, 448])), crop.clone(), normalize])).unwrap();
        let expected =
            Pixels { geometry: Geometry { resize: 448, crop: 392 }, mean: [0.5, 0.4, 0.3], std: [0.2, 0.2, 0.1] };
        assert_eq!(whole, expected);
        let plain = Pixels::of(&resize(json!([224, 224]))).unwrap();
        assert_eq!((plain.geometry, plain.mean, plain.std), (Geometry { resize: 224, crop: 224 }, [0.0; 3], [1.0; 3]));
        for (transform, why) in [
            (resize(json!([224])), "a Resize to [224]"),
            (resize(json!([224, 256])), "two equal sides"),
            (crop.clone(), "crops before it resizes"),
            (compose(&[resize(json!([9, 9])), step("Grayscale", json!({}))]), "the transform Grayscale"),
            (compose(&[]), "has no Resize"),
            (
                step("Resize", json!({ "size": [9, 9], "interpolation": "nearest", "antialias": true })),
                "not bilinearly",
            ),
            (
                compose(&[resize(json!([9, 9])), step("Normalize", json!({ "mean": [0.5], "std": [1, 1, 1] }))]),
                "mean [0.5]",
            ),
        ] {
            let error = format!("{:#}", Pixels::of(&transform).unwrap_err());
            assert!(error.contains(why), "{error}, expected {why}");
        }
    }

    #[test]
    fn the_name_of_an_encoder_says_layers_heads_and_origin() {
        let named = |name: &str| Saved {
            arguments: Arguments { encoder_name: Some(name.into()), ..Arguments::default() },
            ..Saved::default()
        };
        let huge = named("vit_huge_patch14_224");
        assert_eq!((huge.layers(), huge.decoder_heads()), (Some(HUGE_LAYERS.to_vec()), Some(20)));
        // anomalib takes the first size in its list that is part of the name.
        assert_eq!(named("vit_base_huge").layers(), None);
        assert_eq!(named("eva_large_patch14_196").origin(), Some(Origin::Timm));
        assert_eq!(named("vit_base_patch14_reg4_dinov2").origin(), None);
        let arguments = Arguments { target_layers: Some(vec![7, 2, 5]), ..Arguments::default() };
        assert_eq!(Saved { arguments, ..Saved::default() }.layers(), Some(vec![2, 5, 7]));
    }
}
