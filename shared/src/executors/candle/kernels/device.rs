//! Launches of kernels on an NVIDIA GPU.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{CudaStream, DeviceRepr, LaunchConfig, PushKernelArg, SyncOnDrop};
use candle_core::cuda_backend::{CudaDType, CudaStorageSlice, WrapErr};
use candle_core::{CudaDevice, CudaStorage, DType, Layout, Result, bail};
use half::bf16;

use super::{Arg, Launch};

/// PTX of a `.cu` file, for compute capability 8.0. The driver compiles it for the present GPU on first use.
fn ptx(module: &str) -> Result<&'static str> {
    macro_rules! compiled {
        ($($name:literal),*) => {
            match module {
                $($name => include_str!(concat!(env!("OUT_DIR"), "/", $name, ".ptx")),)*
                _ => bail!("there are no kernels {module}"),
            }
        };
    }
    Ok(compiled!(
        "adamw",
        "add_rows",
        "bias",
        "dropout",
        "layer_norm",
        "linear_attention",
        "mining",
        "residual",
        "softmax"
    ))
}

/// Queues kernels on the device, in their order.
///
/// # Errors
/// If the driver refuses a launch.
pub fn launch(device: &CudaDevice, launches: impl IntoIterator<Item = Launch<u64>>) -> Result<()> {
    for launch in launches {
        let function = device.get_or_load_custom_func(&launch.kernel, launch.module, ptx(launch.module)?)?;
        let mut builder = function.builder();
        for arg in &launch.args {
            match arg {
                Arg::Pointer(pointer) => builder.arg(pointer),
                Arg::U32(number) => builder.arg(number),
                Arg::U64(number) => builder.arg(number),
                Arg::F32(number) => builder.arg(number),
            };
        }
        let (grid_dim, block_dim) = ((launch.grid, 1, 1), (launch.block, 1, 1));
        let config = LaunchConfig { grid_dim, block_dim, shared_mem_bytes: 0 };
        // SAFETY: the launches of this folder pass each kernel the arguments that its file declares, with buffers of the
        // stated size, which the caller keeps until the launch is queued; tests run every launch on the processor.
        #[allow(unsafe_code)]
        unsafe { builder.launch(config) }.w()?;
    }
    Ok(())
}

/// Address of a contiguous operand's values, and a guard that must live until its kernel is queued.
///
/// # Errors
/// If the operand is not contiguous, or of a type that no kernel supports.
pub fn pointer<'a>(storage: &'a CudaStorage, layout: &Layout, stream: &'a CudaStream) -> Result<(u64, SyncOnDrop<'a>)> {
    let Some((start, end)) = layout.contiguous_offsets() else { bail!("a kernel takes contiguous operands") };
    Ok(match &storage.slice {
        CudaStorageSlice::F32(slice) => slice.slice(start..end).view_ptr(stream),
        CudaStorageSlice::BF16(slice) => slice.slice(start..end).view_ptr(stream),
        CudaStorageSlice::U32(slice) => slice.slice(start..end).view_ptr(stream),
        CudaStorageSlice::I64(slice) => slice.slice(start..end).view_ptr(stream),
        _ => bail!("no kernel takes values of type {:?}", storage.dtype()),
    })
}

/// Uninitialised storage for values that a kernel will write.
fn room(device: &CudaDevice, dtype: DType, count: usize) -> Result<CudaStorage> {
    fn of<T: CudaDType + DeviceRepr>(device: &CudaDevice, count: usize) -> Result<CudaStorage> {
        // SAFETY: the kernel that it is allocated for writes every value before anything reads it.
        #[allow(unsafe_code)]
        let slice = unsafe { device.alloc::<T>(count) }?;
        Ok(CudaStorage::wrap_cuda_slice(slice, device.clone()))
    }
    match dtype {
        DType::F32 => of::<f32>(device, count),
        DType::BF16 => of::<bf16>(device, count),
        other => bail!("a kernel gives f32 or bf16, not {other:?}"),
    }
}

/// Runs the launches that `launches` returns for pointers to `inputs`, to scratch buffers of the given numbers of f32 values, and to
/// a new tensor of `count` values, which they must write in full.
///
/// # Errors
/// If an operand is not contiguous, or the device fails.
pub fn compute<const N: usize, const S: usize, L: IntoIterator<Item = Launch<u64>>>(
    inputs: [(&CudaStorage, &Layout); N],
    scratch: [usize; S],
    dtype: DType,
    count: usize,
    launches: impl FnOnce([u64; N], [u64; S], u64) -> L,
) -> Result<CudaStorage> {
    let Some((first, _)) = inputs.first() else { bail!("a kernel without operands") };
    let device = first.device();
    let stream = device.cuda_stream();
    let out = room(device, dtype, count)?;
    let mut scratch_buffers = Vec::with_capacity(S);
    for count in scratch {
        scratch_buffers.push(room(device, DType::F32, count)?);
    }
    let (mut input_pointers, mut scratch_pointers, mut guards) = ([0; N], [0; S], Vec::new());
    for (to, (storage, layout)) in input_pointers.iter_mut().zip(inputs) {
        let (at, guard) = pointer(storage, layout, &stream)?;
        *to = at;
        guards.push(guard);
    }
    for ((to, storage), count) in scratch_pointers.iter_mut().zip(&scratch_buffers).zip(scratch) {
        let (at, guard) = pointer(storage, &Layout::contiguous(count), &stream)?;
        *to = at;
        guards.push(guard);
    }
    let (out_pointer, guard) = pointer(&out, &Layout::contiguous(count), &stream)?;
    guards.push(guard);
    launch(device, launches(input_pointers, scratch_pointers, out_pointer))?;
    drop(guards);
    Ok(out)
}
