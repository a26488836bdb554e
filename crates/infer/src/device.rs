//! Pictures that a decoder left on the accelerator: scaled, coloured and looked at there. Only boxes come back.
//!
//! [`DeviceInput`] keeps one tensor per number of pictures, in the model's own memory. A small session in front of the
//! model (`preprocess/graph.rs`) writes each picture into its place in that tensor, and the model takes the tensor
//! where it is. Nothing here knows which accelerator it is: addresses and a name are all that is handed on, so that
//! the tests go the same way in main memory. What no test of ours could run is naming `Cuda` in [`Memory::of`].

use std::ffi::CStr;
use std::sync::Arc;

use fleet::{Layout, ModelCard, Provider};
use flow::DevicePicture;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::SessionBuilder;
use ort::session::{IoBinding, Session};
use ort::value::{DynTensor, Shape, Tensor, TensorRefMut};
use ort::{AsPointer, ortsys};

pub(crate) use bound::fixed_shapes;

use bound::Bound;

use crate::preprocess::graph::{self, Nv12};
use crate::{LookError, Placement, Runtime};

mod bound;

/// Sizes of pictures whose graph is kept. Their matrices take 2 to 10 MB each.
const GRAPHS: usize = 16;
/// What `graph.rs` calls the inputs, as the C interface wants it.
const INPUTS: [&CStr; 2] = [c"luma", c"chroma"];

/// Whose memory a session works in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Main memory: what tests use.
    #[cfg(test)]
    Host,
    /// That of CUDA device 0.
    Cuda,
}

impl Memory {
    /// The memory in which these providers can take a picture; `None`: only in main memory.
    pub fn of(providers: &[Provider]) -> Option<Self> {
        providers.iter().any(|p| matches!(p, Provider::Cuda | Provider::TensorRt)).then_some(Self::Cuda)
    }

    fn info(self) -> ort::Result<MemoryInfo<'static>> {
        let device = match self {
            #[cfg(test)]
            Self::Host => AllocationDevice::CPU,
            Self::Cuda => AllocationDevice::CUDA,
        };
        MemoryInfo::new(device, 0, AllocatorType::Device, MemoryType::Default)
    }
}

/// Whether a model's tensors keep their places from run to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Places {
    /// Outputs come to main memory, wherever ONNX Runtime puts them.
    Any,
    /// All of them: what a recorded run (a CUDA graph) reads and writes.
    Fixed,
}

/// Makes pictures on the accelerator into the input of one model.
#[derive(Debug)]
pub(crate) struct DeviceInput {
    card: Arc<ModelCard>,
    memory: Memory,
    runtime: Runtime,
    allocator: Allocator,
    /// By number of pictures.
    tensors: Vec<Option<Tensor<f32>>>,
    places: Places,
    /// By number of pictures, where places are fixed.
    bound: Vec<Option<Bound>>,
    /// Pictures in main memory on their way there.
    staged: Option<Tensor<f32>>,
    /// By how pictures lie; the one used last comes last.
    graphs: Vec<Front>,
}

/// The session in front of the model for pictures that lie in one way.
#[derive(Debug)]
struct Front {
    nv12: Nv12,
    session: Session,
    place: Placement,
}

impl DeviceInput {
    /// For `model`, which works in `memory`. `None` where the model takes its pictures in another form than planes of f32.
    ///
    /// # Errors
    /// Where ONNX Runtime has no such memory.
    pub fn new(
        runtime: &Runtime,
        card: &Arc<ModelCard>,
        model: &Session,
        memory: Memory,
        places: Places,
    ) -> ort::Result<Option<Self>> {
        if card.layout != Layout::Nchw || !card.extra.is_empty() {
            return Ok(None);
        }
        let allocator = Allocator::new(model, memory.info()?)?;
        let (card, runtime) = (card.clone(), runtime.clone());
        let (tensors, bound, graphs) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Some(Self { card, memory, runtime, allocator, tensors, places, bound, staged: None, graphs }))
    }

    /// Whether tensors keep their places.
    pub fn places(&self) -> Places {
        self.places
    }

    /// Copies `slots` pictures that are in main memory, one plane per colour, into their tensor.
    pub fn fill(&mut self, slots: usize, pictures: &[f32]) -> ort::Result<()> {
        let (height, width) = (i64::from(self.card.height), i64::from(self.card.width));
        // Not of borrowed memory: `copy_into` of such would wait for itself.
        let from = match &mut self.staged {
            Some(tensor) if tensor.shape().first() == Some(&(slots as i64)) => tensor,
            staged => staged
                .insert(Tensor::new(&Allocator::default(), Shape::new([slots as i64, 3, height, width]))?),
        };
        from.extract_tensor_mut().1.copy_from_slice(pictures);
        let from = self.staged.take().expect("it was just filled");
        let copied = from.copy_into(self.tensor(slots)?);
        self.staged = Some(from);
        copied
    }

    /// Runs the model on the tensor of `slots` and gives these of its outputs, in main memory; every tensor is where it was in
    /// the last run of so many pictures.
    pub fn run_fixed(
        &mut self,
        model: &mut Session,
        input: &str,
        outputs: &[usize],
        slots: usize,
    ) -> ort::Result<&[DynTensor]> {
        if self.bound.len() <= slots {
            self.bound.resize_with(slots + 1, || None);
        }
        if self.bound[slots].is_none() {
            self.tensor(slots)?;
            let tensor = self.tensors[slots].as_ref().expect("it was just made");
            self.bound[slots] = Some(Bound::new(model, (input, tensor), outputs, slots, &self.allocator)?);
        }
        self.bound[slots].as_mut().expect("it was just made").run(model)
    }

    /// The tensor of `slots` pictures, to be bound to the model's input.
    pub fn tensor(&mut self, slots: usize) -> ort::Result<&mut Tensor<f32>> {
        if self.tensors.len() <= slots {
            self.tensors.resize_with(slots + 1, || None);
        }
        let (height, width) = (i64::from(self.card.height), i64::from(self.card.width));
        let tensor = &mut self.tensors[slots];
        Ok(match tensor {
            Some(tensor) => tensor,
            None => {
                tensor.insert(Tensor::new(&self.allocator, Shape::new([slots as i64, 3, height, width]))?)
            }
        })
    }

    /// Where the tensors of a run of so many pictures are: the input, then the outputs that are read.
    #[cfg(test)]
    pub fn addresses(&mut self, slots: usize) -> Vec<usize> {
        let input = self.tensor(slots).unwrap().data_ptr() as usize;
        let outputs = self.bound[slots].as_ref().map(Bound::addresses).unwrap_or_default();
        [vec![input], outputs].concat()
    }

    /// Writes `picture` into the slot of the tensor of `slots`, and says where in it.
    ///
    /// # Errors
    /// What ONNX Runtime says.
    pub fn put(
        &mut self,
        slots: usize,
        slot: usize,
        picture: &DevicePicture,
    ) -> Result<Placement, LookError> {
        let nv12 = Nv12 {
            size: (picture.width, picture.height),
            luma_stride: picture.strides[0],
            chroma_stride: picture.strides[1],
            matrix: picture.matrix,
            full_range: picture.full_range,
        };
        let (card, memory) = (self.card.clone(), self.memory);
        let shape = [1, 3, i64::from(card.height), i64::from(card.width)];
        let values = 3 * card.height as usize * card.width as usize;
        let all = self.tensor(slots)?.data_ptr_mut().cast::<f32>();
        let front = self.front(nv12)?;
        let mut binding = front.session.create_binding()?;
        let (rows, chroma_rows) = nv12.rows();
        let planes = [(rows, nv12.luma_stride), (chroma_rows, nv12.chroma_stride)];
        for ((address, (rows, stride)), name) in
            picture.memory.addresses().into_iter().zip(planes).zip(INPUTS)
        {
            bind(&mut binding, name, address, [rows as i64, stride as i64], memory)?;
        }
        let slot = slot_view(all, slot * values, shape, memory)?;
        binding.bind_output(graph::PICTURE, slot)?;
        // Returns when it is done: the decoder may have its memory back.
        front.session.run_binding(&binding)?;
        Ok(front.place)
    }

    fn front(&mut self, nv12: Nv12) -> ort::Result<&mut Front> {
        match self.graphs.iter().position(|front| front.nv12 == nv12) {
            Some(at) => self.graphs[at..].rotate_left(1),
            None => {
                let session = graph::session(&self.card, &nv12, &self.options()?)?;
                let place = Placement::new(self.card.resize, nv12.size, (self.card.width, self.card.height));
                if self.graphs.len() == GRAPHS {
                    self.graphs.remove(0);
                }
                self.graphs.push(Front { nv12, session, place });
            }
        }
        Ok(self.graphs.last_mut().expect("one was just put there"))
    }

    /// As the model's, but always by CUDA itself where it is an accelerator: TensorRT would build an engine for each size.
    fn options(&self) -> ort::Result<SessionBuilder> {
        let options = Session::builder(self.runtime.environment())?.with_intra_threads(1)?;
        Ok(match self.memory {
            #[cfg(test)]
            Memory::Host => options,
            // Rounded products would lose what 8 bits can say.
            Memory::Cuda => options.with_execution_providers([ort::ep::CUDA::default()
                .with_tf32(false)
                .build()
                .error_on_failure()])?,
        })
    }
}

/// One picture's part of the tensor that begins at `all`.
#[allow(unsafe_code)]
fn slot_view(
    all: *mut f32,
    offset: usize,
    shape: [i64; 4],
    memory: Memory,
) -> ort::Result<TensorRefMut<'static, f32>> {
    let address = all.wrapping_add(offset);
    // SAFETY: the tensor was made in this memory for so many pictures, lives in `DeviceInput` and is not moved; the
    // view is used up before it is handed to anyone else.
    unsafe { TensorRefMut::from_raw(memory.info()?, address.cast(), Shape::new(shape)) }
}

/// Binds a plane where it is. `IoBinding::bind_input` would copy what it does not own.
#[allow(unsafe_code)]
fn bind(
    binding: &mut IoBinding,
    name: &CStr,
    address: u64,
    shape: [i64; 2],
    memory: Memory,
) -> ort::Result<()> {
    // SAFETY: the decoder says that a plane of these rows and strides lies there for as long as the picture lives,
    // which is borrowed until the run is over. The graph only reads it.
    let plane: TensorRefMut<'_, u8> =
        unsafe { TensorRefMut::from_raw(memory.info()?, address as usize as *mut _, Shape::new(shape))? };
    // ONNX Runtime counts references to what a plane's value describes, so the value itself may go.
    ortsys![unsafe BindInput(binding.ptr_mut(), name.as_ptr(), plane.ptr())?];
    Ok(())
}

#[cfg(test)]
mod tests;
