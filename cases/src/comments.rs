//! Blanks the comments of a JSON text.
//!
//! Each character of a comment becomes a space, so that lines and columns in errors are those of the file. Strings are not
//! changed. An unterminated comment is not changed either, so that the JSON parser reports its position.

/// Returns the text with `//` and `/* */` comments blanked.
pub(crate) fn blank(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let length = match next {
            '"' => string_length(rest),
            '/' => match comment_length(rest) {
                Some(length) => {
                    let (comment, after) = rest.split_at(length);
                    result.extend(comment.chars().map(|character| match character {
                        '\n' => '\n',
                        _ => ' ',
                    }));
                    rest = after;
                    continue;
                }
                None => next.len_utf8(),
            },
            _ => next.len_utf8(),
        };
        let (kept, after) = rest.split_at(length);
        result.push_str(kept);
        rest = after;
    }
    result
}

fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (index, character) in text.char_indices().skip(1) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

fn comment_length(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        Some(text.find('\n').unwrap_or(text.len()))
    } else if text.starts_with("/*") {
        text.find("*/").map(|index| index + 2)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::blank;

    #[test]
    fn only_comments_become_spaces() {
        for (text, want) in [
            ("{} // x\n1", "{}     \n1"),
            ("/* a\nb */1", "    \n    1"),
            (r#""http://x /* y */""#, r#""http://x /* y */""#),
            (r#""\"//" // z"#, r#""\"//"     "#),
            ("1 / 2", "1 / 2"),
            ("/* open", "/* open"),
            ("\"open // x", "\"open // x"),
        ] {
            assert_eq!(blank(text), want);
        }
    }
}
