//! A made-up fleet of the size of a county, to try the program and measure it with. Town names are those of
//! Huinan county; everything else (streets, addresses, grid codes, positions) is invented.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use fastrand::Rng;

/// Name in file names, Chinese name, share of the cameras in percent.
const TOWNS: [(&str, &str, usize); 11] = [
    ("chaoyang", "朝阳镇", 40),
    ("huinan", "辉南镇", 9),
    ("yangzishao", "样子哨镇", 8),
    ("shansonggang", "杉松岗镇", 8),
    ("fumin", "抚民镇", 7),
    ("shidaohe", "石道河镇", 6),
    ("huifacheng", "辉发城镇", 6),
    ("jinchuan", "金川镇", 5),
    ("tuanlin", "团林镇", 4),
    ("qingyang", "庆阳镇", 4),
    ("loujie", "楼街朝鲜族乡", 3),
];
const STREETS: [&str; 12] = [
    "人民大街",
    "爱民路",
    "朝阳街",
    "兴工路",
    "站前街",
    "建设路",
    "西环路",
    "育才街",
    "龙岗路",
    "富强街",
    "东市街",
    "河堤路",
];
const ESTATES: [&str; 12] = [
    "富民社区",
    "光明社区",
    "团结社区",
    "永康社区",
    "西安社区",
    "滨河小区",
    "爱民社区",
    "幸福小区",
    "东风社区",
    "北山小区",
    "世纪花园",
    "工农社区",
];
const SPOTS: [&str; 8] = ["东门", "西门", "南门", "北门", "路口", "市场", "校门前", "消防通道"];
const ZONES: [(&str, &str, &str); 4] = [
    ("road", "[[0.05, 0.55], [0.95, 0.5], [1, 1], [0, 1]]", "[illegal_parking, road_obstructed]"),
    ("pavement", "[[0, 0.4], [0.35, 0.38], [0.2, 0.9], [0, 0.95]]", "[street_vending, shop_overflow]"),
    ("fire-lane", "[[0.4, 0.3], [0.6, 0.3], [0.75, 0.98], [0.25, 0.98]]", "[illegal_parking]"),
    ("gate", "[[0.3, 0.35], [0.7, 0.35], [0.8, 0.8], [0.5, 0.95], [0.2, 0.8]]", "[street_vending]"),
];
const LOGINS: usize = 12;

/// How large the fleet is and where its model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Cameras of class `community`.
    pub community: usize,
    /// Cameras of class `public_security`.
    pub public_security: usize,
    /// Cameras of class `eagle_eye`.
    pub eagle_eye: usize,
    /// Grids (网格); at least 1.
    pub grids: usize,
    /// The same seed gives the same files.
    pub seed: u64,
    /// Folder of the model `street-demo`, as written into the configuration: relative to the new folder, or absolute.
    pub model: PathBuf,
}

impl Default for Options {
    /// The county: 28,000 community, 1,650 public-security and 70 eagle-eye cameras in 485 grids.
    fn default() -> Self {
        Self {
            community: 28_000,
            public_security: 1_650,
            eagle_eye: 70,
            grids: 485,
            seed: 1,
            model: PathBuf::from("../models/street-demo"),
        }
    }
}

impl Options {
    /// A fleet of `cameras` in the county's proportions.
    pub fn of_size(cameras: usize) -> Self {
        let all = Self::default();
        let total = all.cameras();
        let public_security = cameras * all.public_security / total;
        let eagle_eye = cameras * all.eagle_eye / total;
        let community = cameras - public_security - eagle_eye;
        let grids = (cameras * all.grids / total).max(1);
        Self { community, public_security, eagle_eye, grids, ..all }
    }

    /// How many cameras there are in all.
    pub fn cameras(&self) -> usize {
        self.community + self.public_security + self.eagle_eye
    }
}

/// Writes the fleet into `dir`, which must not exist or be empty: `huiyan.yaml`, what it includes, and
/// files with made-up passwords under `secrets/`.
///
/// # Errors
/// `AlreadyExists` where the folder holds something, and whatever writing brings.
pub fn huinan(dir: &Path, options: &Options) -> io::Result<()> {
    if dir.is_dir() && fs::read_dir(dir)?.next().is_some() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is not empty", dir.display())));
    }
    fs::create_dir_all(dir.join("cameras"))?;
    fs::create_dir_all(dir.join("secrets"))?;
    fs::write(dir.join("huiyan.yaml"), main_file(options))?;
    fs::write(dir.join("situations.yaml"), situations())?;
    for login in 1..=LOGINS {
        fs::write(dir.join(format!("secrets/nvr-{login:02}")), format!("made-up-{login:02}\n"))?;
    }
    let mut writer = Writer { rng: Rng::with_seed(options.seed), options, number: 0 };
    let mut left = options.community;
    for (index, (file, _, share)) in TOWNS.iter().enumerate() {
        let last = index == TOWNS.len() - 1;
        let count = if last { left } else { (options.community * share / 100).min(left) };
        left -= count;
        if count > 0 {
            fs::write(dir.join(format!("cameras/{file}.yaml")), writer.community(index, count))?;
        }
    }
    for (class, count) in [("public_security", options.public_security), ("eagle_eye", options.eagle_eye)] {
        if count > 0 {
            fs::write(dir.join(format!("cameras/{class}.yaml")), writer.spread(class, count))?;
        }
    }
    Ok(())
}

fn main_file(options: &Options) -> String {
    let model = serde_json::Value::from(options.model.display().to_string());
    let mut logins = String::new();
    for login in 1..=LOGINS {
        let _ =
            writeln!(logins, "  nvr-{login:02}: {{user: viewer, password: \"file:secrets/nvr-{login:02}\"}}");
    }
    format!(
        "# A made-up fleet of {} cameras in {} grids, seed {}.
site: huinan
worker: node-1
include: [situations.yaml, cameras/*.yaml]
models: {{street-demo: {model}}}
credentials:
{logins}classes:
  community:
    look: {{sampling: keyframes, at_most_every: 2s, at_least_every: 10s}}
    model: street-demo
    situations: [street_vending, illegal_parking]
    credentials: nvr-01
  public_security:
    look: {{sampling: keyframes, at_most_every: 1s, at_least_every: 5s}}
    model: street-demo
    situations: [street_vending, illegal_parking, road_obstructed]
    credentials: nvr-02
  eagle_eye:
    look: {{sampling: keyframes, at_most_every: 5s, at_least_every: 30s}}
    model: street-demo
    situations: [road_obstructed]
    credentials: nvr-03
",
        options.cameras(),
        options.grids,
        options.seed
    )
}

fn situations() -> String {
    let one = |id: &str, zh: &str, classes: &str, at_least: &str| {
        format!(
            "  {id}: {{zh: {zh}, en: {id}, rule: {{dwell: {{classes: [{classes}], at_least: {at_least}}}}}}}\n"
        )
    };
    ["situations:\n".to_owned()]
        .into_iter()
        .chain([
            one("street_vending", "无照经营游商", "tricycle, umbrella", "5min"),
            one("shop_overflow", "店外经营", "goods", "10min"),
            one("illegal_parking", "机动车乱停放", "car", "3min"),
            one("road_obstructed", "占道障碍", "barrier, boxes", "3min"),
        ])
        .collect()
}

struct Writer<'o> {
    rng: Rng,
    options: &'o Options,
    number: usize,
}

impl Writer<'_> {
    /// Residential areas of one town: recorders of 32 channels, mostly the class's own settings.
    fn community(&mut self, town: usize, count: usize) -> String {
        let mut out = String::from("cameras:\n");
        for index in 0..count {
            self.number += 1;
            let estate = ESTATES[(index / 32) % ESTATES.len()];
            let name = format!("{}{estate}{}号楼{}", TOWNS[town].1, 1 + self.rng.usize(..30), self.spot());
            let _ = writeln!(out, "  - id: hn-c-{:05}\n    class: community", self.number);
            self.common(&mut out, town, &name, index / 32, index % 32 + 1);
            // The login of the recorder; every fourth camera keeps that of its class.
            if !index.is_multiple_of(4) {
                let _ = writeln!(out, "    credentials: nvr-{:02}", 1 + (index / 32) % LOGINS);
            }
            if self.rng.usize(..10) < 7 {
                let zones = 1 + self.rng.usize(..2);
                self.zones(&mut out, zones);
            }
        }
        out
    }

    /// Cameras of the other classes, spread over all towns.
    fn spread(&mut self, class: &str, count: usize) -> String {
        let mut out = String::from("cameras:\n");
        for index in 0..count {
            self.number += 1;
            let town = index % TOWNS.len();
            let letter = &class[..1];
            let name = format!("{}{}{}", TOWNS[town].1, self.street(), self.spot());
            let _ = writeln!(out, "  - id: hn-{letter}-{:05}\n    class: {class}", self.number);
            self.common(&mut out, town, &name, 200 + index / 16, index % 16 + 1);
            if class == "public_security" {
                self.zones(&mut out, 2);
            }
        }
        out
    }

    fn common(&mut self, out: &mut String, town: usize, name: &str, recorder: usize, channel: usize) {
        let grid = 1 + (town + self.rng.usize(..) % self.options.grids) % self.options.grids;
        let address = format!("{}{}号", self.street(), 1 + self.rng.usize(..300));
        let (x, y) = (126.0 + self.rng.f64() * 0.6, 42.3 + self.rng.f64() * 0.5);
        let _ = writeln!(
            out,
            "    name: {name}\n    address: {address}\n    grid: \"220523{grid:06}\"\n    location: {{x: {x:.6}, y: {y:.6}, crs: wgs84}}\n    \
             url: rtsp://10.{}.{}.{}:554/Streaming/Channels/{channel}02",
            20 + town,
            recorder / 250,
            1 + recorder % 250,
        );
    }

    fn zones(&mut self, out: &mut String, count: usize) {
        out.push_str("    zones:\n");
        let first = self.rng.usize(..ZONES.len());
        for index in 0..count {
            let (id, polygon, situations) = ZONES[(first + index) % ZONES.len()];
            let _ = writeln!(out, "      - {{id: {id}, polygon: {polygon}, situations: {situations}}}");
        }
    }

    fn street(&mut self) -> &'static str {
        STREETS[self.rng.usize(..STREETS.len())]
    }

    fn spot(&mut self) -> &'static str {
        SPOTS[self.rng.usize(..SPOTS.len())]
    }
}
