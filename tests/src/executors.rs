//! The executors side by side: one operation on host tensors, run by any of them.

use candle_core::Device;
use dinomaly::publish::onnx::{FIRST_OPSET, LAST_OPSET, Recorder};
use dinomaly_core::executors::candle::{Candle, no_noise};
use dinomaly_core::executors::processor::{Kernels, Processor, ProcessorPrecision};
use dinomaly_core::executors::reference::Reference;
use dinomaly_core::executors::webgpu::WebGpu;
use dinomaly_core::maps::score::MapLayout;
use dinomaly_core::ops::{Linear, Neighbours, Norm, Ops, Places, Read, Then};
use dinomaly_core::photo::preprocess::Preprocessor;
use dinomaly_core::tensor::HostTensor;

/// An operation of [`Ops`] with its operands, which have the names that they have there.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "`Ops` explains operations and operands")]
pub enum Op {
    Photos { cut: Vec<Vec<u8>>, preprocessor: Preprocessor, patch: usize },
    Linear { x: HostTensor, weight: HostTensor, bias: Option<HostTensor>, then: After },
    LayerNorm { x: HostTensor, weight: HostTensor, bias: HostTensor, eps: f64 },
    Attention { qkv: HostTensor, heads: usize, hidden: Option<Neighbours> },
    BiasedAttention { qkv: HostTensor, heads: usize, bias: HostTensor },
    Rotate { qkv: HostTensor, heads: usize, rotation: HostTensor },
    Swiglu(HostTensor),
    LinearAttention { qkv: HostTensor, heads: usize, hidden: Option<Neighbours>, eps: f64 },
    Recentre { x: HostTensor, eps: Option<f64> },
    DepthwiseConv { x: HostTensor, weight: HostTensor },
    DropTokens { x: HostTensor, first: usize },
    MeanToken { x: HostTensor, first: usize },
    Concatenate(Vec<HostTensor>),
    Embed { patches: HostTensor, prefix: HostTensor, positions: HostTensor },
    Mean(Vec<HostTensor>),
    CosineDistance { a: HostTensor, b: HostTensor },
    Normalize(HostTensor),
    Nearest { cosines: HostTensor, so_far: Option<HostTensor> },
    SquaredNorms { x: HostTensor, parts: usize },
    Choose { values: HostTensor, x: HostTensor, prototypes: HostTensor },
    TopRows { x: HostTensor, rows: HostTensor, k: usize },
    NearestAround { x: HostTensor, rows: HostTensor, chosen: HostTensor, places: Places, so_far: Option<HostTensor> },
    Maps { groups: Vec<HostTensor>, layout: MapLayout },
}

/// [`Then`] with its operand on the host.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "as in `Then`")]
pub enum After {
    Store,
    Gelu,
    Add(HostTensor),
}

/// Uploads an operation's operands, runs it and reads the result.
type Run = dyn Fn(&Op) -> Vec<f32>;

/// An executor, by name.
pub struct Executor {
    /// Shown beside what was compared.
    pub name: &'static str,
    run: Box<Run>,
}

impl Executor {
    /// Uploads the operands, runs the operation, reads the result.
    pub fn run(&self, op: &Op) -> Vec<f32> {
        (self.run)(op)
    }
}

/// The plain loops that the others are compared with.
pub fn reference() -> Executor {
    Executor { name: "reference", run: Box::new(|op| run_on(&Reference, op)) }
}

/// Every other executor that this machine has, in each of its modes.
pub fn others() -> Vec<Executor> {
    let infer = Candle::infer(Device::Cpu);
    let train = Candle::train(Device::Cpu, &no_noise);
    let processor = Processor::new(ProcessorPrecision::F32);
    let tiles = Processor::new(ProcessorPrecision::F32).with_kernels(Kernels::Tiles);
    let mut all = vec![
        Executor { name: "processor", run: Box::new(move |op| run_on(&processor, op)) },
        Executor { name: "processor, the page's tiles", run: Box::new(move |op| run_on(&tiles, op)) },
        Executor { name: "candle", run: Box::new(move |op| run_on(&infer, op)) },
        Executor { name: "candle, training", run: Box::new(move |op| run_on(&train, op)) },
    ];
    // Written as ONNX and run by another project's runtime, in the first set of operators and in the last.
    all.extend([("onnx", FIRST_OPSET), ("onnx, latest", LAST_OPSET)].map(|(name, opset)| Executor {
        name,
        run: Box::new(move |op| run_on(&Recorder::new(opset, false, Vec::new()), op)),
    }));
    all.extend(webgpu().map(|gpu| Executor { name: "webgpu", run: Box::new(move |op| run_on(&gpu, op)) }));
    all
}

/// Runs an operation, and waits for its result.
pub fn run_on<O: Read>(ops: &O, op: &Op) -> Vec<f32> {
    if let Op::Maps { groups, layout } = op {
        let photos = groups[0].shape[0];
        let groups: Vec<_> = groups.iter().map(|group| ops.upload(group).unwrap()).collect();
        let maps = pollster::block_on(ops.read_maps(&groups, None, photos, layout)).unwrap().0;
        return maps.into_iter().flat_map(|map| map.values).collect();
    }
    pollster::block_on(ops.read_back(&[&record(ops, op)])).unwrap().remove(0)
}

/// The GPU, or `None` after saying why the test goes without.
///
/// # Panics
/// If there is none and `DINOMALY_REQUIRE_DATA` is set: there a skip is a failure.
pub fn webgpu() -> Option<WebGpu> {
    match pollster::block_on(WebGpu::new()) {
        Ok(gpu) => {
            println!("webgpu: {:?}", gpu.adapter());
            Some(gpu)
        }
        Err(reason) => {
            assert!(std::env::var_os("DINOMALY_REQUIRE_DATA").is_none(), "{reason}, and DINOMALY_REQUIRE_DATA is set");
            println!("SKIPPED: {reason}");
            None
        }
    }
}

fn record<O: Ops>(ops: &O, op: &Op) -> O::Tensor {
    let up = |tensor: &HostTensor| ops.upload(tensor).unwrap();
    let linear = |weight, bias: &Option<HostTensor>| Linear {
        weight: ops.upload_weight(weight).unwrap(),
        bias: bias.as_ref().map(up),
    };
    match op {
        Op::Photos { cut, preprocessor, patch } => ops.upload_photos(cut, preprocessor, *patch),
        Op::Linear { x, weight, bias, then: After::Store } => ops.linear(&up(x), &linear(weight, bias), Then::Store),
        Op::Linear { x, weight, bias, then: After::Gelu } => ops.linear(&up(x), &linear(weight, bias), Then::Gelu),
        Op::Linear { x, weight, bias, then: After::Add(residual) } => {
            ops.linear(&up(x), &linear(weight, bias), Then::Add(&up(residual)))
        }
        Op::LayerNorm { x, weight, bias, eps } => {
            ops.layer_norm(&up(x), &Norm { weight: up(weight), bias: up(bias), eps: *eps })
        }
        Op::Attention { qkv, heads, hidden } => ops.attention(&up(qkv), *heads, *hidden, None),
        Op::BiasedAttention { qkv, heads, bias } => ops.attention(&up(qkv), *heads, None, Some(&up(bias))),
        Op::Rotate { qkv, heads, rotation } => ops.rotate(&up(qkv), *heads, &up(rotation)),
        Op::Swiglu(x) => ops.swiglu(&up(x)),
        Op::LinearAttention { qkv, heads, hidden, eps } => ops.linear_attention(&up(qkv), *heads, *hidden, *eps),
        Op::Recentre { x, eps } => ops.recentre(&up(x), *eps),
        Op::DepthwiseConv { x, weight } => ops.depthwise_conv(&up(x), &up(weight)),
        Op::DropTokens { x, first } => ops.drop_tokens(&up(x), *first),
        Op::MeanToken { x, first } => ops.mean_token(&up(x), *first),
        Op::Concatenate(xs) => ops.concatenate(&xs.iter().map(up).collect::<Vec<_>>()),
        Op::Embed { patches, prefix, positions } => ops.embed(&up(patches), &up(prefix), &up(positions)),
        Op::Mean(xs) => ops.mean(&xs.iter().map(up).collect::<Vec<_>>()),
        Op::CosineDistance { a, b } => ops.cosine_distance(&up(a), &up(b)),
        Op::Normalize(x) => ops.normalize(&up(x)),
        Op::Nearest { cosines, so_far } => ops.nearest(&up(cosines), so_far.as_ref().map(up).as_ref()),
        Op::SquaredNorms { x, parts } => ops.squared_norms(&up(x), *parts),
        Op::Choose { values, x, prototypes } => ops.choose(&up(values), &up(x), &up(prototypes)),
        Op::TopRows { x, rows, k } => ops.top_rows(&up(x), &up(rows), *k),
        Op::NearestAround { x, rows, chosen, places, so_far } => {
            let rows = ops.upload_rows(rows).unwrap();
            ops.nearest_around(&up(x), &rows, &up(chosen), *places, so_far.as_ref().map(up).as_ref())
        }
        Op::Maps { .. } => unreachable!("read, not recorded"),
    }
    .unwrap()
}
