//! Any text at all: an answer in bounded time, never a panic, and positions that exist.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

const EXAMPLE: &str = include_str!("../../../../deploy/config.example.yaml");

fn check(text: &str) {
    let Err(errors) = parse(text, Path::new("f")) else {
        return;
    };
    assert!(!errors.mistakes().is_empty());
    assert!(errors.mistakes().is_sorted());
    // Line breaks are YAML's, so CR alone is one as well; the end of the text may be another.
    let lines = text.matches(['\n', '\r']).count() + 2;
    for mistake in errors.mistakes() {
        assert!(!mistake.message.contains('\n'), "{mistake:?}");
        if let Place::Position { line, column, .. } = mistake.place {
            assert!((1..=lines).contains(&line) && column > 0, "{mistake:?}");
        }
    }
}

/// What means something to YAML, and what means something here.
fn fragment() -> impl Strategy<Value = String> {
    let fragments: Vec<String> = [
        "[",
        "]",
        "{",
        "}",
        ":",
        ": ",
        "- ",
        "? ",
        ",",
        "\n",
        "  ",
        "\t",
        "#",
        "&a",
        "*a",
        "*",
        "!",
        "!!str ",
        "|",
        ">",
        "'",
        "\"",
        "\\",
        "%YAML 1.2",
        "---\n",
        "...\n",
        "~",
        "null",
        "<<",
        "\u{feff}",
        "\0",
        "\r",
        "\u{85}",
        "\u{2028}",
        "ü",
        "listen",
        "cluster",
        "upstreams",
        "zones",
        "zone",
        "ttl",
        "positive",
        "10.96.0.10",
        "fd00::a",
        "[fd00::2]:53",
        "64Mi",
        "-1",
        "1e+06",
        "\n  - ",
    ]
    .map(str::to_owned)
    .into();
    prop_oneof![prop::sample::select(fragments), any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in any::<String>()) {
        check(&text);
    }

    #[test]
    fn any_fragments(fragments in prop::collection::vec(fragment(), 0..40)) {
        check(&fragments.concat());
    }

    #[test]
    fn any_mutation_of_a_valid_file(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..20usize, fragment()), 1..8),
    ) {
        let mut text: Vec<char> = EXAMPLE.chars().filter(|c| *c != '#').collect();
        if edits.len() % 2 == 0 {
            text = EXAMPLE.chars().collect();
        }
        for (at, remove, insert) in edits {
            let start = at.index(text.len() + 1);
            let end = (start + remove).min(text.len());
            text.splice(start..end, insert.chars());
        }
        check(&text.into_iter().collect::<String>());
    }

    #[test]
    fn any_override(text in any::<String>(), fragments in prop::collection::vec(fragment(), 0..6)) {
        for text in [Some(text), Some(fragments.concat())] {
            let overrides = Overrides {
                listen: text.clone(),
                interfaces: text.clone(),
                cluster_domain: text.clone(),
                cluster_upstreams: text.clone(),
                node_name: text.clone(),
                resolv_conf: text.clone(),
                attach: text.clone(),
                state_dir: text.clone(),
                bpffs: text.clone(),
                metrics_listen: text.clone(),
                log_format: text.clone(),
                log_level: text,
            };
            let _ = load(None, &overrides);
        }
    }
}

#[test]
fn bombs_are_refused_in_no_time() {
    let mut aliases = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, previous) in ('b'..='z').zip('a'..) {
        let all = format!("*{previous}, ").repeat(9);
        writeln!(aliases, "{name}: &{name} [{all}*{previous}]").unwrap();
    }
    let mebibyte = 1 << 20;
    let bombs = [
        aliases,
        "[".repeat(mebibyte),
        "{".repeat(mebibyte),
        "{a: ".repeat(mebibyte / 4),
        "[\n".repeat(mebibyte / 2),
        "- ".repeat(mebibyte / 2),
        "? ".repeat(mebibyte / 2),
        "a: ".repeat(mebibyte / 3),
        (0..1_000)
            .map(|depth| format!("{}a:\n", " ".repeat(depth)))
            .collect(),
        format!("listen: [{}]", "10.0.0.1, ".repeat(50_000)),
        (0..10_000).map(|n| format!("k{n}: 1\n")).collect(),
        "a".repeat(mebibyte),
        "'".repeat(mebibyte),
        "!".repeat(mebibyte),
        "\n".repeat(mebibyte),
    ];
    for bomb in bombs {
        let start = std::time::Instant::now();
        check(&bomb);
        let shown: String = bomb.chars().take(20).collect();
        // Unoptimised, on a busy machine: a few hundred milliseconds.
        assert!(
            start.elapsed().as_secs() < 20,
            "{shown:?} took {:?}",
            start.elapsed()
        );
        eprintln!("{shown:?} {:?}", start.elapsed());
    }
}
