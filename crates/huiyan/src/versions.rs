//! The models in use, and new versions of them taking over while the program runs.
//!
//! A new version is a model's folder with another card and file. It is noticed when the program is told to look
//! (SIGHUP) or by itself within half a minute, is held against the rules and against its own card, and takes over without a lost
//! look. One that fails changes nothing, and is said once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use anyhow::{Context as _, bail};
use fleet::{Camera, Fleet, Head, ModelCard};
use flow::ModelId;
use infer::{Confirmer, Detector, Gate};
use publish::ModelInfo;
use sha2::{Digest, Sha256};

use crate::{UserError, confirm};

/// What events say about each version of each model that has looked since the start.
#[derive(Default)]
pub struct Infos(RwLock<HashMap<(ModelId, Arc<str>), ModelInfo>>);

impl Infos {
    fn add(&self, card: &ModelCard) {
        let key = (card.id.clone(), card.sha256.as_str().into());
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(key, ModelInfo::from(card));
    }

    /// Of the version with these weights; `None` for one that was never loaded.
    pub fn of(&self, model: &ModelId, weights: &Arc<str>) -> Option<ModelInfo> {
        let infos = self.0.read().unwrap_or_else(PoisonError::into_inner);
        infos.get(&(model.clone(), weights.clone())).cloned()
    }
}

/// One model in use.
struct InUse {
    dir: PathBuf,
    card: ModelCard,
    /// SHA-256 of the card's text when it was last looked at: what failed is not tried again before it changes.
    seen: Option<[u8; 32]>,
    role: Role,
}

/// What a model is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Role {
    /// It looks at cameras' pictures.
    looks: bool,
    /// It is asked before situations begin.
    confirms: bool,
}

/// The models that some camera or rule uses.
pub struct Versions {
    fleet: Arc<Fleet>,
    /// What events say about them.
    pub infos: Arc<Infos>,
    in_use: Mutex<BTreeMap<ModelId, InUse>>,
}

impl Versions {
    /// Reads the cards of the models that some camera uses, or some rule.
    pub fn load(fleet: &Arc<Fleet>) -> anyhow::Result<Self> {
        let infos = Arc::new(Infos::default());
        let looking: BTreeSet<_> = fleet.cameras.iter().map(|camera| camera.model.clone()).collect();
        let confirming = confirm::models(fleet.cameras.iter().map(|camera| &**camera));
        let mut in_use = BTreeMap::new();
        for id in looking.union(&confirming) {
            let dir = fleet.models.get(id);
            let dir = dir.with_context(|| format!("model {id} is not configured"))?.clone();
            let seen = digest(&dir);
            let card = ModelCard::load(&dir).map_err(|mistakes| UserError(mistakes.to_string()))?;
            infos.add(&card);
            let role = Role { looks: looking.contains(id), confirms: confirming.contains(id) };
            in_use.insert(id.clone(), InUse { dir, card, seen, role });
        }
        Ok(Self { fleet: fleet.clone(), infos, in_use: Mutex::new(in_use) })
    }

    /// The cards of those that look at cameras, as they are now.
    pub fn cards(&self) -> Vec<ModelCard> {
        self.cards_of(|role| role.looks)
    }

    /// The cards of those that are asked before situations begin.
    pub fn confirming(&self) -> Vec<ModelCard> {
        self.cards_of(|role| role.confirms)
    }

    fn cards_of(&self, wanted: impl Fn(Role) -> bool) -> Vec<ModelCard> {
        let in_use = self.lock();
        in_use.values().filter(|model| wanted(model.role)).map(|model| model.card.clone()).collect()
    }

    /// Lets new versions take over. `asked`: also those that failed before are tried again, and it is said where there is
    /// nothing new. Takes as long as loading a model.
    pub fn renew(&self, users: &Users, gate: &Gate, asked: bool) {
        let ids: Vec<ModelId> = self.lock().keys().cloned().collect();
        for id in ids {
            match self.renew_one(&id, users, gate, asked) {
                Ok(Some(card)) => {
                    tracing::info!(model = %id, version = card.version, sha256 = card.sha256, "a new version has taken over");
                }
                Ok(None) if asked => tracing::info!(model = %id, "no new version"),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(model = %id, "the new version is refused, the old one goes on: {error:#}");
                }
            }
        }
    }

    fn renew_one(
        &self,
        id: &ModelId,
        users: &Users,
        gate: &Gate,
        asked: bool,
    ) -> anyhow::Result<Option<ModelCard>> {
        let (dir, old, role) = {
            let mut in_use = self.lock();
            let Some(model) = in_use.get_mut(id) else { return Ok(None) };
            let now = digest(&model.dir);
            if std::mem::replace(&mut model.seen, now) == now && !asked {
                return Ok(None);
            }
            (model.dir.clone(), model.card.clone(), model.role)
        };
        let card = ModelCard::load(&dir).map_err(|mistakes| anyhow::anyhow!("{mistakes}"))?;
        if card == old {
            return Ok(None);
        }
        self.check_rules(&card)?;
        // While the program stops there is nothing left to take over.
        let Some(detector) = users.detector.upgrade() else { return Ok(None) };
        // Before the first look of the new version, so that its events find it.
        self.infos.add(&card);
        if role.looks {
            detector.swap(card.clone())?;
        }
        if let (true, Some(confirmer)) = (role.confirms, users.confirmer.upgrade()) {
            confirmer.swap(card.clone())?;
        }
        if let Some(model) = self.lock().get_mut(id) {
            model.card = card.clone();
        }
        let uses = |camera: &Arc<Camera>| camera.model == *id;
        let cameras: std::collections::HashSet<_> =
            self.fleet.cameras.iter().filter(|c| uses(c)).map(|c| &c.id).collect();
        gate.forget(|camera| cameras.contains(camera));
        Ok(Some(card))
    }

    /// A version that no longer knows a class that some rule counts would be blind to it, and one that no longer knows what
    /// confirms would hold everything back.
    fn check_rules(&self, card: &ModelCard) -> anyhow::Result<()> {
        for (camera, rule) in confirm::asking(self.fleet.cameras.iter().map(|camera| &**camera)) {
            let Some(confirm) = rule.confirm.as_ref().filter(|confirm| confirm.model == card.id) else {
                continue;
            };
            if card.head != Head::Classifier {
                bail!("{}: head: is no classifier, which {} asks", card.card_path.display(), rule.situation);
            }
            if let Some(class) = confirm.accept.iter().find(|class| !card.classes.contains(class)) {
                bail!(
                    "{}: classes: has no {:?}, which confirms {} at {}",
                    card.card_path.display(),
                    class.as_str(),
                    rule.situation,
                    camera.id
                );
            }
        }
        for camera in self.fleet.cameras.iter().filter(|camera| camera.model == card.id) {
            for rule in camera.zones.iter().flat_map(|zone| &zone.rules) {
                if let Some(class) = rule.kind.classes().find(|class| !card.classes.contains(class)) {
                    bail!(
                        "{}: classes: has no {:?}, which {} counts at {}",
                        card.card_path.display(),
                        class.as_str(),
                        rule.situation,
                        camera.id
                    );
                }
            }
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ModelId, InUse>> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who runs models.
#[derive(Clone)]
pub struct Users {
    /// Looks at cameras.
    pub detector: Weak<Detector>,
    /// Is asked before situations begin; gone where no rule asks.
    pub confirmer: Weak<Confirmer>,
}

/// SHA-256 of the card's text; `None` where it cannot be read.
fn digest(dir: &std::path::Path) -> Option<[u8; 32]> {
    Some(Sha256::digest(std::fs::read(dir.join("card.yaml")).ok()?).into())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use infer::{Options, Runtime};

    use super::*;

    /// A fleet with one camera, and its own copy of the demo's model.
    fn fleet(dir: &Path) -> Arc<Fleet> {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/street-demo");
        let copy = dir.join("street-demo");
        std::fs::create_dir(&copy).unwrap();
        for file in ["card.yaml", "model.onnx"] {
            std::fs::copy(model.join(file), copy.join(file)).unwrap();
        }
        let yaml = "site: test
models: {street-demo: street-demo}
situations: {parking: {zh: 停, en: parking, rule: {dwell: {classes: [car]}}}}
classes: {any: {model: street-demo, situations: [parking]}}
cameras: [{id: a, class: any, url: rtsp://127.0.0.1/}]
";
        Arc::new(Fleet::from_yaml_str(yaml, dir).unwrap())
    }

    /// Writes another model file and changes the card: its hash, and this text into that one.
    fn write(dir: &Path, content: &[u8], (from, to): (&str, &str)) {
        let dir = dir.join("street-demo");
        let card = std::fs::read_to_string(dir.join("card.yaml")).unwrap();
        let hash =
            |bytes: &[u8]| Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
        let old = hash(&std::fs::read(dir.join("model.onnx")).unwrap());
        std::fs::write(dir.join("model.onnx"), content).unwrap();
        assert!(card.contains(from) && card.contains(&old), "{card}");
        std::fs::write(dir.join("card.yaml"), card.replace(&old, &hash(content)).replacen(from, to, 1))
            .unwrap();
    }

    #[test]
    fn a_new_version_takes_over_and_a_broken_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let fleet = fleet(dir.path());
        let versions = Versions::load(&fleet).unwrap();
        let first = versions.cards().remove(0);
        let options = Options { sessions: 1, threads: 1, max_batch: 1, max_delay: Duration::ZERO };
        let id = first.id.clone();
        let detector = Detector::new(
            &Runtime::load(None).unwrap(),
            versions.cards(),
            options,
            move |_| id.clone(),
            drop,
        );
        let detector = Arc::new(detector.unwrap());
        let users = Users { detector: Arc::downgrade(&detector), confirmer: Weak::new() };
        let gate = Gate::new(&fleet.cameras);
        let renew = |asked| versions.renew_one(&first.id, &users, &gate, asked);
        assert_eq!(renew(false).unwrap(), None);

        // The same model with a remark (field 6 of ONNX's `ModelProto`) is another file.
        let mut content = std::fs::read(&first.file).unwrap();
        content.extend([6 << 3 | 2, 4]);
        content.extend(b"next");
        let said = format!("version: {:?}", first.version);
        write(dir.path(), &content, (&said, "version: \"next\""));
        let next = renew(false).unwrap().expect("a new version");
        assert_eq!((next.version.as_str(), next.sha256 != first.sha256), ("next", true));
        assert_eq!(renew(true).unwrap(), None, "it is in use");
        // Events of looks that are still on their way are told apart from those of the new version.
        for card in [&first, &next] {
            let info = versions.infos.of(&card.id, &card.sha256.as_str().into()).unwrap();
            assert_eq!((&info.version, &info.sha256), (&card.version, &card.sha256));
        }

        for (content, change, wanted) in [
            (&content[..content.len() / 2], ("next", "cut"), "no model that ONNX Runtime can load"),
            (&content[..], ("car,", "van,"), "has no \"car\", which parking counts at a"),
            (&content[..], ("van,", ""), "classes"),
        ] {
            write(dir.path(), content, change);
            let error = format!("{:#}", renew(false).unwrap_err());
            assert!(error.contains(wanted), "{error}");
            assert_eq!(renew(false).unwrap(), None, "what failed is not tried again before it changes");
            assert!(renew(true).is_err(), "unless somebody asks");
            assert_eq!(versions.cards(), std::slice::from_ref(&next), "the old one goes on");
        }
        std::fs::remove_dir_all(dir.path().join("street-demo")).unwrap();
        assert!(renew(false).is_err());
        drop(detector);
    }
}
