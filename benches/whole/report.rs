//! Prints what was measured as tables.

use super::{
    CALLERS, HTTP, HTTP_REDIS, Row,
    load::Outcome,
    store::{MEMBERS, ROWS},
};
use std::{fs, path::Path};

/// Prints the medians, and keeps all of it under `target/bench`.
pub fn rows(rows: &[Row]) {
    let mut last = "";
    for row in rows {
        if what(&row.name) != last {
            last = what(&row.name);
            println!("\n### {last}\n");
            println!(
                "| | calls/s | p50 µs | p99 µs | p99.9 µs | CPU µs a call | RSS MiB | scripts on Redis a call | Redis CPU µs a call |"
            );
            println!("|-|-|-|-|-|-|-|-|-|");
        }
        let median = |of: fn(&Outcome) -> f64| middle(row.outcomes.iter().map(of)).1;
        println!(
            "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} | {:.0} | {:.2} | {:.1} |",
            who(&row.name),
            median(|one| one.rate),
            median(|one| one.p50),
            median(|one| one.p99),
            median(|one| one.p999),
            median(cpu),
            median(|one| one.resident.iter().sum::<u64>() as f64 / 1024.0),
            median(|one| one.redis_commands),
            median(|one| one.redis_cpu),
        );
    }
    let kept: Vec<_> = rows.iter().map(|row| (&row.name, &row.plan.call, &row.outcomes)).collect();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::write(folder.join("bench.json"), serde_json::to_string_pretty(&kept).unwrap()).unwrap();
}

/// Prints what a call over HTTP costs beside the same call over gRPC, and beside nginx: the median of the repetitions, each a
/// pair in one run, with the least and the most.
pub fn ratios(rows: &[Row]) {
    let find = |what: &str, who: &str| rows.iter().find(|row| row.name == format!("{what} · {who}"));
    let mut lines = Vec::new();
    for what in ["unary", "stream of 20", "stream of 100"] {
        for (own, others) in [(HTTP, ["rota, embedded", "nginx"]), (HTTP_REDIS, ["rota, Redis", "nginx"])] {
            for other in others {
                let (Some(row), Some(beside)) = (find(what, own), find(what, other)) else { continue };
                let pairs = row.outcomes.iter().zip(&beside.outcomes);
                let (least, median, most) = middle(pairs.map(|(one, other)| cpu(one) / cpu(other)));
                lines.push(format!("| {} | {other} | {median:.2} ({least:.2} to {most:.2}) |", row.name));
            }
        }
    }
    if !lines.is_empty() {
        println!("\n### CPU a call over HTTP, as a multiple\n\n| | of | |\n|-|-|-|\n{}", lines.join("\n"));
    }
}

/// Prints how much more or less a call costs than with the program of [`super::BEFORE`]: the median of the repetitions,
/// each a pair of runs one after the other, with the least and the most. Nothing where that program was not measured.
pub fn against_before(rows: &[Row]) {
    let name = |what: &str, who: &str| format!("{what} · {who}");
    let pairs: Vec<_> = rows
        .iter()
        .filter_map(|row| {
            let earlier = name(what(&row.name), &who(&row.name).replace("rota", "before"));
            let before = rows.iter().find(|other| other.name == earlier && other.name != row.name)?;
            Some((row, before))
        })
        .collect();
    if pairs.is_empty() {
        return;
    }
    println!("\n### against the version before, medians of {} pairs\n", pairs[0].0.outcomes.len());
    println!("| | CPU a call, % | p50, % | calls/s, % | scripts on Redis a call: before | now |");
    println!("|-|-|-|-|-|-|");
    for (row, before) in pairs {
        let change = |of: fn(&Outcome) -> f64| {
            let pairs = row.outcomes.iter().zip(&before.outcomes);
            let (least, median, most) =
                middle(pairs.map(|(now, before)| (of(now) / of(before) - 1.0) * 100.0));
            format!("{median:+.1} ({least:+.1} to {most:+.1})")
        };
        let scripts = |row: &Row| middle(row.outcomes.iter().map(|one| one.redis_commands)).1;
        println!(
            "| {} | {} | {} | {} | {:.2} | {:.2} |",
            row.name,
            change(cpu),
            change(|one| one.p50),
            change(|one| one.rate),
            scripts(before),
            scripts(row),
        );
    }
}

/// The CPU of a call, in microseconds.
fn cpu(outcome: &Outcome) -> f64 {
    // From a positive zero: an empty sum is a negative one.
    outcome.cpu.iter().fold(0.0, |sum, cpu| sum + cpu)
}

/// The least, the median and the most.
fn middle(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    (values[0], values[values.len() / 2], values[values.len() - 1])
}

/// Prints the medians of what one process gets out of one Redis.
pub fn picks(picks: &[Vec<Vec<f64>>]) {
    println!("\n### picks on Redis from one process, {CALLERS} callers\n");
    println!("| members | {} |", ROWS.join(" a second | "));
    println!("|-|{}", "-|".repeat(ROWS.len()));
    for (place, members) in MEMBERS.iter().enumerate() {
        let rates: Vec<String> = (0..ROWS.len())
            .map(|row| {
                let median = |row: usize| middle(picks.iter().map(|run| run[place][row])).1;
                format!("{:.0} ({:.2})", median(row), median(row) / median(0))
            })
            .collect();
        println!("| {members} | {} |", rates.join(" | "));
    }
}

/// What a row measures, without whom.
pub fn what(name: &str) -> &str {
    name.split(" · ").next().unwrap_or_default()
}

/// Who is measured in a row.
fn who(name: &str) -> &str {
    name.split(" · ").nth(1).unwrap_or_default()
}
