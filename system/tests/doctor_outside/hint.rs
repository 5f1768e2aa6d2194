//! Reads the lines of configuration that a hint asks for, and compares them with a change of a configuration.

/// The lines of a hint.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Hint {
    /// What follows "write": parts of lines.
    write: Vec<String>,
    /// What follows "remove": the beginnings of lines.
    remove: Vec<String>,
    /// The beginnings of blocks that go only with a line in them, which begins like the second.
    remove_with: Vec<(String, String)>,
    /// The beginnings of lines that go only from the block that has a line which begins like the second.
    remove_next_to: Vec<(String, String)>,
}

impl Hint {
    /// Reads the text between backticks. What stands before the first "write" or "remove" is none of the lines.
    pub(crate) fn read(text: &str) -> Self {
        let mut hint = Self::default();
        let mut is_write = None;
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('`') {
            is_write = match (before.rfind("write "), before.rfind("remove ")) {
                (None, None) => is_write,
                (write, remove) => Some(write > remove),
            };
            // A span with backticks in it has two at its ends.
            let (after, end) = match after.strip_prefix('`') {
                Some(after) => (after, "``"),
                None => (after, "`"),
            };
            let Some((span, next)) = after.split_once(end) else {
                break;
            };
            match is_write {
                Some(true) => hint.write.push(span.to_owned()),
                Some(false) if before == " with " => {
                    let outer = hint.remove.pop().unwrap_or_default();
                    hint.remove_with.push((outer, span.to_owned()));
                }
                Some(false) if before == " next to " => {
                    let part = hint.remove.pop().unwrap_or_default();
                    hint.remove_next_to.push((part, span.to_owned()));
                }
                Some(false) => hint.remove.push(span.to_owned()),
                None => {}
            }
            rest = next;
        }
        hint
    }

    /// Checks that the hint asks for exactly what makes `mended` of `broken`: each new line contains a part that it says to
    /// write, each line that is gone begins as it says, and no line that stays does.
    ///
    /// # Errors
    ///
    /// Returns the first line about which the hint says nothing or something wrong.
    pub(crate) fn separates(&self, broken: &[String], mended: &[String]) -> Result<(), String> {
        let (gone, new) = (difference(broken, mended), difference(mended, broken));
        let shortened: Vec<(&str, &str)> = new
            .iter()
            .filter_map(|new| {
                let old = gone.iter().find(|gone| self.shortens(gone, new))?;
                Some((old.trim(), new.trim()))
            })
            .collect();
        for line in &new {
            let line = line.trim();
            let says = |part: &String| {
                line.contains(part.as_str())
                    && !gone.iter().any(|gone| gone.contains(part.as_str()))
            };
            if !self.write.iter().any(says) && !shortened.iter().any(|(_, new)| *new == line) {
                return Err(format!("the hint does not say to write {line:?}: {self:?}"));
            }
        }
        let mut block = None;
        for line in &gone {
            let (indentation, line) = (line.len() - line.trim_start().len(), line.trim());
            let is_inside = block.is_some_and(|start| indentation > start);
            let begins = |part: &&String| line.starts_with(part.as_str());
            if new.iter().any(|new| subject(new) == subject(line)) {
                // It is written again.
                block = None;
            } else if self.removes_at(line, broken) {
                block = Some(indentation);
                let kept = mended.iter().flat_map(|file| file.lines());
                if let Some(kept) = kept
                    .map(str::trim)
                    .find(|kept| self.removes_at(kept, mended))
                {
                    return Err(format!("the hint says to remove {kept:?} as well"));
                }
            } else if let Some(part) = self.remove.iter().find(begins) {
                block = Some(indentation);
                let kept = mended.iter().flat_map(|file| file.lines());
                if let Some(kept) = kept
                    .map(str::trim)
                    .find(|kept| kept.starts_with(part.as_str()))
                {
                    return Err(format!("the hint says to remove {part:?}, and so {kept:?}"));
                }
            } else if !is_inside
                // A matcher of Caddy has no effect by itself.
                && !line.starts_with('@')
                && !shortened.iter().any(|(old, _)| *old == line)
            {
                return Err(format!(
                    "the hint does not say to remove {line:?}: {self:?}"
                ));
            }
        }
        Ok(())
    }

    /// Returns true if the hint says to remove this line, which may begin a block, because of a line in the block or next to it.
    fn removes_at(&self, line: &str, files: &[String]) -> bool {
        let depth = |line: &str| line.len() - line.trim_start().len();
        let begins = |line: &str, part: &String| line.trim().starts_with(part.as_str());
        files.iter().any(|file| {
            let lines: Vec<&str> = file
                .lines()
                .filter(|line| !line.trim().is_empty())
                .collect();
            let places = (0..lines.len()).filter(|place| lines[*place].trim() == line);
            places.into_iter().any(|place| {
                let start = depth(lines[place]);
                let after = lines[place + 1..].iter();
                let mut inside = after.clone().take_while(|other| depth(other) > start);
                let before = lines[..place].iter().rev();
                let mut around = after
                    .take_while(|other| depth(other) >= start)
                    .chain(before.take_while(|other| depth(other) >= start))
                    .filter(|other| depth(other) == start);
                self.remove_with.iter().any(|(outer, inner)| {
                    begins(line, outer) && inside.any(|other| begins(other, inner))
                }) || self.remove_next_to.iter().any(|(part, sibling)| {
                    begins(line, part) && around.any(|other| begins(other, sibling))
                })
            })
        })
    }

    /// Returns true if the new line is the old one without a part that contains what the hint says to remove.
    fn shortens(&self, old: &str, new: &str) -> bool {
        let (old, new) = (old.trim(), new.trim());
        self.remove.iter().any(|part| {
            old.match_indices(part.as_str()).any(|(start, part)| {
                let before = old[..start].trim_end_matches([',', ' ']);
                let after = old[start + part.len()..].trim_start_matches([' ', '&']);
                // An option may have a value.
                let after_value = after.split_once(' ').map_or("", |(_, rest)| rest);
                [after, after_value].into_iter().any(|after| {
                    [before, after].concat() == new || [before, " ", after].concat() == new
                })
            })
        })
    }
}

/// Returns the lines of `files` that `others` do not have, in order; a line that is there twice counts twice. Comments and lines
/// that only end a block are left out.
fn difference<'a>(files: &'a [String], others: &[String]) -> Vec<&'a str> {
    let mut others: Vec<&str> = others.iter().flat_map(|file| file.lines()).collect();
    let lines = files.iter().flat_map(|file| file.lines());
    lines
        .filter(|line| {
            let place = others.iter().position(|other| other == line);
            if let Some(place) = place {
                others.swap_remove(place);
            }
            let text = line.trim();
            let is_end = text.is_empty() || text == "}" || text.starts_with("</");
            place.is_none() && !is_end && !text.starts_with('#')
        })
        .collect()
}

/// Returns the directive of a line and what it is for: the path of `ProxyPass`, the name of a header or a server. A line to write takes
/// the place of one with the same.
fn subject(line: &str) -> Vec<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let count = match words.first().copied().unwrap_or_default() {
        // Of nginx, which names a server by its address.
        "server"
            if words
                .get(1)
                .is_some_and(|name| name.starts_with(|c: char| c.is_ascii_digit())) =>
        {
            1
        }
        "http-request" | "http-response" | "http-after-response" | "Header" | "RequestHeader" => 3,
        "ProxyPass" | "BalancerMember" | "proxy_set_header" | "add_header" | "header"
        | "header_up" | "header_down" | "acl" | "server" | "option" | "timeout" => 2,
        _ => 1,
    };
    let words = words
        .into_iter()
        .filter(|word| *word != "always")
        .take(count);
    let plain = |word: &str| {
        word.trim_matches(['"', '?', '>', '+'])
            .trim_end_matches('/')
            .to_owned()
    };
    words.map(plain).collect()
}

#[test]
fn a_hint_is_compared_line_by_line() {
    let healthy = "location / {\n  a 1;\n  b 2;\n  rule: [x, y]\n}\n";
    for (broken, hint, expected) in [
        (
            "location / {\n  b 2;\n  rule: [x, y]\n}\n",
            "no hop may. nginx: write `a 1;`",
            "",
        ),
        (
            "location / {\n  b 2;\n  rule: [x, y]\n}\n",
            "write `a 2;`",
            "write \"a 1;\"",
        ),
        (
            "location / {\n  a 9;\n  b 2;\n  rule: [x, y]\n}\n",
            "write `a 1;` or so",
            "",
        ),
        (
            "location / {\n  a 9;\n  b 2;\n  rule: [x, y]\n}\n",
            "write `a`",
            "write \"a 1;\"",
        ),
        (
            "location / {\n  a 1;\n  b 2;\n  rule: [x, y]\n  c {\n    d;\n  }\n}\n",
            "`a` is right: remove `c`",
            "",
        ),
        (
            "location / {\n  a 1;\n  b 2;\n  rule: [x, y]\n  c {\n    d;\n  }\n}\n",
            "write `a 1;`",
            "remove \"c {\"",
        ),
        (
            "location / {\n  a 1;\n  b 2;\n  rule: [x, y]\n  b 3;\n}\n",
            "remove `b`",
            "and so \"b 2;\"",
        ),
        (
            "location / {\n  a 1;\n  b 2;\n  rule: [x, y]\n}\nlocation /b {\n  c;\n}\n",
            "remove `location` with `c` in it",
            "",
        ),
        (
            "location / {\n  a 1;\n  b 2;\n  rule: [x, y]\n}\nlocation /b {\n  c;\n}\n",
            "remove `location` with `d` in it",
            "remove \"location /b {\"",
        ),
        (
            "location / {\n  a 1;\n  b 2;\n  rule: [x, y]\n}\nlocation /b {\n  b 2;\n}\n",
            "remove `location` with `b` in it",
            "as well",
        ),
        (
            "location / {\n  a 1;\n  b 2;\n  rule: [x, y]\n  c 3;\n}\n",
            "remove `c` next to `a`",
            "",
        ),
        (
            "location / {\n  a 1;\n  b 2;\n  rule: [x, y]\n}\nc 3;\n",
            "remove `c` next to `a`",
            "remove \"c 3;\"",
        ),
        (
            "location / {\n  a 1;\n  b 2;\n  rule: [x, y]\n  b 3;\n}\n",
            "remove `b` next to `a`",
            "as well",
        ),
        (
            "location / {\n  a 1;\n  b 2;\n  rule: [x, y, z]\n}\n",
            "remove ``z``",
            "",
        ),
        (
            "location / {\n  a 1;\n  b 2;\n  rule: [x, y, z]\n}\n",
            "remove `q`",
            "write \"rule: [x, y]\"",
        ),
    ] {
        let found = Hint::read(hint).separates(&[broken.to_owned()], &[healthy.to_owned()]);
        let found = found.err().unwrap_or_default();
        assert!(
            found.contains(expected) && found.is_empty() == expected.is_empty(),
            "{hint}: {found}"
        );
    }
}
