//! The topics, built and parsed in one place.

use std::fmt;
use std::str::FromStr;

use flow::{CameraId, EventId, IdError, SituationId};

use super::Role;

/// Root of every topic; the number, the contract's version, changes when a body changes its meaning.
pub(crate) const ROOT: &str = "huiyan/v1";

/// A topic. `Display` writes it, `FromStr` reads it; both ways hold only names that are safe in a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// `huiyan/v1/{site}/event/{situation}/{camera}`: an [`super::EventMessage`]; QoS 1, not retained.
    Event {
        /// Site.
        site: String,
        /// Kind of situation.
        situation: SituationId,
        /// Camera.
        camera: CameraId,
    },
    /// `huiyan/v1/{site}/open/{camera}/{event}`: the latest [`super::EventMessage`] of a situation that lasts;
    /// retained, empty once it ended.
    Open {
        /// Site.
        site: String,
        /// Camera.
        camera: CameraId,
        /// Situation's event id.
        event: EventId,
    },
    /// `huiyan/v1/{site}/evidence/{event}/{role}`: a JPEG; not retained.
    Evidence {
        /// Site.
        site: String,
        /// Situation's event id.
        event: EventId,
        /// What the picture shows.
        role: Role,
    },
    /// `huiyan/v1/{site}/camera/{camera}/health`: a [`super::HealthMessage`]; retained.
    Health {
        /// Site.
        site: String,
        /// Camera.
        camera: CameraId,
    },
    /// `huiyan/v1/{site}/worker/{worker}/status`: a [`super::WorkerStatus`]; retained, also the last will.
    Worker {
        /// Site.
        site: String,
        /// Worker.
        worker: String,
    },
    /// `huiyan/v1/{site}/command/{camera}/look`: a request to look now.
    Look {
        /// Site.
        site: String,
        /// Camera.
        camera: CameraId,
    },
    /// `huiyan/v1/{site}/receipt/{event}`: a [`super::Receipt`] from whoever opens cases.
    Receipt {
        /// Site.
        site: String,
        /// Situation's event id.
        event: EventId,
    },
    /// `huiyan/v1/{site}/verdict/{event}`: what a person at the desk decided.
    Verdict {
        /// Site.
        site: String,
        /// Situation's event id.
        event: EventId,
    },
}

/// A text that is no topic of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Another root, another number of levels, or an unknown kind.
    #[error("{0:?} is no topic of {ROOT}; expected for example {ROOT}/SITE/event/SITUATION/CAMERA")]
    Unknown(String),
    /// A level that cannot be what its place says.
    #[error("{topic:?}: {level} {why}")]
    Level {
        /// The whole topic.
        topic: String,
        /// Which level.
        level: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl Topic {
    /// Checks that `name` can be a level of a topic, as site and worker have to: the alphabet of the ids.
    pub fn check_level(name: &str) -> Result<(), IdError> {
        CameraId::new(name).map(drop)
    }

    /// The filter that matches every event of a site.
    pub fn all_events(site: &str) -> String {
        format!("{ROOT}/{site}/event/#")
    }

    /// The filter that matches every verdict of a site.
    pub fn all_verdicts(site: &str) -> String {
        format!("{ROOT}/{site}/verdict/+")
    }

    /// The filter that matches every request to look of a site.
    pub fn all_looks(site: &str) -> String {
        format!("{ROOT}/{site}/command/+/look")
    }

    /// Below this go the answers to requests.
    pub fn replies(site: &str) -> String {
        format!("{ROOT}/{site}/reply")
    }

    /// The filter that matches every evidence picture of a site.
    pub fn all_evidence(site: &str) -> String {
        format!("{ROOT}/{site}/evidence/#")
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ROOT}/")?;
        match self {
            Self::Event { site, situation, camera } => write!(f, "{site}/event/{situation}/{camera}"),
            Self::Open { site, camera, event } => write!(f, "{site}/open/{camera}/{event}"),
            Self::Evidence { site, event, role } => write!(f, "{site}/evidence/{event}/{role}"),
            Self::Health { site, camera } => write!(f, "{site}/camera/{camera}/health"),
            Self::Worker { site, worker } => write!(f, "{site}/worker/{worker}/status"),
            Self::Look { site, camera } => write!(f, "{site}/command/{camera}/look"),
            Self::Receipt { site, event } => write!(f, "{site}/receipt/{event}"),
            Self::Verdict { site, event } => write!(f, "{site}/verdict/{event}"),
        }
    }
}

impl FromStr for Topic {
    type Err = TopicError;

    fn from_str(topic: &str) -> Result<Self, TopicError> {
        let short = || topic.chars().take(256).collect();
        let unknown = || TopicError::Unknown(short());
        let level = |level, why: String| TopicError::Level { topic: short(), level, why };
        let rest = topic.strip_prefix(ROOT).and_then(|r| r.strip_prefix('/')).ok_or_else(unknown)?;
        let name = |place, text: &str| match Self::check_level(text) {
            Ok(()) => Ok(text.to_owned()),
            Err(error) => Err(level(place, error.to_string())),
        };
        let camera = |text| CameraId::new(text).map_err(|e| level("camera", e.to_string()));
        let event = |text| EventId::parse(text).map_err(|e| level("event", e.to_string()));
        let levels: Vec<&str> = rest.splitn(6, '/').collect();
        let (site, rest) = levels.split_first().ok_or_else(unknown)?;
        let site = name("site", site)?;
        Ok(match *rest {
            ["event", s, c] => Self::Event {
                site,
                situation: SituationId::new(s).map_err(|e| level("situation", e.to_string()))?,
                camera: camera(c)?,
            },
            ["open", c, e] => Self::Open { site, camera: camera(c)?, event: event(e)? },
            ["evidence", e, r] => Self::Evidence {
                site,
                event: event(e)?,
                role: r
                    .parse()
                    .map_err(|()| level("role", "is none of first, near, latest, clear".into()))?,
            },
            ["camera", c, "health"] => Self::Health { site, camera: camera(c)? },
            ["worker", w, "status"] => Self::Worker { site, worker: name("worker", w)? },
            ["command", c, "look"] => Self::Look { site, camera: camera(c)? },
            ["receipt", e] => Self::Receipt { site, event: event(e)? },
            ["verdict", e] => Self::Verdict { site, event: event(e)? },
            _ => return Err(unknown()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0193d1a4-5c00-7e6b-8a13-2f6f9b1c7d11";

    #[test]
    fn every_topic_reads_back_as_what_it_was() {
        for text in [
            "huiyan/v1/huinan/event/illegal_parking/hn-0001".to_owned(),
            format!("huiyan/v1/huinan/open/hn-0001/{ID}"),
            format!("huiyan/v1/huinan/evidence/{ID}/first"),
            format!("huiyan/v1/huinan/evidence/{ID}/clear"),
            "huiyan/v1/huinan/camera/hn-0001/health".to_owned(),
            "huiyan/v1/huinan/worker/w1/status".to_owned(),
            "huiyan/v1/huinan/command/hn-0001/look".to_owned(),
            format!("huiyan/v1/huinan/receipt/{ID}"),
            format!("huiyan/v1/huinan/verdict/{ID}"),
        ] {
            assert_eq!(text.parse::<Topic>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_topic_of_ours_is_refused_with_the_level() {
        let fails = |text: &str| text.parse::<Topic>().unwrap_err().to_string();
        assert!(fails("huiyan/v2/a/event/s/c").contains("is no topic of huiyan/v1"));
        assert!(fails("huiyan/v1").contains("is no topic"));
        assert!(fails("huiyan/v1/a/event/s/c/more").contains("is no topic"));
        assert!(fails("huiyan/v1/a/event/s/+").contains("camera holds '+'"));
        assert!(fails("huiyan/v1/a/receipt/7").contains("event "));
        assert!(fails(&format!("huiyan/v1/a/evidence/{ID}/..")).contains("role is none of first"));
        assert!(fails(&format!("huiyan/v1//evidence/{ID}/first")).contains("site is empty"));
    }
}
