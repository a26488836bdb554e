//! One ONNX Runtime session and the tensors that it and its card agree on.

use std::sync::Arc;

use fleet::{Extra, Layout, ModelCard};
use ort::memory::MemoryInfo;
use ort::session::{Session, SessionInputValue};
use ort::value::{TensorRef, TensorValueTypeMarker, Value};

use crate::LookError;
use crate::Runtime;
use crate::agree::{Agreed, Disagreement, agree};
use crate::device::{self, DeviceInput, Memory, Places};
use crate::heads::{Candidate, MAX_PARTS, Output, Reader, Tensor, Values};

/// A session that takes pictures as the card says and whose outputs its head can read.
#[derive(Debug)]
pub(crate) struct Runner {
    card: Arc<ModelCard>,
    session: Session,
    agreed: Agreed,
    /// For pictures that are where the model runs already.
    device: Option<DeviceInput>,
    /// The pictures in the form that the model takes, where that is not one plane of f32 per colour.
    samples: Vec<f32>,
    bytes: Vec<u8>,
    /// What further inputs are told, in the order of the card.
    floats: Vec<Vec<f32>>,
    whole: Vec<Vec<i64>>,
}

/// The outputs of one run.
#[derive(Debug)]
pub(crate) struct Ran<'a> {
    reader: &'a mut Reader,
    outputs: &'a [Output<'a>],
    slots: usize,
}

impl Ran<'_> {
    /// Puts the boxes of a picture into `found`, without double ones, best first. Returns how many were broken.
    pub fn decode(&mut self, slot: usize, found: &mut Vec<Candidate>) -> u64 {
        self.reader.decode(self.outputs, slot, self.slots, found)
    }

    /// Whether any output that is read holds NaN.
    pub fn holds_nan(&self) -> bool {
        self.outputs.iter().any(|output| output.values.floats().iter().any(|value| value.is_nan()))
    }
}

impl Runner {
    /// Fails where the card and the session's inputs and outputs differ, with every point.
    pub fn new(session: Session, card: Arc<ModelCard>) -> Result<Self, Vec<Disagreement>> {
        let describe = |outlets: &[ort::value::Outlet]| outlets.iter().map(tensor).collect::<Vec<_>>();
        let agreed = agree(&card, &describe(session.inputs()), &describe(session.outputs()))?;
        let (floats, whole) = (vec![Vec::new(); card.extra.len()], vec![Vec::new(); card.extra.len()]);
        let (samples, bytes) = (Vec::new(), Vec::new());
        Ok(Self { card, session, agreed, device: None, samples, bytes, floats, whole })
    }

    /// Prepares for pictures that lie in `memory`; a model that wants them in another form takes them in main memory.
    ///
    /// # Errors
    /// Where ONNX Runtime has no such memory.
    pub fn prepare_device(&mut self, runtime: &Runtime, memory: Memory, places: Places) -> ort::Result<()> {
        if !self.agreed.picture.bytes {
            self.device = DeviceInput::new(runtime, &self.card, &self.session, memory, places)?;
        }
        Ok(())
    }

    /// Whether every tensor of a run can have a place of its own.
    ///
    /// # Errors
    /// Why not.
    pub fn can_be_fixed(&mut self) -> Result<(), String> {
        if self.agreed.picture.bytes || self.card.layout != Layout::Nchw || !self.card.extra.is_empty() {
            return Err("it does not take its pictures as planes of f32 alone".to_owned());
        }
        device::fixed_shapes(&self.session, self.agreed.reader.outputs())
    }

    /// What pictures on the accelerator are put into; `None`: they have to be copied to main memory.
    pub fn device(&mut self) -> Option<&mut DeviceInput> {
        self.device.as_mut()
    }

    /// As [`run`](Self::run), with the `slots` pictures that were put into [`device`](Self::device).
    pub fn run_device<T>(&mut self, slots: usize, read: impl FnOnce(Ran<'_>) -> T) -> Result<T, LookError> {
        let Self { card, session, agreed, device, .. } = self;
        let device = device.as_mut().expect("the caller has just put pictures into it");
        let input = session.inputs()[agreed.picture.index].name().to_owned();
        if device.places() == Places::Fixed {
            let outputs = device.run_fixed(session, &input, agreed.reader.outputs(), slots)?;
            return finish(card, agreed, |at, _| &outputs[at], slots, read);
        }
        let mut binding = session.create_binding()?;
        binding.bind_input(input, device.tensor(slots)?)?;
        for output in session.outputs() {
            binding.bind_output_to_device(output.name(), &MemoryInfo::default())?;
        }
        let ran = session.run_binding(&binding)?;
        finish(card, agreed, |_, index| &ran[index], slots, read)
    }

    /// Runs `slots` pictures, one plane per colour, and hands what came out, checked for its shapes, to `read`.
    pub fn run<T>(
        &mut self,
        pictures: &[f32],
        slots: usize,
        read: impl FnOnce(Ran<'_>) -> T,
    ) -> Result<T, LookError> {
        if let Some(device) = self.device.as_mut().filter(|device| device.places() == Places::Fixed) {
            device.fill(slots, pictures)?;
            return self.run_device(slots, read);
        }
        self.arrange(pictures, slots);
        let Self { card, session, agreed, samples, bytes, floats, whole, .. } = self;
        let (height, width) = (card.height as usize, card.width as usize);
        let shape = match card.layout {
            Layout::Nchw => [slots, 3, height, width],
            Layout::Nhwc => [slots, height, width, 3],
        };
        let picture: SessionInputValue<'_> = if agreed.picture.bytes {
            TensorRef::from_array_view((shape, &bytes[..]))?.into()
        } else if card.layout == Layout::Nhwc {
            TensorRef::from_array_view((shape, &samples[..]))?.into()
        } else {
            TensorRef::from_array_view((shape, pictures))?.into()
        };
        let ran = if agreed.extra.is_empty() {
            session.run([picture])?
        } else {
            let mut inputs = vec![(agreed.picture.index, picture)];
            for (i, &(index, is_whole)) in agreed.extra.iter().enumerate() {
                let value = if is_whole {
                    TensorRef::from_array_view(([slots, 2], &whole[i][..]))?.into()
                } else {
                    TensorRef::from_array_view(([slots, 2], &floats[i][..]))?.into()
                };
                inputs.push((index, value));
            }
            // The session counts its inputs; every one of them is here.
            inputs.sort_by_key(|(index, _)| *index);
            let inputs: Vec<SessionInputValue<'_>> = inputs.into_iter().map(|(_, value)| value).collect();
            session.run(&inputs[..])?
        };
        finish(card, agreed, |_, index| &ran[index], slots, read)
    }

    /// Puts the pictures and further inputs into the form that the model takes.
    fn arrange(&mut self, pictures: &[f32], slots: usize) {
        let (height, width) = (self.card.height, self.card.width);
        for (i, (_, extra)) in self.card.extra.iter().enumerate() {
            let pair = match extra {
                Extra::HeightWidth => [height, width],
                Extra::WidthHeight => [width, height],
                Extra::Ones => [1, 1],
            };
            if self.floats[i].len() != 2 * slots {
                self.floats[i] = pair.map(|n| n as f32).repeat(slots);
                self.whole[i] = pair.map(i64::from).repeat(slots);
            }
        }
        let area = height as usize * width as usize;
        match (self.card.layout, self.agreed.picture.bytes) {
            (Layout::Nchw, false) => {}
            (Layout::Nchw, true) => {
                self.bytes.clear();
                self.bytes.extend(pictures.iter().map(|value| byte(*value)));
            }
            (Layout::Nhwc, false) => interleave(pictures, area, &mut self.samples, |value| value),
            (Layout::Nhwc, true) => interleave(pictures, area, &mut self.bytes, byte),
        }
    }
}

/// Checks the shapes of what came out and hands it to `read`. `get` gives an output by its place among those that are read,
/// and by its index in the file.
fn finish<'v, T, V: TensorValueTypeMarker + ?Sized + 'v>(
    card: &ModelCard,
    agreed: &mut Agreed,
    get: impl Fn(usize, usize) -> &'v Value<V>,
    slots: usize,
    read: impl FnOnce(Ran<'_>) -> T,
) -> Result<T, LookError> {
    let mut outputs = [Output { shape: &[], values: Values::F32(&[]) }; MAX_PARTS];
    let indices = agreed.reader.outputs();
    let count = indices.len();
    for (at, (output, &index)) in outputs.iter_mut().zip(indices).enumerate() {
        *output = extract(get(at, index))?;
    }
    agreed.reader.check(card, &outputs[..count], slots).map_err(LookError::Output)?;
    Ok(read(Ran { reader: &mut agreed.reader, outputs: &outputs[..count], slots }))
}

/// Planes to pixels, picture by picture.
fn interleave<T>(pictures: &[f32], area: usize, into: &mut Vec<T>, convert: impl Fn(f32) -> T) {
    into.clear();
    for picture in pictures.chunks_exact(3 * area) {
        let (first, rest) = picture.split_at(area);
        let (second, third) = rest.split_at(area);
        for ((a, b), c) in first.iter().zip(second).zip(third) {
            into.extend([convert(*a), convert(*b), convert(*c)]);
        }
    }
}

fn byte(value: f32) -> u8 {
    // Saturates; the range of such a model is 0 to 255.
    value.round() as u8
}

fn extract<V: TensorValueTypeMarker + ?Sized>(value: &Value<V>) -> Result<Output<'_>, LookError> {
    if let Ok((shape, values)) = value.try_extract_tensor::<i64>() {
        return Ok(Output { shape, values: Values::I64(values) });
    }
    if let Ok((shape, values)) = value.try_extract_tensor::<i32>() {
        return Ok(Output { shape, values: Values::I32(values) });
    }
    let (shape, values) = value.try_extract_tensor::<f32>()?;
    Ok(Output { shape, values: Values::F32(values) })
}

/// An input or output as the file describes it.
pub(crate) fn tensor(outlet: &ort::value::Outlet) -> Tensor {
    let kind = outlet.dtype();
    Tensor {
        name: outlet.name().to_owned(),
        element: kind.tensor_type().map(|element| element.to_string()),
        shape: kind.tensor_shape().map(|shape| shape.to_vec()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_become_pixels() {
        let pictures: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let (mut samples, mut bytes) = (Vec::new(), vec![7; 3]);
        interleave(&pictures, 2, &mut samples, |value| value);
        assert_eq!(samples, [0.0, 2.0, 4.0, 1.0, 3.0, 5.0, 6.0, 8.0, 10.0, 7.0, 9.0, 11.0]);
        interleave(&[0.4, 254.6, 300.0], 1, &mut bytes, byte);
        assert_eq!(bytes, [0, 255, 255]);
    }
}
