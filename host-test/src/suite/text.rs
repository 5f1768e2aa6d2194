//! Parses the protobuf text format, or equivalent YAML, into a tree.
//!
//! Supports what suites use: `name: scalar`, `name { … }`, `name: [ … ]`, `#` comments, strings in single or double quotes
//! with escapes, and adjacent strings, which are concatenated. Scalars are not interpreted here.

/// The fields of a message in order. A repeated field occurs several times.
pub(super) type Message = Vec<(String, Value)>;

/// The value of a field.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Message(Message),
    Scalar(Vec<u8>),
}

/// Parses the text format. An error names its line.
pub(super) fn parse(text: &str) -> Result<Message, String> {
    let mut parser = Parser {
        rest: text.as_bytes(),
        line: 1,
    };
    parser.message(None)
}

/// Parses YAML.
pub(super) fn parse_yaml(text: &str) -> Result<Message, String> {
    let value: serde_json::Value =
        serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    match value {
        serde_json::Value::Object(map) => Ok(from_map(map)),
        _ => Err("a suite must be a mapping".to_owned()),
    }
}

fn from_map(map: serde_json::Map<String, serde_json::Value>) -> Message {
    let mut message = Message::new();
    for (name, value) in map {
        match value {
            serde_json::Value::Array(values) => {
                message.extend(
                    values
                        .into_iter()
                        .filter_map(|value| from_value(value).map(|value| (name.clone(), value))),
                );
            }
            value => message.extend(from_value(value).map(|value| (name, value))),
        }
    }
    message
}

fn from_value(value: serde_json::Value) -> Option<Value> {
    Some(match value {
        serde_json::Value::Object(map) => Value::Message(from_map(map)),
        serde_json::Value::String(text) => Value::Scalar(text.into_bytes()),
        serde_json::Value::Null => return None,
        other => Value::Scalar(other.to_string().into_bytes()),
    })
}

struct Parser<'a> {
    rest: &'a [u8],
    line: usize,
}

impl Parser<'_> {
    /// Parses fields until `end`, or until the end of the text.
    fn message(&mut self, end: Option<u8>) -> Result<Message, String> {
        let mut message = Message::new();
        loop {
            self.skip_space();
            match self.peek() {
                None if end.is_none() => return Ok(message),
                None => return Err(self.error("the message does not end")),
                found if found == end => {
                    self.advance();
                    return Ok(message);
                }
                Some(b',' | b';') => self.advance(),
                Some(_) => self.field(&mut message)?,
            }
        }
    }

    fn field(&mut self, message: &mut Message) -> Result<(), String> {
        let name = self.word()?;
        self.skip_space();
        let has_colon = self.peek() == Some(b':');
        if has_colon {
            self.advance();
            self.skip_space();
        }
        match self.peek() {
            Some(b'[') if has_colon => {
                self.advance();
                loop {
                    self.skip_space();
                    match self.peek() {
                        Some(b']') => {
                            self.advance();
                            return Ok(());
                        }
                        Some(b',') => self.advance(),
                        _ => {
                            let value = self.value()?;
                            message.push((name.clone(), value));
                        }
                    }
                }
            }
            Some(b'{' | b'<') => {
                let value = self.value()?;
                message.push((name, value));
                Ok(())
            }
            _ if has_colon => {
                let value = self.value()?;
                message.push((name, value));
                Ok(())
            }
            _ => Err(self.error(&format!("`{name}` needs `:` or `{{`"))),
        }
    }

    fn value(&mut self) -> Result<Value, String> {
        match self.peek() {
            Some(b'{') => {
                self.advance();
                Ok(Value::Message(self.message(Some(b'}'))?))
            }
            Some(b'<') => {
                self.advance();
                Ok(Value::Message(self.message(Some(b'>'))?))
            }
            Some(b'"' | b'\'') => {
                let mut bytes = Vec::new();
                while let Some(quote @ (b'"' | b'\'')) = self.peek() {
                    self.advance();
                    self.string(quote, &mut bytes)?;
                    self.skip_space();
                }
                Ok(Value::Scalar(bytes))
            }
            _ => Ok(Value::Scalar(self.word()?.into_bytes())),
        }
    }

    fn string(&mut self, quote: u8, bytes: &mut Vec<u8>) -> Result<(), String> {
        loop {
            let byte = self
                .next()
                .filter(|byte| *byte != b'\n')
                .ok_or_else(|| self.error("the string does not end"))?;
            match byte {
                b'\\' => {
                    let escaped = self.escape()?;
                    bytes.push(escaped);
                }
                byte if byte == quote => return Ok(()),
                byte => bytes.push(byte),
            }
        }
    }

    fn escape(&mut self) -> Result<u8, String> {
        Ok(match self.next() {
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'a') => 7,
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'v') => 11,
            Some(b'x') => self.number(16, 2, 0)?,
            Some(digit @ b'0'..=b'7') => self.number(8, 2, u32::from(digit - b'0'))?,
            Some(byte @ (b'\\' | b'\'' | b'"' | b'?')) => byte,
            _ => return Err(self.error("unknown escape in a string")),
        })
    }

    /// Parses up to `count` digits that follow the digit `start`.
    fn number(&mut self, radix: u32, count: usize, start: u32) -> Result<u8, String> {
        let mut number = start;
        for _ in 0..count {
            let Some(digit) = self
                .peek()
                .and_then(|byte| char::from(byte).to_digit(radix))
            else {
                break;
            };
            number = number * radix + digit;
            self.advance();
        }
        u8::try_from(number).map_err(|_| self.error("the escape is larger than a byte"))
    }

    fn word(&mut self) -> Result<String, String> {
        let is_word =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'+');
        let length = self.rest.iter().take_while(|byte| is_word(byte)).count();
        let (word, rest) = self.rest.split_at(length);
        if word.is_empty() {
            return Err(self.error("a name or value is missing"));
        }
        self.rest = rest;
        Ok(String::from_utf8_lossy(word).into_owned())
    }

    fn skip_space(&mut self) {
        while let Some(byte) = self.peek() {
            if byte == b'#' {
                while self.peek().is_some_and(|byte| byte != b'\n') {
                    self.advance();
                }
            } else if byte.is_ascii_whitespace() {
                self.advance();
            } else {
                return;
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek();
        self.advance();
        byte
    }

    fn advance(&mut self) {
        if let [byte, rest @ ..] = self.rest {
            self.line += usize::from(*byte == b'\n');
            self.rest = rest;
        }
    }

    fn error(&self, message: &str) -> String {
        format!("line {}: {message}", self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(text: &str) -> Value {
        Value::Scalar(text.as_bytes().to_vec())
    }

    #[test]
    fn the_text_format_is_parsed() {
        let text = "# a\nname: \"x\\n\\x41\\101\" 'y' # b\nlist: [1, 2]\nin { flag: true, deep < n: -3 > };";
        let want = vec![
            ("name".to_owned(), scalar("x\nAAy")),
            ("list".to_owned(), scalar("1")),
            ("list".to_owned(), scalar("2")),
            (
                "in".to_owned(),
                Value::Message(vec![
                    ("flag".to_owned(), scalar("true")),
                    (
                        "deep".to_owned(),
                        Value::Message(vec![("n".to_owned(), scalar("-3"))]),
                    ),
                ]),
            ),
        ];
        assert_eq!(parse(text), Ok(want));
    }

    #[test]
    fn an_error_names_its_line() {
        for (text, want) in [
            ("a: 1\nb", "line 2: `b` needs `:` or `{`"),
            ("a: \"x\n", "line 2: the string does not end"),
            ("a {\n", "line 2: the message does not end"),
            ("a: ", "line 1: a name or value is missing"),
            ("a: \"\\q\"", "line 1: unknown escape in a string"),
            ("}", "line 1: a name or value is missing"),
            ("a: [1", "line 1: a name or value is missing"),
        ] {
            assert_eq!(parse(text), Err(want.to_owned()), "{text}");
        }
    }

    #[test]
    fn yaml_gives_the_same_tree() {
        let yaml = "test:\n- name: a\n  n: 1\n- name: b\n";
        // YAML mappings are sorted by name.
        let text = "test { n: 1 name: \"a\" } test { name: \"b\" }";
        assert_eq!(parse_yaml(yaml), parse(text));
    }
}
