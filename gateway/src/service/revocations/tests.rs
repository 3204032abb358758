//! Revocations on disk.

use super::*;

fn config(folder: &Path, more: &str) -> Config {
    let text = format!("[state]\nfolder = \"state\"\n{more}\n");
    crate::config::parse(&folder.join("g.toml"), &text).expect("valid").0
}

fn add(line: &str) -> Order {
    Order::Add { line: line.to_owned() }
}

fn lines(book: &Book) -> Vec<String> {
    let report = book.obey(&Order::List).expect("a list");
    report.revocations.into_iter().map(|kept| kept.line).collect()
}

#[test]
fn a_revocation_outlives_the_process_and_can_be_taken_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(folder.path(), "");
    let (book, faults) = Book::load(&config);
    assert!(faults.is_empty(), "{faults:?}");
    book.obey(&add("jti=a note=stolen")).expect("revoked");
    book.obey(&add("sub=alice iss=i until=2999-01-01T00:00:00Z")).expect("revoked");
    // Over at once, and forgotten with the next change.
    book.obey(&add("jti=b until=2001-01-01T00:00:00Z")).expect("revoked");
    book.obey(&add("jti=a note=again")).expect("the same, not twice");

    let (book, faults) = Book::load(&config);
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(lines(&book).len(), 2, "{:?}", lines(&book));
    assert_eq!(book.in_force().get().all().len(), 2);
    let report = book.obey(&Order::List).expect("a list");
    for kept in &report.revocations {
        book.obey(&Order::Undo { id: kept.id.clone() }).expect("taken back");
    }
    assert!(book.in_force().get().all().is_empty() && lines(&Book::load(&config).0).is_empty());
    assert!(book.obey(&Order::Undo { id: "0000000000".to_owned() }).is_err());
}

#[test]
fn a_file_of_the_operator_is_read_anew_and_a_broken_one_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("revoked.list");
    fs::write(&file, "jti=a\n").expect("written");
    let config = config(folder.path(), "[revocation]\nfile = \"revoked.list\"");
    let (book, _) = Book::load(&config);
    assert_eq!(book.refresh(), Refreshed::default());
    fs::write(&file, "jti=a\njti=b\n").expect("written");
    assert_eq!(book.refresh(), Refreshed { changed: true, ..Refreshed::default() });
    fs::write(&file, "jti=a\nrevoke all\n").expect("written");
    let Refreshed { changed, faults, .. } = book.refresh();
    let fault = faults.first().expect("a fault").to_string();
    assert!(!changed && fault.contains("revoked.list:2:1: "), "{fault}");
    fs::remove_file(&file).expect("removed");
    assert_eq!(book.refresh().faults.len(), 1);
    assert_eq!(book.in_force().get().all().len(), 2);
    let id = book.obey(&Order::List).expect("a list").revocations[0].id.clone();
    let error = book.obey(&Order::Undo { id }).expect_err("of the file");
    assert!(error.contains("[revocation] file"), "{error}");
}

#[test]
fn what_was_revoked_and_cannot_be_read_is_a_fault_and_not_forgotten() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(folder.path(), "");
    fs::create_dir_all(folder.path().join("state")).expect("made");
    fs::write(folder.path().join("state/revocations"), "jti=a\nnonsense\n").expect("written");
    let (book, faults) = Book::load(&config);
    assert!(faults.len() == 1 && faults[0].to_string().contains("revocations:2:1: "), "{faults:?}");
    assert!(book.obey(&add("jti=b")).is_err(), "it is not overwritten");
    let text = fs::read_to_string(folder.path().join("state/revocations")).expect("readable");
    assert!(text.contains("nonsense"));
}

#[test]
fn what_another_process_revokes_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(folder.path(), "");
    let (book, _) = Book::load(&config);
    revoke(&config, &add("jti=a")).expect("revoked");
    assert_eq!(book.refresh(), Refreshed { changed: true, ..Refreshed::default() });
    assert_eq!(book.in_force().get().all().len(), 1);
    assert_eq!(book.refresh(), Refreshed::default());
}

#[test]
fn a_revocation_that_was_taken_can_be_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(folder.path(), "[limits]\nrevocations = 1");
    let (book, _) = Book::load(&config);
    book.obey(&add(&format!("jti=a note={}", "n".repeat(1024)))).expect("revoked");
    assert!(Book::load(&config).1.is_empty());
}

#[test]
fn revocations_are_limited_and_need_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let limited = config(folder.path(), "[limits]\nrevocations = 1");
    let (book, _) = Book::load(&limited);
    book.obey(&add("jti=a")).expect("revoked");
    assert!(book.obey(&add("jti=b")).expect_err("one too many").contains("[limits] revocations"));
    assert_eq!(book.in_force().get().all().len(), 1);

    let nowhere = crate::config::parse(&folder.path().join("h.toml"), "").expect("valid").0;
    let error = Book::load(&nowhere).0.obey(&add("jti=a")).expect_err("no folder");
    assert!(error.contains("[state] folder"), "{error}");
}

#[test]
fn whoever_waits_for_another_process_keeps_nobody_from_judging_and_reading() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(folder.path(), "");
    let (book, _) = Book::load(&config);
    fs::create_dir_all(folder.path().join("state")).expect("made");
    let lock = file::lock(&folder.path().join("state/revocations.lock")).expect("locked");
    std::thread::scope(|scope| {
        let revoking = scope.spawn(|| book.obey(&add("jti=a")));
        // These would wait for ever for one that holds the pages while it waits for the lock.
        for _ in 0..100 {
            assert_eq!(book.refresh(), Refreshed::default());
            assert!(lines(&book).is_empty());
        }
        assert!(!revoking.is_finished());
        drop(lock);
        revoking.join().expect("no panic").expect("revoked");
    });
    assert_eq!(book.in_force().get().all().len(), 1);
}

#[test]
fn all_that_is_revoked_at_the_same_time_is_in_force() {
    let folder = tempfile::tempdir().expect("a folder");
    let (book, _) = Book::load(&config(folder.path(), ""));
    std::thread::scope(|scope| {
        for number in 0..8 {
            let book = &book;
            scope.spawn(move || book.obey(&add(&format!("jti=t{number}"))).expect("revoked"));
        }
    });
    assert_eq!((book.in_force().get().all().len(), lines(&book).len()), (8, 8));
}

#[test]
fn another_file_and_another_limit_hold_from_a_reload_on_and_a_faulty_one_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
    let configured = |name: &str, most: u32| {
        let more = format!("[revocation]\nfile = \"{name}\"\n[limits]\nrevocations = {most}\n");
        config(folder.path(), &more)
    };
    let ids = |book: &Book| lines(book).join(" ").replace("jti=", "").replace('"', "");
    file("one.list", "jti=one\n");
    file("two.list", "jti=two\njti=three\n");
    file("broken.list", "jti=four\nwhat is this\n");
    let (book, faults) = Book::load(&configured("one.list", 9));
    assert_eq!((ids(&book), faults), ("one".to_owned(), vec![]));
    for (faulty, why) in [
        (configured("broken.list", 9), "broken.list:2"),
        (configured("missing.list", 9), "missing.list"),
        (configured("two.list", 1), "two.list"),
    ] {
        let fault = book.prepare(&faulty).expect_err("faulty").to_string();
        assert!(fault.contains(why), "{fault}");
    }
    assert_eq!(ids(&book), "one");
    book.take(book.prepare(&configured("two.list", 2)).expect("good"));
    assert_eq!(ids(&book), "two three");
    file("one.list", "jti=five\n");
    assert_eq!(book.refresh(), Refreshed::default(), "nobody looks at the former file any more");
    file("two.list", "jti=two\njti=three\njti=four\n");
    assert_eq!(book.refresh().faults.len(), 1, "the limit is the new one");
    book.take(book.prepare(&config(folder.path(), "")).expect("none"));
    assert_eq!(ids(&book), "");
}
