//! A photo: its preprocessing by size, and from the file's bytes to the score with the embedded model on each executor.
//!
//! Counted: of resizing two operations for each multiply-add with a two-pixel support at the smaller scale, of the model
//! its matrix products.

mod measure;

use std::io::Cursor;

use candle_core::Device;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dinomaly::costs::parts;
use dinomaly::model_dir;
use dinomaly::synth::Class;
use dinomaly_core::detector::Detector;
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::executors::processor::{Processor, ProcessorPrecision};
use dinomaly_core::executors::webgpu::WebGpu;
use dinomaly_core::ops::Read;
use dinomaly_core::photo::decode::Photo;
use dinomaly_core::photo::preprocess::{Geometry, Preprocessor};
use dinomaly_tests::demo_model;
use image::ImageFormat;
use measure::Flops;
use pollster::block_on;

fn preprocessing(criterion: &mut Criterion<Flops>) {
    let mut group = criterion.benchmark_group("preprocess");
    for (width, height, side) in [(640, 480, 256), (1024, 1024, 448), (4000, 3000, 448)] {
        let preprocessor = Preprocessor::imagenet(Geometry { resize: side, crop: side / 16 * 14 });
        let rgb = (0..3 * width * height).map(|i: usize| (i * 7 % 251) as u8).collect();
        let photo = Photo { width: width as u32, height: height as u32, rgb };
        let operations = 2 * 3 * 2 * (width * height + side * height);
        group.throughput(Throughput::Elements(operations as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{width}x{height} to {side}")), |b| {
            b.iter(|| preprocessor.patches(&photo, 14));
        });
    }
}

fn end_to_end(criterion: &mut Criterion<Flops>) {
    let model = model_dir::read(&demo_model()).unwrap();
    let mut jpeg = Cursor::new(Vec::new());
    Class::Gear.good(1, "bench", 0, 1024).write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
    let macs = parts(&model.config, model.grid()).unwrap().iter().map(|part| part.linear + part.attention).sum::<u64>();
    let mut group = criterion.benchmark_group("photo 1024x1024, embedded model");
    group.throughput(Throughput::Elements(2 * macs));
    let mut run = |executor: &str, look: &dyn Fn(&[Photo])| {
        group.bench_function(executor, |b| {
            b.iter(|| look(&[Photo::decode("photo.jpg", jpeg.get_ref()).unwrap()]));
        });
    };
    fn looking<O: Read>(detector: &Detector<O>) -> impl Fn(&[Photo]) {
        |photos| drop(block_on(detector.detect(photos)).unwrap())
    }
    for (name, precision) in [("processor", ProcessorPrecision::F32), ("processor, int8", ProcessorPrecision::Int8)] {
        run(name, &looking(&Detector::new(Processor::new(precision), &model).unwrap()));
    }
    run("candle", &looking(&Detector::new(Candle::infer(Device::Cpu), &model).unwrap()));
    match block_on(WebGpu::new()) {
        Ok(gpu) => {
            println!("webgpu is {:?}", gpu.adapter());
            run("webgpu", &looking(&Detector::new(gpu, &model).unwrap()));
        }
        Err(reason) => println!("webgpu left out: {reason}"),
    }
}

criterion_group! { name = benches; config = measure::criterion(); targets = preprocessing, end_to_end }
criterion_main!(benches);
