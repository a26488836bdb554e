//! What runs the models: ONNX Runtime's execution providers, asked for by name and never replaced by another in silence.

use std::path::{Path, PathBuf};

use fleet::{ModelCard, Provider};
use ort::ep::{self, ExecutionProvider, ExecutionProviderDispatch};

use crate::device::Memory;
use crate::{Runtime, RuntimeError};

/// The providers of a node, in the order in which they are tried.
#[derive(Debug, Clone, Default)]
pub(crate) struct Providers {
    list: Vec<Provider>,
    /// Where TensorRT keeps the engines that it builds.
    engines: Option<PathBuf>,
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
        self.set_providers(Providers { list: list.to_vec(), engines: engines.map(Path::to_owned) });
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

    /// What a session of this model is told. Empty: the processor alone, which needs no registration.
    pub fn of(&self, card: &ModelCard) -> Vec<ExecutionProviderDispatch> {
        let one = |provider: &Provider| {
            let built = match provider {
                Provider::Cpu => return None,
                Provider::Cuda => ep::CUDA::default().build(),
                Provider::OpenVino => ep::OpenVINO::default().build(),
                Provider::TensorRt => self.tensor_rt(card).build(),
            };
            // Registration fails where a library or a driver is missing; the next provider must not step in unasked.
            Some(built.error_on_failure())
        };
        self.list.iter().filter_map(one).collect()
    }

    /// Half precision, and engines that are built once per model, machine and TensorRT version.
    fn tensor_rt(&self, card: &ModelCard) -> ep::TensorRT {
        let mut tensor_rt = ep::TensorRT::default().with_fp16(true);
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
            let providers = Providers { list: list.to_vec(), engines: Some("engines".into()) };
            providers.of(&card).iter().map(|p| p.name()).collect::<Vec<_>>()
        };
        assert_eq!(of(&[]), [""; 0]);
        assert_eq!(of(&[Provider::Cpu]), [""; 0]);
        assert_eq!(
            of(&[Provider::TensorRt, Provider::Cuda, Provider::Cpu]),
            ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
        );
    }
}
