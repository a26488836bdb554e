//! Runs whose tensors lie where they lay in the run before. That is what a recorded run, a CUDA graph, needs: what it plays back
//! are the addresses of the run that was recorded. ONNX Runtime records by itself once it is told to (`enable_cuda_graph`):
//! one recording per thread and `gpu_graph_id`, which is the number of pictures here. When it plays back it copies nothing
//! but what was recorded, so outputs come to main memory by a copy of their own.

use std::fmt;

use ort::memory::Allocator;
use ort::session::{IoBinding, RunOptions, Session};
use ort::value::{DynTensor, Outlet, Shape, Tensor, TensorElementType};

/// Names a recording (onnxruntime_run_options_config_keys.h).
const RECORDING: &str = "gpu_graph_id";

/// A model's run with so many pictures, all of its tensors in their places.
pub(crate) struct Bound {
    binding: IoBinding,
    options: RunOptions,
    /// Where the model writes.
    outputs: Vec<DynTensor>,
    /// Where they are read.
    copies: Vec<DynTensor>,
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound").field("outputs", &self.outputs).finish_non_exhaustive()
    }
}

impl Bound {
    /// Makes the tensors of these outputs in the model's memory, and binds them and the input.
    ///
    /// # Errors
    /// Where a shape is not known beforehand, or ONNX Runtime refuses.
    pub fn new(
        model: &Session,
        (name, input): (&str, &Tensor<f32>),
        outputs: &[usize],
        slots: usize,
        allocator: &Allocator,
    ) -> ort::Result<Self> {
        let mut binding = model.create_binding()?;
        binding.bind_input(name, input)?;
        let (mut bound, mut copies) = (Vec::with_capacity(outputs.len()), Vec::with_capacity(outputs.len()));
        for &index in outputs {
            let outlet = &model.outputs()[index];
            let (element, shape) = fixed(outlet, slots).map_err(ort::Error::new)?;
            let mut tensor = DynTensor::new(allocator, element, shape.clone())?;
            binding.bind_output(outlet.name(), &mut tensor)?;
            bound.push(tensor);
            copies.push(DynTensor::new(&Allocator::default(), element, shape)?);
        }
        let mut options = RunOptions::new()?;
        options.set(RECORDING, slots.to_string())?;
        Ok(Self { binding, options, outputs: bound, copies })
    }

    /// Runs the model; the outputs in main memory, in the order in which they were asked for.
    pub fn run(&mut self, model: &mut Session) -> ort::Result<&[DynTensor]> {
        model.run_binding_with_options(&self.binding, &self.options)?;
        for (from, to) in self.outputs.iter().zip(&mut self.copies) {
            from.copy_into(to)?;
        }
        Ok(&self.copies)
    }

    /// Where the model writes.
    #[cfg(test)]
    pub fn addresses(&self) -> Vec<usize> {
        self.outputs.iter().map(|output| output.data_ptr() as usize).collect()
    }
}

/// Whether the shapes of these outputs are known before a run.
///
/// # Errors
/// Which is not.
pub(crate) fn fixed_shapes(model: &Session, outputs: &[usize]) -> Result<(), String> {
    outputs.iter().try_for_each(|index| fixed(&model.outputs()[*index], 1).map(drop))
}

/// Element and shape of an output of a run of so many pictures: nothing but their number may be open.
fn fixed(outlet: &Outlet, slots: usize) -> Result<(TensorElementType, Shape), String> {
    let kind = outlet.dtype();
    let (Some(element), Some(shape)) = (kind.tensor_type(), kind.tensor_shape()) else {
        return Err(format!("its output {} is no tensor", outlet.name()));
    };
    if shape.iter().skip(1).any(|side| *side < 0) {
        let sides = shape.iter().map(|side| if *side < 0 { "?".to_owned() } else { side.to_string() });
        return Err(format!(
            "its output {} has the shape {}, which is known only after a run",
            outlet.name(),
            sides.collect::<Vec<_>>().join(" x ")
        ));
    }
    let open = |(at, side): (usize, &i64)| if at == 0 && *side < 0 { slots as i64 } else { *side };
    Ok((element, Shape::new(shape.iter().enumerate().map(open))))
}
