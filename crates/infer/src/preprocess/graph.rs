//! The same arithmetic as a graph for ONNX Runtime, so that a picture that a decoder left on the accelerator becomes
//! the model's input there: no kernel of our own, and nothing that only an accelerator could check.
//!
//! Scaling along a side mixes samples with fixed shares ([`Axis`]), so it is a product with a matrix of these shares:
//! `rows × plane × columns`. Cb and Cr lie interleaved in NV12; their matrices have shares in every second row. Padding
//! is where a matrix has none, and strides are rows without any. What follows (YCbCr to RGB, limits, the model's
//! range) is a 3 × 3 product and one addition per sample. Only the rounding to 8 bits in between is left out.

use fleet::{Channels, Filter, ModelCard, Resize};
use flow::Matrix;
use ort::editor::{Graph, Model, Node, ONNX_DOMAIN, Opset};
use ort::memory::Allocator;
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::value::{Outlet, Shape, SymbolicDimensions, Tensor, TensorElementType, ValueType};

use super::axis::{Axis, MAX_TAPS};
use super::kernel::Colours;
use crate::Placement;

/// ONNX operator set in which all that is used here has its present form.
const OPSET: u32 = 17;

/// What the graph calls its inputs and output.
pub(crate) const LUMA: &str = "luma";
pub(crate) const CHROMA: &str = "chroma";
pub(crate) const PICTURE: &str = "picture";

/// How an NV12 picture lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nv12 {
    /// Pixels per row, and rows.
    pub size: (u32, u32),
    /// Bytes from one row of luma to the next.
    pub luma_stride: usize,
    /// Bytes from one row of Cb and Cr to the next.
    pub chroma_stride: usize,
    /// Colour matrix.
    pub matrix: Matrix,
    /// Samples span 0..=255.
    pub full_range: bool,
}

impl Nv12 {
    /// Rows of luma and of chroma.
    pub fn rows(&self) -> (usize, usize) {
        (self.size.1 as usize, self.size.1.div_ceil(2) as usize)
    }
}

/// A session that makes a picture that lies so into one picture of the card's input, `1 × 3 × height × width`, f32.
///
/// # Errors
/// Where ONNX Runtime refuses the graph.
pub(crate) fn session(card: &ModelCard, nv12: &Nv12, options: &SessionBuilder) -> ort::Result<Session> {
    let place = Placement::new(card.resize, nv12.size, (card.width, card.height));
    let mut graph = Graph::new()?;
    let (rows, chroma_rows) = nv12.rows();
    graph.set_inputs([
        outlet(LUMA, TensorElementType::Uint8, &[rows, nv12.luma_stride]),
        outlet(CHROMA, TensorElementType::Uint8, &[chroma_rows, nv12.chroma_stride]),
    ])?;
    let (height, width) = (card.height as usize, card.width as usize);
    graph.set_outputs([outlet(PICTURE, TensorElementType::Float32, &[1, 3, height, width])])?;
    let mut draft = Draft { graph, nodes: 0 };
    planes(&mut draft, card, nv12, place)?;
    colours(&mut draft, card, nv12, place)?;
    let mut model = Model::new([Opset::new(ONNX_DOMAIN, OPSET)?])?;
    model.set_graph(draft.graph)?;
    model.into_session(options)
}

/// Scales Y, Cb and Cr to the input's size and stacks them: `samples`, 3 × (height · width).
fn planes(draft: &mut Draft, card: &ModelCard, nv12: &Nv12, place: Placement) -> ort::Result<()> {
    let ((w, h), filter) = (nv12.size, card.filter);
    let (rows, chroma_rows) = nv12.rows();
    let (height, width) = (card.height as usize, card.width as usize);
    let axis = |samples, halves, made| axis(samples, halves, made, filter);
    let [x, y] = [axis(w, 2 * w, place.width), axis(h, 2 * h, place.height)];
    let [cx, cy] = [axis(w.div_ceil(2), w, place.width), axis(h.div_ceil(2), h, place.height)];
    let down = |axis: &Axis| shares(axis, height, place.top as usize, 0, 1);
    draft.floats("luma rows", &[height, rows], &transposed(&down(&y), height, rows))?;
    draft.floats("chroma rows", &[height, chroma_rows], &transposed(&down(&cy), height, chroma_rows))?;
    for (name, axis, stride, first, step) in [
        ("luma columns", &x, nv12.luma_stride, 0, 1),
        ("cb columns", &cx, nv12.chroma_stride, 0, 2),
        ("cr columns", &cx, nv12.chroma_stride, 1, 2),
    ] {
        let mut matrix = shares(axis, width, place.left as usize, first, step);
        // What lies between the picture and the next row counts nothing.
        matrix.resize(stride * width, 0.0);
        draft.floats(name, &[stride, width], &matrix)?;
    }
    draft.whole("one row", &[1, -1])?;
    let to_float = ort::operator::Attribute::new("to", 1_i64)?;
    draft.node_with("Cast", &[LUMA], "luma f", [to_float])?;
    let to_float = ort::operator::Attribute::new("to", 1_i64)?;
    draft.node_with("Cast", &[CHROMA], "chroma f", [to_float])?;
    draft.node("MatMul", &["luma rows", "luma f"], "luma down")?;
    draft.node("MatMul", &["chroma rows", "chroma f"], "chroma down")?;
    for (from, columns, to, row) in [
        ("luma down", "luma columns", "y", "y row"),
        ("chroma down", "cb columns", "cb", "cb row"),
        ("chroma down", "cr columns", "cr", "cr row"),
    ] {
        draft.node("MatMul", &[from, columns], to)?;
        draft.node("Reshape", &[to, "one row"], row)?;
    }
    let axis = ort::operator::Attribute::new("axis", 0_i64)?;
    draft.node_with("Concat", &["y row", "cb row", "cr row"], "samples", [axis])
}

/// From `samples` to the model's colours and range.
fn colours(draft: &mut Draft, card: &ModelCard, nv12: &Nv12, place: Placement) -> ort::Result<()> {
    let order = match card.channels {
        Channels::Rgb => [0, 1, 2],
        Channels::Bgr => [2, 1, 0],
    };
    let rgb = Colours::new(nv12.matrix, nv12.full_range, [[1.0, 0.0]; 3]).as_rows();
    let area = card.height as usize * card.width as usize;
    let product: Vec<f32> = order.iter().flat_map(|at| rgb[*at].0).collect();
    draft.floats("product", &[3, 3], &product)?;
    // Outside the picture all samples are 0, and what is added is the padding.
    let pad = match card.resize {
        Resize::LetterboxTopLeft { pad } | Resize::LetterboxCentre { pad } => f32::from(pad),
        Resize::Stretch => 0.0,
    };
    let inside = |at: usize| {
        let (row, column) = ((at / card.width as usize) as u32, (at % card.width as usize) as u32);
        (place.top..place.top + place.height).contains(&row)
            && (place.left..place.left + place.width).contains(&column)
    };
    let plus = order.iter().flat_map(|colour| {
        let plus = rgb[*colour].1;
        (0..area).map(move |at| if inside(at) { plus } else { pad })
    });
    draft.floats("plus", &[3, area], &plus.collect::<Vec<_>>())?;
    draft.floats("black", &[], &[0.0])?;
    draft.floats("white", &[], &[255.0])?;
    let (mean, deviation) = (card.range.mean, card.range.deviation);
    draft.floats("factor", &[3, 1], &deviation.map(|d| 1.0 / d))?;
    draft.floats("offset", &[3, 1], &[0, 1, 2].map(|i| -mean[i] / deviation[i]))?;
    draft.whole("shape", &[1, 3, i64::from(card.height), i64::from(card.width)])?;
    draft.node("MatMul", &["product", "samples"], "mixed")?;
    draft.node("Add", &["mixed", "plus"], "moved")?;
    draft.node("Clip", &["moved", "black", "white"], "limited")?;
    draft.node("Mul", &["limited", "factor"], "scaled")?;
    draft.node("Add", &["scaled", "offset"], "ranged")?;
    draft.node("Reshape", &["ranged", "shape"], PICTURE)
}

fn axis(samples: u32, halves: u32, made: u32, filter: Filter) -> Axis {
    let mut axis = Axis::default();
    axis.set(samples, halves, made, filter);
    axis
}

/// The share of each sample (a row; every `step`th from `first` on) in each of `all` samples made (a column), of which the picture's
/// begin at `offset`.
fn shares(axis: &Axis, all: usize, offset: usize, first: usize, step: usize) -> Vec<f32> {
    let mut matrix = vec![0.0; (first + axis.samples * step) * all];
    for (made, tap) in axis.taps.iter().enumerate() {
        for at in 0..MAX_TAPS {
            let begin = (tap.first as usize + at) * axis.cell;
            let end = (begin + axis.cell).min(axis.samples);
            for sample in begin..end {
                let share = f32::from(tap.weights[at]) / 256.0 / (end - begin) as f32;
                matrix[(first + sample * step) * all + offset + made] += share;
            }
        }
    }
    matrix
}

/// `rows` columns of `matrix` become rows.
fn transposed(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows).flat_map(|row| (0..columns).map(move |column| matrix[column * rows + row])).collect()
}

fn outlet(name: &str, ty: TensorElementType, shape: &[usize]) -> Outlet {
    let dimension_symbols = SymbolicDimensions::empty(shape.len());
    let shape = Shape::new(shape.iter().map(|side| *side as i64));
    Outlet::new(name, ValueType::Tensor { ty, shape, dimension_symbols })
}

/// A graph that is being put together.
struct Draft {
    graph: Graph,
    nodes: usize,
}

impl Draft {
    fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> ort::Result<()> {
        let mut tensor =
            Tensor::<f32>::new(&Allocator::default(), Shape::new(shape.iter().map(|n| *n as i64)))?;
        tensor.extract_tensor_mut().1.copy_from_slice(values);
        self.graph.add_initializer(name, tensor, false)
    }

    fn whole(&mut self, name: &str, values: &[i64]) -> ort::Result<()> {
        let mut tensor = Tensor::<i64>::new(&Allocator::default(), Shape::new([values.len() as i64]))?;
        tensor.extract_tensor_mut().1.copy_from_slice(values);
        self.graph.add_initializer(name, tensor, false)
    }

    fn node(&mut self, operator: &str, inputs: &[&str], output: &str) -> ort::Result<()> {
        self.node_with(operator, inputs, output, [])
    }

    fn node_with<const N: usize>(
        &mut self,
        operator: &str,
        inputs: &[&str],
        output: &str,
        attributes: [ort::operator::Attribute; N],
    ) -> ort::Result<()> {
        self.nodes += 1;
        let name = format!("{operator} {}", self.nodes);
        self.graph.add_node(Node::new(operator, ONNX_DOMAIN, &name, inputs, [output], attributes)?)
    }
}
