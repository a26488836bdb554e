//! YAML text → a tree whose nodes know their places. Everything that hostile text could make large is
//! bounded here: depth, number of nodes, and what aliases stand for.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use crate::mistake::{Path, Place, Problem, Report};

/// Levels of nesting; the configuration needs nine.
const MAX_DEPTH: usize = 32;
/// Nodes of a file, each alias counted as all that it stands for. A camera takes about fifty.
const MAX_NODES: usize = 4_000_000;

/// A value and where it begins.
#[derive(Debug)]
pub(crate) struct Node {
    pub place: Place,
    pub value: Value,
}

/// What was written, untyped: only the key that it belongs to says what it should be.
#[derive(Debug)]
pub(crate) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// A scalar. `plain`: without quotes.
    Text {
        text: Box<str>,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Pair>),
    /// Has an anchor, or is the alias of one.
    Shared(Rc<Node>),
}

/// One entry of a map.
#[derive(Debug)]
pub(crate) struct Pair {
    pub key: Box<str>,
    pub place: Place,
    pub node: Node,
}

impl Node {
    /// The value, behind its anchor if it has one.
    pub fn value(&self) -> &Value {
        match &self.value {
            Value::Shared(node) => node.value(),
            value => value,
        }
    }
}

/// Reads one document. `None`: it could not be read, and the report says why.
pub(crate) fn parse(text: &str, file: u16, report: &mut Report) -> Option<Node> {
    let mut builder = Builder { file, open: vec![], anchors: HashMap::new(), nodes: 0, root: None, report };
    match builder.run(text) {
        Ok(()) => {
            let start = Place { file, line: 1, column: 1 };
            Some(builder.root.unwrap_or(Node { place: start, value: Value::Null }))
        }
        Err((place, problem)) => {
            report.incomplete = true;
            report.add(place, &Path::Root, None, problem);
            None
        }
    }
}

type Stop = (Place, Problem);

/// A finished node and what it costs to walk it.
struct Sized {
    node: Node,
    nodes: usize,
    height: usize,
}

/// A list or map that is still being read.
struct Open {
    place: Place,
    anchor: usize,
    nodes: usize,
    height: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    Map { pairs: Vec<Pair>, seen: Option<HashMap<Box<str>, Place>>, key: Option<(Box<str>, Place)> },
}

impl Open {
    /// The step of the dotted path that leads into what is being read.
    fn step(&self) -> String {
        match &self.kind {
            OpenKind::List(list) => format!("[{}].", list.len()),
            OpenKind::Map { key: Some((key, _)), .. } => format!("{key}."),
            OpenKind::Map { .. } => String::new(),
        }
    }
}

struct Builder<'r> {
    file: u16,
    open: Vec<Open>,
    anchors: HashMap<usize, (Rc<Node>, usize, usize)>,
    nodes: usize,
    root: Option<Node>,
    report: &'r mut Report,
}

impl Builder<'_> {
    fn run(&mut self, text: &str) -> Result<(), Stop> {
        let mut parser = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| self.syntax(&error))?;
            self.take(event, self.place(&span))?;
        }
        Ok(())
    }

    fn take(&mut self, event: Event<'_>, place: Place) -> Result<(), Stop> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(tag.is_some(), place)?;
                self.scalar(text.into_owned(), style, anchor, place)
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_tag(tag.is_some(), place)?;
                self.begin(place, anchor, OpenKind::List(vec![]))
            }
            Event::MappingStart(anchor, tag) => {
                refuse_tag(tag.is_some(), place)?;
                self.begin(place, anchor, OpenKind::Map { pairs: vec![], seen: None, key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(anchor, place),
            Event::DocumentStart(_) if self.root.is_some() => {
                Err((place, Problem::new("begins a second document", "expected one document per file")))
            }
            _ => Ok(()),
        }
    }

    fn scalar(&mut self, text: String, style: ScalarStyle, anchor: usize, place: Place) -> Result<(), Stop> {
        let plain = style == ScalarStyle::Plain;
        let null = plain && matches!(text.as_str(), "" | "~" | "null");
        let value = if null { Value::Null } else { Value::Text { text: text.into(), plain } };
        self.push(Sized { node: Node { place, value }, nodes: 1, height: 0 }, anchor)
    }

    fn begin(&mut self, place: Place, anchor: usize, kind: OpenKind) -> Result<(), Stop> {
        if self.open.len() >= MAX_DEPTH {
            return Err((place, Problem::new("is nested too deeply", format!("at most {MAX_DEPTH} levels"))));
        }
        // The parser finishes a key before it asks for the value: a key that is a list or map shows here.
        if let Some(Open { kind: OpenKind::Map { key: None, .. }, .. }) = self.open.last() {
            return Err((place, Problem::new("is a list or map used as a key", "expected a plain name")));
        }
        self.open.push(Open { place, anchor, nodes: 1, height: 0, kind });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Stop> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let value = match open.kind {
            OpenKind::List(mut list) => {
                list.shrink_to_fit();
                Value::List(list)
            }
            OpenKind::Map { mut pairs, .. } => {
                pairs.shrink_to_fit();
                Value::Map(pairs)
            }
        };
        // Its own nodes were counted as they came.
        self.nodes -= open.nodes - 1;
        let node = Node { place: open.place, value };
        self.push(Sized { node, nodes: open.nodes, height: open.height + 1 }, open.anchor)
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), Stop> {
        let Some((node, nodes, height)) = self.anchors.get(&anchor) else {
            return Err((place, Problem::new("is an alias inside its own anchor", "expected a value")));
        };
        let (nodes, height) = (*nodes, *height);
        if self.open.len() + height > MAX_DEPTH {
            return Err((place, Problem::new("is nested too deeply", format!("at most {MAX_DEPTH} levels"))));
        }
        let node = Node { place, value: Value::Shared(Rc::clone(node)) };
        self.push(Sized { node, nodes, height }, 0)
    }

    /// Puts a finished node where it belongs.
    fn push(&mut self, sized: Sized, anchor: usize) -> Result<(), Stop> {
        let Sized { mut node, nodes, height } = sized;
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            let expected = format!("at most {MAX_NODES} values per file; split it and use `include`");
            return Err((
                node.place,
                Problem::new("makes the file too large (aliases count in full)", expected),
            ));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.nodes += nodes;
        open.height = open.height.max(height);
        if let OpenKind::Map { key: key @ None, .. } = &mut open.kind {
            *key = Some(key_of(node)?);
            return Ok(());
        }
        if anchor > 0 {
            let (place, shared) = (node.place, Rc::new(node));
            self.anchors.insert(anchor, (Rc::clone(&shared), nodes, height));
            node = Node { place, value: Value::Shared(shared) };
        }
        match &mut open.kind {
            OpenKind::List(list) => list.push(node),
            OpenKind::Map { pairs, seen, key } => {
                let Some((name, place)) = key.take() else { return Ok(()) };
                if let Some(first) = earlier(pairs, seen, &name) {
                    self.written_twice(name, place, first);
                    return Ok(());
                }
                if let Some(seen) = seen {
                    seen.insert(name.clone(), place);
                }
                pairs.push(Pair { key: name, place, node });
            }
        }
        Ok(())
    }

    /// The last of the open containers is the one that holds `key` twice.
    fn written_twice(&mut self, key: Box<str>, place: Place, first: Place) {
        let parents = &self.open[..self.open.len() - 1];
        let mut path: String = parents.iter().map(Open::step).collect();
        path.push_str(&key);
        let path = path.replace(".[", "[");
        let problem = format!("is written twice: first at {}", self.report.name(first));
        self.report.add_named(place, path, None, Problem::new(problem, "keep one of them"));
    }

    fn place(&self, span: &Span) -> Place {
        place(self.file, span.start.line(), span.start.col())
    }

    fn syntax(&self, error: &ScanError) -> Stop {
        let at = error.marker();
        (place(self.file, at.line(), at.col()), Problem::new(format!("no YAML: {}", error.info()), ""))
    }
}

fn place(file: u16, line: usize, column: usize) -> Place {
    let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Place { file, line: small(line), column: small(column.saturating_add(1)) }
}

fn refuse_tag(tagged: bool, place: Place) -> Result<(), Stop> {
    if tagged {
        return Err((place, Problem::new("has a tag (!...)", "leave it out; put texts in quotes instead")));
    }
    Ok(())
}

fn key_of(node: Node) -> Result<(Box<str>, Place), Stop> {
    match node.value {
        Value::Text { text, .. } if &*text == "<<" => {
            let way = "write the keys out, or put what cameras share into a class";
            Err((node.place, Problem::new("is a merge key, which YAML 1.2 no longer has", way)))
        }
        Value::Text { text, .. } => Ok((text, node.place)),
        _ => Err((node.place, Problem::new("is no key", "expected a plain name"))),
    }
}

/// Where `key` was written before. Small maps are searched, large ones get an index.
fn earlier(pairs: &[Pair], seen: &mut Option<HashMap<Box<str>, Place>>, key: &str) -> Option<Place> {
    if pairs.len() == 32 && seen.is_none() {
        *seen = Some(pairs.iter().map(|pair| (pair.key.clone(), pair.place)).collect());
    }
    match seen {
        Some(seen) => seen.get(key).copied(),
        None => pairs.iter().find(|pair| *pair.key == *key).map(|pair| pair.place),
    }
}
