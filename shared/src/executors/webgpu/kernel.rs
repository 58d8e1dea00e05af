//! Sources and pipelines of kernels, and recording of dispatches.

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use super::gpu::{Gpu, fault};
use super::linear::{self, Operands, Tile};
use super::profile::Clock;
use crate::Result;

/// Kernel, identifying a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kernel {
    Patches,
    Linear(Operands, Tile),
    QuantizeRows,
    LayerNorm,
    Attention,
    KeyValueSums,
    LinearAttention,
    Rotate,
    Swiglu,
    DepthwiseConv,
    Copy,
    Embed,
    Mean,
    MeanToken,
    CosineDistance,
    Normalize,
    Nearest,
    SquaredNorms,
    ClassCosines,
    Choose,
    Recentre,
    TopRows,
    NearestAround(Operands),
    MapAxis,
}

const ORDER: &str = include_str!("kernels/order.wgsl");
const REDUCE: &str = include_str!("kernels/reduce.wgsl");

/// Name and complete WGSL source of every kernel. Each has one entry point, `main`, and compiles with its default constants. A
/// test compiles them in a browser too, because browsers are stricter than naga.
pub fn kernel_sources() -> Vec<(String, Cow<'static, str>)> {
    let linear = Operands::ALL.iter().flat_map(|&operands| Tile::ALL.map(|tile| Kernel::Linear(operands, tile)));
    linear.chain(Kernel::USUAL).chain(Kernel::RARE).map(|kernel| (kernel.name(), kernel.source())).collect()
}

impl Kernel {
    /// Kernels that nearly every model needs, linear layers excluded.
    pub const USUAL: [Self; 11] = [
        Self::Patches,
        Self::Embed,
        Self::LayerNorm,
        Self::Attention,
        Self::KeyValueSums,
        Self::LinearAttention,
        Self::Mean,
        Self::MeanToken,
        Self::CosineDistance,
        Self::Normalize,
        Self::MapAxis,
    ];

    /// All other kernels, linear layers excluded.
    const RARE: [Self; 15] = [
        Self::QuantizeRows,
        Self::Rotate,
        Self::Swiglu,
        Self::DepthwiseConv,
        Self::Copy,
        Self::Nearest,
        Self::SquaredNorms,
        Self::ClassCosines,
        Self::Choose,
        Self::Recentre,
        Self::TopRows,
        Self::NearestAround(Operands::F32),
        Self::NearestAround(Operands::F16),
        Self::NearestAround(Operands::Int8),
        Self::NearestAround(Operands::Int4),
    ];

    fn name(self) -> String {
        match self {
            Self::Linear(operands, tile) => format!("linear_{}_{}", operands.name(), tile.name()),
            Self::NearestAround(rows) => format!("nearest_around_{}", rows.name()),
            other => other.file().0.into(),
        }
    }

    fn source(self) -> Cow<'static, str> {
        match self {
            Self::Linear(operands, tile) => linear::source(operands, tile).into(),
            other => match other.before() {
                [] => other.file().1.into(),
                before => [before.concat().as_str(), other.file().1, other.after()].concat().into(),
            },
        }
    }

    /// Files before that of a kernel.
    fn before(self) -> &'static [&'static str] {
        match self {
            Self::SquaredNorms | Self::MeanToken => &[REDUCE],
            Self::ClassCosines | Self::TopRows => &[ORDER],
            Self::Nearest | Self::Choose | Self::NearestAround(_) => &[ORDER, REDUCE],
            _ => &[],
        }
    }

    /// File after that of a kernel.
    fn after(self) -> &'static str {
        match self {
            Self::NearestAround(rows) => rows.weight(),
            _ => "",
        }
    }

    /// Name and content of the file of a kernel that has one of its own.
    fn file(self) -> (&'static str, &'static str) {
        macro_rules! file {
            ($name:literal) => {
                ($name, include_str!(concat!("kernels/", $name, ".wgsl")))
            };
        }
        match self {
            Self::Linear(..) => unreachable!("made of several files"),
            Self::Patches => file!("patches"),
            Self::QuantizeRows => file!("quantize_rows"),
            Self::LayerNorm => file!("layer_norm"),
            Self::Attention => file!("attention"),
            Self::KeyValueSums => file!("key_value_sums"),
            Self::LinearAttention => file!("linear_attention"),
            Self::Rotate => file!("rotate"),
            Self::Swiglu => file!("swiglu"),
            Self::DepthwiseConv => file!("depthwise_conv"),
            Self::Copy => file!("copy"),
            Self::Embed => file!("embed"),
            Self::Mean => file!("mean"),
            Self::MeanToken => file!("mean_token"),
            Self::CosineDistance => file!("cosine_distance"),
            Self::Normalize => file!("normalize"),
            Self::Nearest => file!("nearest"),
            Self::SquaredNorms => file!("squared_norms"),
            Self::ClassCosines => file!("class_cosines"),
            Self::Choose => file!("choose"),
            Self::Recentre => file!("recentre"),
            Self::TopRows => file!("top_rows"),
            Self::NearestAround(_) => file!("nearest_around"),
            Self::MapAxis => file!("map_axis"),
        }
    }
}

/// Parameters of a kernel, its `Params`: up to twelve words.
pub(super) type Params = [u32; 12];

/// Pads words to the twelve of `Params`.
pub(super) fn params<const N: usize>(words: [u32; N]) -> Params {
    let mut all = [0; 12];
    all[..N].copy_from_slice(&words);
    all
}

/// Commands before their submission: one pass of one encoder.
struct Recording {
    encoder: wgpu::CommandEncoder,
    /// The pass, which ends on drop.
    pass: Option<wgpu::ComputePass<'static>>,
}

/// Cache of pipelines and parameters, and the dispatches recorded so far.
pub(super) struct Kernels {
    gpu: Rc<Gpu>,
    pipelines: RefCell<HashMap<Kernel, Pipeline>>,
    /// Uniform buffers by content. There are about a dozen, because every block of a net dispatches the same shapes.
    params: RefCell<HashMap<Params, wgpu::Buffer>>,
    recording: RefCell<Option<Recording>>,
    clock: OnceCell<Clock>,
}

#[derive(Clone)]
pub(super) struct Pipeline {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

impl Kernels {
    pub fn new(gpu: Rc<Gpu>) -> Self {
        Self {
            gpu,
            pipelines: RefCell::default(),
            params: RefCell::default(),
            recording: RefCell::default(),
            clock: OnceCell::new(),
        }
    }

    /// Times every dispatch from now on. Only the first clock is used.
    pub fn time(&self, clock: Clock) {
        self.clock.get_or_init(|| clock);
    }

    /// Clock of the dispatches, if they are timed.
    pub fn clock(&self) -> Option<&Clock> {
        self.clock.get()
    }

    /// Records a dispatch. Binding 0 holds the parameters, 1 the output, 2 and later the `inputs` in their order.
    pub fn record(
        &self,
        kernel: Kernel,
        params: Params,
        output: &wgpu::Buffer,
        inputs: &[&wgpu::Buffer],
        groups: [usize; 3],
    ) -> Result<()> {
        self.gpu.check()?;
        let limit = self.gpu.device.limits().max_compute_workgroups_per_dimension;
        let mut dispatch = [0; 3];
        for (count, &wanted) in dispatch.iter_mut().zip(&groups) {
            *count = u32::try_from(wanted).ok().filter(|&count| count <= limit).ok_or_else(|| {
                fault(format!(
                    "{} needs {groups:?} workgroups, at most {limit} are allowed: use fewer photos at a time",
                    kernel.name()
                ))
            })?;
        }
        if dispatch.contains(&0) {
            return Ok(());
        }
        let Pipeline { pipeline, layout } = self.pipeline(kernel);
        let params = self.uniform(params);
        let entries: Vec<_> = [&params, output]
            .iter()
            .chain(inputs)
            .zip(0..)
            .map(|(buffer, binding)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let group = self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &layout,
            entries: &entries,
        });
        let mut recording = self.recording.borrow_mut();
        let Recording { encoder, pass } = recording.get_or_insert_with(|| self.begin());
        if let Some(clock) = self.clock() {
            // The previous pass must end first.
            *pass = None;
            *pass = Some(clock.pass(encoder, kernel.name()));
        }
        let pass = pass.get_or_insert_with(|| encoder.begin_compute_pass(&Default::default()).forget_lifetime());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(dispatch[0], dispatch[1], dispatch[2]);
        Ok(())
    }

    /// Encoder with everything recorded since the last call.
    pub fn finish(&self) -> wgpu::CommandEncoder {
        let Recording { encoder, .. } = self.recording.take().unwrap_or_else(|| self.begin());
        encoder
    }

    fn begin(&self) -> Recording {
        Recording { encoder: self.gpu.device.create_command_encoder(&Default::default()), pass: None }
    }

    fn uniform(&self, contents: Params) -> wgpu::Buffer {
        let create = || {
            let buffer = self.gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: size_of::<Params>() as u64,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            self.gpu.queue.write_buffer(&buffer, 0, bytemuck::bytes_of(&contents));
            buffer
        };
        self.params.borrow_mut().entry(contents).or_insert_with(create).clone()
    }

    /// Pipeline of a kernel, created on first use. Browsers compile it in the background.
    pub fn pipeline(&self, kernel: Kernel) -> Pipeline {
        self.pipelines.borrow_mut().entry(kernel).or_insert_with(|| self.compile(kernel)).clone()
    }

    fn compile(&self, kernel: Kernel) -> Pipeline {
        let device = &self.gpu.device;
        let label = kernel.name();
        let source = kernel.source();
        let bindings = source.matches("@group(0) @binding(").count();
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(&label),
            source: wgpu::ShaderSource::Wgsl(source),
        });
        let entries: Vec<_> = (0..bindings as u32)
            .map(|binding| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: match binding {
                        0 => wgpu::BufferBindingType::Uniform,
                        _ => wgpu::BufferBindingType::Storage { read_only: binding > 1 },
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let layout =
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            bind_group_layouts: &[Some(&layout)],
            ..Default::default()
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Every kernel writes to shared memory before it reads from there.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        Pipeline { pipeline, layout }
    }
}

#[cfg(test)]
mod tests {
    use super::kernel_sources;

    #[test]
    fn every_kernel_file_is_among_the_sources() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/executors/webgpu/kernels");
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            // Lines of a tile's rows are repeated: only the lines before them are compared.
            let text = text.split_inclusive('\n').take_while(|line| !line.contains('#')).collect::<String>();
            assert!(kernel_sources().iter().any(|(_, source)| source.contains(&text)), "{}", path.display());
        }
    }
}
