//! The head of an HTTP message, taken apart in the plainest way.

/// The start line and the fields of a head, with their names in lower case.
pub(crate) struct Naive {
    pub(crate) start: String,
    fields: Vec<(String, String)>,
}

impl Naive {
    /// The head at the start of `bytes`, which another parser accepted.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        // Every byte its own character, so that nothing is lost.
        let text: String = bytes.iter().copied().map(char::from).collect();
        let head = text.split("\r\n\r\n").next().unwrap_or("");
        let mut lines = head.split("\r\n").skip_while(|line| line.is_empty());
        let start = lines.next().unwrap_or("").to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            (name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned())
        };
        Self { start, fields: lines.map(field).collect() }
    }

    /// The values of all fields with this name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str()).collect()
    }

    /// Whether a field with this name lists `token`, in whatever case.
    pub(crate) fn lists(&self, name: &str, token: &str) -> bool {
        self.all(name).join(",").split(',').any(|one| one.trim().eq_ignore_ascii_case(token))
    }
}
