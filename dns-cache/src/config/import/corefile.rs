//! A Corefile as a tree: server blocks, directives, and the lines on which they stand.
//!
//! The syntax is that of CoreDNS's Caddyfile: words, `"quoted words"`, `# comments`, `{ blocks }`, snippets.

use std::collections::HashMap;
use std::iter::Peekable;
use std::vec::IntoIter;

/// Blocks in blocks; CoreDNS's plugins have two levels.
const DEEPEST: usize = 8;
/// Snippets in snippets.
const MOST_EXPANSIONS: usize = 1_000;

/// What a Corefile says.
#[derive(Debug, Clone, Default)]
pub(super) struct Corefile {
    pub(super) blocks: Vec<Block>,
    /// `import FILES` between the blocks.
    pub(super) imports: Vec<Directive>,
}

/// A server block: for which zones, and what is done with their names.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) line: usize,
    /// As in `cluster.local:53`.
    pub(super) keys: Vec<String>,
    pub(super) directives: Vec<Directive>,
}

/// A plugin's line, and the block behind it.
#[derive(Debug, Clone)]
pub(super) struct Directive {
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) args: Vec<String>,
    pub(super) block: Vec<Directive>,
}

/// What is not a Corefile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub(super) struct SyntaxError {
    pub(super) line: usize,
    pub(super) message: &'static str,
}

#[derive(Debug)]
struct Token {
    line: usize,
    text: String,
    /// `{` and `}` in quotes are words.
    quoted: bool,
}

type Tokens = Peekable<IntoIter<Token>>;

/// Reads a Corefile whose first line has this number.
pub(super) fn parse(text: &str, first_line: usize) -> Result<Corefile, SyntaxError> {
    let mut tokens = tokens(text, first_line)?.into_iter().peekable();
    let mut snippets = HashMap::new();
    let mut corefile = Corefile::default();
    while let Some(first) = tokens.next() {
        let line = first.line;
        // It ends with its line, wherever blocks begin.
        if first.is("import") {
            corefile.imports.push(directive(first, &mut tokens, 0)?);
            continue;
        }
        let keys = keys(first, &mut tokens)?;
        let directives = directives(&mut tokens, line, 0)?;
        match keys.first().and_then(|key| key.strip_prefix('(')) {
            Some(name) => {
                snippets.insert(name.trim_end_matches(')').to_owned(), directives);
            }
            None => corefile.blocks.push(Block {
                line,
                keys,
                directives,
            }),
        }
    }
    let mut budget = MOST_EXPANSIONS;
    for block in &mut corefile.blocks {
        block.directives = expand(&block.directives, &snippets, &mut budget);
    }
    Ok(corefile)
}

/// A block's keys, and the brace that opens it. They stand on one line, and on the next if there is a comma at its end.
fn keys(first: Token, tokens: &mut Tokens) -> Result<Vec<String>, SyntaxError> {
    let error = SyntaxError::new(first.line, "a server block without {");
    let mut keys = Vec::new();
    let mut key = first;
    loop {
        if key.is("{") || key.is("}") {
            return Err(error);
        }
        let goes_on = key.text.ends_with(',');
        let names = key.text.split(',').filter(|name| !name.is_empty());
        keys.extend(names.map(str::to_owned));
        match tokens.next() {
            Some(token) if token.is("{") => return Ok(keys),
            Some(token) if goes_on || token.line == key.line => key = token,
            _ => return Err(error),
        }
    }
}

/// Up to the closing brace.
fn directives(
    tokens: &mut Tokens,
    opened: usize,
    depth: usize,
) -> Result<Vec<Directive>, SyntaxError> {
    if depth > DEEPEST {
        return Err(SyntaxError::new(opened, "too many blocks in blocks"));
    }
    let mut found = Vec::new();
    loop {
        match tokens.next() {
            None => {
                return Err(SyntaxError::new(
                    opened,
                    "the block that begins here has no }",
                ));
            }
            Some(token) if token.is("}") => return Ok(found),
            Some(token) if token.is("{") => {
                return Err(SyntaxError::new(token.line, "a { without a name before it"));
            }
            Some(token) => found.push(directive(token, tokens, depth)?),
        }
    }
}

/// Up to the line's end, or to the end of the block that begins on it.
fn directive(first: Token, tokens: &mut Tokens, depth: usize) -> Result<Directive, SyntaxError> {
    let mut directive = Directive {
        line: first.line,
        name: first.text,
        args: Vec::new(),
        block: Vec::new(),
    };
    while let Some(token) = tokens.next_if(|token| token.line == first.line && !token.is("}")) {
        if token.is("{") {
            directive.block = directives(tokens, token.line, depth + 1)?;
            break;
        }
        directive.args.push(token.text);
    }
    Ok(directive)
}

/// `import NAME` of a snippet is what stands in it; that of a file stays.
fn expand(
    directives: &[Directive],
    snippets: &HashMap<String, Vec<Directive>>,
    budget: &mut usize,
) -> Vec<Directive> {
    let mut expanded = Vec::new();
    for directive in directives {
        let snippet = match &directive.args[..] {
            [name, ..] if directive.name == "import" => snippets.get(name),
            _ => None,
        };
        match snippet {
            Some(snippet) if *budget > 0 => {
                *budget -= 1;
                expanded.extend(expand(snippet, snippets, budget));
            }
            _ => expanded.push(directive.clone()),
        }
    }
    expanded
}

fn tokens(text: &str, first_line: usize) -> Result<Vec<Token>, SyntaxError> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    let mut line = first_line;
    while let Some(c) = chars.next() {
        let at = line;
        match c {
            '\n' => line += 1,
            c if c.is_whitespace() => {}
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            '"' => {
                let mut word = String::new();
                loop {
                    match chars.next() {
                        None => {
                            return Err(SyntaxError::new(
                                at,
                                "the quote that begins here has no end",
                            ));
                        }
                        Some('"') => break,
                        // CoreDNS keeps the backslash before anything else.
                        Some('\\') if chars.peek() == Some(&'"') => {}
                        Some(c) => {
                            line += usize::from(c == '\n');
                            word.push(c);
                            continue;
                        }
                    }
                    word.extend(chars.next());
                }
                tokens.push(Token::new(at, word, true));
            }
            c => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
                    word.push(c);
                }
                tokens.push(Token::new(at, word, false));
            }
        }
    }
    Ok(tokens)
}

impl Token {
    const fn new(line: usize, text: String, quoted: bool) -> Self {
        Self { line, text, quoted }
    }

    fn is(&self, word: &str) -> bool {
        !self.quoted && self.text == word
    }
}

impl SyntaxError {
    const fn new(line: usize, message: &'static str) -> Self {
        Self { line, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(directives: &[Directive]) -> String {
        let one = |d: &Directive| {
            let args: String = d.args.iter().map(|arg| format!(" {arg}")).collect();
            match d.block.is_empty() {
                true => format!("{}:{}{args}", d.line, d.name),
                false => format!("{}:{}{args} ({})", d.line, d.name, shape(&d.block)),
            }
        };
        directives.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn blocks_lines_quotes_and_snippets() {
        let text = "# a comment\n(common) {\n  errors\n  log . \"{remote} \\\"x\\\" {\"\n}\n\
                    a.example:53,\nb.example { # two\n  import common\n  cache 30 {\n    success 10 \n  }\n\
                    import /etc/other/*.conf\n}\n. {\n}\n";
        let blocks = parse(text, 1).unwrap().blocks;
        assert_eq!(blocks[0].keys, ["a.example:53", "b.example"]);
        assert_eq!(
            shape(&blocks[0].directives),
            "3:errors; 4:log . {remote} \"x\" {; 9:cache 30 (10:success 10); 12:import /etc/other/*.conf"
        );
        assert_eq!((blocks[0].line, blocks[1].line), (6, 14));
        assert!(blocks[1].directives.is_empty());
    }

    #[test]
    fn what_is_no_corefile() {
        for (text, line, message) in [
            ("\na b", 2, "without {"),
            (". {\n errors\n", 1, "has no }"),
            (". {\n {\n }\n}", 2, "without a name"),
            (". { log \"x", 1, "has no end"),
            ("}", 1, "without {"),
            ("a\nb {\n}", 1, "without {"),
            ("{\n}", 1, "without {"),
        ] {
            let error = parse(text, 1).unwrap_err();
            assert!(
                error.line == line && error.message.contains(message),
                "{text}: {error}"
            );
        }
        let deep = format!(". {{\n{}", "a {\n".repeat(50_000));
        assert!(parse(&deep, 1).unwrap_err().message.contains("too many"));
    }

    /// As k3s's ends: it is a line, not a key of the block behind it.
    #[test]
    fn files_between_the_blocks() {
        let text = "import /etc/a/*.server\na.example,\n b.example\n{\n errors\n}\nimport b\n";
        let corefile = parse(text, 1).unwrap();
        assert_eq!(
            shape(&corefile.imports),
            "1:import /etc/a/*.server; 7:import b"
        );
        assert_eq!(corefile.blocks.len(), 1);
        assert_eq!(corefile.blocks[0].keys, ["a.example", "b.example"]);
    }

    /// Snippets that import each other end, too.
    #[test]
    fn snippets_without_end() {
        let blocks = parse("(a) {\n import a\n import a\n}\n. {\n import a\n}\n", 1);
        assert!(blocks.is_ok());
    }
}
