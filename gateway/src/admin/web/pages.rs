//! What is in the binary to be looked at.

/// A file that is served as it is.
pub(super) struct Page {
    pub(super) path: &'static str,
    pub(super) kind: &'static str,
    pub(super) body: &'static str,
}

/// All of them.
pub(super) const PAGES: &[Page] = &[
    Page { path: "/", kind: "text/html; charset=utf-8", body: include_str!("assets/index.html") },
    Page { path: "/page.css", kind: "text/css; charset=utf-8", body: include_str!("assets/page.css") },
    Page { path: "/page.js", kind: "text/javascript; charset=utf-8", body: include_str!("assets/page.js") },
    Page {
        path: "/gatehouse.js",
        kind: "text/javascript; charset=utf-8",
        body: include_str!("../../../../docs/gatehouse.js"),
    },
];
