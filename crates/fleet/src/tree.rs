//! YAML text → a tree whose nodes know their places. Everything that hostile text could make large is
//! bounded here: depth, number of nodes, and what aliases stand for.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use crate::mistake::{Path, Place, Problem, Report};

/// Levels of nesting; the configuration needs nine.
const MAX_DEPTH: usize = 32;
/// Nodes of a file, each alias counted as all that it stands for. A camera takes about fifty.
const MAX_NODES: usize = 4_000_000;

/// One document. Nodes and texts lie in two long rows, since a fleet has millions of them and freeing them one by
/// one would take longer than reading them.
#[derive(Debug)]
pub(crate) struct Tree {
    pub root: Node,
    nodes: Vec<Node>,
    texts: String,
}

/// A value and where it begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    pub place: Place,
    value: Value,
}

/// An alias holds the same numbers as its anchor: what they stand for is there once.
#[derive(Debug, Clone, Copy)]
enum Value {
    Null,
    Text {
        start: u32,
        end: u32,
        plain: bool,
    },
    List {
        start: u32,
        len: u32,
    },
    /// Keys and values in turn; `len` counts both.
    Map {
        start: u32,
        len: u32,
    },
}

/// What was written, untyped: only the key that it belongs to says what it should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum View<'t> {
    /// Nothing, `~` or `null`.
    Null,
    /// A scalar. `plain`: without quotes.
    Text {
        text: &'t str,
        plain: bool,
    },
    List(&'t [Node]),
    Map(Pairs<'t>),
}

/// The entries of a map.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pairs<'t> {
    tree: &'t Tree,
    nodes: &'t [Node],
}

/// One entry of a map.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair<'t> {
    pub key: &'t str,
    pub place: Place,
    pub node: Node,
}

impl Tree {
    pub fn view(&self, node: Node) -> View<'_> {
        let nodes = |start: u32, len: u32| &self.nodes[start as usize..(start + len) as usize];
        match node.value {
            Value::Null => View::Null,
            Value::Text { start, end, plain } => {
                View::Text { text: &self.texts[start as usize..end as usize], plain }
            }
            Value::List { start, len } => View::List(nodes(start, len)),
            Value::Map { start, len } => View::Map(Pairs { tree: self, nodes: nodes(start, len) }),
        }
    }

    fn text(&self, node: Node) -> &str {
        match self.view(node) {
            View::Text { text, .. } => text,
            _ => "",
        }
    }
}

impl<'t> Pairs<'t> {
    pub fn iter(self) -> impl Iterator<Item = Pair<'t>> {
        let pair =
            move |pair: &[Node]| Pair { key: self.tree.text(pair[0]), place: pair[0].place, node: pair[1] };
        self.nodes.chunks_exact(2).map(pair)
    }
}

/// Reads one document. `None`: it could not be read, and the report says why.
pub(crate) fn parse(text: &str, file: u16, report: &mut Report) -> Option<Tree> {
    let start = Node { place: Place { file, line: 1, column: 1 }, value: Value::Null };
    let tree = Tree { root: start, nodes: vec![], texts: String::new() };
    let mut builder = Builder {
        file,
        tree,
        finished: false,
        open: vec![],
        pending: vec![],
        anchors: HashMap::new(),
        counted: 0,
        report,
    };
    match builder.run(text) {
        Ok(()) => Some(builder.tree),
        Err((place, problem)) => {
            report.incomplete = true;
            report.add(place, &Path::Root, None, problem);
            None
        }
    }
}

type Stop = (Place, Problem);

/// A finished node and what it costs to walk it.
#[derive(Debug, Clone, Copy)]
struct Sized {
    node: Node,
    /// Itself and all below it.
    nodes: usize,
    /// Levels below it.
    height: usize,
}

/// A list or map that is still being read. Its children are the last ones of `pending`.
struct Open {
    place: Place,
    anchor: usize,
    first: usize,
    nodes: usize,
    height: usize,
    kind: OpenKind,
}

enum OpenKind {
    List,
    Map {
        /// An index of the keys, once there are many.
        seen: HashMap<Box<str>, Place>,
        /// A key whose value has not come yet.
        key: Option<Node>,
    },
}

struct Builder<'r> {
    file: u16,
    tree: Tree,
    finished: bool,
    open: Vec<Open>,
    /// Children of the open lists and maps, outermost first.
    pending: Vec<Node>,
    anchors: HashMap<usize, Sized>,
    /// Nodes so far, each alias counted as all that it stands for.
    counted: usize,
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
                self.scalar(&text, style, anchor, place)
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_tag(tag.is_some(), place)?;
                self.begin(place, anchor, OpenKind::List)
            }
            Event::MappingStart(anchor, tag) => {
                refuse_tag(tag.is_some(), place)?;
                self.begin(place, anchor, OpenKind::Map { seen: HashMap::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(anchor, place),
            Event::DocumentStart(_) if self.finished => {
                Err((place, Problem::new("begins a second document", "expected one document per file")))
            }
            _ => Ok(()),
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, anchor: usize, place: Place) -> Result<(), Stop> {
        let plain = style == ScalarStyle::Plain;
        let value = if plain && matches!(text, "" | "~" | "null") {
            Value::Null
        } else {
            let start = self.tree.texts.len() as u32;
            self.tree.texts.push_str(text);
            Value::Text { start, end: self.tree.texts.len() as u32, plain }
        };
        self.push(Sized { node: Node { place, value }, nodes: 1, height: 0 }, anchor)
    }

    fn begin(&mut self, place: Place, anchor: usize, kind: OpenKind) -> Result<(), Stop> {
        if self.open.len() >= MAX_DEPTH {
            return Err((place, Problem::new("is nested too deeply", format!("at most {MAX_DEPTH} levels"))));
        }
        if let Some(Open { kind: OpenKind::Map { key: None, .. }, .. }) = self.open.last() {
            return Err((place, Problem::new("is a list or map used as a key", "expected a plain name")));
        }
        self.open.push(Open { place, anchor, first: self.pending.len(), nodes: 1, height: 0, kind });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Stop> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let start = self.tree.nodes.len() as u32;
        let len = (self.pending.len() - open.first) as u32;
        self.tree.nodes.extend(self.pending.drain(open.first..));
        let value = match open.kind {
            OpenKind::List => Value::List { start, len },
            OpenKind::Map { .. } => Value::Map { start, len },
        };
        // Its children were counted as they came.
        self.counted -= open.nodes - 1;
        let node = Node { place: open.place, value };
        self.push(Sized { node, nodes: open.nodes, height: open.height + 1 }, open.anchor)
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), Stop> {
        let Some(Sized { node, nodes, height }) = self.anchors.get(&anchor).copied() else {
            return Err((place, Problem::new("is an alias inside its own anchor", "expected a value")));
        };
        if self.open.len() + height > MAX_DEPTH {
            return Err((place, Problem::new("is nested too deeply", format!("at most {MAX_DEPTH} levels"))));
        }
        self.push(Sized { node: Node { place, value: node.value }, nodes, height }, 0)
    }

    /// Puts a finished node where it belongs.
    fn push(&mut self, sized: Sized, anchor: usize) -> Result<(), Stop> {
        let Sized { node, nodes, height } = sized;
        self.counted = self.counted.saturating_add(nodes);
        if self.counted > MAX_NODES {
            let expected = format!("at most {MAX_NODES} values per file; split it and use `include`");
            return Err((
                node.place,
                Problem::new("makes the file too large (aliases count in full)", expected),
            ));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, sized);
        }
        let Some(open) = self.open.last_mut() else {
            self.tree.root = node;
            self.finished = true;
            return Ok(());
        };
        open.nodes += nodes;
        open.height = open.height.max(height);
        let first = open.first;
        match &mut open.kind {
            OpenKind::List => self.pending.push(node),
            OpenKind::Map { key: key @ None, .. } => *key = Some(checked_key(&self.tree, node)?),
            OpenKind::Map { seen, key } => {
                let Some(key) = key.take() else { return Ok(()) };
                match earlier(&self.tree, &self.pending[first..], seen, key) {
                    Some(first) => self.written_twice(key, first),
                    None => self.pending.extend([key, node]),
                }
            }
        }
        Ok(())
    }

    /// The last of the open containers is the one that holds `key` twice.
    fn written_twice(&mut self, key: Node, first: Place) {
        let mut path = String::new();
        for (open, inner) in self.open.iter().zip(self.open.iter().skip(1)) {
            match &open.kind {
                OpenKind::List => path.push_str(&format!("[{}].", inner.first - open.first)),
                OpenKind::Map { key: Some(key), .. } => path.push_str(&format!("{}.", self.tree.text(*key))),
                OpenKind::Map { .. } => {}
            }
        }
        path.push_str(self.tree.text(key));
        let problem = format!("is written twice: first at {}", self.report.name(first));
        let problem = Problem::new(problem, "keep one of them");
        self.report.add_named(key.place, path.replace(".[", "["), None, problem);
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

fn checked_key(tree: &Tree, node: Node) -> Result<Node, Stop> {
    match tree.view(node) {
        View::Text { text: "<<", plain: true } => {
            let way = "write the keys out, or put what cameras share into a class";
            Err((node.place, Problem::new("is a merge key, which YAML 1.2 no longer has", way)))
        }
        View::Text { .. } => Ok(node),
        _ => Err((node.place, Problem::new("is no key", "expected a plain name"))),
    }
}

/// Where `key` was written before in the map of these keys and values. Small maps are searched, large ones
/// get an index.
fn earlier(tree: &Tree, pairs: &[Node], seen: &mut HashMap<Box<str>, Place>, key: Node) -> Option<Place> {
    const SMALL: usize = 2 * 32;
    let text = tree.text(key);
    if pairs.len() < SMALL {
        let keys = pairs.iter().step_by(2);
        return keys.filter(|other| tree.text(**other) == text).map(|other| other.place).next();
    }
    if seen.is_empty() {
        seen.extend(pairs.iter().step_by(2).map(|key| (tree.text(*key).into(), key.place)));
    }
    let first = seen.get(text).copied();
    if first.is_none() {
        seen.insert(text.into(), key.place);
    }
    first
}
