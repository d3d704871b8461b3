//! What was measured, as a table in docs/measurements/reliability.md.

use std::{fs, time::Duration};

use crate::support::root;

use super::Row;

/// The rows as Markdown.
pub fn rows(rows: &[Row]) -> String {
    let mut text = String::from(
        "| fault | calls | streams | failed | longest gap | normal again | beside that |\n|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let failed: Vec<_> = row.failed.iter().map(|(reason, count)| format!("{count} `{reason}`")).collect();
        let failed = if failed.is_empty() { "0".to_owned() } else { failed.join(", ") };
        let normal = row.normal.map_or("–".to_owned(), shown);
        text += &format!(
            "| {} | {} | {} | {failed} | {} | {normal} | {} |\n",
            row.fault,
            row.calls,
            row.streams,
            shown(row.gap),
            row.beside
        );
    }
    text
}

fn shown(time: Duration) -> String {
    if time.is_zero() { "at once".to_owned() } else { format!("{:.1} s", time.as_secs_f64()) }
}

/// Replaces what stands between the marks of that name.
pub fn write(name: &str, text: &str) {
    let path = root().join("docs/measurements/reliability.md");
    let page = fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let (head, rest) = page.split_once(&begin).expect("the mark where it begins");
    let (_, tail) = rest.split_once(&end).expect("the mark where it ends");
    fs::write(&path, format!("{head}{begin}{text}{end}{tail}")).unwrap();
}
