//! What stands in `deploy/` fits this build.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::support::{root, rota::Rota};

#[test]
fn every_setting_named_in_deploy_is_one() {
    let mut files = Vec::new();
    walk(&root().join("deploy"), &mut files);
    let mut named = BTreeSet::new();
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
        named.extend(words.filter(|word| word.starts_with("ROTA_")).map(ToOwned::to_owned));
    }
    assert!(files.len() > 5 && named.len() > 5, "{files:?} name {named:?}");
    let help = String::from_utf8(Rota::builder().output(&["serve", "--help"]).stdout).unwrap();
    let known = |name: &String| {
        help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).any(|word| word == name)
    };
    let unknown: Vec<_> = named.iter().filter(|name| !known(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?} are no settings");
}

#[test]
fn what_the_operations_guide_names_is_there() {
    let guide = fs::read_to_string(root().join("docs/guides/operations.md")).unwrap();
    let mut protos = Vec::new();
    walk(&root().join("proto"), &mut protos);
    let protos: String = protos.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let help = String::from_utf8(Rota::builder().output(&["serve", "--help"]).stdout).unwrap();
    let (mut methods, mut flags) = (0, 0);
    for word in guide.split(|c: char| !(c.is_ascii_alphanumeric() || "/.".contains(c))) {
        if let Some((service, method)) = word.split_once("Service/") {
            methods += 1;
            let there = protos.contains(&format!("rpc {method}("))
                && protos.contains(&format!("service {}Service {{", service.rsplit('.').next().unwrap()));
            assert!(there, "no RPC {word}");
        }
    }
    for rest in guide.split("`--").skip(1) {
        flags += 1;
        let flag = rest.split(['`', ' ']).next().unwrap();
        assert!(
            help.contains(&format!("--{flag} ")) || help.contains(&format!("--{flag}\n")),
            "no flag --{flag}"
        );
    }
    assert!(methods > 8 && flags > 8, "{methods} {flags}");
}

#[test]
fn no_manifest_holds_a_secret() {
    let mut files = Vec::new();
    walk(&root().join("deploy/kubernetes"), &mut files);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for line in text.lines().filter(|line| line.contains("ROTA_MASTER_KEY") || line.contains("_URL")) {
            assert!(line.contains("secretKeyRef"), "{}: {line}", file.display());
        }
        assert!(!text.contains("kind: Secret"), "{}", file.display());
    }
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else {
            files.push(path);
        }
    }
}
