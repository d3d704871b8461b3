//! The page of classification is what the tables say.

use std::{env, fs};

use rota::provider::classification;

use crate::support::root;

#[test]
fn the_page_of_classification_is_made_from_the_tables() {
    let path = root().join("docs/reference/classification.md");
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, classification()).unwrap();
    }
    let page = fs::read_to_string(&path).unwrap();
    assert_eq!(page, classification(), "UPDATE_DOCS=1 cargo test --test it classification makes it anew");
}
