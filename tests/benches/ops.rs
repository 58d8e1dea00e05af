//! Every operation on every executor, of the sizes that DeiT-Ti and ViT-B/14 at 392² have. A GPU's time includes reading
//! the result back.
//!
//! Counted: two operations for each multiply-add of a product, 7 for each value that a layer norm normalises, 6 for each
//! pair that a cosine distance takes, one for each value that is added.

mod measure;

use candle_core::Device;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::executors::processor::{Processor, ProcessorPrecision};
use dinomaly_core::executors::reference::Reference;
use dinomaly_core::executors::webgpu::WebGpu;
use dinomaly_core::ops::{Linear, Norm, Read, Then};
use dinomaly_core::quant::{Format, round_tensor};
use dinomaly_core::tensor::HostTensor;
use measure::Flops;
use pollster::block_on;

/// Tokens and channels of an encoder; heads have 64 channels.
#[derive(Clone, Copy)]
struct Size {
    tokens: usize,
    width: usize,
}

const TINY: Size = Size { tokens: 197, width: 192 };
const BASE: Size = Size { tokens: 789, width: 768 };

fn waves(shape: &[usize]) -> HostTensor {
    let scale = 1.0 / (*shape.last().expect("a shape") as f32).sqrt();
    HostTensor::f32(shape, (0..shape.iter().product()).map(|i: usize| (i as f32 * 0.37).sin() * scale).collect())
        .unwrap()
}

fn bench<O: Read>(criterion: &mut Criterion<Flops>, executor: &str, ops: &O, sizes: &[Size]) {
    let mut group = criterion.benchmark_group(executor);
    let up = |shape: &[usize]| ops.upload(&waves(shape)).unwrap();
    for &Size { tokens, width } in sizes {
        let mut run = |name: &str, flops: usize, op: &dyn Fn() -> O::Tensor| {
            group.throughput(Throughput::Elements(flops as u64));
            group.bench_function(BenchmarkId::new(name, format!("{tokens}x{width}")), |b| {
                b.iter(|| block_on(ops.read_back(&[&op()])).unwrap());
            });
        };
        let (hidden, heads, values) = (4 * width, width / 64, tokens * width);
        let [x, y, wide] = [[1, tokens, width], [1, tokens, width], [1, tokens, hidden]].map(|shape| up(&shape));
        let qkv = up(&[1, tokens, 3 * width]);
        let layer = |weight: HostTensor| Linear {
            bias: Some(up(&weight.shape[..1])),
            weight: ops.upload_weight(&weight).unwrap(),
        };
        let int8 = |weight: HostTensor| round_tensor("weight", &weight, Format::Int8).unwrap();
        let (fc1, fc2) = (layer(waves(&[hidden, width])), layer(waves(&[width, hidden])));
        let fc1_int8 = layer(int8(waves(&[hidden, width])));
        let product = 2 * values * hidden;
        run("linear, GELU", product, &|| ops.linear(&x, &fc1, Then::Gelu).unwrap());
        run("linear int8, GELU", product, &|| ops.linear(&x, &fc1_int8, Then::Gelu).unwrap());
        run("linear, add", product, &|| ops.linear(&wide, &fc2, Then::Add(&x)).unwrap());
        let norm = Norm { weight: up(&[width]), bias: up(&[width]), eps: 1e-6 };
        run("layer norm", 7 * values, &|| ops.layer_norm(&x, &norm).unwrap());
        run("attention", 4 * tokens * values, &|| ops.attention(&qkv, heads, None, None).unwrap());
        run("linear attention", 4 * 64 * values, &|| ops.linear_attention(&qkv, heads, None, 0.0).unwrap());
        let (prefix, positions) = (up(&[1, width]), up(&[tokens, width]));
        run("embed", values, &|| ops.embed(&x, &prefix, &positions).unwrap());
        run("mean of 4", 4 * values, &|| ops.mean(&[x.clone(), y.clone(), x.clone(), y.clone()]).unwrap());
        run("cosine distance", 6 * values, &|| ops.cosine_distance(&x, &y).unwrap());
    }
}

fn all(criterion: &mut Criterion<Flops>) {
    bench(criterion, "reference", &Reference, &[TINY]);
    bench(criterion, "candle", &Candle::infer(Device::Cpu), &[TINY, BASE]);
    bench(criterion, "processor", &Processor::new(ProcessorPrecision::F32), &[TINY, BASE]);
    bench(criterion, "processor, int8", &Processor::new(ProcessorPrecision::Int8), &[TINY, BASE]);
    match block_on(WebGpu::new()) {
        Ok(gpu) => {
            println!("webgpu is {:?}", gpu.adapter());
            bench(criterion, "webgpu", &gpu, &[TINY, BASE]);
        }
        Err(reason) => println!("webgpu left out: {reason}"),
    }
}

criterion_group! { name = benches; config = measure::criterion(); targets = all }
criterion_main!(benches);
