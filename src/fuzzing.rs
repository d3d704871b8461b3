//! The fuzz targets: what holds for whatever comes in from outside. `fuzz/` hands them what it makes up, and a test
//! what it has found worth keeping.

pub use crate::{
    api::fuzzing::requests,
    provider::fuzzing::{answers, error_body, form, passing, reset_headers, sse, stream, top_level},
};

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    type Target = fn(&[u8]);

    /// By the name of their folder in `fuzz/corpus`.
    const TARGETS: &[(&str, Target)] = &[
        ("answers", super::answers),
        ("error_body", super::error_body),
        ("form", super::form),
        ("passing", super::passing),
        ("requests", super::requests),
        ("reset_headers", super::reset_headers),
        ("sse", super::sse),
        ("stream", super::stream),
        ("top_level", super::top_level),
    ];

    #[test]
    fn what_fuzzing_has_found_holds() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        let folders = fs::read_dir(&corpus).unwrap().count();
        assert_eq!(folders, TARGETS.len(), "a folder a target");
        for (name, target) in TARGETS {
            let mut inputs = 0;
            for entry in fs::read_dir(corpus.join(name)).unwrap() {
                let path = entry.unwrap().path();
                // Without it a panic would not say which input.
                println!("{}", path.display());
                target(&fs::read(path).unwrap());
                inputs += 1;
            }
            assert!(inputs > 0, "nothing to replay for {name}");
        }
    }
}
