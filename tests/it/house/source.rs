//! What a file of `src/` says about modules: those that it holds, and every path that it names.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::{UseTree, visit::Visit};

/// The modules that lead to an item, from the root of the crate.
pub type Path = Vec<String>;

/// One file, read.
pub struct Source {
    /// Relative to `src/`.
    pub name: String,
    /// The file's own module and the modules that are written inside it.
    pub modules: BTreeMap<Path, Module>,
    pub mentions: Vec<Mention>,
}

/// What a module declares.
#[derive(Default)]
pub struct Module {
    pub children: BTreeSet<String>,
    /// Those of the children that are there in tests only.
    pub tests: BTreeSet<String>,
    pub items: BTreeSet<String>,
    /// The name that a `use` brings in, and the path that it stands for.
    pub uses: BTreeMap<String, Path>,
    pub globs: Vec<Path>,
}

/// A path as it is written.
pub struct Mention {
    /// The module in which it stands.
    pub module: Path,
    pub path: Path,
    pub glob: bool,
    /// Whether the item that holds it is marked as one for tests. Its module may be so too.
    pub test: bool,
}

impl Source {
    /// Reads a file. A text that is no list of items is read as the body of a function.
    pub fn read(name: &str, text: &str) -> Self {
        let file = syn::parse_file(text).or_else(|_| syn::parse_file(&format!("fn planted() {{ {text} }}")));
        let file = file.unwrap_or_else(|error| panic!("src/{name}: {error}"));
        let module = module_of(name);
        let mut reader =
            Reader { modules: BTreeMap::new(), mentions: Vec::new(), at: module.clone(), test: false };
        reader.modules.insert(module, Module::default());
        reader.visit_file(&file);
        Self { name: name.to_owned(), modules: reader.modules, mentions: reader.mentions }
    }
}

/// The module that a file holds: `provider/openai/mod.rs` is `[provider, openai]`.
fn module_of(file: &str) -> Path {
    let path = file.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    path.split('/').filter(|part| !["lib", "main"].contains(part)).map(str::to_owned).collect()
}

/// Whether the attributes leave an item out of what is released: `cfg(test)`, `cfg(any(test, fuzzing))`.
fn for_tests(attributes: &[syn::Attribute]) -> bool {
    let mut found = false;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")) {
        if let syn::Meta::List(list) = &attribute.meta {
            let condition = list.tokens.to_string();
            found |= condition == "test" || condition.replace(' ', "") == "any(test,fuzzing)";
        }
    }
    found
}

struct Reader {
    modules: BTreeMap<Path, Module>,
    mentions: Vec<Mention>,
    at: Path,
    test: bool,
}

impl Reader {
    fn module(&mut self) -> &mut Module {
        self.modules.entry(self.at.clone()).or_default()
    }

    fn mention(&mut self, path: Path, glob: bool) {
        self.mentions.push(Mention { module: self.at.clone(), path, glob, test: self.test });
    }

    fn take_use(&mut self, tree: &UseTree, mut path: Path) {
        match tree {
            UseTree::Path(inner) => {
                path.push(inner.ident.to_string());
                self.take_use(&inner.tree, path);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.take_use(tree, path.clone());
                }
            }
            UseTree::Glob(_) => {
                self.module().globs.push(path.clone());
                self.mention(path, true);
            }
            UseTree::Name(name) => self.take_name(path, name.ident.to_string(), None),
            UseTree::Rename(name) => {
                self.take_name(path, name.ident.to_string(), Some(name.rename.to_string()));
            }
        }
    }

    fn take_name(&mut self, mut path: Path, name: String, rename: Option<String>) {
        // `self` at the end stands for the module itself.
        if name != "self" || path.is_empty() {
            path.push(name);
        }
        if let Some(local) = rename.or_else(|| path.last().cloned()) {
            self.module().uses.insert(local, path.clone());
        }
        self.mention(path, false);
    }

    /// The paths in what a macro is given, which need not be Rust.
    fn take_tokens(&mut self, tokens: TokenStream, before: &Path) {
        let mut path = before.clone();
        // Whether the last token was a name, and how many colons have come since.
        let (mut named, mut colons) = (false, 2);
        for token in tokens {
            match token {
                TokenTree::Ident(name) if colons == 2 => {
                    path.push(name.to_string());
                    (named, colons) = (true, 0);
                }
                TokenTree::Punct(sign) if sign.as_char() == ':' && named => colons += 1,
                TokenTree::Group(group) => {
                    let inside = group.delimiter() == Delimiter::Brace && colons == 2 && !path.is_empty();
                    self.take_tokens(group.stream(), if inside { &path } else { before });
                    self.end_of_tokens(&mut path, before);
                    (named, colons) = (false, 2);
                }
                other => {
                    self.end_of_tokens(&mut path, before);
                    (named, colons) = (false, 2);
                    if let TokenTree::Ident(name) = other {
                        path.push(name.to_string());
                        (named, colons) = (true, 0);
                    }
                }
            }
        }
        self.end_of_tokens(&mut path, before);
    }

    fn end_of_tokens(&mut self, path: &mut Path, before: &Path) {
        if path.len() > 1 && path.len() > before.len() {
            self.mention(path.clone(), false);
        }
        path.clone_from(before);
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        use syn::Item;
        let (name, attributes) = match item {
            Item::Const(item) => (Some(&item.ident), &item.attrs),
            Item::Enum(item) => (Some(&item.ident), &item.attrs),
            Item::Fn(item) => (Some(&item.sig.ident), &item.attrs),
            Item::Impl(item) => (None, &item.attrs),
            Item::Macro(item) => (item.ident.as_ref(), &item.attrs),
            Item::Static(item) => (Some(&item.ident), &item.attrs),
            Item::Struct(item) => (Some(&item.ident), &item.attrs),
            Item::Trait(item) => (Some(&item.ident), &item.attrs),
            Item::Type(item) => (Some(&item.ident), &item.attrs),
            Item::Union(item) => (Some(&item.ident), &item.attrs),
            Item::Use(item) => (None, &item.attrs),
            _ => return syn::visit::visit_item(self, item),
        };
        if let Some(name) = name {
            self.module().items.insert(name.to_string());
        }
        let outside = self.test;
        self.test |= for_tests(attributes);
        syn::visit::visit_item(self, item);
        self.test = outside;
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let name = item.ident.to_string();
        self.module().children.insert(name.clone());
        if for_tests(&item.attrs) {
            self.module().tests.insert(name.clone());
        }
        if item.content.is_some() {
            self.at.push(name);
            self.module();
            syn::visit::visit_item_mod(self, item);
            self.at.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.take_use(&item.tree, Path::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Path = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if names.len() > 1 && path.leading_colon.is_none() {
            self.mention(names, false);
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invoked: &'ast syn::Macro) {
        self.visit_path(&invoked.path);
        self.take_tokens(invoked.tokens.clone(), &Path::new());
    }

    // What `pub(in path)` names is a room that may see the item, not one that is used.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
}
