//! What a bench is run on: the `node` keys of a configuration that choose hardware, as options, read and checked as they are in
//! a configuration.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use decode::PoolOptions;
use fleet::{Decoding, Fleet, Node, Provider};
use serde_json::json;

use crate::UserError;

/// Hardware other than the processor.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Hardware {
    /// What decodes: software, nvcodec, va, v4l2 or auto (node.decoder) [default: software]
    #[arg(long, value_name = "NAME")]
    pub decoder: Option<String>,
    /// What runs the models: cpu, cuda, tensorrt, openvino; several in the order in which they are tried (node.providers)
    /// [default: cpu]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub provider: Vec<String>,
    /// Where decoded pictures stay: main_memory or accelerator (node.pictures) [default: main_memory]
    #[arg(long, value_name = "WHERE")]
    pub pictures: Option<String>,
    /// Records the models' runs as CUDA graphs (node.cuda_graphs)
    #[arg(long)]
    pub cuda_graphs: bool,
    /// Folder for what TensorRT builds (node.engines) [default: a folder for this run]
    #[arg(long, value_name = "FOLDER")]
    pub engines: Option<PathBuf>,
}

impl Hardware {
    /// The node of a configuration that says the same.
    ///
    /// # Errors
    /// What is wrong with that, in the configuration's words.
    pub fn node(&self) -> anyhow::Result<Node> {
        let mut yaml = "site: here\nnode:\n  max_batch: 16\n".to_owned();
        let mut say = |key: &str, value: serde_json::Value| {
            // Writing to a string does not fail.
            let _ = writeln!(yaml, "  {key}: {value}");
        };
        if let Some(decoder) = &self.decoder {
            say("decoder", json!(decoder));
        }
        if !self.provider.is_empty() {
            say("providers", json!(self.provider));
        }
        if let Some(pictures) = &self.pictures {
            say("pictures", json!(pictures));
        }
        if self.cuda_graphs {
            say("cuda_graphs", json!("on"));
        }
        if let Some(engines) = &self.engines {
            say("engines", json!(std::path::absolute(engines)?));
        }
        let fleet = Fleet::from_yaml_str(&yaml, Path::new("."));
        Ok(fleet.map_err(|mistakes| UserError(mistakes.to_string()))?.node)
    }
}

/// As [`PoolOptions`] say it.
pub fn pool(node: &Node, threads: usize) -> PoolOptions {
    PoolOptions { threads, decoding: node.decoder, pictures: node.pictures, ..PoolOptions::default() }
}

/// Copies what chooses hardware.
pub fn choose(into: &mut Node, from: &Node) {
    into.decoder = from.decoder;
    into.providers.clone_from(&from.providers);
    (into.pictures, into.cuda_graphs) = (from.pictures, from.cuda_graphs);
    into.engines.clone_from(&from.engines);
}

/// Whether anything but the processor decodes.
pub fn decodes(node: &Node) -> bool {
    node.decoder != Decoding::Software
}

/// Whether anything but the processor runs models: its name.
pub fn infers(node: &Node) -> Option<&'static str> {
    node.providers.first().copied().filter(|provider| *provider != Provider::Cpu).map(Provider::name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_say_what_a_configuration_would() {
        let node = Hardware::default().node().unwrap();
        assert!(!decodes(&node) && infers(&node).is_none());
        let hardware = Hardware {
            decoder: Some("nvcodec".into()),
            provider: vec!["tensorrt".into(), "cuda".into()],
            pictures: Some("accelerator".into()),
            cuda_graphs: true,
            engines: Some("/var/lib/engines".into()),
        };
        let node = hardware.node().unwrap();
        assert_eq!((node.decoder, infers(&node)), (Decoding::NvCodec, Some("tensorrt")));
        assert_eq!(pool(&node, 3).pictures, fleet::Pictures::Accelerator);
        assert!(node.cuda_graphs);
        assert_eq!(node.engines.as_deref(), Some(Path::new("/var/lib/engines")));
        let mut other = Hardware::default().node().unwrap();
        choose(&mut other, &node);
        assert_eq!((other.decoder, other.providers), (node.decoder, node.providers));
    }

    #[test]
    fn what_does_not_fit_is_the_users_mistake() {
        let hardware = Hardware { pictures: Some("accelerator".into()), ..Hardware::default() };
        let error = hardware.node().unwrap_err().to_string();
        assert!(error.contains("it needs decoder: nvcodec"), "{error}");
        let hardware = Hardware { provider: vec!["rocm".into()], ..Hardware::default() };
        let error = hardware.node().unwrap_err().to_string();
        assert!(error.contains("rocm") && error.contains("expected cpu or cuda"), "{error}");
    }
}
