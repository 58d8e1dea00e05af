//! The optimiser's step on an NVIDIA GPU: four kernels over all tensors, without waiting for them.

use candle_core::backprop::GradStore;
use candle_core::{CudaDevice, DType, Device, Result, Storage, Tensor, Var, bail};
use dinomaly_core::executors::candle::kernels::adamw::{self, Buffers, Pieces, Settings};
use dinomaly_core::executors::candle::kernels::device::{launch, pointer};

use super::{AdamMoments, StableAdamW};

/// State on the device besides parameters and moments.
pub struct Queue {
    /// For each parameter, whether the loss depends on it. Others are skipped, as on the processor.
    trained: Vec<bool>,
    pieces: Pieces,
    table: Tensor,
    sums: Tensor,
    decision: Tensor,
    steps: Tensor,
}

impl Queue {
    fn new(optimizer: &StableAdamW, gradients: &GradStore, device: &Device) -> Result<Self> {
        let trained: Vec<bool> = optimizer.parameters.iter().map(|(_, var, _)| gradients.get(var).is_some()).collect();
        let with_gradient = || optimizer.parameters.iter().zip(&trained).filter(|(_, trained)| **trained);
        let pieces = Pieces::new(with_gradient().map(|((_, var, _), _)| var.elem_count()).collect());
        let mut steps = with_gradient().map(|((_, _, moments), _)| moments.steps);
        let first = steps.next().unwrap_or(0);
        if steps.any(|steps| steps != first) {
            bail!("on CUDA all tensors take a step together, but some are behind: start over with --restart");
        }
        Ok(Self {
            table: Tensor::new(pieces.table.as_slice(), device)?,
            sums: Tensor::zeros(pieces.count(), DType::F32, device)?,
            decision: Tensor::zeros(2, DType::F32, device)?,
            steps: Tensor::new(&[first as u32], device)?,
            pieces,
            trained,
        })
    }

    /// See [`StableAdamW::count`].
    pub fn count(&self, parameters: &mut [(String, Var, AdamMoments)], steps: usize) {
        for ((_, _, moments), trained) in parameters.iter_mut().zip(&self.trained) {
            moments.steps += if *trained { steps } else { 0 };
        }
    }
}

/// See [`StableAdamW::clipped_step`].
pub fn clipped_step(
    optimizer: &mut StableAdamW,
    loss: &Tensor,
    gradients: &GradStore,
    rate: &dyn Fn(&str) -> f64,
    limit: f64,
) -> Result<Tensor> {
    let Device::Cuda(device) = loss.device() else { bail!("the loss is not on the GPU") };
    let queue = match optimizer.queue.take() {
        Some(queue) => queue,
        None => Queue::new(optimizer, gradients, loss.device())?,
    };
    let settings = &optimizer.settings;
    // Kept until the kernels are queued: the stream frees memory only after its earlier kernels.
    let mut kept: Vec<Tensor> = Vec::new();
    let mut tensors = Vec::with_capacity(optimizer.parameters.len());
    let mut rates = Vec::with_capacity(optimizer.parameters.len());
    for ((name, var, moments), trained) in optimizer.parameters.iter().zip(&queue.trained) {
        let gradient = gradients.get(var);
        if gradient.is_some() != *trained {
            bail!("{name} has a gradient in some steps only, which is not supported on CUDA: use --device cpu");
        }
        let Some(gradient) = gradient else { continue };
        let gradient = gradient.detach().to_dtype(DType::F32)?.contiguous()?;
        let mut addresses = [0; 5];
        for (to, tensor) in
            addresses.iter_mut().zip([var.as_tensor(), &gradient, &moments.mean, &moments.square, &moments.largest])
        {
            *to = address(tensor, device)?;
        }
        tensors.push(addresses);
        rates.push(rate(name));
        kept.push(gradient);
    }
    let table = queue.pieces.tensors(&tensors, &rates, settings.weight_decay);
    let words: Vec<i64> = table.into_iter().map(u64::cast_signed).collect();
    let words = Tensor::from_vec(words, adamw::WORDS * tensors.len(), loss.device())?;
    let record = Tensor::zeros(2, DType::F32, loss.device())?;
    let at = |tensor: &Tensor| address(tensor, device);
    let buffers = Buffers {
        tensors: at(&words)?,
        pieces: at(&queue.table)?,
        sums: at(&queue.sums)?,
        decision: at(&queue.decision)?,
        steps: at(&queue.steps)?,
        loss: at(loss)?,
        record: at(&record)?,
    };
    let settings = Settings {
        betas: settings.betas,
        eps: settings.eps,
        amsgrad: settings.amsgrad,
        threshold: settings.clip_threshold,
        limit,
    };
    launch(device, adamw::step(&queue.pieces, &buffers, &settings))?;
    drop(kept);
    optimizer.queue = Some(queue);
    Ok(record)
}

/// Address of a tensor's values, which is valid as long as the tensor lives.
fn address(tensor: &Tensor, device: &CudaDevice) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else { bail!("the tensor is not on the GPU") };
    let stream = device.cuda_stream();
    let (address, _guard) = pointer(storage, layout, &stream)?;
    Ok(address)
}
