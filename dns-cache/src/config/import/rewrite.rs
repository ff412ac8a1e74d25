//! `rewrite` and `template`: for which names they are. What they do stays with the cluster's DNS.

use super::corefile::Directive;
use super::names;

/// What a `template` is for.
pub(super) enum Template {
    /// It says that there is no name in these zones.
    NoNames(Vec<String>),
    /// It makes answers up, in these zones; in all of its block if there are none.
    Of(Vec<String>),
}

/// The zones that hold all names that are rewritten, at least one; `None` if that cannot be told.
pub(super) fn rewrite(directive: &Directive) -> Option<Vec<String>> {
    let mut words = directive.args.iter().map(String::as_str).peekable();
    words.next_if(|word| matches!(*word, "stop" | "continue"));
    // On one line, or in a block, beside what is done with the answers.
    let name = directive.block.iter().find(|rule| rule.name == "name");
    let mut words: Vec<_> = match (words.next(), name) {
        (Some("name"), _) => words.collect(),
        (None, Some(rule)) => rule.args.iter().map(String::as_str).collect(),
        _ => return None,
    };
    let mut words = words.drain(..);
    let (kind, from) = match words.next() {
        Some(kind @ ("exact" | "prefix" | "suffix" | "substring" | "regex")) => {
            (kind, words.next())
        }
        from => ("exact", from),
    };
    let from = from?;
    let zone = match kind {
        "exact" => from.to_owned(),
        "suffix" => from.trim_start_matches('.').to_owned(),
        "regex" => literal_end(from)?,
        _ => return None,
    };
    let zones = names::zones(&zone).ok()?;
    (!zones.iter().any(|zone| zone == ".")).then_some(zones)
}

/// `template CLASS TYPE [ZONE…] { … }`
pub(super) fn template(directive: &Directive) -> Template {
    let zones = directive.args.iter().skip(2);
    let zones: Vec<_> = zones.filter_map(|zone| names::zones(zone).ok()).collect();
    let zones: Vec<_> = zones
        .concat()
        .into_iter()
        .filter(|zone| zone != ".")
        .collect();
    let is_any = |n: usize| {
        directive
            .args
            .get(n)
            .is_some_and(|arg| arg.eq_ignore_ascii_case("any"))
    };
    let is_in = directive
        .args
        .first()
        .is_some_and(|arg| arg.eq_ignore_ascii_case("in"));
    let is_nxdomain = |option: &Directive| option.name == "rcode" && option.args == ["NXDOMAIN"];
    let says_no = directive.block.iter().any(is_nxdomain)
        && !directive
            .block
            .iter()
            .any(|option| matches!(&*option.name, "match" | "answer"));
    if says_no && (is_any(0) || is_in) && is_any(1) && !zones.is_empty() {
        return Template::NoNames(zones);
    }
    Template::Of(zones)
}

/// The labels at the end of a pattern that stand there as they are: `corp.example` of `(.*)\.corp\.example\.?$`.
fn literal_end(pattern: &str) -> Option<String> {
    let mut depth = 0;
    let has_alternatives = pattern.chars().any(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == '|' && depth == 0
    });
    if has_alternatives {
        return None;
    }
    let end = pattern.trim_end_matches('$');
    let end = end.strip_suffix("\\.?").unwrap_or(end);
    let end = end
        .strip_suffix("\\.")
        .or(end.strip_suffix('.'))
        .unwrap_or(end);
    let plain = end.replace("\\.", ".");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let start = plain.rfind(|c| !is_plain(c)).map_or(0, |at| at + 1);
    let tail = plain.get(start..)?;
    // The first label may go on to the left, unless the pattern begins with it.
    let zone = match (start, plain.strip_prefix('^')) {
        (0, _) | (1, Some(_)) => tail,
        _ => tail.split_once('.')?.1,
    };
    (!zone.is_empty()).then(|| zone.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::corefile;
    use super::*;

    fn zones(rule: &str) -> Option<String> {
        let blocks = corefile::parse(&format!(". {{\n{rule}\n}}"), 1)
            .unwrap()
            .blocks;
        Some(rewrite(&blocks[0].directives[0])?.join(","))
    }

    #[test]
    fn whom_a_rewrite_is_for() {
        for (rule, zone) in [
            (
                "rewrite name foo.example.com foo.default.svc.cluster.local",
                Some("foo.example.com"),
            ),
            ("rewrite stop name exact a.b c.d", Some("a.b")),
            (
                "rewrite name suffix .coffee.rocks. .coffee.beans",
                Some("coffee.rocks"),
            ),
            (
                r"rewrite name regex (.*)\.corp\.example {1}.svc.cluster.local",
                Some("corp.example"),
            ),
            (
                r"rewrite continue name regex ^api-(.+)\.corp\.example\.$ x",
                Some("corp.example"),
            ),
            (
                r"rewrite name regex ^api\.corp\.example$ x",
                Some("api.corp.example"),
            ),
            (
                r"rewrite name regex (.*)-test.corp.example x",
                Some("corp.example"),
            ),
            (r"rewrite name regex (.*)\.com|(.*)\.net x", None),
            (
                r"rewrite name regex (a|b)\.corp\.example x",
                Some("corp.example"),
            ),
            ("rewrite name prefix dev. prod.", None),
            ("rewrite name regex (.*) x", None),
            ("rewrite name suffix . .x", None),
            ("rewrite type ANY HINFO", None),
            (
                "rewrite stop {\n name regex (.*)\\.corp\\.example {1}.svc.cluster.local\n \
                 answer name (.*)\\.svc\\.cluster\\.local {1}.corp.example\n}",
                Some("corp.example"),
            ),
            (
                "rewrite {\n answer auto\n name suffix .coffee.rocks .coffee.beans\n}",
                Some("coffee.rocks"),
            ),
            ("rewrite continue {\n ttl regex (.*) 30\n}", None),
            ("rewrite type {\n name exact a.b c.d\n}", None),
        ] {
            assert_eq!(zones(rule).as_deref(), zone, "{rule}");
        }
    }
}
