//! The recipe of a training: the same recipe on the same machine gives the same bits. An unfinished run has it in its checkpoint, a
//! finished model in `training.json`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use dinomaly_core::bundle::MANIFEST;
use dinomaly_core::model::config::{ModelConfig, Resampling};
use dinomaly_core::photo::preprocess::Preprocessor;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::model_dir::{self, RECIPE};
use crate::training::trainer::TrainingSettings;

/// Options, photos and backbone of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recipe {
    /// Config of the model.
    pub config: ModelConfig,
    /// Rates, batch and seed.
    pub settings: TrainingSettings,
    /// Hash of photos, backbone and preprocessing: [`crate::dataset::split::Split::fingerprint`].
    pub data: String,
    /// The preprocessing, to report differences; absent in older checkpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocessor: Option<Preprocessor>,
    /// Selection of photos; absent in older checkpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<Selection>,
}

/// Selection of a data set's photos.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// Names of the classes. Thresholds belong to them.
    pub classes: Vec<String>,
    /// Share of held-out photos in each class.
    pub holdout: f64,
    /// Number of photos of each class that were trained on; absent if all were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shots: Option<usize>,
}

impl Recipe {
    /// Differences of another recipe, as options of `train`: `--seed 1, now 2`. `None` if there are none.
    ///
    /// # Errors
    /// None: recipes can be written as JSON.
    pub fn difference(&self, now: &Self) -> Result<Option<String>> {
        let selections = self.selection.as_ref().zip(now.selection.as_ref());
        let same_data = self.data == now.data && selections.is_none_or(|(was, is)| was == is);
        if self.config == now.config && self.settings == now.settings && same_data {
            return Ok(None);
        }
        let mut found = Vec::new();
        let (was, is) = (&self.config.encoder, &now.config.encoder);
        let mut with_these_heads = was.clone();
        with_these_heads.num_attention_heads = is.num_attention_heads;
        if was.resampling != is.resampling {
            with_these_heads.resampling = is.resampling;
            let [was, is] = [was, is].map(|encoder| resampling_name(encoder.resampling));
            found.push(format!("--origin {was}, now {is}"));
        }
        if with_these_heads == *is {
            collect("config", &serde_json::to_value(&self.config)?, &serde_json::to_value(&now.config)?, &mut found);
        } else if was.name != is.name {
            found.push(format!("backbone {}, now {}", was.name, is.name));
        }
        collect("settings", &settings(&self.settings)?, &settings(&now.settings)?, &mut found);
        if let (Some(was), Some(is)) = (&self.preprocessor, &now.preprocessor) {
            collect("preprocessor", &shown(was), &shown(is), &mut found);
        }
        if let Some((was, is)) = selections {
            collect("selection", &serde_json::to_value(was)?, &serde_json::to_value(is)?, &mut found);
        }
        if found.is_empty() {
            found.push("other photos or another backbone".into());
        }
        Ok(Some(found.join("; ")))
    }

    /// Name and content of the recipe file in a model's folder.
    ///
    /// # Errors
    /// None: recipes can be written as JSON.
    pub fn file(&self) -> Result<(&'static str, Vec<u8>)> {
        Ok((RECIPE, serde_json::to_vec_pretty(self)?))
    }

    /// Whether the model at `out` is the result of this recipe; `false` if there is no model.
    ///
    /// # Errors
    /// If another model is there, with the differences, or one that was not trained there or is unusable. Such a model is only
    /// replaced on request.
    pub fn is_finished(&self, out: &Path, false_alarm_rate: f64) -> Result<bool> {
        if !out.join(MANIFEST).is_file() {
            return Ok(false);
        }
        let refuse = |found: String| -> Result<bool> {
            bail!("{} {found}: name another --out, or replace it with --restart", out.display())
        };
        let file = out.join(RECIPE);
        if !file.exists() {
            return refuse("is a model that was not trained there".into());
        }
        let read = || -> Result<Self> { Ok(serde_json::from_slice(&fs::read(&file)?)?) };
        let damaged = || format!("{} is damaged: name another --out, or start over with --restart", file.display());
        if let Some(difference) = read().with_context(damaged)?.difference(self)? {
            return refuse(format!("is a model that was trained with other settings ({difference})"));
        }
        let rate = model_dir::read(out).context("start over with --restart")?.calibration.false_alarm_rate;
        if rate != false_alarm_rate {
            return refuse(format!(
                "is this model with --false-alarm-rate {rate}, not {false_alarm_rate}: use `dinomaly calibrate` to change it"
            ));
        }
        Ok(true)
    }
}

/// An origin whose way to resample a position table this is.
fn resampling_name(resampling: Resampling) -> &'static str {
    match resampling {
        Resampling::Offset => "original",
        Resampling::Exact => "anomalib",
        Resampling::Antialiased => "timm",
    }
}

/// Settings as options: `--lr-fall` for the last learning rate, which follows from it and `--lr`.
fn settings(settings: &TrainingSettings) -> Result<Value> {
    let mut value = serde_json::to_value(settings)?;
    let fall = settings.schedule.peak / settings.schedule.last;
    value["schedule"]["lr_fall"] = json!((fall * 1e9).round() / 1e9);
    Ok(value)
}

/// A preprocessor as options.
fn shown(preprocessor: &Preprocessor) -> Value {
    let Preprocessor { geometry, tiles, mean, std, window, resized: _ } = preprocessor;
    let colours = |values: &[f32; 3]| values.map(|value| value.to_string()).join(",");
    let window = window.map_or("clip".into(), |window| window.to_string());
    json!({ "resize": geometry.resize, "crop": geometry.crop, "mean": colours(mean), "std": colours(std), "window": window,
        "tile_size": tiles.map(|tiles| tiles.size) })
}

/// Differences of two values, by option.
fn collect(name: &str, was: &Value, is: &Value, found: &mut Vec<String>) {
    if let (Value::Object(was), Value::Object(is)) = (was, is) {
        let keys: std::collections::BTreeSet<&String> = was.keys().chain(is.keys()).collect();
        for key in keys {
            let of = |value: &serde_json::Map<String, Value>| value.get(key).cloned().unwrap_or_default();
            collect(key, &of(was), &of(is), found);
        }
    } else if was != is
        && let Some(option) = option(name)
    {
        found.push(format!("--{option} {}, now {}", typed(was), typed(is)));
    }
}

/// A value as typed after its option: `0,1/2,3`.
fn typed(value: &Value) -> String {
    match value {
        Value::Null => "its default".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => {
            let between = if values.iter().any(Value::is_array) { "/" } else { "," };
            values.iter().map(typed).collect::<Vec<_>>().join(between)
        }
        other => other.to_string(),
    }
}

/// The option for a value; `None` if the value follows from another one.
fn option(name: &str) -> Option<String> {
    Some(match name {
        "peak" => "lr".into(),
        "first_layer_peak" => "first-layer-lr".into(),
        "bottleneck_dropout" => "dropout".into(),
        "feature_jitter" => "jitter".into(),
        "target_layers" => "layers".into(),
        "mixer" => "decoder".into(),
        "num_attention_heads" => "heads".into(),
        "num_hidden_layers" => "decoder-blocks".into(),
        "last" | "comparison" | "resampling" => return None,
        other => other.replace('_', "-"),
    })
}

#[cfg(test)]
mod tests {
    use dinomaly_core::model::config::EncoderConfig;
    use dinomaly_core::photo::preprocess::{Geometry, Resized};
    use dinomaly_core::photo::tiles::Tiles;

    use super::*;
    use crate::features::augmentation::Augmentation;
    use crate::training::optimizer::Optimizer;
    use crate::training::schedule::Schedule;

    fn recipe() -> Recipe {
        let settings = TrainingSettings::official(2, Schedule::official(10));
        let config = ModelConfig::published(EncoderConfig::tiny()).unwrap();
        let geometry = Geometry { resize: 8, crop: 8 };
        let preprocessor = Preprocessor {
            geometry,
            tiles: None,
            mean: [0.5; 3],
            std: [0.5; 3],
            window: None,
            resized: Resized::Bytes,
        };
        let selection = Some(Selection { classes: vec!["nut".into(), "screw".into()], holdout: 0.1, shots: None });
        Recipe { config, settings, data: "00".into(), preprocessor: Some(preprocessor), selection }
    }

    #[test]
    fn another_way_to_resample_positions_is_another_origin() {
        let (was, mut now) = (recipe(), recipe());
        now.config.encoder.resampling = Resampling::Antialiased;
        assert_eq!(was.difference(&now).unwrap().as_deref(), Some("--origin original, now timm"));
        now.config.encoder.num_attention_heads = 1;
        let both = was.difference(&now).unwrap().unwrap();
        assert!(both.contains("--origin original, now timm; ") && both.contains("--heads 2, now 1"), "{both}");
    }

    #[test]
    fn what_differs_is_named_by_its_option() {
        let was = recipe();
        type Change = fn(&mut Recipe);
        let changes: [(&str, Change); 20] = [
            ("--tile-size its default, now 64", |r| {
                (r.data, r.preprocessor.as_mut().unwrap().tiles) = ("01".into(), Some(Tiles::new(64)));
            }),
            ("--seed 1, now 9", |r| r.settings.seed = 9),
            ("--lr 0.002, now 0.01", |r| (r.settings.schedule.peak, r.settings.schedule.last) = (0.01, 0.001)),
            ("--dropout 0.2, now 0.0; --batch 2, now 3", |r| {
                (r.config.bottleneck_dropout, r.settings.batch) = (0.0, 3)
            }),
            ("--patch-masking its default, now 0.5", |r| r.config.patch_masking = 0.5),
            ("--masked-share its default, now exact", |r| {
                r.config.masked_share = dinomaly_core::model::config::MaskedShare::Exact
            }),
            ("--bottleneck-width its default, now 256", |r| r.config.bottleneck_width = Some(256)),
            ("--attention-eps its default, now 1e-8", |r| r.config.decoder.attention_eps = 1e-8),
            ("--lr-fall 10.0, now 1.0", |r| r.settings.schedule.last = r.settings.schedule.peak),
            ("--augmentation its default, now few-shot; --optimizer its default, now stable-adamw", |r| {
                (r.settings.optimizer, r.settings.augmentation) = (Optimizer::StableAdamw, Augmentation::FewShot);
            }),
            ("--first-layer-lr its default, now 0.0002; --shots its default, now 4", |r| {
                r.settings.schedule.first_layer_peak = Some(2e-4);
                (r.data, r.selection.as_mut().unwrap().shots) = ("01".into(), Some(4));
            }),
            ("--decoder linear, now softmax", |r| {
                r.config.decoder.mixer = dinomaly_core::model::config::Mixer::Softmax
            }),
            ("backbone tiny, now other", |r| r.config.encoder.name = "other".into()),
            ("--heads 2, now 4", |r| r.config.encoder.num_attention_heads = 4),
            ("--groups 0,1,2,3/4,5,6,7, now 0/1", |r| r.config.groups = vec![vec![0], vec![1]]),
            ("--holdout 0.1, now 0.0", |r| {
                (r.data, r.selection.as_mut().unwrap().holdout) = ("01".into(), 0.0);
            }),
            ("--classes nut,screw, now nut", |r| r.selection.as_mut().unwrap().classes.truncate(1)),
            ("--crop 8, now 4; --mean 0.5,0.5,0.5, now 0.4,0.5,0.5", |r| {
                let preprocessor = r.preprocessor.as_mut().unwrap();
                (r.data, preprocessor.geometry.crop, preprocessor.mean[0]) = ("01".into(), 4, 0.4);
            }),
            ("other photos or another backbone", |r| r.data = "01".into()),
            ("other photos or another backbone", |r| {
                (r.data, r.preprocessor, r.selection) = ("01".into(), None, None);
            }),
        ];
        for (expected, change) in changes {
            let mut now = was.clone();
            assert_eq!(was.difference(&now).unwrap(), None);
            change(&mut now);
            assert_eq!(was.difference(&now).unwrap().as_deref(), Some(expected));
        }
    }

    #[test]
    fn only_the_model_of_this_recipe_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let recipe = recipe();
        assert!(!recipe.is_finished(folder.path(), 0.01).unwrap());
        fs::write(folder.path().join(MANIFEST), "{}").unwrap();
        let refused = |recipe: &Recipe| format!("{:#}", recipe.is_finished(folder.path(), 0.01).unwrap_err());
        assert!(refused(&recipe).contains("was not trained there: name another --out, or replace it with --restart"));
        let (file, content) = recipe.file().unwrap();
        fs::write(folder.path().join(file), content).unwrap();
        let mut other = recipe.clone();
        other.settings.seed = 2;
        assert!(refused(&other).contains("(--seed 1, now 2)"), "{}", refused(&other));
        assert!(refused(&recipe).contains("manifest.json"), "{}", refused(&recipe));
        fs::write(folder.path().join(RECIPE), "{").unwrap();
        assert!(refused(&recipe).contains("training.json is damaged"));
    }
}
