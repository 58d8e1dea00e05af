//! Model folders on disk: written whole or not at all, replaced safely, and refused by name when anything is wrong.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use dinomaly::encoders::backbone::{self, Backbone};
use dinomaly::model_dir;
use dinomaly_core::bundle::{
    Calibration, ClassCalibration, Kind, MANIFEST, Model, SHARD_LIMIT, ScoreStatistics, SelfTest,
};
use dinomaly_core::model::config::{EncoderConfig, ModelConfig};
use dinomaly_core::model::weights::{encoder_shapes, head_shapes, model_shapes};
use dinomaly_core::photo::preprocess::{Geometry, Preprocessor};
use dinomaly_core::quant::{Format, InputMoments, dequantize, quantize_to};
use dinomaly_core::tensor::HostTensor;
use dinomaly_core::tensor::named::Weights;

/// A model of this width with arbitrary weights.
fn model(width: usize, name: &str) -> Model {
    model_with_table(width, 5, name)
}

/// [`model`] with a position table of this side.
fn model_with_table(width: usize, side: usize, name: &str) -> Model {
    let encoder = EncoderConfig { num_register_tokens: 4, ..EncoderConfig::vit(width, 4, 14, side) };
    let config = ModelConfig::published(encoder).unwrap().into();
    let weights = arbitrary(model_shapes(&config).unwrap());
    let good_scores = ScoreStatistics::of(&[0.1, 0.2, 0.15]).unwrap();
    let scores = ClassCalibration { threshold: 0.3, pixel_threshold: Some(0.5), good_scores, good_descriptors: None };
    Model {
        name: name.into(),
        config,
        preprocessor: Preprocessor::imagenet(Geometry { resize: 80, crop: 70 }),
        calibration: Calibration {
            classes: [("screw".to_owned(), scores.clone())].into(),
            overall: scores,
            held_out: true,
            false_alarm_rate: 0.01,
        },
        weights,
        self_test: Some(SelfTest::new(1, 0.2, &[0.1; 256], 1e-3).unwrap()),
        card: "# A card".into(),
    }
}

fn arbitrary(shapes: dinomaly_core::tensor::named::Shapes) -> Weights {
    let tensor = |(i, (name, shape)): (usize, (String, Vec<usize>))| {
        let values = (0..shape.iter().product()).map(|j| ((i * 31 + j * 17) % 97) as f32 / 97.0 - 0.5).collect();
        (name, HostTensor::f32(shape, values).unwrap())
    };
    Weights(shapes.into_iter().enumerate().map(tensor).collect())
}

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn refusal<T: std::fmt::Debug>(result: anyhow::Result<T>) -> String {
    let error = format!("{:#}", result.unwrap_err());
    assert!(!error.contains('\n'), "more than a sentence: {error}");
    error
}

#[test]
fn a_folder_is_written_read_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/models/screws");
    for model in [model(8, "first"), model(12, "second")] {
        model_dir::check_target(&path).unwrap();
        model_dir::write(&path, &model).unwrap();
        assert_eq!(model_dir::read(&path).unwrap(), model);
        let manifest = model_dir::read_manifest(&path).unwrap();
        let listed: BTreeSet<String> = manifest.files.iter().map(|f| f.name.clone()).chain([MANIFEST.into()]).collect();
        assert_eq!(names(&path), listed);
    }
    assert_eq!(names(path.parent().unwrap()), ["screws".to_owned()].into());
}

#[test]
fn shards_of_a_full_size_model_stay_below_their_limit() {
    // ViT-S: 54 MB in the head alone.
    let model = model(384, "small");
    let files = model.to_files().unwrap();
    let shards: Vec<_> = files.iter().filter(|(name, _)| name.ends_with(".safetensors")).collect();
    for (name, bytes) in &shards {
        assert!(bytes.len() < SHARD_LIMIT, "{name}: {} bytes", bytes.len());
    }
    let total: usize = shards.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(shards.len() <= total.div_ceil(SHARD_LIMIT) + 2, "{} shards for {total} bytes", shards.len());
    let read = Model::parse(&mut |name| Ok(files.iter().find(|(n, _)| n == name).unwrap().1.clone())).unwrap();
    assert_eq!(read, model);
    println!("{} shards, {total} bytes, {} tensors compared", shards.len(), read.weights.0.len());
}

/// DINOv2-small with registers, with arbitrary weights: they are as large as any.
#[test]
fn every_format_is_written_and_read_and_as_small_as_it_should_be() {
    let whole = model_with_table(384, 37, "small");
    let parameters = whole.weights.parameters();
    let folder = tempfile::tempdir().unwrap();
    // Bits for each parameter: those of the values, then scales, the patch projection at int8, vectors in single precision.
    for (format, most) in
        [(None, 32.1), (Some(Format::F16), 16.2), (Some(Format::Int8), 8.7), (Some(Format::Int4), 4.8)]
    {
        let weights = match format {
            Some(format) => quantize_to(&whole.weights, format, &InputMoments::new()).unwrap().0,
            None => whole.weights.clone(),
        };
        let model = Model { weights, ..whole.clone() };
        let path = folder.path().join("model");
        model_dir::write(&path, &model).unwrap();
        assert_eq!(model_dir::read(&path).unwrap(), model);
        let bytes = model_dir::read_manifest(&path).unwrap().total_bytes();
        let bits = 8.0 * bytes as f64 / parameters as f64;
        println!("{format:?}: {bytes} bytes, {bits:.2} bits for each of {parameters} parameters");
        assert!(bits < most, "{format:?}: {bits} bits");
    }
}

#[test]
fn every_damaged_file_is_named_with_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("screws");
    model_dir::write(&path, &model(8, "good")).unwrap();
    for name in names(&path) {
        let file = path.join(&name);
        let whole = fs::read(&file).unwrap();
        fs::write(&file, &whole[..whole.len() / 2]).unwrap();
        // A card is for people, who edit it.
        if name != "README.md" {
            let error = refusal(model_dir::read(&path));
            let about = format!("model {} cannot be used: model file {name}: ", path.display());
            assert!(error.starts_with(&about), "{error}");
        }
        fs::remove_file(&file).unwrap();
        let error = refusal(model_dir::read(&path));
        assert!(error.contains(&format!("model file {name}: is missing")), "{error}");
        fs::write(&file, whole).unwrap();
    }
    model_dir::read(&path).unwrap();
    assert!(refusal(model_dir::read(&folder.path().join("none"))).contains("there is no such folder"));
    assert!(refusal(model_dir::read(folder.path())).contains("manifest.json: is missing: this is not a model folder"));
}

#[test]
fn what_is_no_model_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(8, "new");
    let (photos, file) = (folder.path().join("photos"), folder.path().join("file"));
    fs::create_dir(&photos).unwrap();
    fs::write(photos.join("1.jpg"), b"precious").unwrap();
    fs::write(&file, b"precious too").unwrap();
    let below = file.join("model");
    for (path, expected) in
        [(&photos, "other things than a model"), (&file, "is a file"), (&below, "cannot be written to")]
    {
        for error in [refusal(model_dir::write(path, &model)), refusal(model_dir::check_target(path))] {
            assert!(error.contains(&path.display().to_string()) && error.contains(expected), "{error}");
        }
    }
    assert_eq!(fs::read(photos.join("1.jpg")).unwrap(), b"precious");
    assert_eq!(fs::read(&file).unwrap(), b"precious too");
    assert_eq!(names(folder.path()).len(), 2);
    // An empty folder, as `mkdir` or a file manager leaves it, is free.
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    model_dir::write(&empty, &model).unwrap();
    model_dir::read(&empty).unwrap();
}

#[test]
fn a_model_that_contradicts_itself_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("screws");
    let mut broken = model(8, "broken");
    broken.weights.0.insert("decoder.0.norm1.bias".into(), HostTensor::f32([8], vec![f32::NAN; 8]).unwrap());
    let error = refusal(model_dir::write(&path, &broken));
    assert!(error.contains("tensor decoder.0.norm1.bias: the value at [0] is NaN"), "{error}");
    assert!(names(folder.path()).is_empty());
}

/// Set for the part of the next test that runs in a process of its own, to the folder that it works in.
const NO_ROOM: &str = "DINOMALY_TEST_NO_ROOM";

/// A process that may not write files beyond a size sees its writes fail as on a full disk, only with another reason.
#[test]
#[cfg(unix)]
fn where_there_is_no_room_nothing_changes() {
    if let Some(folder) = std::env::var_os(NO_ROOM) {
        let (old, large) = (model(8, "old"), model(64, "too large"));
        let folder = Path::new(&folder);
        model_dir::write(&folder.join("old"), &old).unwrap();
        let encoder = Backbone {
            weights: arbitrary(encoder_shapes(large.config.encoder(), 12).unwrap()),
            config: large.config.encoder().clone(),
            mean: [0.5; 3],
            std: [0.5; 3],
        };
        for (error, name) in [
            (refusal(model_dir::write(&folder.join("old"), &large)), "old"),
            (refusal(model_dir::write(&folder.join("new"), &large)), "new"),
            (refusal(backbone::write(&folder.join("encoder.safetensors"), &encoder)), "encoder.safetensors"),
        ] {
            assert!(error.contains(&folder.join(name).display().to_string()), "{error}");
            assert!(error.contains("too large (os error") && error.contains("noth"), "{error}");
        }
        assert_eq!(model_dir::read(&folder.join("old")).unwrap(), old);
        assert_eq!(names(folder), ["old".to_owned()].into());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let limited = "trap '' XFSZ; ulimit -f 512; exec \"$0\" --exact bundle::where_there_is_no_room_nothing_changes";
    let output = Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap())
        .env(NO_ROOM, folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(names(folder.path()), ["old".to_owned()].into());
}

#[test]
fn quantized_real_weights_lose_little_and_are_published_the_same_every_time() {
    let Some(weights) = dinomaly_tests::weights() else { return };
    let mut encoder = backbone::read(&weights.join("deit_tiny_patch16_224.safetensors"), None).unwrap();
    let config = ModelConfig::published(encoder.config.clone()).unwrap();
    encoder.weights.prune(config.taps());
    encoder.weights.0.extend(arbitrary(head_shapes(&config).unwrap()).0);
    let [int8, int4] = [(Format::Int8, 0.02), (Format::Int4, 0.15)].map(|(format, most)| {
        let (quantized, report) = quantize_to(&encoder.weights, format, &InputMoments::new()).unwrap();
        let linear = report.iter().filter(|rounding| rounding.name.starts_with("encoder.")).collect::<Vec<_>>();
        assert_eq!(linear.len(), 1 + 4 * 10);
        let worst = linear.iter().max_by(|a, b| a.relative.total_cmp(&b.relative)).unwrap();
        println!("{format:?}, worst of {} tensors: {worst:?}", linear.len());
        assert!(worst.relative < most, "{worst:?}");
        assert_eq!(dequantize(&quantized).parameters(), encoder.weights.parameters());
        quantized
    });

    let published = |weights: Weights| Model {
        config: config.clone().into(),
        preprocessor: Preprocessor::imagenet(Geometry { resize: 256, crop: 224 }),
        weights,
        ..model(8, "real")
    };
    let sizes = [encoder.weights, int8, int4].map(|weights| {
        let model = published(weights);
        let files = model.to_files().unwrap();
        assert_eq!(files, model.to_files().unwrap());
        let read = Model::parse(&mut |name| Ok(files.iter().find(|(n, _)| n == name).unwrap().1.clone())).unwrap();
        assert_eq!(read, model);
        let begins = |kind: Kind| files.iter().filter(move |(name, _)| name.starts_with(kind.file_name()));
        begins(Kind::Encoder).map(|(_, bytes)| bytes.len()).sum::<usize>()
    });
    println!("encoder of {} bytes in f16, {} in int8, {} in int4", sizes[0], sizes[1], sizes[2]);
    assert!(sizes[1] * 10 < sizes[0] * 6 && sizes[2] * 10 < sizes[0] * 4, "{sizes:?}");
}
