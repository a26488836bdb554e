//! The keys of situations and their rules.

use std::time::Duration;

use crate::shape::{Kind, Shape, default, optional, required};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
const DAY: u64 = 86_400_000;
const CLASSES: Kind = Kind::List(&Kind::Text(64), 1, 1_024);
const AT_LEAST: Kind = Kind::Duration(ms(100), ms(7 * DAY));
const SHARE: Kind = Kind::Number(0.0, 1.0);

/// The conditions, of which a rule has exactly one.
pub(crate) const CONDITIONS: [&str; 6] = ["dwell", "together", "coverage", "count", "cross", "model"];

pub(crate) static SITUATION: Shape = Shape {
    name: "situation",
    keys: &[
        required("zh", Kind::Text(64), "Chinese name."),
        required("en", Kind::Text(64), "English name."),
        optional("codes", Kind::Table(&Kind::Text(32)), "Its number by numbering, one of `code_sets`."),
        required("rule", Kind::Map(&RULE), "How it is recognised."),
        optional(
            "keep_evidence",
            crate::evidence::KEEP,
            "Its evidence pictures are deleted after this long. Default: as the camera's class says, else evidence.keep.",
        ),
    ],
};

/// A file of `code_sets`.
pub(crate) static CODE_SET: Shape = Shape {
    name: "code set",
    keys: &[
        required("version", Kind::Text(32), "Edition of the table; events carry it."),
        required(
            "status",
            Kind::Word(&["verified", "unverified"]),
            "Whether the numbers were compared with the standard's own text.",
        ),
        required("source", Kind::Text(1_000), "Where the numbers come from."),
        required("codes", Kind::Table(&Kind::Text(64)), "Name by number."),
    ],
};

static RULE: Shape = Shape {
    name: "rule",
    keys: &[
        optional("dwell", Kind::Map(&DWELL), "Things stay where they are, inside a zone, for some time."),
        optional("together", Kind::Map(&TOGETHER), "Such things with others beside them."),
        optional(
            "coverage",
            Kind::Map(&COVERAGE),
            "A share of the zone is covered by anything that stays, known to the model or not.",
        ),
        optional("count", Kind::Map(&COUNT), "At least so many in the zone for some time."),
        optional("cross", Kind::Map(&CROSS), "The zone's line is crossed."),
        optional(
            "model",
            Kind::Map(&MODEL),
            "The model's own class for the situation, confirmed over time, wherever in the zone.",
        ),
        default("min_score", SHARE, "0.4", "Detections below this score do not count."),
        optional("class_scores", Kind::Table(&SHARE), "Another `min_score` for these classes."),
        optional("min_height", Kind::Map(&MIN_HEIGHT), "Things lower than this do not count."),
        default(
            "update_every",
            Kind::Duration(ms(1_000), ms(DAY)),
            "60s",
            "How often `updated` is sent while the situation lasts.",
        ),
        default(
            "end_after",
            Kind::Duration(ms(0), ms(DAY)),
            "10s",
            "It must have been gone for this long, on clear looks, before `ended`.",
        ),
        default(
            "cooldown",
            Kind::Duration(ms(0), ms(7 * DAY)),
            "0s",
            "After `ended`, nothing begins in the same place for this long.",
        ),
        default(
            "recurs_within",
            Kind::Duration(ms(0), ms(30 * DAY)),
            "24h",
            "A situation in the same place within this time after another says which: the same problem again.",
        ),
        default(
            "same_place_m",
            Kind::Number(0.0, 1_000.0),
            "50",
            "What another camera tells of within so many metres, at the same time, is the same problem; both need `ground`. \
             Less where things stand side by side, such as parked cars. 0: never.",
        ),
        default(
            "cap_per_day",
            Kind::Whole(1, 100_000),
            "20",
            "So many begin in 24 hours, in one zone; of more, only their number is told, in the camera's health.",
        ),
        optional(
            "windows",
            Kind::List(&Kind::Map(&WINDOW), 1, 64),
            "When it applies; default: always. Time outside does not count.",
        ),
        optional(
            "confirm",
            Kind::Map(&CONFIRM),
            "A second model that looks at the place of a situation before it is told of; default: none.",
        ),
    ],
};

static CONFIRM: Shape = Shape {
    name: "confirm",
    keys: &[
        required("model", Kind::Name("model"), "One of `models`, with the head classifier."),
        required("accept", CLASSES, "Its classes that confirm; any other holds the situation back."),
        default("at_least", SHARE, "0.6", "How sure it must be."),
        default(
            "margin",
            Kind::Number(0.0, 2.0),
            "0.3",
            "What it sees around the things, on every side, as a share of their box.",
        ),
        default(
            "again_after",
            Kind::Duration(ms(1_000), ms(DAY)),
            "30s",
            "After a rejection it is asked again when this long has passed and the things still stand.",
        ),
        default(
            "tries",
            Kind::Whole(1, 1_000),
            "3",
            "Rejected so often, they are left alone until they leave or others join them.",
        ),
    ],
};

const PER: Kind = Kind::Word(&["thing", "group"]);
const DRIFT_DOC: &str = "A thing stays while its middle moves less than this share of its box's diagonal.";

static DWELL: Shape = Shape {
    name: "dwell",
    keys: &[
        required("classes", CLASSES, "Classes of the model that count."),
        default("at_least", AT_LEAST, "3min", "For how long they must stay."),
        default("drift", Kind::Number(0.01, 10.0), "0.25", DRIFT_DOC),
        default(
            "per",
            PER,
            "thing",
            "thing: each thing is a situation of its own. group: things that stand side by side are one.",
        ),
    ],
};

static TOGETHER: Shape = Shape {
    name: "together",
    keys: &[
        required("classes", CLASSES, "Classes of the model that stay; side by side they are one group."),
        required("with", CLASSES, "Classes of which one must be beside them; these may move."),
        default("share", SHARE, "0.3", "On at least this share of the looks."),
        default("at_least", AT_LEAST, "3min", "For how long they must stay."),
        default("drift", Kind::Number(0.01, 10.0), "0.25", DRIFT_DOC),
    ],
};

static COVERAGE: Shape = Shape {
    name: "coverage",
    keys: &[
        default(
            "share",
            Kind::Number(0.001, 1.0),
            "0.05",
            "Share of the zone from which it begins; it ends below half of it.",
        ),
        default("at_least", AT_LEAST, "5min", "For how long it must stay."),
    ],
};

static COUNT: Shape = Shape {
    name: "count",
    keys: &[
        required("classes", CLASSES, "Classes of the model that count."),
        required("from", Kind::Whole(1, 10_000), "From how many on it begins."),
        optional("below", Kind::Whole(1, 10_000), "Below how many it ends; default: `from`."),
        default("at_least", AT_LEAST, "3min", "For how long there must be so many."),
    ],
};

static CROSS: Shape = Shape {
    name: "cross",
    keys: &[
        required("classes", CLASSES, "Classes of the model that count."),
        default(
            "direction",
            Kind::Word(&["any", "to_left", "to_right"]),
            "any",
            "Which way, seen from the line's first point to its second.",
        ),
    ],
};

static MODEL: Shape = Shape {
    name: "model",
    keys: &[
        required("classes", CLASSES, "Classes of the model that say so."),
        default("at_least", AT_LEAST, "1min", "For how long it must be seen."),
        default("share", SHARE, "0.6", "On at least this share of the looks."),
    ],
};

static MIN_HEIGHT: Shape = Shape {
    name: "min_height",
    keys: &[
        required("top", SHARE, "Of a thing at the picture's upper edge, as a share of the picture's height."),
        required("bottom", SHARE, "Of a thing at its lower edge; in between it grows evenly."),
    ],
};

/// One window of a calendar.
pub(crate) static WINDOW: Shape = Shape {
    name: "window",
    keys: &[
        default(
            "days",
            Kind::List(&Kind::Word(&["mon", "tue", "wed", "thu", "fri", "sat", "sun"]), 1, 7),
            "[mon, tue, wed, thu, fri, sat, sun]",
            "Days of the week.",
        ),
        default("from", Kind::Text(5), "00:00", "Time of the site's clock."),
        default("to", Kind::Text(5), "24:00", "Until then; at or before `from`: on the next day."),
        optional("dates", Kind::List(&Kind::Text(5), 2, 2), "First and last day of the year's part, MM-DD."),
        default(
            "holidays",
            Kind::Word(&["included", "except", "only"]),
            "included",
            "included: days like others. except: closed on them. only: open on them alone, whatever the weekday.",
        ),
    ],
};
