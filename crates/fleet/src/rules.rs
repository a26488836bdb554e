//! Reads situations, their rules and calendars.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flow::{ClassName, SituationId};
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;

use crate::calendar::{Holidays, Window};
use crate::check::{Entry, Fields, Item, Value};
use crate::codes::CodeSets;
use crate::confirm;
use crate::load::{Context, situation_id};
use crate::mistake::{Path, Place, Problem, listed};
use crate::rule_shapes::CONDITIONS;
use crate::sources::read_bounded;
use crate::tables::{Known, Model};
use crate::{
    Calendar, Confirmed, Count, Coverage, Cross, Direction, Dwell, Per, Perspective, Rule, RuleKind,
    Situation, Together,
};

/// Bytes of a file of holidays.
const MAX_HOLIDAYS: u64 = 1 << 20;

/// What all calendars of a site share.
pub(crate) struct Clock {
    zone: TimeZone,
    holidays: Arc<BTreeSet<Date>>,
}

impl Clock {
    pub fn read(root: &Fields, cx: &mut Context<'_>) -> Self {
        let name = root.text("timezone").unwrap_or_default();
        let zone = TimeZone::get(&name).unwrap_or_else(|_| {
            let place =
                root.item("timezone").map_or(Place { file: 0, line: 1, column: 1 }, |item| item.place);
            let problem = Problem::new(
                "is no known time zone",
                "expected a name of the IANA database, such as Asia/Shanghai",
            );
            cx.report.add(place, &Path::Root.key("timezone"), Some(&name), problem);
            TimeZone::UTC
        });
        Self { zone, holidays: Arc::new(holidays(root, cx).unwrap_or_default()) }
    }

    /// The windows of a list. `None`: absent, or wrong and reported.
    pub fn calendar(
        &self,
        fields: &Fields,
        key: &str,
        path: &Path<'_>,
        cx: &mut Context<'_>,
    ) -> Option<Arc<Calendar>> {
        let path = path.key(key);
        let windows = fields.list(key)?.iter().enumerate();
        let windows: Option<Vec<_>> =
            windows.map(|(index, item)| window(item, &path.index(index), cx)).collect();
        let (zone, holidays) = (self.zone.clone(), self.holidays.clone());
        Some(Arc::new(Calendar { zone, holidays, windows: windows? }))
    }
}

/// The dates of the file: one per line, `YYYY-MM-DD`, and what follows is its name.
fn holidays(root: &Fields, cx: &mut Context<'_>) -> Option<BTreeSet<Date>> {
    let item = root.item("holidays")?;
    let name = item.text()?;
    let file = cx.resolve(item.place, name);
    let bytes = match read_bounded(&file, MAX_HOLIDAYS) {
        Ok(bytes) => bytes,
        Err(problem) => {
            cx.report.add(item.place, &Path::Root.key("holidays"), Some(name), problem);
            return None;
        }
    };
    cx.hash_more(&bytes);
    let number = cx.report.add_file(&file);
    let text = String::from_utf8_lossy(&bytes);
    let mut dates = BTreeSet::new();
    for (index, line) in text.lines().enumerate() {
        let Some(word) = line.split('#').next().and_then(|line| line.split_whitespace().next()) else {
            continue;
        };
        match word.parse::<Date>() {
            Ok(date) => drop(dates.insert(date)),
            Err(_) => {
                let place = Place { file: number, line: index as u32 + 1, column: 1 };
                let problem = Problem::new("is no date", "expected YYYY-MM-DD, one per line");
                cx.report.add(place, &Path::Root, Some(word), problem);
            }
        }
    }
    Some(dates)
}

fn window(item: &Item, path: &Path<'_>, cx: &mut Context<'_>) -> Option<Window> {
    let Value::Map(fields) = &item.value else { return None };
    let days = match fields.list("days") {
        Some(items) => items.iter().map(|item| item.text().and_then(weekday)).collect::<Option<Vec<_>>>()?,
        None => ["mon", "tue", "wed", "thu", "fri", "sat", "sun"].into_iter().filter_map(weekday).collect(),
    };
    let from = time(fields, "from", path, cx);
    let to = time(fields, "to", path, cx);
    let dates = dates(fields, path, cx);
    let holidays = match fields.text("holidays")?.as_ref() {
        "only" => Holidays::Only,
        "except" => Holidays::Except,
        _ => Holidays::Included,
    };
    Some(Window { days, from: from?, to: to?, dates: dates?, holidays })
}

fn weekday(name: &str) -> Option<Weekday> {
    Some(match name {
        "mon" => Weekday::Monday,
        "tue" => Weekday::Tuesday,
        "wed" => Weekday::Wednesday,
        "thu" => Weekday::Thursday,
        "fri" => Weekday::Friday,
        "sat" => Weekday::Saturday,
        "sun" => Weekday::Sunday,
        _ => return None,
    })
}

/// `HH:MM`; `24:00` is the next midnight.
fn time(fields: &Fields, key: &str, path: &Path<'_>, cx: &mut Context<'_>) -> Option<Time> {
    let text = fields.text(key)?;
    let two = |part: &str| if part.len() == 2 { part.parse::<i8>().ok() } else { None };
    let parsed = text.split_once(':').and_then(|(hour, minute)| match (two(hour)?, two(minute)?) {
        (24, 0) => Some(Time::midnight()),
        (hour, minute) => Time::new(hour, minute, 0, 0).ok(),
    });
    if parsed.is_none()
        && let Some(item) = fields.item(key)
    {
        let problem =
            Problem::new("is no time of day", "expected HH:MM, in quotes, from \"00:00\" to \"24:00\"");
        cx.report.add(item.place, &path.key(key), Some(&text), problem);
    }
    parsed
}

type YearPart = ((i8, i8), (i8, i8));

/// `Some(None)`: absent. `None`: wrong, and reported.
fn dates(fields: &Fields, path: &Path<'_>, cx: &mut Context<'_>) -> Option<Option<YearPart>> {
    let Some(items) = fields.list("dates") else {
        return if fields.item("dates").is_some() { None } else { Some(None) };
    };
    let mut days = vec![];
    for (index, item) in items.iter().enumerate() {
        let text = item.text()?;
        // A leap year has every day.
        let day = format!("2024-{text}").parse::<Date>().ok();
        match day {
            Some(day) => days.push((day.month(), day.day())),
            None => {
                let problem = Problem::new("is no day of the year", "expected MM-DD, such as \"11-15\"");
                cx.report.add(item.place, &path.key("dates").index(index), Some(text), problem);
            }
        }
    }
    match days[..] {
        [first, last] => Some(Some((first, last))),
        _ => None,
    }
}

/// The classes that situations list, with where.
pub(crate) type ListedClasses = BTreeMap<SituationId, Vec<ListedClass>>;

/// A class that a situation lists.
#[derive(Clone)]
pub(crate) struct ListedClass {
    pub class: ClassName,
    pub place: Place,
    /// In which list of the rule, for messages: `dwell.classes[0]`.
    pub path: String,
}

/// Reads one situation.
pub(crate) fn situation(
    entry: &Entry,
    path: &Path<'_>,
    clock: &Clock,
    codes: &CodeSets,
    models: &Known<Model>,
    all: &mut ListedClasses,
    cx: &mut Context<'_>,
) -> Option<Situation> {
    let Value::Map(fields) = &entry.item.value else { return None };
    let id = situation_id(&entry.name)?;
    let rule = fields.map("rule")?;
    let code = codes.code_of(fields, path, cx);
    let path = path.key("rule");
    let name = condition(rule, fields.item("rule").unwrap_or(&entry.item).place, &path, cx)?;
    let mut reader = ConditionReader { id: &id, name, fields: rule.map(name)?, all };
    let kind = reader.kind(&path, cx);
    let windows = clock.calendar(rule, "windows", &path, cx);
    if rule.item("windows").is_some() && windows.is_none() {
        return None;
    }
    let confirm = confirm::read(rule, name, &path, models, cx)?;
    let min_height = rule.map("min_height").and_then(|fields| {
        Some(Perspective { top: fields.number("top")? as f32, bottom: fields.number("bottom")? as f32 })
    });
    let class_scores = match rule.item("class_scores").map(|item| &item.value) {
        Some(Value::Table(entries)) => entries.iter().map(class_score).collect::<Option<_>>()?,
        _ => BTreeMap::new(),
    };
    let rule = Rule {
        situation: id.clone(),
        kind: kind?,
        min_score: rule.number("min_score")? as f32,
        class_scores,
        min_height,
        update_every: rule.duration("update_every")?,
        end_after: rule.duration("end_after")?,
        cooldown: rule.duration("cooldown")?,
        recurs_within: rule.duration("recurs_within")?,
        same_place_m: rule.number("same_place_m")? as f32,
        cap_per_day: rule.whole("cap_per_day")? as u32,
        windows,
        confirm,
        // Of a model: what looks is known of a camera.
        calibration: None,
    };
    let text = |fields: &Fields, key| fields.text(key).map(Arc::<str>::from);
    let keep_evidence = fields.duration("keep_evidence");
    let (zh, en) = (text(fields, "zh")?, text(fields, "en")?);
    Some(Situation { id, zh, en, code, rule: Arc::new(rule), keep_evidence })
}

fn class_score(entry: &Entry) -> Option<(ClassName, f32)> {
    match entry.item.value {
        Value::Number(score) => Some((ClassName::new(&entry.name), score as f32)),
        _ => None,
    }
}

/// The one condition of a rule.
fn condition(rule: &Fields, place: Place, path: &Path<'_>, cx: &mut Context<'_>) -> Option<&'static str> {
    let written: Vec<_> = CONDITIONS.into_iter().filter(|name| rule.item(name).is_some()).collect();
    match written[..] {
        [one] => Some(one),
        [] => {
            let problem = Problem::new("has no condition", format!("expected one of {}", listed(CONDITIONS)));
            cx.report.add(place, path, None, problem);
            None
        }
        [first, second, ..] => {
            let place = rule.item(second).map_or(place, |item| item.place);
            let problem = format!("stands beside {first}: a rule has one condition");
            cx.report.add(place, &path.key(second), None, Problem::new(problem, "make two situations of it"));
            None
        }
    }
}

struct ConditionReader<'a> {
    id: &'a SituationId,
    name: &'static str,
    fields: &'a Fields,
    all: &'a mut ListedClasses,
}

impl ConditionReader<'_> {
    fn kind(&mut self, path: &Path<'_>, cx: &mut Context<'_>) -> Option<RuleKind> {
        Some(match self.name {
            "dwell" => RuleKind::Dwell(self.things(self.fields.text("per")?.as_ref())?),
            "together" => RuleKind::Together(Together {
                things: self.things("group")?,
                with: self.classes("with")?,
                share: self.fields.number("share")? as f32,
            }),
            "coverage" => RuleKind::Coverage(Coverage {
                share: self.fields.number("share")? as f32,
                at_least: self.fields.duration("at_least")?,
            }),
            "count" => RuleKind::Count(self.count(path, cx)?),
            "cross" => RuleKind::Cross(Cross {
                classes: self.classes("classes")?,
                direction: match self.fields.text("direction")?.as_ref() {
                    "to_left" => Direction::ToLeft,
                    "to_right" => Direction::ToRight,
                    _ => Direction::Any,
                },
            }),
            _ => RuleKind::Model(Confirmed {
                classes: self.classes("classes")?,
                at_least: self.fields.duration("at_least")?,
                share: self.fields.number("share")? as f32,
            }),
        })
    }

    fn things(&mut self, per: &str) -> Option<Dwell> {
        Some(Dwell {
            classes: self.classes("classes")?,
            at_least: self.fields.duration("at_least")?,
            drift: self.fields.number("drift")? as f32,
            per: if per == "group" { Per::Group } else { Per::Thing },
        })
    }

    fn count(&mut self, path: &Path<'_>, cx: &mut Context<'_>) -> Option<Count> {
        let from = self.fields.whole("from")? as u32;
        let below = match self.fields.item("below") {
            Some(_) => self.fields.whole("below")? as u32,
            None => from,
        };
        if let (true, Some(item)) = (below > from, self.fields.item("below")) {
            let problem = Problem::new(format!("is more than from, {from}"), "expected below <= from");
            let path = path.key("count");
            cx.report.add(item.place, &path.key("below"), Some(&below.to_string()), problem);
            return None;
        }
        let at_least = self.fields.duration("at_least")?;
        Some(Count { classes: self.classes("classes")?, from, below, at_least })
    }

    fn classes(&mut self, key: &str) -> Option<Vec<ClassName>> {
        let items = self.fields.list(key)?;
        let classes: Option<Vec<_>> =
            items.iter().map(|item| Some((ClassName::new(item.text()?), item.place))).collect();
        let classes = classes?;
        let all = self.all.entry(self.id.clone()).or_default();
        all.extend(classes.iter().enumerate().map(|(index, (class, place))| ListedClass {
            class: class.clone(),
            place: *place,
            path: format!("{}.{key}[{index}]", self.name),
        }));
        Some(classes.into_iter().map(|(class, _)| class).collect())
    }
}
