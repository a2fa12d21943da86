//! Launches of the kernels in `kernels.cu`. What they are given is checked here: sizes of all tensors, that they lie in
//! one piece, that they are of one type, that 32 bits count them. `unsafe` is here and nowhere else of the executor.

use candle_core::cuda::cudarc::driver::{
    CudaSlice, CudaView, DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda::{CudaDType, CudaStorageSlice, WrapErr};
use candle_core::{
    CudaDevice, CudaStorage, Device, Layout, Result, Shape, Storage, StorageRef, Tensor, bail,
};

use crate::device_ops::program::{MOST_STAGES, Program};
use crate::device_ops::windows::{Columns, Direct, Geometry, Pool};

const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));
const THREADS: u32 = 256;

/// Turns candle's bookkeeping between streams off.
pub(super) fn one_stream(device: &Device) -> Result<()> {
    let device = device.as_cuda_device()?;
    // SAFETY: this process has one stream per GPU (`super::device` makes the only candle device of each), so what is
    // written, read and freed happens in the order in which it is asked for, and there is nothing to wait for.
    unsafe { device.disable_event_tracking() };
    Ok(())
}

/// `Stage` of `kernels.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawStage {
    code: i32,
    numbers: [f32; 5],
    data: u64,
}

/// `Program` of `kernels.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawProgram {
    count: i32,
    channels: i32,
    inner: i32,
    unused: i32,
    stages: [RawStage; MOST_STAGES],
}

// SAFETY: plain numbers in the layout of the C struct, without padding that is read.
unsafe impl DeviceRepr for RawProgram {}

/// `Geometry` of `kernels.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawGeometry([i32; 16]);

// SAFETY: sixteen `int`, as in the C struct.
unsafe impl DeviceRepr for RawGeometry {}

// The sizes that `kernels.cu` asserts of its own.
const _: () = assert!(size_of::<RawStage>() == 32 && std::mem::offset_of!(RawStage, data) == 24);
const _: () = assert!(size_of::<RawProgram>() == 400 && std::mem::offset_of!(RawProgram, stages) == 16);
const _: () = assert!(size_of::<RawGeometry>() == 64);

fn int(value: usize) -> Result<i32> {
    i32::try_from(value).map_err(|_| candle_core::Error::msg("too large for this device"))
}

impl RawGeometry {
    fn new(g: &Geometry, groups: usize) -> Result<Self> {
        let [read, made] = g.channels;
        let w = &g.window;
        let all = [
            [read, made],
            [read / groups, made / groups],
            g.input,
            g.output,
            w.kernel,
            w.stride,
            w.dilation,
            w.before,
        ];
        let mut raw = [0; 16];
        for (into, value) in raw.iter_mut().zip(all.as_flattened()) {
            *into = int(*value)?;
        }
        Ok(Self(raw))
    }
}

/// The values of a contiguous tensor.
fn view<'a, T: CudaDType>(slice: &'a CudaSlice<T>, layout: &Layout) -> Result<CudaView<'a, T>> {
    let Some((from, to)) = layout.contiguous_offsets() else { bail!("the tensor is not contiguous") };
    match slice.try_slice(from..to) {
        Some(view) => Ok(view),
        None => bail!("the tensor is larger than its storage"),
    }
}

/// Where a view lies. Whatever uses the address is launched on the same stream as everything before and after it, so
/// there is nothing to wait for and nothing to record.
fn address<T>(view: &CudaView<'_, T>, device: &CudaDevice) -> u64 {
    let stream = device.cuda_stream();
    let (address, _nothing_to_record) = view.device_ptr(&stream);
    address
}

/// A tensor that stays locked until the kernel that reads it has been launched.
struct Held<'a>(StorageRef<'a>, &'a Layout);

impl<'a> Held<'a> {
    fn new(tensor: &'a Tensor) -> Self {
        let (storage, layout) = tensor.storage_and_layout();
        Self(storage, layout)
    }

    fn address<T: CudaDType>(&self, device: &CudaDevice) -> Result<u64> {
        match &*self.0 {
            Storage::Cuda(storage) => Ok(address(&view(storage.as_cuda_slice::<T>()?, self.1)?, device)),
            _ => bail!("a kernel was given a tensor that is not on the GPU"),
        }
    }
}

/// A program with everything that it reads.
struct Bound<'a> {
    program: &'a Program,
    held: Vec<Option<Held<'a>>>,
}

impl<'a> Bound<'a> {
    /// Checks that every tensor has as many values as are read of it.
    fn new(program: &'a Program, count: usize) -> Result<Self> {
        program.check(count)?;
        Ok(Self { program, held: program.stages.iter().map(|s| s.tensor.as_ref().map(Held::new)).collect() })
    }

    /// With the addresses of what is read, for a kernel on values of type `T`.
    fn raw<T: CudaDType>(&self, device: &CudaDevice) -> Result<RawProgram> {
        let nothing = RawStage { code: 0, numbers: [0.0; 5], data: 0 };
        let mut raw = RawProgram {
            count: int(self.program.stages.len())?,
            channels: int(self.program.channels)?,
            inner: int(self.program.inner)?,
            unused: 0,
            stages: [nothing; MOST_STAGES],
        };
        for ((into, stage), held) in raw.stages.iter_mut().zip(&self.program.stages).zip(&self.held) {
            let data = match held {
                Some(held) if stage.code.reads_constants() => held.address::<f32>(device)?,
                Some(held) => held.address::<T>(device)?,
                None => 0,
            };
            *into = RawStage { code: stage.code as i32, numbers: stage.numbers, data };
        }
        Ok(raw)
    }
}

fn config(count: usize) -> Result<(u32, LaunchConfig)> {
    let count = int(count)?.unsigned_abs();
    let grid_dim = (count.div_ceil(THREADS).max(1), 1, 1);
    Ok((count, LaunchConfig { grid_dim, block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 }))
}

/// Calls a function with the values of a storage, and the ending of the kernels' names for their type.
macro_rules! by_type {
    ($storage:expr, $function:ident, $($argument:expr),*) => {
        match &$storage.slice {
            CudaStorageSlice::F32(values) => $function(values, "f32", $($argument),*),
            CudaStorageSlice::F16(values) => $function(values, "f16", $($argument),*),
            _ => bail!("neither f32 nor f16"),
        }
    };
}

/// What a kernel is given besides where it reads and writes.
enum Extra<'a> {
    Program(&'a Program),
    Direct(&'a Direct<'a>),
    Columns(&'a Columns),
    Pool(&'a Pool),
}

/// Launches a kernel that makes `count` values from a tensor, at `to` or in new memory.
///
/// `kernel` must be one whose parameters are those of `extra`, and make each of `count` values from what lies in the
/// tensor and in what `extra` names; the callers check that before.
fn launch<T: CudaDType + DeviceRepr>(
    x: u64,
    to: u64,
    name: &str,
    count: usize,
    extra: &Extra<'_>,
    device: &CudaDevice,
) -> Result<()> {
    let (count, config) = config(count)?;
    let function = |kernel: &str| device.get_or_load_custom_func(&format!("{kernel}_{name}"), "meerkat", PTX);
    // SAFETY, for all launches: the parameters are those of the kernel in number, order and layout. Kernels read and
    // write only within the sizes that they are given, and these were checked against the tensors by the callers;
    // `Held` keeps what is read from being freed or written until the launch is in the stream.
    match extra {
        Extra::Program(program) => {
            let bound = Bound::new(program, count as usize)?;
            let raw = bound.raw::<T>(device)?;
            let function = function("map")?;
            let mut launch = function.builder();
            launch.arg(&x).arg(&to).arg(&count).arg(&raw);
            unsafe { launch.launch(config) }.w()?;
        }
        Extra::Direct(direct) => {
            let bound = Bound::new(direct.program, count as usize)?;
            let raw = bound.raw::<T>(device)?;
            let geometry = RawGeometry::new(&direct.geometry, direct.groups)?;
            let weights = Held::new(direct.weights);
            let weights = weights.address::<T>(device)?;
            let function = function(match direct.geometry.window.kernel {
                [3, 3] => "direct3",
                [5, 5] => "direct5",
                _ => "direct",
            })?;
            let mut launch = function.builder();
            launch.arg(&x).arg(&weights).arg(&to).arg(&count).arg(&geometry).arg(&raw);
            unsafe { launch.launch(config) }.w()?;
        }
        Extra::Columns(columns) => {
            let geometry = RawGeometry::new(&columns.geometry, 1)?;
            let function = function("columns")?;
            let mut launch = function.builder();
            launch.arg(&x).arg(&to).arg(&count).arg(&geometry);
            unsafe { launch.launch(config) }.w()?;
        }
        Extra::Pool(pool) => {
            let geometry = RawGeometry::new(&pool.geometry, 1)?;
            let how = pool.how as i32;
            let function = function("pool")?;
            let mut launch = function.builder();
            launch.arg(&x).arg(&to).arg(&count).arg(&geometry).arg(&how);
            unsafe { launch.launch(config) }.w()?;
        }
    }
    Ok(())
}

/// Runs a kernel into new memory for `count` values.
fn made<T: CudaDType + DeviceRepr>(
    values: &CudaSlice<T>,
    name: &str,
    layout: &Layout,
    count: usize,
    extra: &Extra<'_>,
    device: &CudaDevice,
) -> Result<CudaStorage> {
    let x = address(&view(values, layout)?, device);
    // SAFETY: the kernel writes every value; 32 bits count them, or it is not launched and the memory is freed unread.
    let to = unsafe { device.alloc::<T>(count)? };
    if count > 0 {
        launch::<T>(x, address(&to.as_view(), device), name, count, extra, device)?;
    }
    Ok(CudaStorage::wrap_cuda_slice(to, device.clone()))
}

fn replaced<T: CudaDType + DeviceRepr>(
    values: &CudaSlice<T>,
    name: &str,
    layout: &Layout,
    extra: &Extra<'_>,
    device: &CudaDevice,
) -> Result<()> {
    let x = address(&view(values, layout)?, device);
    match layout.shape().elem_count() {
        0 => Ok(()),
        count => launch::<T>(x, x, name, count, extra, device),
    }
}

/// A program on a tensor that nobody else reads.
pub(crate) fn program_in_place(program: &Program, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
    let device = storage.device.clone();
    by_type!(storage, replaced, layout, &Extra::Program(program), &device)
}

/// A program into a new tensor.
pub(crate) fn program(
    program: &Program,
    storage: &CudaStorage,
    layout: &Layout,
) -> Result<(CudaStorage, Shape)> {
    let count = layout.shape().elem_count();
    let made = by_type!(storage, made, layout, count, &Extra::Program(program), &storage.device)?;
    Ok((made, layout.shape().clone()))
}

/// A convolution over its taps.
pub(crate) fn direct(
    op: &Direct<'_>,
    storage: &CudaStorage,
    layout: &Layout,
) -> Result<(CudaStorage, Shape)> {
    op.check()?;
    let g = &op.geometry;
    let count = g.pictures(layout)? * g.channels[1] * g.made();
    let made = by_type!(storage, made, layout, count, &Extra::Direct(op), &storage.device)?;
    Ok((made, g.shape(layout, &[g.channels[1], g.output[0], g.output[1]])))
}

/// The columns of a convolution.
pub(crate) fn columns(op: &Columns, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
    let g = &op.geometry;
    let (pictures, rows) = (g.pictures(layout)?, g.channels[0] * g.taps());
    let count = pictures * rows * g.made();
    let made = by_type!(storage, made, layout, count, &Extra::Columns(op), &storage.device)?;
    Ok((made, Shape::from((pictures, rows, g.made()))))
}

/// A pool.
pub(crate) fn pool(op: &Pool, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
    let g = &op.geometry;
    let count = g.pictures(layout)? * g.channels[0] * g.made();
    let made = by_type!(storage, made, layout, count, &Extra::Pool(op), &storage.device)?;
    Ok((made, g.shape(layout, &[g.channels[0], g.output[0], g.output[1]])))
}
