//! The registry as a page for people.

use std::fmt::Write as _;

use super::registry::{Layer, Reason};

/// Every layer and reason with its remedies, in Markdown. `docs/rejections.md` is this text.
pub fn manual() -> String {
    let mut page = String::from(
        "# Why was I rejected?\n\n\
         Every client that Gatehouse turns away is told the layer that rejected it and the reason. \
         This page lists them all, in the order of the checks. It is printed by `gatehouse reasons`.\n\n\
         A session that the gate ends gets a Close frame with the close code of the layer, and a reason \
         with the members of the header `Gatehouse-Rejection`: `layer`, `reason`, `id`.\n",
    );
    for layer in Layer::ALL {
        // Writing to a string does not fail.
        let _ = write!(page, "\n## {layer}\n\n{}\n\nClose code {}.\n", layer.meaning(), layer.close_code());
        for reason in Reason::ALL.iter().filter(|reason| reason.layer() == layer) {
            let _ = write!(page, "\n### {reason}\n\n{}.", reason.title());
            let _ = write!(page, " HTTP status {}", reason.status());
            if *reason == Reason::UpstreamRefused {
                page.push_str(", or the service's own");
            }
            page.push_str(if reason.retryable() {
                "; the same request can succeed later.\n\n"
            } else {
                "; the same request will be rejected again.\n\n"
            });
            let _ = writeln!(page, "- Client: {}", reason.fix());
            let _ = writeln!(page, "- Operator: {}", reason.operator_fix());
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_docs_is_the_registry() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/rejections.md");
        let page = std::fs::read_to_string(file).expect("docs/rejections.md is there");
        assert_eq!(page, manual(), "refresh it: gatehouse reasons > docs/rejections.md");
    }
}
