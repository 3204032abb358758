//! Colours, where somebody sees them.

use std::io::IsTerminal as _;

use clap::builder::styling::{AnsiColor, Style};

/// Whether what is printed is coloured: only on a terminal that can do it, and not where the user has
/// said no (<https://no-color.org/>).
pub(super) fn wanted() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    std::io::stdout().is_terminal() && !refused && !dumb
}

/// What a piece of text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it should be.
    Good,
    /// A client was turned away, or something is to be looked at.
    Warning,
    /// Our side has failed.
    Bad,
    /// Beside the point.
    Quiet,
}

/// `text` in the colour of `tone`, if colours are `wanted`.
pub(super) fn paint(text: &str, tone: Tone, wanted: bool) -> String {
    if !wanted {
        return text.to_owned();
    }
    let style = match tone {
        Tone::Good => AnsiColor::Green.on_default(),
        Tone::Warning => AnsiColor::Yellow.on_default(),
        Tone::Bad => AnsiColor::Red.on_default().bold(),
        Tone::Quiet => Style::new().dimmed(),
    };
    format!("{style}{text}{style:#}")
}
