//! The documents: their links lead somewhere, and the page of settings has every setting.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::support::{root, rota::Rota};

#[test]
fn every_link_leads_somewhere() {
    let mut pages: Vec<PathBuf> = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()).collect();
    for folder in ["docs", "docs/reference", "docs/guides", "docs/measurements"] {
        pages.extend(fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()));
    }
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    let (mut links, mut dead) = (0, Vec::new());
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        // Every other part is a block of code.
        let prose: String = text.split("\n```").step_by(2).collect();
        for rest in prose.split("](").skip(1) {
            let link = rest.split(')').next().unwrap();
            if link.contains("://") {
                continue;
            }
            links += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let leads = match fs::read_to_string(&target) {
                Ok(text) => anchor.is_empty() || anchors(&text).contains(anchor),
                Err(_) => target.is_dir() && anchor.is_empty(),
            };
            if !leads {
                dead.push(format!("{}: {link}", page.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(pages.len() > 15 && links > 50, "{} pages, {links} links", pages.len());
    assert!(dead.is_empty(), "{dead:#?}");
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter_map(|line| line.strip_prefix('#'));
    headings
        .map(|heading| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
            heading.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
        })
        .collect()
}

#[test]
fn the_page_of_settings_has_every_setting() {
    let page = root().join("docs/reference/settings.md");
    let page = fs::read_to_string(page).unwrap();
    let help = String::from_utf8(Rota::builder().output(&["serve", "--help"]).stdout).unwrap();
    let settings = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c)));
        let is_setting = |word: &&str| {
            word.strip_prefix("--")
                .is_some_and(|flag| !flag.is_empty() && flag != "help" && flag != "version")
                || word.starts_with("ROTA_")
        };
        words.filter(is_setting).map(str::to_owned).collect()
    };
    // The rows of the tables, without the commands' own flags.
    let rows: String = page.lines().filter(|line| line.starts_with("| ") && line.contains("ROTA_")).collect();
    assert_eq!(settings(&rows), settings(&help));
}

#[test]
fn the_pages_of_limits_and_security_name_tests_that_exist() {
    let code = sources(&root().join("tests/it")) + &sources(&root().join("src"));
    for page in ["limits", "security"] {
        let text = fs::read_to_string(root().join(format!("docs/reference/{page}.md"))).unwrap();
        // Names of settings, reasons and methods have other letters, or none of these.
        let named: Vec<_> = text
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|word| word.matches('_').count() > 1 && *word == word.to_lowercase())
            .collect();
        assert!(named.len() > 10, "{page}: {} tests", named.len());
        let unknown: Vec<_> = named.iter().filter(|name| !code.contains(&format!("fn {name}("))).collect();
        // A field of the contract looks the same.
        let unknown: Vec<_> = unknown.iter().filter(|name| !code.contains(&format!("{name}:"))).collect();
        assert!(unknown.is_empty(), "{page}: {unknown:#?}");
    }
}

/// All that is written in Rust below a folder.
fn sources(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all += &fs::read_to_string(path).unwrap();
        }
    }
    all
}
