//! The keys of the configuration and of a model card: names, kinds, ranges, defaults, and what they mean.

use std::time::Duration;

use crate::card::HEAD_NAMES;
use crate::evidence::{EVIDENCE, KEEP, STORE};
use crate::hardware::{DECODING, PICTURES, PROVIDERS, SWITCH};
use crate::rule_shapes::{SITUATION, WINDOW};
use crate::shape::{Kind, Shape, default, optional, required};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
const DAY: u64 = 86_400_000;
const SITUATIONS: Kind = Kind::List(&Kind::Name("situation"), 0, 64);

/// The whole configuration. `site` is demanded once all files are read, since an included file has none.
pub(crate) static ROOT: Shape = Shape {
    name: "configuration",
    keys: &[
        optional("site", Kind::Id, "Name of the site; part of every MQTT topic. Required once."),
        default("worker", Kind::Id, "worker-1", "Name of this worker; unique in the site."),
        default(
            "data_dir",
            Kind::Path,
            "data",
            "Folder for the program's state (outbox, evidence pictures, desk database). Relative to this file.",
        ),
        optional(
            "include",
            Kind::List(&Kind::Path, 0, 1_000),
            "Further files, relative to this one; * and ? stand for parts of a name. They hold the same keys: \
             lists are joined, maps merged, and what is written twice is a mistake.",
        ),
        optional("broker", Kind::Map(&BROKER), "The MQTT broker."),
        optional("desk", Kind::Map(&DESK), "The case desk."),
        optional("evidence", Kind::Map(&EVIDENCE), "What becomes of evidence pictures."),
        optional(
            "telemetry",
            Kind::Map(&crate::telemetry::TELEMETRY),
            "Where the program says how it is doing.",
        ),
        optional(
            "node",
            Kind::Map(&NODE),
            "How the stages are sized. 0 means: choose by the number of cores.",
        ),
        optional("credentials", Kind::Table(&Kind::Map(&CREDENTIALS)), "Logins, by a name of your choice."),
        optional("models", Kind::Table(&Kind::Path), "Model folders (each holds card.yaml), by model id."),
        default(
            "timezone",
            Kind::Text(64),
            "Asia/Shanghai",
            "The clock of `windows`: a name of the IANA time zone database.",
        ),
        optional("holidays", Kind::Path, "A text file of public holidays: YYYY-MM-DD and a name per line."),
        optional(
            "code_sets",
            Kind::Table(&Kind::Path),
            "Files of national numberings, by a name of your choice.",
        ),
        optional("code_set", Kind::Name("code set"), "The numbering that events carry; default: none."),
        optional("situations", Kind::Table(&Kind::Map(&SITUATION)), "What can be recognised, by id."),
        optional("classes", Kind::Table(&Kind::Map(&CLASS)), "Classes of cameras: what their cameras share."),
        optional("cameras", Kind::List(&Kind::Map(&CAMERA), 0, 1_000_000), "The cameras."),
    ],
};

pub(crate) static BROKER: Shape = Shape {
    name: "broker",
    keys: &[
        default(
            "url",
            Kind::Mqtt,
            "mqtt://127.0.0.1:1883",
            "mqtt://host[:port], or mqtts:// for TLS (port 8883), without user and password.",
        ),
        optional(
            "fallbacks",
            Kind::List(&Kind::Mqtt, 1, 16),
            "Further addresses, tried in turn where the one before does not answer.",
        ),
        default(
            "return_after",
            Kind::Duration(ms(1_000), ms(365 * DAY)),
            "5min",
            "How often a connection to a fallback looks whether the first address is back; it then returns there.",
        ),
        optional("credentials", Kind::Name("credentials"), "Name of a login under `credentials`."),
        optional("tls", Kind::Map(&TLS), "Whom to believe and who we are, for mqtts://."),
        default(
            "version",
            MQTT_VERSIONS,
            "auto",
            "Version of MQTT. auto: v5, and v3.1.1 where a broker refuses that. The log says what v3.1.1 lacks.",
        ),
        default(
            "connect_timeout",
            Kind::Duration(ms(100), ms(60_000)),
            "5s",
            "How long an address may take until it has accepted the connection.",
        ),
        default(
            "keep_alive",
            Kind::Duration(ms(1_000), ms(3_600_000)),
            "10s",
            "A silent broker is asked for a sign of life after this, and given up after as long again.",
        ),
        default(
            "will_delay",
            Kind::Duration(ms(0), ms(3_600_000)),
            "5s",
            "How long the broker waits before it tells that a worker is gone: a short break is no death.",
        ),
        default(
            "session_expiry",
            Kind::Duration(ms(60_000), ms(365 * DAY)),
            "7d",
            "How long the broker keeps what is said to a worker or to the desk while it is away.",
        ),
        default(
            "message_expiry",
            Kind::Duration(ms(1_000), ms(365 * DAY)),
            "24h",
            "How long the broker keeps an event for a subscriber that is away.",
        ),
        default(
            "keep_sent",
            Kind::Duration(ms(0), ms(3_600_000)),
            "10s",
            "What a broker acknowledged in its last moments before a connection was lost, this long, is sent again: a broker \
             that is killed forgets what it has not written down. Receivers know them by their id. 0s: not at all.",
        ),
        optional(
            "onvif",
            Kind::Text(100),
            "Also tells situations as ONVIF events (Profile M), for a VMS that speaks ONVIF over MQTT: the TopicPrefix, in \
             which {site} and {camera} stand for the names.",
        ),
    ],
};

/// Versions of MQTT, by the names of [`crate::MqttVersion`].
const MQTT_VERSIONS: Kind = Kind::Word(&["auto", "v5", "v3.1.1"]);

pub(crate) static TLS: Shape = Shape {
    name: "tls",
    keys: &[
        optional(
            "ca",
            Kind::Path,
            "PEM file of the authorities that may have issued the broker's certificate; default: the system's.",
        ),
        optional(
            "certificate",
            Kind::Path,
            "PEM file of our own certificate and what issued it (mutual TLS).",
        ),
        optional("key", Kind::Path, "PEM file of its private key, without a passphrase."),
        optional(
            "name",
            Kind::Text(253),
            "The name that the broker's certificate must hold, where it is not the host of its address.",
        ),
    ],
};

pub(crate) static DESK: Shape = Shape {
    name: "desk",
    keys: &[
        default("listen", Kind::Listen, "127.0.0.1:8080", "Address and port of the desk's page."),
        optional(
            "store",
            Kind::Map(&STORE),
            "Where the desk reads the pictures that went to a store. Default: as evidence.store says.",
        ),
    ],
};

pub(crate) static NODE: Shape = Shape {
    name: "node",
    keys: &[
        default(
            "starts_per_second",
            Kind::Whole(1, 10_000),
            "400",
            "Sessions begun per second, all cameras together, in turn over networks and hosts.",
        ),
        default(
            "setups_per_host",
            Kind::Whole(1, 1_000),
            "4",
            "Sessions being set up at the same time at one host (address and port): a recorder serves many cameras.",
        ),
        default(
            "setups_per_subnet",
            Kind::Whole(1, 10_000),
            "64",
            "The same in one network: a /24 of IPv4, a /64 of IPv6.",
        ),
        default(
            "frozen_after",
            Kind::Duration(ms(1_000), ms(DAY)),
            "10min",
            "A camera whose picture has not changed for so long is frozen.",
        ),
        default(
            "dark_after",
            Kind::Duration(ms(1_000), ms(DAY)),
            "1min",
            "A camera whose picture has been black for so long is dark.",
        ),
        default(
            "decoder",
            DECODING,
            "software",
            "What decodes pictures. auto: the first of nvcodec, va, v4l2 and software that is there.",
        ),
        default("decode_threads", Kind::Whole(0, 1_024), "0", "Decoder threads, shared by all cameras."),
        default(
            "providers",
            PROVIDERS,
            "[cpu]",
            "What runs the models (ONNX Runtime's execution providers), in the order in which it is tried.",
        ),
        optional("engines", Kind::Path, "Folder for what TensorRT builds; default: `engines` in `data_dir`."),
        default(
            "pictures",
            PICTURES,
            "main_memory",
            "Where decoded pictures stay until a model has looked at them. accelerator: on the GPU that decodes and infers.",
        ),
        default(
            "cuda_graphs",
            SWITCH,
            "off",
            "Records the models' runs as CUDA graphs, one per number of pictures; for models of fixed shapes.",
        ),
        default(
            "infer_sessions",
            Kind::Whole(0, 1_024),
            "0",
            "Inference sessions per model; 0: measured at the start, as are the threads and the pictures per run.",
        ),
        default("infer_threads", Kind::Whole(0, 256), "0", "Threads per session; 0: measured at the start."),
        default("max_batch", Kind::Whole(1, 256), "16", "Pictures per inference at most."),
        default(
            "max_delay",
            Kind::Duration(ms(0), ms(10_000)),
            "50ms",
            "How long the oldest picture waits for a batch to fill.",
        ),
        optional(
            "onnxruntime",
            Kind::Path,
            "ONNX Runtime's shared library; default: $HUIYAN_ONNXRUNTIME, then the copy that `cargo xtask` unpacked.",
        ),
        default(
            "evidence_max_bytes",
            Kind::Size(1 << 20, 1 << 50),
            "10GiB",
            "Disk space for evidence pictures; the oldest go first.",
        ),
        optional(
            "outbox_max_bytes",
            Kind::Size(16 << 20, 1 << 50),
            "Disk space for events that wait for the broker, beyond which the disk counts as full; default: as much as there is.",
        ),
    ],
};

static CREDENTIALS: Shape = Shape {
    name: "login",
    keys: &[
        required("user", Kind::User, "User name, or env:NAME."),
        required(
            "password",
            Kind::Secret,
            "env:NAME or file:PATH (relative to this file); never the password.",
        ),
    ],
};

pub(crate) static LOOK: Shape = Shape {
    name: "look",
    keys: &[
        default(
            "sampling",
            Kind::WordOr(&["keyframes"], &Kind::Map(&FPS)),
            "keyframes",
            "keyframes: only pictures that stand alone are decoded. {fps: N}: all are decoded, N per second are looked at.",
        ),
        default(
            "at_most_every",
            Kind::Duration(ms(1), ms(DAY)),
            "1s",
            "No two looks closer than this. With {fps: N} the default is 1s / N.",
        ),
        default(
            "at_least_every",
            Kind::Duration(ms(100), ms(DAY)),
            "10s",
            "A camera whose looks are further apart is reported as not watched.",
        ),
        default(
            "on_long_keys",
            Kind::Word(&["decode", "other_stream"]),
            "decode",
            "With sampling keyframes, where a smart codec (H.264+, H.265+, Smart Codec) puts key pictures further apart \
             than at_least_every. decode: the stream is decoded in full, at several times the cost. other_stream: the \
             camera's other_url is watched.",
        ),
        default(
            "priority",
            Kind::Word(&["high", "normal", "low"]),
            "normal",
            "When the node cannot take all looks: low loses first, down to one in about a minute, then normal, then high.",
        ),
    ],
};

static FPS: Shape = Shape {
    name: "fps",
    keys: &[required("fps", Kind::Number(0.01, 60.0), "Pictures per second that are looked at.")],
};

const TRANSPORT: Kind = Kind::Word(&["tcp", "udp"]);
const CERTIFICATE: Kind = Kind::Word(&["checked", "any"]);
/// A login, or `none` where a camera does without the one of its class.
const LOGIN: Kind = Kind::WordOr(&["none"], &Kind::Name("credentials"));

static CLASS: Shape = Shape {
    name: "class",
    keys: &[
        default("transport", TRANSPORT, "tcp", "How pictures travel: tcp (interleaved in RTSP) or udp."),
        default(
            "certificate",
            CERTIFICATE,
            "checked",
            "With rtsps://. checked: the system must trust the camera's certificate. any: it need not, as with the \
             certificates that cameras make for themselves.",
        ),
        optional("look", Kind::Map(&LOOK), "How often its cameras are looked at."),
        optional(
            "gate",
            crate::gate::KIND,
            "Whether pictures that show what the last inferred one showed are spared the model. Default: on.",
        ),
        optional(
            "tiles",
            crate::tiles::KIND,
            "Whether large pictures are looked at in overlapping tiles, too; native: with the defaults. Default: off.",
        ),
        optional("model", Kind::Name("model"), "The model that looks; here or at each camera."),
        optional("situations", SITUATIONS, "What is watched for where a camera or zone says nothing else."),
        default("credentials", LOGIN, "none", "Name of a login under `credentials`, or none."),
        optional(
            "keep_evidence",
            KEEP,
            "Evidence of its cameras is deleted after this long. Default: evidence.keep.",
        ),
    ],
};

static CAMERA: Shape = Shape {
    name: "camera",
    keys: &[
        required("id", Kind::Id, "Unique in the site; part of MQTT topics."),
        required("class", Kind::Name("class"), "One of `classes`."),
        required("url", Kind::Rtsp, "rtsp:// or rtsps://host[:port]/path, without user and password."),
        optional(
            "other_url",
            Kind::Rtsp,
            "Another stream of the same camera, like url; see look.on_long_keys.",
        ),
        optional("name", Kind::Text(200), "What people call it."),
        optional("address", Kind::Text(200), "Street and number."),
        optional("grid", Kind::Text(64), "Code of its grid (网格)."),
        optional("location", Kind::Map(&LOCATION), "Where it stands."),
        optional(
            "ground",
            crate::ground::KIND,
            "Which places on the ground its picture shows, by four points, so that events say where, and cameras that see \
             the same problem report it once.",
        ),
        optional(
            "presets",
            crate::presets::KIND,
            "Of a camera that turns: what it is turned to, instead of `zones`. While it shows none of them, nothing is judged.",
        ),
        optional(
            "zones",
            Kind::List(&Kind::Map(&ZONE), 1, 256),
            "Default: one zone `whole`, the whole picture.",
        ),
        optional(
            "ignore",
            Kind::List(&Kind::Polygon, 0, 256),
            "Parts of the picture in which nothing counts, such as a screen or a statue.",
        ),
        optional(
            "masks",
            Kind::List(&Kind::Polygon, 0, 256),
            "Parts of the picture that nobody may see, such as windows: blacked out before anything looks at the picture.",
        ),
        optional("transport", TRANSPORT, "Default: its class's."),
        optional("certificate", CERTIFICATE, "Default: its class's."),
        optional("look", Kind::Map(&LOOK), "Default, key by key: its class's."),
        optional("gate", crate::gate::KIND, "Default, key by key: its class's."),
        optional("tiles", crate::tiles::KIND, "Default: its class's."),
        optional("model", Kind::Name("model"), "Default: its class's."),
        optional("situations", SITUATIONS, "Default: its class's."),
        optional("credentials", LOGIN, "Default: its class's."),
    ],
};

static LOCATION: Shape = Shape {
    name: "location",
    keys: &[
        required("x", Kind::Number(-1e8, 1e8), "Longitude in degrees, or metres east in a projected system."),
        required("y", Kind::Number(-1e8, 1e8), "Latitude in degrees, or metres north in a projected system."),
        default(
            "crs",
            Kind::Word(&["wgs84", "gcj02", "cgcs2000"]),
            "wgs84",
            "Coordinate reference system; most Chinese web maps use gcj02.",
        ),
    ],
};

pub(crate) static ZONE: Shape = Shape {
    name: "zone",
    keys: &[
        required("id", Kind::Id, "Unique in its camera."),
        required(
            "polygon",
            Kind::Polygon,
            "Its corners in order, as [x, y] shares of the picture: [0, 0] is the top left corner, [1, 1] the bottom right.",
        ),
        optional("situations", SITUATIONS, "Default: its camera's."),
        optional(
            "line",
            Kind::List(&Kind::List(&Kind::Number(0.0, 1.0), 2, 2), 2, 2),
            "Two points, as [x, y] shares of the picture: what a rule `cross` watches.",
        ),
        optional(
            "permitted",
            Kind::List(&Kind::Map(&WINDOW), 1, 64),
            "When nothing counts here, for example the hours of a permitted market.",
        ),
    ],
};

/// `card.yaml` of a model folder.
pub(crate) static CARD: Shape = Shape {
    name: "card",
    keys: &[
        required("id", Kind::Id, "The name of the folder."),
        required("version", Kind::Text(64), "The author's version."),
        required("licence", Kind::Text(200), "SPDX expression."),
        required("source", Kind::Text(2_000), "Where the model comes from."),
        default("file", Kind::Path, "model.onnx", "The model file."),
        optional("url", Kind::Text(2_000), "Where `huiyan models pull` fetches the model file."),
        required(
            "sha256",
            Kind::WordOr(&["unknown"], &Kind::Sha256),
            "SHA-256 of the model file, in hexadecimal. unknown: until it is known, the model is not used.",
        ),
        required("input", Kind::Map(&INPUT), "What the model takes."),
        required("head", Kind::Word(HEAD_NAMES), "How its output is read."),
        optional("output", Kind::Map(&OUTPUT), "Where this export differs from what is usual for the head."),
        optional(
            "classes",
            Kind::List(&Kind::Text(64), 1, 10_000),
            "Its classes, in its order; - for an output that means nothing.",
        ),
        optional("classes_file", Kind::Path, "Instead of `classes`: a text file with one class per line."),
        optional("thresholds", Kind::Map(&THRESHOLDS), "Of the post-processing."),
        default(
            "batch",
            Kind::WordOr(&["dynamic"], &Kind::Whole(1, 1_024)),
            "dynamic",
            "dynamic: any number of pictures at once. N: exactly N.",
        ),
        optional("notes", Kind::Text(10_000), "What it is for and what not."),
    ],
};

const PER_PLANE: Kind = Kind::List(&Kind::Number(-1e4, 1e4), 3, 3);

static INPUT: Shape = Shape {
    name: "input",
    keys: &[
        required("width", Kind::Whole(32, 8_192), "Pixels per row."),
        required("height", Kind::Whole(32, 8_192), "Rows."),
        optional("name", Kind::Text(200), "The input that takes the picture, where the file has several."),
        default(
            "layout",
            Kind::Word(&["nchw", "nhwc"]),
            "nchw",
            "nchw: one plane per colour. nhwc: the colours of a pixel side by side.",
        ),
        required("channels", Kind::Word(&["rgb", "bgr"]), "Order of the colours."),
        default("mean", PER_PLANE, "[0, 0, 0]", "Subtracted from the 8-bit samples, per plane."),
        default("deviation", PER_PLANE, "[1, 1, 1]", "What is left is divided by this, per plane."),
        required(
            "resize",
            Kind::Word(&["letterbox_top_left", "letterbox_centre", "stretch"]),
            "How a picture is made to fit.",
        ),
        default(
            "filter",
            Kind::Word(&["smooth", "linear"]),
            "smooth",
            "How samples are mixed. smooth: as PIL and torchvision do. linear: as OpenCV does.",
        ),
        default("pad", Kind::Whole(0, 255), "114", "Fill of a letterbox."),
        optional(
            "extra",
            Kind::Table(&Kind::Word(&["height_width", "width_height", "ones"])),
            "Inputs beside the picture, and what they are told: the input's size, or 1 and 1.",
        ),
    ],
};

/// Where an export differs from what is usual for its head. Which keys a head takes: `Head::options`.
pub(crate) static OUTPUT: Shape = Shape {
    name: "output",
    keys: &[
        optional(
            "names",
            Kind::List(&Kind::Text(200), 1, 16),
            "Names of the output tensors, in the order of the head's parts. Default: found by their shapes.",
        ),
        optional(
            "strides",
            Kind::List(&Kind::Whole(1, 1_024), 1, 8),
            "Pixels of the input per cell of each grid. Default: 8, 16, 32 (nanodet and picodet: and 64).",
        ),
        optional(
            "reg_max",
            Kind::Whole(1, 64),
            "Distances are spread over one bin more than this. Default: 7.",
        ),
        optional(
            "centre",
            Kind::Number(0.0, 1.0),
            "Where a cell's point lies: 0 in its corner, 0.5 in its middle. Default: 0.5 for picodet, else 0.",
        ),
        optional(
            "activation",
            Kind::Word(&["none", "sigmoid", "softmax"]),
            "What scores still have to go through. Default: sigmoid for detr and rtmdet, softmax for classifier, else none.",
        ),
        optional(
            "boxes",
            Kind::Word(&["grid", "pixels", "unit"]),
            "What coordinates are: offsets in a grid, pixels of the input, or shares of it. Default: grid for yolox, unit \
             for ssd, else pixels.",
        ),
        optional(
            "anchors",
            Kind::List(&Kind::List(&Kind::Number(0.1, 1e5), 2, 64), 1, 8),
            "Per stride width, height, width, height, ... of the anchors. Default: those of YOLOv5.",
        ),
        optional(
            "first_class",
            Kind::Whole(0, 1_000),
            "Label of the first class. Default: 1 for ssd, else 0.",
        ),
    ],
};

pub(crate) static THRESHOLDS: Shape = Shape {
    name: "thresholds",
    keys: &[
        default("score", Kind::Number(0.0, 1.0), "0.4", "Detections below it are dropped."),
        default(
            "nms_iou",
            Kind::Number(0.0, 1.0),
            "0.5",
            "Boxes of a class that overlap more are one thing.",
        ),
    ],
};

/// Every key, with the name of the map that holds it.
#[cfg(test)]
pub(crate) fn all_keys() -> Vec<(&'static str, &'static crate::shape::Key)> {
    fn visit(shape: &'static Shape, out: &mut Vec<(&'static str, &'static crate::shape::Key)>) {
        for key in shape.keys {
            out.push((shape.name, key));
            visit_kind(&key.kind, out);
        }
    }
    fn visit_kind(kind: &'static Kind, out: &mut Vec<(&'static str, &'static crate::shape::Key)>) {
        match kind {
            Kind::Map(shape) => visit(shape, out),
            Kind::Table(of) | Kind::List(of, ..) | Kind::WordOr(_, of) => visit_kind(of, out),
            _ => {}
        }
    }
    let mut out = vec![];
    visit(&ROOT, &mut out);
    visit(&CARD, &mut out);
    out
}
