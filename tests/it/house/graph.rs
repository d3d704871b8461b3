//! Which file uses which: paths resolved to the files that define what they name, and the circles among those.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write,
    slice,
};

use super::source::{Mention, Module, Path, Source};

/// How many names in a row may stand for one another before a path is given up.
const STEPS: usize = 16;

/// All files of `src/`, and which of them each module is in.
pub struct House<'a> {
    sources: &'a [Source],
    modules: BTreeMap<&'a [String], (&'a str, &'a Module)>,
}

/// For each file the files that it uses, and the names that it uses of them.
pub type Arrows<'a> = BTreeMap<&'a str, BTreeMap<&'a str, BTreeSet<String>>>;

impl<'a> House<'a> {
    pub fn new(sources: &'a [Source]) -> Self {
        let modules = sources.iter().flat_map(|source| {
            source.modules.iter().map(|(path, module)| (path.as_slice(), (source.name.as_str(), module)))
        });
        Self { sources, modules: modules.collect() }
    }

    /// The path from the root of the crate. `None` for what is not of this crate, or local to a function.
    pub fn absolute(&self, mention: &Mention) -> Option<Path> {
        self.resolve(&mention.module, &mention.path, STEPS)
    }

    /// Whether a module declares or imports a name.
    pub fn knows(&self, module: &[String], name: &str) -> bool {
        self.modules.get(module).is_some_and(|(_, module)| {
            module.children.contains(name) || module.uses.contains_key(name) || module.items.contains(name)
        })
    }

    /// Whether it stands in code that is there in tests only.
    pub fn for_tests(&self, mention: &Mention) -> bool {
        let inside = |depth: usize| {
            let (above, below) = mention.module.split_at(depth);
            self.modules.get(above).is_some_and(|(_, module)| module.tests.contains(&below[0]))
        };
        mention.test || (0..mention.module.len()).any(inside)
    }

    fn resolve(&self, module: &[String], path: &[String], steps: usize) -> Option<Path> {
        let (first, rest) = path.split_first()?;
        let mut base = match first.as_str() {
            "crate" => Path::new(),
            "self" => module.to_vec(),
            "super" => {
                let above = module.get(..module.len().checked_sub(1)?)?;
                // `super::super::x`.
                if rest.first().is_some_and(|name| name == "super") {
                    return self.resolve(above, rest, steps);
                }
                above.to_vec()
            }
            name => {
                let (_, declared) = self.modules.get(module)?;
                if declared.children.contains(name) {
                    [module, &[name.to_owned()]].concat()
                } else {
                    let used = declared.uses.get(name)?;
                    self.resolve(module, used, steps.checked_sub(1)?)?
                }
            }
        };
        base.extend_from_slice(rest);
        Some(base)
    }

    /// The file that defines what a path from the root names. Re-exports are followed. `None` for a module as such, since
    /// what is used of it is named elsewhere, and for what is not of this crate.
    fn definer(&self, path: &[String], steps: usize) -> Option<&'a str> {
        let known = (0..=path.len()).rev().find(|length| self.modules.contains_key(&path[..*length]))?;
        let (module, rest) = path.split_at(known);
        let name = rest.first()?;
        let (file, declared) = self.modules[module];
        if declared.items.contains(name) {
            return Some(file);
        }
        let steps = steps.checked_sub(1)?;
        if let Some(used) = declared.uses.get(name) {
            let target = self.resolve(module, used, steps)?;
            return self.definer(&[&target, &rest[1..]].concat(), steps);
        }
        let mut globs = declared.globs.iter().filter_map(|glob| self.resolve(module, glob, steps));
        globs.find_map(|glob| self.definer(&[&glob, rest].concat(), steps))
    }

    /// The files that a glob import reaches: the module's own, where it defines something, and those it re-exports from.
    fn behind_glob(&self, path: &[String]) -> BTreeSet<&'a str> {
        let Some((file, declared)) = self.modules.get(path) else { return BTreeSet::new() };
        let own = (!declared.items.is_empty()).then_some(*file);
        let named = declared
            .uses
            .keys()
            .filter_map(|name| self.definer(&[path, slice::from_ref(name)].concat(), STEPS));
        own.into_iter().chain(named).collect()
    }

    /// Which file uses which in what is released. A test may use whatever it tests and what helps it.
    pub fn arrows(&self) -> Arrows<'a> {
        let mut arrows = Arrows::new();
        for source in self.sources {
            let from = source.name.as_str();
            for mention in source.mentions.iter().filter(|mention| !self.for_tests(mention)) {
                let Some(path) = self.absolute(mention) else { continue };
                let to = if mention.glob {
                    self.behind_glob(&path)
                } else {
                    self.definer(&path, STEPS).into_iter().collect()
                };
                let name = if mention.glob { "*" } else { path.last().map_or("", String::as_str) };
                for to in to.into_iter().filter(|to| *to != from) {
                    arrows.entry(from).or_default().entry(to).or_default().insert(name.to_owned());
                }
            }
        }
        arrows
    }
}

/// The shortest circle through each arrow that is part of one, each circle once, the shortest first.
pub fn circles<'a>(arrows: &Arrows<'a>) -> Vec<Vec<&'a str>> {
    let mut found = BTreeSet::new();
    for (from, to) in arrows.iter().flat_map(|(from, to)| to.keys().map(move |to| (*from, *to))) {
        if let Some(mut circle) = way(arrows, to, from) {
            let first = circle.iter().enumerate().min_by_key(|(_, file)| **file).map_or(0, |(at, _)| at);
            circle.rotate_left(first);
            found.insert((circle.len(), circle));
        }
    }
    found.into_iter().map(|(_, circle)| circle).collect()
}

/// The files on the shortest way from one to another, both included.
fn way<'a>(arrows: &Arrows<'a>, from: &'a str, to: &str) -> Option<Vec<&'a str>> {
    let mut before: BTreeMap<&str, Option<&'a str>> = BTreeMap::from([(from, None)]);
    let mut next = VecDeque::from([from]);
    while let Some(file) = next.pop_front() {
        if file == to {
            let mut way: Vec<_> = std::iter::successors(Some(file), |file| before[file]).collect();
            way.reverse();
            return Some(way);
        }
        for used in arrows.get(file).into_iter().flat_map(BTreeMap::keys) {
            if !before.contains_key(used) {
                before.insert(used, Some(file));
                next.push_back(used);
            }
        }
    }
    None
}

/// The circles as text, an arrow a line with what it is for.
pub fn shown(arrows: &Arrows<'_>, circles: &[Vec<&str>]) -> String {
    let mut text = String::new();
    for (number, circle) in circles.iter().enumerate() {
        let _ = writeln!(text, "circle {}:", number + 1);
        for (at, file) in circle.iter().enumerate() {
            let to = circle[(at + 1) % circle.len()];
            let names: Vec<&str> = arrows[file][to].iter().map(String::as_str).collect();
            let _ = writeln!(text, "  src/{file} uses src/{to} ({})", names.join(", "));
        }
    }
    text
}
