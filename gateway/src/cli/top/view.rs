//! What `gatehouse top` knows and shows, and what keys do to it. Pure.

use std::collections::VecDeque;
use std::net::IpAddr;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::admin::overview::Overview;
use crate::metrics::{Busy, Latency};

/// Looks that are remembered; rates are between the last two.
const KEPT: usize = 2;
/// Characters of a filter.
const FILTER: usize = 64;

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// To end.
    Quit,
    /// To explain this client.
    Explain(IpAddr),
}

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    /// How often now.
    #[default]
    Rate,
    /// How often in all.
    Count,
    /// The name.
    Name,
}

impl Sort {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Count => "count",
            Self::Name => "name",
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Rate => Self::Count,
            Self::Count => Self::Name,
            Self::Name => Self::Rate,
        }
    }
}

/// A row of a table: its name, how often a second, and how often in all.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) rate: f64,
    pub(super) count: u64,
}

/// What is known and shown.
#[derive(Debug, Default)]
pub(super) struct View {
    looks: VecDeque<Overview>,
    /// Why there is nothing newer.
    pub(super) error: Option<String>,
    pub(super) paused: bool,
    pub(super) sort: Sort,
    pub(super) filter: String,
    /// Whether keys go to the filter.
    pub(super) filtering: bool,
    /// Which client is chosen, among those that are shown.
    pub(super) chosen: usize,
    /// What is shown above everything else.
    pub(super) pane: Option<String>,
}

impl View {
    /// Takes a look at the daemon, or why there is none.
    pub(super) fn look(&mut self, look: Result<Overview, String>) {
        match look {
            Ok(_) if self.paused => self.error = None,
            Ok(overview) => {
                self.error = None;
                // Counts of another daemon are no past of this one.
                if self.looks.back().is_some_and(|last| last.started != overview.started) {
                    self.looks.clear();
                }
                self.looks.push_back(overview);
                if self.looks.len() > KEPT {
                    self.looks.pop_front();
                }
            }
            Err(error) => self.error = Some(error),
        }
        self.chosen = self.chosen.min(self.clients().len().saturating_sub(1));
    }

    /// Shows an explanation.
    pub(super) fn explained(&mut self, text: String) {
        self.pane = Some(text);
    }

    /// What the key asks for.
    pub(super) fn press(&mut self, key: KeyEvent) -> Option<Order> {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Some(Order::Quit);
        }
        if self.filtering {
            match key.code {
                KeyCode::Enter => self.filtering = false,
                KeyCode::Esc => {
                    self.filtering = false;
                    self.filter.clear();
                }
                KeyCode::Backspace => drop(self.filter.pop()),
                KeyCode::Char(character) if self.filter.len() < FILTER && !character.is_control() => {
                    self.filter.push(character);
                }
                _ => {}
            }
            self.chosen = 0;
            return None;
        }
        if self.pane.take().is_some() && key.code != KeyCode::Char('q') {
            return None;
        }
        match key.code {
            KeyCode::Char('q') => return Some(Order::Quit),
            KeyCode::Char('p') => self.paused = !self.paused,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('/') => self.filtering = true,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Up | KeyCode::Char('k') => self.chosen = self.chosen.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => {
                self.chosen = (self.chosen + 1).min(self.clients().len().saturating_sub(1));
            }
            KeyCode::Home => self.chosen = 0,
            KeyCode::Enter => {
                let address = self.clients().get(self.chosen).map(|client| client.address)?;
                self.pane = Some(format!("asking about {address} …"));
                return Some(Order::Explain(address));
            }
            _ => {}
        }
        None
    }

    /// The last look.
    pub(super) fn last(&self) -> Option<&Overview> {
        self.looks.back()
    }

    /// How often a second, between the last two looks.
    pub(super) fn rate(&self, of: impl Fn(&Overview) -> u64) -> f64 {
        match (self.looks.front(), self.looks.back()) {
            (Some(before), Some(now)) if now.time > before.time => {
                of(now).saturating_sub(of(before)) as f64 / (now.time - before.time)
            }
            _ => 0.0,
        }
    }

    /// Durations between the last two looks.
    pub(super) fn latency(&self, of: impl Fn(&Overview) -> &Latency) -> Latency {
        match (self.looks.front(), self.looks.back()) {
            (Some(before), Some(now)) if self.looks.len() > 1 => of(now).since(of(before)),
            (_, Some(now)) => of(now).clone(),
            _ => Latency::default(),
        }
    }

    /// Why clients are turned away.
    pub(super) fn reasons(&self) -> Vec<Row> {
        let Some(last) = self.last() else { return Vec::new() };
        let rows = last.rejections.iter().enumerate().filter(|(_, row)| row.count > 0).map(|(at, row)| Row {
            name: format!("{}/{}{}", row.layer, row.reason, if row.point == "nic" { " (card)" } else { "" }),
            // The rows are those of the registry, always in its order.
            rate: self.rate(|look| look.rejections.get(at).map_or(0, |row| row.count)),
            count: row.count,
        });
        self.arranged(rows.collect())
    }

    /// What lists drop.
    pub(super) fn lists(&self) -> Vec<Row> {
        let Some(policy) = self.last().and_then(|last| last.status.policy.as_ref()) else {
            return Vec::new();
        };
        let rows = policy.lists.iter().filter(|list| list.tier == "deny" || list.dropped > 0).map(|list| {
            let dropped = |look: &Overview| {
                let lists = look.status.policy.iter().flat_map(|policy| &policy.lists);
                lists
                    .filter(|one| one.list == list.list && one.tier == list.tier)
                    .map(|one| one.dropped)
                    .sum()
            };
            Row { name: list.list.clone(), rate: self.rate(dropped), count: list.dropped }
        });
        self.arranged(rows.collect())
    }

    fn arranged(&self, mut rows: Vec<Row>) -> Vec<Row> {
        rows.retain(|row| row.name.contains(&self.filter));
        match self.sort {
            Sort::Rate => {
                rows.sort_by(|one, other| other.rate.total_cmp(&one.rate).then(other.count.cmp(&one.count)))
            }
            Sort::Count => rows.sort_by_key(|row| std::cmp::Reverse(row.count)),
            Sort::Name => rows.sort_by(|one, other| one.name.cmp(&other.name)),
        }
        rows
    }

    /// The clients that are turned away most, as far as the filter lets them through.
    pub(super) fn clients(&self) -> Vec<&Busy> {
        let busiest = self.last().map_or(&[][..], |last| &last.busiest);
        let wanted = |client: &&Busy| {
            client.address.to_string().contains(&self.filter)
                || format!("{}/{}", client.layer, client.reason).contains(&self.filter)
        };
        let mut clients: Vec<&Busy> = busiest.iter().filter(wanted).collect();
        if self.sort == Sort::Name {
            clients.sort_by_key(|client| client.address);
        }
        clients
    }
}
