//! How `gatehouse top` looks. Pure: a view becomes cells. What clients have written moves no cursor.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Row as TableRow, Table, Wrap};

use super::view::{Row, View};
use crate::admin::overview::Overview;
use crate::audit::query::printable;
use crate::cli::units::span;

const KEYS: &str = " q quit  p pause  s sort  / filter  ↑↓ choose  Enter explain ";

/// Draws `view`.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View) {
    let [head, middle, bottom, foot] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Fill(3),
        Constraint::Fill(2),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    // Reasons have long names: the longest that are common fit into 80 columns.
    let halves = |area| Layout::horizontal([Constraint::Fill(4), Constraint::Fill(3)]).areas(area);
    let ([left, right], [low_left, low_right]) = (halves(middle), halves(bottom));
    frame.render_widget(Paragraph::new(facts(view)), head);
    rows(frame, left, "turned away, by reason", &view.reasons());
    clients(frame, right, view);
    rows(frame, low_left, "dropped at the card, by list", &view.lists());
    health(frame, low_right, view);
    frame.render_widget(footer(view), foot);
    if let Some(text) = &view.pane {
        pane(frame, text);
    }
}

fn number(rate: f64) -> String {
    if rate >= 100.0 { format!("{rate:.0}") } else { format!("{rate:.1}") }
}

/// The first lines: what the daemon is, and how much happens.
fn facts(view: &View) -> Vec<Line<'static>> {
    let Some(last) = view.last() else {
        return vec![Line::from("gatehouse: nothing was heard of the daemon yet")];
    };
    let status = &last.status;
    let now = Duration::try_from_secs_f64(last.time).unwrap_or_default().as_secs();
    let policy = status.policy.as_ref().map_or_else(
        || "no address policy".to_owned(),
        |policy| {
            let age = policy
                .compiled
                .map_or_else(String::new, |then| format!(", {} old", span(now.saturating_sub(then))));
            format!("generation {}{age}, {} prefixes", policy.generation, policy.prefixes)
        },
    );
    let turned_away = |look: &Overview| {
        look.rejections.iter().filter(|row| row.point == "gateway").map(|row| row.count).sum()
    };
    let admitted = |look: &Overview| look.routes.iter().map(|route| route.admitted).sum();
    let dropped = |look: &Overview| look.status.packets.map_or(0, |packets| packets.dropped);
    let stale = if status.packets.is_some_and(|packets| packets.stale) { " (STALE)" } else { "" };
    let latency = view.latency(|look| &look.handshakes.admitted);
    let quantile = |part| {
        latency.quantile(part).map_or_else(|| "–".to_owned(), |bound| format!("≤{} ms", bound * 1000.0))
    };
    vec![
        Line::from(format!("gatehouse {}  up {}  {policy}", status.version, span(status.uptime_s))),
        Line::from(format!(
            "{} of {} sessions  admitted {}/s  turned away {}/s  dropped {}/s{stale}",
            last.sessions.open,
            last.sessions.most,
            number(view.rate(admitted)),
            number(view.rate(turned_away)),
            number(view.rate(dropped)),
        )),
        Line::from(format!(
            "decided within: half {}, 99 of 100 {}  audit entries lost: {}",
            quantile(0.5),
            quantile(0.99),
            status.audit_lost_total
        )),
    ]
}

fn rows(frame: &mut Frame<'_>, area: Rect, title: &'static str, rows: &[Row]) {
    let lines =
        rows.iter().map(|row| TableRow::new([printable(&row.name), number(row.rate), row.count.to_string()]));
    let widths = [Constraint::Fill(1), Constraint::Length(6), Constraint::Length(9)];
    let head = TableRow::new(["", "/s", "in all"]).style(Style::new().add_modifier(Modifier::DIM));
    frame.render_widget(Table::new(lines, widths).header(head).block(Block::bordered().title(title)), area);
}

fn clients(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let all = view.clients();
    // The chosen one is always in sight.
    let room = usize::from(area.height.saturating_sub(3)).max(1);
    let first = (view.chosen + 1).saturating_sub(room);
    let lines = all.iter().enumerate().skip(first).take(room).map(|(at, client)| {
        let style =
            if at == view.chosen { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        let cells = [client.address.to_string(), printable(&client.reason), client.count.to_string()];
        TableRow::new(cells).style(style)
    });
    let widths = [Constraint::Fill(1), Constraint::Fill(1), Constraint::Length(6)];
    let head = TableRow::new(["", "last for", "times"]).style(Style::new().add_modifier(Modifier::DIM));
    let table = Table::new(lines, widths).header(head);
    frame.render_widget(table.block(Block::bordered().title("clients turned away most")), area);
}

/// Sessions by route, issuers, and what is amiss.
fn health(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let mut lines = Vec::new();
    let (good, bad) = (Style::new().fg(Color::Green), Style::new().fg(Color::Red));
    if let Some(last) = view.last() {
        for one in last.status.interfaces.iter().filter(|one| one.mode == crate::admin::status::NOT_ATTACHED)
        {
            lines.push(Line::styled(format!("{} is NOT guarded", one.interface), bad));
        }
        for issuer in &last.status.issuers {
            let stale = issuer.fetched.as_ref().is_some_and(|fetched| fetched.stale);
            let resting = issuer.introspection.as_ref().is_some_and(|asked| asked.resting);
            let (state, style) = match () {
                () if stale => ("keys too old", bad),
                () if resting => ("does not answer", bad),
                () if issuer.keys == 0 && issuer.introspection.is_none() => ("no keys", bad),
                () => ("in order", good),
            };
            let name = format!("issuer {}  {} keys  ", printable(&issuer.issuer), issuer.keys);
            lines.push(Line::from(vec![Span::raw(name), Span::styled(state, style)]));
        }
        for route in &last.routes {
            lines.push(Line::from(format!(
                "{}  {} open, {} admitted",
                printable(&route.route),
                route.open,
                route.admitted
            )));
        }
        for upstream in last.status.upstreams.iter().filter(|upstream| !upstream.reachable) {
            lines.push(Line::styled(format!("{} cannot be reached", upstream.upstream), bad));
        }
    }
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title("issuers and routes")), area);
}

fn footer(view: &View) -> Paragraph<'static> {
    let style = Style::new().add_modifier(Modifier::REVERSED);
    if let Some(error) = &view.error {
        let words = format!(" {}; trying again ", printable(error));
        return Paragraph::new(words).style(Style::new().fg(Color::Red).add_modifier(Modifier::REVERSED));
    }
    if view.filtering {
        return Paragraph::new(format!(
            " filter: {}▏ Enter keeps it, Esc drops it ",
            printable(&view.filter)
        ))
        .style(style);
    }
    let filter = if view.filter.is_empty() { String::new() } else { format!(" filter {:?} ", view.filter) };
    let paused = if view.paused { " PAUSED " } else { "" };
    Paragraph::new(format!("{KEYS} by {}{filter}{paused}", view.sort.name())).style(style)
}

fn pane(frame: &mut Frame<'_>, text: &str) {
    let area = frame.area().inner(ratatui::layout::Margin::new(2, 1));
    let lines: Vec<Line<'_>> = text.lines().map(|line| Line::from(printable(line))).collect();
    let block = Block::bordered().title("explained; any key closes this");
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(block), area);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
    use serde_json::json;

    use super::super::view::Order;
    use super::*;

    fn overview(time: f64, count: u64, reason: &str) -> Overview {
        serde_json::from_value(json!({
            "time": time, "started": 1,
            "rejections": [
                {"layer": "firewall", "reason": "denied_range", "point": "nic", "count": 0},
                {"layer": "expiry", "reason": reason, "point": "gateway", "count": count},
            ],
            "sessions": {"open": 3, "most": 100, "ended": [], "renewed": 0, "bytes_up": 0, "bytes_down": 0, "messages_up": 0, "messages_down": 0},
            "handshakes": {"admitted": {"bounds_s": [0.001], "counts": [5, 0], "sum_s": 0.1},
                           "rejected": {"bounds_s": [], "counts": [], "sum_s": 0.0}, "dialled": {"bounds_s": [], "counts": [], "sum_s": 0.0}},
            "routes": [{"route": "/chat", "admitted": 5, "open": 3}],
            "busiest": [
                {"address": "192.0.2.7", "count": 9, "error": 0, "layer": "expiry", "reason": reason},
                {"address": "192.0.2.8", "count": 2, "error": 0, "layer": "scope", "reason": "insufficient_scope"},
            ],
            "configuration": {"read": 1, "refused": 0},
            "status": {"version": "0.1.0", "pid": 1, "uptime_s": 61, "listen": [], "sessions": 3, "audit_lost": 0,
                       "interfaces": [], "issuers": [{"issuer": "main", "keys": 0}], "upstreams": []},
        }))
        .expect("an overview")
    }

    fn screen(view: &View, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        terminal.draw(|frame| draw(frame, view)).expect("drawn");
        let buffer = terminal.backend().buffer();
        let rows = buffer.content.chunks(usize::from(width));
        rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>() + "\n").collect()
    }

    fn press(view: &mut View, code: KeyCode) -> Option<Order> {
        view.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn a_screen_of_80_by_24_says_who_is_turned_away_how_often_and_what_is_amiss() {
        let mut view = View::default();
        assert!(screen(&view, 80, 24).contains("nothing was heard of the daemon yet"));
        view.look(Ok(overview(100.0, 10, "expired")));
        view.look(Ok(overview(102.0, 30, "expired")));
        let text = screen(&view, 80, 24);
        for expected in [
            "3 of 100 sessions",
            "turned away 10.0/s",
            "expiry/expired",
            "192.0.2.7",
            "no keys",
            "/chat  3 open",
            "by rate",
        ] {
            assert!(text.contains(expected), "{expected} is missing in\n{text}");
        }
        view.look(Err("no daemon answers".to_owned()));
        let text = screen(&view, 80, 24);
        assert!(
            text.contains("no daemon answers; trying again") && text.contains("expiry/expired"),
            "{text}"
        );
    }

    #[test]
    fn no_size_of_the_terminal_is_too_small_and_no_text_moves_the_cursor() {
        let mut view = View::default();
        view.look(Ok(overview(100.0, 10, "a\u{1b}[2J\u{202e}b")));
        view.explained("line\u{7}\nnext".to_owned());
        for (width, height) in [(1, 1), (2, 2), (10, 3), (20, 8), (80, 24), (200, 60)] {
            let text = screen(&view, width, height);
            assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{7}']), "{width}x{height}");
        }
    }

    #[test]
    fn keys_choose_explain_filter_sort_pause_and_quit() {
        let mut view = View::default();
        view.look(Ok(overview(100.0, 10, "expired")));
        assert_eq!(press(&mut view, KeyCode::Down), None);
        assert_eq!(press(&mut view, KeyCode::Down), None, "there are two");
        let explain = press(&mut view, KeyCode::Enter);
        assert_eq!(explain, Some(Order::Explain("192.0.2.8".parse().expect("an address"))));
        view.explained("scope rejects".to_owned());
        assert!(screen(&view, 80, 24).contains("scope rejects"));
        press(&mut view, KeyCode::Esc);
        assert!(!screen(&view, 80, 24).contains("scope rejects"));
        press(&mut view, KeyCode::Char('/'));
        for key in "0.2.7q".chars() {
            assert_eq!(press(&mut view, KeyCode::Char(key)), None);
        }
        press(&mut view, KeyCode::Backspace);
        press(&mut view, KeyCode::Enter);
        assert_eq!(view.clients().len(), 1);
        press(&mut view, KeyCode::Esc);
        assert_eq!(view.clients().len(), 2);
        press(&mut view, KeyCode::Char('p'));
        view.look(Ok(overview(104.0, 99, "expired")));
        assert!(screen(&view, 80, 24).contains("PAUSED") && view.reasons()[0].count == 10);
        press(&mut view, KeyCode::Char('s'));
        assert!(screen(&view, 80, 24).contains("by count"));
        assert_eq!(press(&mut view, KeyCode::Char('q')), Some(Order::Quit));
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(view.press(interrupt), Some(Order::Quit));
    }
}
