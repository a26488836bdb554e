//! What of a node's hardware does the work.

use crate::shape::Kind;

/// What runs a model (ONNX Runtime's execution providers). What one cannot do, the next does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    /// Any processor.
    Cpu,
    /// NVIDIA, through CUDA and cuDNN.
    Cuda,
    /// NVIDIA, through TensorRT: engines are built at the first start and kept.
    TensorRt,
    /// Intel processors and graphics.
    OpenVino,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Cuda, Self::TensorRt, Self::OpenVino];

    /// The name in YAML.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
            Self::OpenVino => "openvino",
        }
    }
}

/// What decodes pictures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Decoding {
    /// The first of nvcodec, va, v4l2 and software that is there for both codecs.
    #[default]
    Auto,
    /// libavcodec on the processor.
    Software,
    /// NVIDIA's NVDEC.
    NvCodec,
    /// VA-API: Intel and AMD graphics.
    Va,
    /// Stateless decoders of the Linux kernel: many ARM boards.
    V4l2,
}

impl Decoding {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Auto, Self::Software, Self::NvCodec, Self::Va, Self::V4l2];

    /// The name in YAML.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Software => "software",
            Self::NvCodec => "nvcodec",
            Self::Va => "va",
            Self::V4l2 => "v4l2",
        }
    }
}

/// Where decoded pictures stay until a model has looked at them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Pictures {
    /// Main memory, wherever they were decoded.
    #[default]
    MainMemory,
    /// The memory of the GPU that decoded them and runs the models. Those of cameras with masks come to main memory.
    Accelerator,
}

impl Pictures {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::MainMemory, Self::Accelerator];

    /// The name in YAML.
    pub fn name(self) -> &'static str {
        match self {
            Self::MainMemory => "main_memory",
            Self::Accelerator => "accelerator",
        }
    }
}

/// Whether what is asked of a node's hardware fits together: for each key that does not, what it needs.
pub(crate) fn at_odds(
    decoder: Decoding,
    providers: &[Provider],
    pictures: Pictures,
    cuda_graphs: bool,
) -> Vec<(&'static str, &'static str)> {
    let nvidia = providers.iter().any(|p| matches!(p, Provider::Cuda | Provider::TensorRt));
    let on_accelerator = pictures == Pictures::Accelerator;
    let checks = [
        ("pictures", on_accelerator && decoder != Decoding::NvCodec, "it needs decoder: nvcodec"),
        ("pictures", on_accelerator && !nvidia, "it needs cuda or tensorrt in providers"),
        ("cuda_graphs", cuda_graphs && !nvidia, "it needs cuda or tensorrt in providers"),
    ];
    checks.into_iter().filter(|(_, wrong, _)| *wrong).map(|(key, _, needs)| (key, needs)).collect()
}

pub(crate) const SWITCH: Kind = Kind::Word(&["on", "off"]);
pub(crate) const PICTURES: Kind = Kind::Word(&["main_memory", "accelerator"]);
pub(crate) const PROVIDERS: Kind =
    Kind::List(&Kind::Word(&["cpu", "cuda", "tensorrt", "openvino"]), 1, Provider::ALL.len());
pub(crate) const DECODING: Kind = Kind::Word(&["auto", "software", "nvcodec", "va", "v4l2"]);
