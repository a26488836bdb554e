//! Events as many cameras make them: a thousand situations begin, then each is updated, then each ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use fleet::{Camera, Fleet, Situation};
use flow::{
    ClassName, Detection, Event, EventId, EventObject, Frame, FrameId, HostPicture, Matrix, NormBox, Phase,
    Plane, Score, SessionId, SituationKey, Timestamp, ZoneId,
};
use publish::Publisher;
use publish::wire::{ModelInfo, Topic};

/// Situations that last at the same time.
const TOGETHER: u64 = 1_000;

pub struct Load {
    site: String,
    camera: Arc<Camera>,
    situation: Arc<Situation>,
    model: ModelInfo,
    seen: Vec<Detection>,
    frame: FrameId,
    began: Timestamp,
    /// Numbers the events; each run of the bench has its own.
    next: u64,
}

impl Load {
    /// Of the fleet's first camera.
    pub fn new(fleet: &Fleet, model: ModelInfo) -> anyhow::Result<Self> {
        let camera = fleet.cameras.first().context("a fleet with a camera")?.clone();
        let situation = fleet.situations.values().next().context("a fleet with a situation")?.clone();
        let frame = FrameId { camera: camera.id.clone(), session: SessionId::next(), sequence: 1 };
        let seen = (0..3)
            .map(|n| {
                let x = 0.1 + 0.2 * n as f32;
                Ok(Detection {
                    class: ClassName::new("car"),
                    score: Score::new(0.8)?,
                    bbox: NormBox::new(x, 0.3, x + 0.15, 0.6)?,
                })
            })
            .collect::<anyhow::Result<_>>()?;
        let (site, began) = (fleet.site.clone(), Timestamp::now());
        Ok(Self { site, camera, situation, model, seen, frame, began, next: 0 })
    }

    /// How many were made.
    pub fn made(&self) -> u64 {
        self.next
    }

    /// The id of event number `n`, and which of its situation's messages it is.
    pub fn id(&self, n: u64) -> (EventId, u32) {
        let (round, sequence) = (n / (3 * TOGETHER), n / TOGETHER % 3);
        let number = round * TOGETHER + n % TOGETHER;
        (EventId::new(self.began, &self.key(), number), sequence as u32)
    }

    fn key(&self) -> SituationKey {
        let zone = self.camera.zones.first().map(|zone| zone.id.clone());
        let zone = zone.unwrap_or_else(|| ZoneId::new("lane").expect("a plain name"));
        SituationKey { camera: self.camera.id.clone(), zone, situation: self.situation.id.clone() }
    }

    fn event(&mut self) -> Event {
        let (id, sequence) = self.id(self.next);
        self.next += 1;
        let now = Timestamp::now();
        let object = |n: usize, seen: &Detection| EventObject {
            class: seen.class.clone(),
            score: seen.score,
            bbox: seen.bbox,
            track: n as u64,
            first_seen: self.began,
        };
        Event {
            id,
            phase: match sequence {
                0 => Phase::Began,
                1 => Phase::Updated,
                _ => Phase::Ended { at: now },
            },
            sequence,
            key: self.key(),
            rule: "dwell",
            first_seen: self.began,
            began: self.began,
            last_seen: now,
            confidence: self.seen[0].score,
            uncalibrated: None,
            objects: self.seen.iter().enumerate().map(|(n, seen)| object(n, seen)).collect(),
            recurs: None,
            place: None,
            same_as: None,
            near: None,
            confirmed_by: None,
            model: self.model.id.clone(),
            frame: self.frame.clone(),
            captured: now,
        }
    }

    /// Hands the next event over, as the scenes do.
    pub fn hand_over(&mut self, publisher: &Publisher, picture: Option<&Frame>) -> anyhow::Result<()> {
        let event = self.event();
        let picture = picture.map(|frame| (frame, self.seen.as_slice()));
        let told = |stored: publish::Stored| {
            if let Err(error) = stored {
                tracing::error!("{error}");
            }
        };
        publisher.hand_over(&[(&event, &self.situation)], &self.camera, &self.model, picture, None, told)?;
        Ok(())
    }

    /// Hands events over at `rate` a second until `over` says so, which is asked each millisecond.
    pub fn run(
        &mut self,
        publisher: &Publisher,
        rate: f64,
        picture: Option<&Frame>,
        mut over: impl FnMut(Duration) -> bool,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut handed = 0.0;
        loop {
            let passed = began.elapsed();
            if over(passed) {
                return Ok(());
            }
            while handed < passed.as_secs_f64() * rate {
                self.hand_over(publisher, picture)?;
                handed += 1.0;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The next event as messages: that of the event, and the retained one. Of the size of ours.
    pub fn messages(&mut self, publisher: &Publisher) -> anyhow::Result<[(String, Bytes); 2]> {
        let event = self.event();
        let ended = matches!(event.phase, Phase::Ended { .. });
        let (site, camera) = (self.site.clone(), self.camera.id.clone());
        let open = Topic::Open { site: site.clone(), camera: camera.clone(), event: event.id }.to_string();
        let topic = Topic::Event { site, situation: self.situation.id.clone(), camera }.to_string();
        let body =
            Bytes::from(publisher.message(&event, &self.camera, &self.situation, &self.model).to_json()?);
        let retained = if ended { Bytes::new() } else { body.clone() };
        Ok([(topic, body), (open, retained)])
    }
}

/// A picture of 640x360 with some structure.
pub fn picture(load: &Load) -> anyhow::Result<Frame> {
    let (width, height) = (640, 360);
    let luma: Vec<u8> = (0..width * height).map(|i| ((i % width) * 3 + (i / width) * 5) as u8).collect();
    let plane = |data: Vec<u8>, stride| Plane { data: data.into(), stride };
    let chroma = || plane(vec![120; width * height / 4], width / 2);
    let planes = [plane(luma, width), chroma(), chroma()];
    let picture = HostPicture::new(width as u32, height as u32, planes, Matrix::Bt601, false)?;
    Ok(Frame::host(load.frame.clone(), Timestamp::now(), picture))
}
