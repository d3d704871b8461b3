//! Finds the names that a caller may have meant. What it costs is bounded, whatever the names are.

/// How many names are told.
const MOST: usize = 5;
/// How many names are looked at.
const MOST_CONSIDERED: usize = 2_000;
/// The longest name that others are compared with, in bytes. Nobody mistypes a longer one.
const LONGEST: usize = 128;
/// The shortest beginning that two names have in common by more than chance, in bytes.
const SHORTEST_PREFIX: usize = 3;

/// The names that are most like one.
pub struct Similar {
    /// The name, and what stands behind its first slash.
    wanted: Vec<String>,
    considered: usize,
    /// The best, each behind its distance.
    best: Vec<(usize, String)>,
}

impl Similar {
    /// Looks for names that are like this one.
    pub fn to(name: &str) -> Self {
        let short = name.len() <= LONGEST;
        let model = name.split_once('/').map(|(_, model)| model).filter(|model| !model.is_empty());
        let wanted = [Some(name), model].into_iter().flatten().filter(|name| short && !name.is_empty());
        Self { wanted: wanted.map(str::to_lowercase).collect(), considered: 0, best: Vec::new() }
    }

    /// Looks at a name, which is told as `shown` says.
    pub fn consider(&mut self, name: &str, shown: impl FnOnce() -> String) {
        if self.considered == MOST_CONSIDERED || name.len() > LONGEST {
            return;
        }
        self.considered += 1;
        let name = name.to_lowercase();
        let Some(distance) = self.wanted.iter().filter_map(|wanted| distance(wanted, &name)).min() else {
            return;
        };
        let entry = (distance, shown());
        if !self.best.contains(&entry) {
            self.best.push(entry);
            self.best.sort_unstable();
            self.best.truncate(MOST);
        }
    }

    /// The names, the likeliest first.
    pub fn best(self) -> Vec<String> {
        self.best.into_iter().map(|(_, name)| name).collect()
    }
}

/// How far two names are apart. `None` where they have little in common.
fn distance(one: &str, other: &str) -> Option<usize> {
    // A third of the letters, so that short names are not all alike.
    let most = (one.len().min(other.len()) / 3).min(3);
    if let Some(edits) = edits(one.as_bytes(), other.as_bytes(), most) {
        return Some(edits);
    }
    let prefix = one.len().min(other.len()) >= SHORTEST_PREFIX;
    (prefix && (one.starts_with(other) || other.starts_with(one))).then_some(most + 1)
}

/// The fewest insertions, deletions and replacements that make one of the other. `None` where it takes more than `most`.
fn edits(one: &[u8], other: &[u8], most: usize) -> Option<usize> {
    if one.len().abs_diff(other.len()) > most {
        return None;
    }
    // The row of the beginnings of `one` that were seen, by the length of the beginning of `other`.
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, byte) in one.iter().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(at + 1);
        let mut before = at + 1;
        for (pair, theirs) in row.windows(2).zip(other) {
            let [diagonal, above] = pair else { continue };
            before = (diagonal + usize::from(byte != theirs)).min(above + 1).min(before + 1);
            next.push(before);
        }
        if next.iter().all(|edits| *edits > most) {
            return None;
        }
        row = next;
    }
    row.last().copied().filter(|edits| *edits <= most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn like(name: &str, known: &[&str]) -> Vec<String> {
        let mut similar = Similar::to(name);
        for known in known {
            let bare = known.split_once('/').map_or(*known, |(_, bare)| bare);
            similar.consider(bare, || (*known).to_owned());
        }
        similar.best()
    }

    #[test]
    fn mistyped_names_find_what_was_meant() {
        let known = [
            "openai/gpt-4o",
            "azure/gpt-4o",
            "openai/gpt-4o-mini",
            "openai/o1",
            "vendor/claude-sonnet-4-5",
            "fast",
        ];
        assert_eq!(like("gpt-40", &known), ["azure/gpt-4o", "openai/gpt-4o"]);
        assert_eq!(like("GPT-4o", &known)[..2], ["azure/gpt-4o", "openai/gpt-4o"]);
        assert_eq!(like("other/gpt-4o", &known)[..2], ["azure/gpt-4o", "openai/gpt-4o"]);
        assert_eq!(like("claude-sonnet", &known), ["vendor/claude-sonnet-4-5"]);
        assert_eq!(like("claude-sonnet-4-5-20250929", &known), ["vendor/claude-sonnet-4-5"]);
        assert_eq!(like("fats", &known), Vec::<String>::new(), "two of four letters");
        assert_eq!(like("fas", &known), ["fast"]);
        for nothing in ["", "/", "o2", "mistral-large", "a/"] {
            assert_eq!(like(nothing, &known), Vec::<String>::new(), "{nothing}");
        }
    }

    #[test]
    fn few_are_told_and_looking_is_bounded() {
        let many: Vec<String> = (0..3000).map(|index| format!("p/model-{index:04}")).collect();
        let known: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(
            like("model-0000", &known),
            ["p/model-0000", "p/model-0001", "p/model-0002", "p/model-0003", "p/model-0004"]
        );
        assert_eq!(like(&"x".repeat(100_000), &known), Vec::<String>::new());
        let mut similar = Similar::to("model-2999");
        for name in &known {
            similar.consider(name, || (*name).to_owned());
        }
        assert_eq!(similar.considered, MOST_CONSIDERED);
    }

    proptest! {
        #[test]
        fn edits_are_counted_both_ways_and_a_change_of_a_letter_is_one(
            one in "[a-c]{0,8}", other in "[a-c]{0,8}", at in 0..8_usize,
        ) {
            let both = (edits(one.as_bytes(), other.as_bytes(), 8), edits(other.as_bytes(), one.as_bytes(), 8));
            prop_assert_eq!(both.0, both.1);
            prop_assert_eq!(both.0 == Some(0), one == other);
            prop_assert!(both.0.is_some_and(|edits| edits <= one.len().max(other.len())));
            let mut changed = one.clone().into_bytes();
            if let Some(letter) = changed.get_mut(at) {
                *letter = b'z';
                prop_assert_eq!(edits(one.as_bytes(), &changed, 1), Some(1));
                prop_assert_eq!(edits(one.as_bytes(), &changed, 0), None);
            }
        }
    }
}
