//! What runs the models: ONNX Runtime's execution providers, asked for by name and never replaced by another in silence.

use std::path::{Path, PathBuf};

use fleet::{Layout, ModelCard, Provider};
use ort::ep::{self, ExecutionProvider, ExecutionProviderDispatch};

use crate::device::Memory;
use crate::{Runtime, RuntimeError};

/// The providers of a node, in the order in which they are tried.
#[derive(Debug, Clone, Default)]
pub(crate) struct Providers {
    list: Vec<Provider>,
    /// Where TensorRT keeps the engines that it builds.
    engines: Option<PathBuf>,
    /// Runs are recorded as CUDA graphs.
    graphs: bool,
    /// Pictures per run at most, for models that take any number; 0: not said.
    max_batch: usize,
}

impl Runtime {
    /// With these providers instead of the processor alone. TensorRT keeps what it builds in `engines`.
    ///
    /// # Errors
    /// Where the library was built without one of them. One that is there and does not work, for want of a driver or a
    /// library of its own, is an error when a model is opened.
    pub fn with_providers(mut self, list: &[Provider], engines: Option<&Path>) -> Result<Self, RuntimeError> {
        let there = |provider: &Provider| available(*provider);
        if let Some(asked) = list.iter().find(|provider| !there(provider)) {
            let installed = Provider::ALL.iter().filter(|p| there(p)).map(|p| p.name());
            return Err(RuntimeError::Provider {
                asked: asked.name(),
                installed: installed.collect(),
                library: self.library().to_owned(),
            });
        }
        let engines = engines.map(Path::to_owned);
        self.set_providers(Providers { list: list.to_vec(), engines, ..Providers::default() });
        Ok(self)
    }

    /// How many pictures a run has at most, where a model takes any number. To be said after the providers: TensorRT builds one
    /// engine for all numbers up to this instead of another whenever a larger one comes, which takes minutes each.
    pub fn with_max_batch(mut self, pictures: usize) -> Self {
        let mut providers = self.providers().clone();
        providers.max_batch = pictures;
        self.set_providers(providers);
        self
    }

    /// Has the models' runs recorded as CUDA graphs and played back. Which models that is possible for is seen when they are
    /// opened. To be said after the providers.
    ///
    /// # Errors
    /// Where none of the providers works on an NVIDIA GPU.
    pub fn with_cuda_graphs(mut self) -> Result<Self, RuntimeError> {
        let mut providers = self.providers().clone();
        if providers.memory().is_none() {
            return Err(RuntimeError::NoGraphs { providers: self.provider_names() });
        }
        providers.graphs = true;
        self.set_providers(providers);
        Ok(self)
    }

    /// What runs the models, by name, in the order in which it is tried.
    pub fn provider_names(&self) -> Vec<&'static str> {
        let list = &self.providers().list;
        let cpu = list.is_empty().then_some(Provider::Cpu);
        list.iter().copied().chain(cpu).map(Provider::name).collect()
    }
}

/// Whether the library was built with a provider.
fn available(provider: Provider) -> bool {
    // An error says that the library does not answer, so that nothing can be had from it.
    let there = match provider {
        Provider::Cpu => Ok(true),
        Provider::Cuda => ep::CUDA::is_available(),
        Provider::TensorRt => ep::TensorRT::is_available(),
        Provider::OpenVino => ep::OpenVINO::is_available(),
    };
    there.unwrap_or(false)
}

impl Providers {
    /// The memory in which a model can take pictures as a decoder left them; `None`: in main memory only.
    pub fn memory(&self) -> Option<Memory> {
        Memory::of(&self.list)
    }

    /// Whether this model's runs are recorded.
    ///
    /// # Errors
    /// Where they are to be and cannot.
    pub fn graphs_of(&self, card: &ModelCard) -> Result<bool, String> {
        if self.graphs && self.recorder() == Some(Provider::TensorRt) && card.batch.is_none() {
            return Err(
                "TensorRT keeps one recording per session, so the card has to fix the number of pictures \
                        (batch: 8)"
                    .to_owned(),
            );
        }
        Ok(self.graphs)
    }

    /// Who records: the first of the list that can. ONNX Runtime wants the whole model to run there.
    fn recorder(&self) -> Option<Provider> {
        self.list.iter().copied().find(|p| matches!(p, Provider::Cuda | Provider::TensorRt))
    }

    /// Whether [`of`](Self::of) has to know what the model's input is called.
    pub fn asks_for_input(&self, card: &ModelCard) -> bool {
        self.list.contains(&Provider::TensorRt) && card.batch.is_none() && self.max_batch > 0
    }

    /// What a session of this model, whose only input has this name, is told. Empty: the processor alone, which needs no
    /// registration.
    pub fn of(&self, card: &ModelCard, input: Option<&str>) -> Vec<ExecutionProviderDispatch> {
        let one = |provider: &Provider| {
            let built = match provider {
                Provider::Cpu => return None,
                Provider::Cuda => self.cuda().build(),
                Provider::OpenVino => ep::OpenVINO::default().build(),
                Provider::TensorRt => self.tensor_rt(card, input).build(),
            };
            // Registration fails where a library or a driver is missing; the next provider must not step in unasked.
            Some(built.error_on_failure())
        };
        self.list.iter().filter_map(one).collect()
    }

    fn cuda(&self) -> ep::CUDA {
        let cuda = ep::CUDA::default();
        if self.graphs && self.recorder() == Some(Provider::Cuda) { cuda.with_cuda_graph(true) } else { cuda }
    }

    /// Half precision, and engines that are built once per model, machine and TensorRT version.
    fn tensor_rt(&self, card: &ModelCard, input: Option<&str>) -> ep::TensorRT {
        let mut tensor_rt = ep::TensorRT::default().with_fp16(true);
        if let Some(input) = input.filter(|_| self.asks_for_input(card)) {
            let shape = |pictures: usize| match card.layout {
                Layout::Nchw => format!("{input}:{pictures}x3x{}x{}", card.height, card.width),
                Layout::Nhwc => format!("{input}:{pictures}x{}x{}x3", card.height, card.width),
            };
            tensor_rt = tensor_rt
                .with_profile_min_shapes(shape(1))
                .with_profile_opt_shapes(shape(self.max_batch))
                .with_profile_max_shapes(shape(self.max_batch));
        }
        if self.graphs && self.recorder() == Some(Provider::TensorRt) {
            tensor_rt = tensor_rt.with_cuda_graph(true);
        }
        if let Some(folder) = &self.engines {
            let folder = folder.display().to_string();
            tensor_rt = tensor_rt
                .with_engine_cache(true)
                .with_engine_cache_path(&folder)
                .with_engine_cache_prefix(format!("{}-{}", card.id, card.sha256.get(..12).unwrap_or("")))
                .with_timing_cache(true)
                .with_timing_cache_path(&folder);
        }
        tensor_rt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_that_is_not_there_is_named_with_what_is() {
        let runtime = Runtime::load(None).unwrap_or_else(|error| panic!("{error}"));
        for provider in Provider::ALL {
            let made = runtime.clone().with_providers(&[provider, Provider::Cpu], None);
            match (available(provider), made) {
                (true, Ok(_)) => {}
                (false, Err(error)) => {
                    let text = error.to_string();
                    assert!(text.contains(provider.name()), "{text}");
                    assert!(text.contains("cpu") && text.contains("libonnxruntime"), "{text}");
                }
                (there, made) => panic!("{} is there: {there}, but: {made:?}", provider.name()),
            }
        }
    }

    #[test]
    fn the_processor_needs_no_registration_and_the_others_are_told_apart() {
        let card = crate::testing::card(416, 416, 80);
        let of = |list: &[Provider]| {
            let providers = Providers { list: list.to_vec(), ..Providers::default() };
            providers.of(&card, None).iter().map(|p| p.name()).collect::<Vec<_>>()
        };
        assert_eq!(of(&[]), [""; 0]);
        assert_eq!(of(&[Provider::Cpu]), [""; 0]);
        assert_eq!(
            of(&[Provider::TensorRt, Provider::Cuda, Provider::Cpu]),
            ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
        );
    }

    /// The options as they are handed to ONNX Runtime, of the provider's kind of value.
    fn options(provider: &impl std::fmt::Debug) -> String {
        format!("{provider:?}")
    }

    #[test]
    fn tensor_rt_runs_in_half_precision_and_keeps_what_it_builds_in_the_folder_named() {
        let card =
            fleet::ModelCard { sha256: "0123456789abcdef".to_owned(), ..crate::testing::card(8, 8, 1) };
        let made = |engines: Option<&str>, graphs| {
            let list = vec![Provider::TensorRt, Provider::Cuda];
            let providers = Providers { list, engines: engines.map(Into::into), graphs, max_batch: 16 };
            (options(&providers.tensor_rt(&card, Some("images"))), options(&providers.cuda()))
        };
        let (kept, _) = made(Some("/var/lib/engines"), false);
        for said in [
            r#""trt_fp16_enable": "true""#,
            r#""trt_engine_cache_enable": "true""#,
            r#""trt_engine_cache_path": "/var/lib/engines""#,
            r#""trt_engine_cache_prefix": "test-0123456789ab""#,
            r#""trt_timing_cache_path": "/var/lib/engines""#,
            // One engine for every number of pictures.
            r#""trt_profile_min_shapes": "images:1x3x8x8""#,
            r#""trt_profile_max_shapes": "images:16x3x8x8""#,
        ] {
            assert!(kept.contains(said), "{said} in {kept}");
        }
        assert!(!kept.contains("graph"), "{kept}");
        let (recorded, cuda) = made(None, true);
        assert!(recorded.contains(r#""trt_cuda_graph_enable": "true""#), "{recorded}");
        assert!(!recorded.contains("cache"), "{recorded}");
        assert!(!cuda.contains("graph"), "one of them records: {cuda}");
    }

    #[test]
    fn cuda_graphs_are_refused_where_they_cannot_be() {
        let runtime = Runtime::load(None).unwrap_or_else(|error| panic!("{error}"));
        let error = runtime.with_cuda_graphs().unwrap_err().to_string();
        assert_eq!(
            error,
            "node.cuda_graphs is on, but node.providers has neither cuda nor tensorrt (it has cpu)"
        );
        let of = |list: &[Provider]| Providers {
            list: list.to_vec(),
            graphs: true,
            max_batch: 16,
            ..Providers::default()
        };
        let any = crate::testing::card(8, 8, 1);
        let fixed = fleet::ModelCard { batch: Some(4), ..any.clone() };
        assert_eq!(of(&[Provider::Cuda]).graphs_of(&any), Ok(true));
        assert_eq!(of(&[Provider::TensorRt, Provider::Cuda]).graphs_of(&fixed), Ok(true));
        assert!(
            !of(&[Provider::TensorRt]).asks_for_input(&fixed) && !of(&[Provider::Cuda]).asks_for_input(&any)
        );
        let error = of(&[Provider::TensorRt, Provider::Cuda]).graphs_of(&any).unwrap_err();
        assert!(error.contains("batch: 8"), "{error}");
        assert!(options(&of(&[Provider::Cuda]).cuda()).contains(r#""enable_cuda_graph": "true""#));
    }
}
