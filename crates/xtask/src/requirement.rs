//! What has to be on the machine, why, and how its presence is seen. Deciding what is missing is a pure function of a
//! [`System`]; nothing here changes anything.

use crate::runtime::{self, Installed};
use crate::system::System;

/// The oldest GStreamer that the `v1_22` feature of the Rust bindings accepts.
const GSTREAMER: Version = Version(1, 22);

/// Major and minor number, as far as requirements look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

impl Version {
    /// Reads `1.22.0`; the third number and what follows it do not matter here.
    fn parse(text: &str) -> Option<Version> {
        let mut numbers = text.trim().split('.');
        Some(Version(numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

/// How the presence of a thing is seen, without asking any package manager: whoever built GStreamer himself has it too.
#[derive(Clone, Copy, Debug)]
pub enum Probe {
    /// A program on the search path.
    Command(&'static str),
    /// A pkg-config module of at least this version.
    Module(&'static str, Version),
    /// A GStreamer plugin, by the name in its file: `x264` is `libgstx264.so`.
    Plugin(&'static str),
    /// A Python with pip; wanted only as long as ONNX Runtime has to be fetched.
    PipForRuntime,
    /// ONNX Runtime's shared library: the pinned one, or the user's own.
    Runtime,
}

/// Where a missing thing comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A package of this name in Debian and Ubuntu.
    Debian(&'static str),
    /// The pinned Python wheel, unpacked under `target/`.
    Wheel,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Requirement {
    pub name: &'static str,
    pub why: &'static str,
    pub probe: Probe,
    pub source: Source,
}

/// A requirement that the machine does not meet.
#[derive(Clone, Debug)]
pub struct Missing {
    pub requirement: &'static Requirement,
    /// The version that is there and is too old.
    pub too_old: Option<String>,
}

const fn debian(package: &'static str, name: &'static str, probe: Probe, why: &'static str) -> Requirement {
    Requirement { name, why, probe, source: Source::Debian(package) }
}

/// Everything, in the order in which it is useful to a reader.
pub const ALL: &[Requirement] = &[
    debian(
        "build-essential",
        "C compiler",
        Probe::Command("cc"),
        "links every Rust program and compiles SQLite",
    ),
    debian(
        "build-essential",
        "make",
        Probe::Command("make"),
        "comes with the C library's headers, which SQLite needs",
    ),
    debian("pkg-config", "pkg-config", Probe::Command("pkg-config"), "tells the build where GStreamer is"),
    debian(
        "libgstreamer1.0-dev",
        "GStreamer headers",
        Probe::Module("gstreamer-1.0", GSTREAMER),
        "decode is built on GStreamer",
    ),
    debian(
        "libgstreamer-plugins-base1.0-dev",
        "GStreamer app headers",
        Probe::Module("gstreamer-app-1.0", GSTREAMER),
        "access units enter and frames leave a decoder through appsrc and appsink",
    ),
    debian(
        "libgstreamer-plugins-base1.0-dev",
        "GStreamer video headers",
        Probe::Module("gstreamer-video-1.0", GSTREAMER),
        "strides and colour of decoded pictures",
    ),
    debian(
        "libgstrtspserver-1.0-dev",
        "GStreamer RTSP server",
        Probe::Module("gstreamer-rtsp-server-1.0", GSTREAMER),
        "serves RTSP from an implementation that is not ours, to compare with",
    ),
    debian(
        "gstreamer1.0-tools",
        "GStreamer tools",
        Probe::Command("gst-launch-1.0"),
        "the peer that the benches compare with; gst-inspect-1.0 says what this machine decodes",
    ),
    debian(
        "gstreamer1.0-plugins-base",
        "GStreamer base plugins",
        Probe::Plugin("app"),
        "appsrc, appsink, colour conversion",
    ),
    debian(
        "gstreamer1.0-plugins-good",
        "GStreamer good plugins",
        Probe::Plugin("isomp4"),
        "reads and writes MP4 files",
    ),
    debian(
        "gstreamer1.0-plugins-bad",
        "GStreamer bad plugins",
        Probe::Plugin("videoparsersbad"),
        "the H.264 and H.265 parsers before each decoder; the H.265 encoder",
    ),
    debian(
        "gstreamer1.0-plugins-ugly",
        "GStreamer ugly plugins",
        Probe::Plugin("x264"),
        "the H.264 encoder of simulated cameras and annotated videos",
    ),
    debian(
        "gstreamer1.0-libav",
        "GStreamer libav plugin",
        Probe::Plugin("libav"),
        "decodes H.264 and H.265 without a GPU",
    ),
    debian(
        "mosquitto",
        "mosquitto",
        Probe::Command("mosquitto"),
        "the real MQTT broker in the tests (started on a port of its own)",
    ),
    debian(
        "mosquitto-clients",
        "mosquitto clients",
        Probe::Command("mosquitto_sub"),
        "an MQTT client that is not ours, to see what really arrives",
    ),
    debian(
        "ffmpeg",
        "ffmpeg",
        Probe::Command("ffmpeg"),
        "the floor and the peer that the benches compare with",
    ),
    debian(
        "python3-pip",
        "Python with pip",
        Probe::PipForRuntime,
        "fetches the wheel that holds ONNX Runtime",
    ),
    Requirement {
        name: runtime::NAME,
        why: "runs the detection models; loaded when the program starts",
        probe: Probe::Runtime,
        source: Source::Wheel,
    },
];

/// What `system` lacks, in the order of [`ALL`].
pub fn missing(system: &dyn System) -> Vec<Missing> {
    ALL.iter().filter_map(|requirement| unmet(requirement, system)).collect()
}

fn unmet(requirement: &'static Requirement, system: &dyn System) -> Option<Missing> {
    let mut too_old = None;
    let met = match requirement.probe {
        Probe::Command(name) => system.command(name),
        Probe::Plugin(name) => system.plugin(name),
        Probe::Runtime => system.runtime() != Installed::Absent,
        Probe::PipForRuntime => system.runtime() != Installed::Absent || system.pip(),
        Probe::Module(name, at_least) => match system.module_version(name) {
            None => false,
            Some(text) if Version::parse(&text).is_some_and(|version| version >= at_least) => true,
            Some(text) => {
                too_old = Some(text);
                false
            }
        },
    };
    (!met).then_some(Missing { requirement, too_old })
}

impl Missing {
    /// One line: what, why, and where it comes from.
    pub fn line(&self) -> String {
        let Requirement { name, why, probe, source } = self.requirement;
        let version = match (probe, &self.too_old) {
            (Probe::Module(_, Version(major, minor)), Some(found)) => {
                format!(" {major}.{minor} or newer (here: {found})")
            }
            (Probe::Module(_, Version(major, minor)), None) => format!(" {major}.{minor} or newer"),
            _ => String::new(),
        };
        let from = match source {
            Source::Debian(package) => format!("Debian and Ubuntu: {package}"),
            Source::Wheel => format!("Python wheel, into {}", runtime::FOLDER),
        };
        format!("  {name}{version} ({from})\n      {why}")
    }
}

/// The Debian packages that bring what is missing, each once.
pub fn packages(missing: &[Missing]) -> Vec<&'static str> {
    let mut names = Vec::new();
    for item in missing {
        if let Source::Debian(package) = item.requirement.source
            && !names.contains(&package)
        {
            names.push(package);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::fake::Fake;

    #[test]
    fn a_bare_machine_lacks_everything_and_a_full_one_nothing() {
        let lacks = missing(&Fake::default());
        assert_eq!(lacks.len(), ALL.len());
        let names = packages(&lacks);
        assert_eq!(names.iter().filter(|name| **name == "build-essential").count(), 1, "{names:?}");
        assert_eq!(missing(&Fake::full()).len(), 0);
    }

    #[test]
    fn an_old_gstreamer_is_missing_and_the_line_says_both_versions() {
        let mut system = Fake::full();
        system.modules.insert("gstreamer-1.0", "1.20.3");
        let lacks = missing(&system);
        assert_eq!(lacks.len(), 1);
        let line = lacks[0].line();
        assert!(
            line.contains("1.22 or newer (here: 1.20.3)") && line.contains("libgstreamer1.0-dev"),
            "{line}"
        );
    }

    #[test]
    fn newer_than_asked_is_enough_and_nonsense_is_not() {
        for (version, met) in
            [("1.22.0", true), ("1.24.2", true), ("2.0", true), ("1.3", false), ("unknown", false)]
        {
            let mut system = Fake::full();
            system.modules.insert("gstreamer-1.0", version);
            assert_eq!(missing(&system).is_empty(), met, "{version}");
        }
    }

    #[test]
    fn pip_is_wanted_only_to_fetch_the_runtime() {
        let mut system = Fake::full();
        system.pip = false;
        assert_eq!(missing(&system).len(), 0);
        system.runtime = Installed::Absent;
        let sources: Vec<Source> = missing(&system).iter().map(|item| item.requirement.source).collect();
        assert_eq!(sources, [Source::Debian("python3-pip"), Source::Wheel]);
    }

    #[test]
    fn one_lost_plugin_names_its_package() {
        let mut system = Fake::full();
        system.plugins.remove("x264");
        assert_eq!(packages(&missing(&system)), ["gstreamer1.0-plugins-ugly"]);
    }
}
