use super::*;

#[test]
fn a_line_is_told_once_a_minute() {
    let (mut told, start) = (Told::default(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(told.admit("a", at(0)), Some(0));
    assert_eq!(told.admit("a", at(59)), None);
    assert_eq!(told.admit("b", at(59)), Some(0));
    assert_eq!(told.admit("a", at(60)), Some(0));
}

#[test]
fn a_flood_is_cut_and_counted() {
    let (mut told, start) = (Told::default(), Instant::now());
    let number = |n: u32| format!("line {n}");
    let passed = (0..1000).filter(|n| told.admit(&number(*n), start).is_some());
    assert_eq!(passed.count(), 20);
    let later = start + Duration::from_secs(3);
    assert_eq!(told.admit("next", later), Some(980));
    assert_eq!(told.admit("too soon", later), None);
    assert!(told.lines.len() <= REMEMBERED);
}

#[test]
fn lines_reach_the_sink() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let kept = lines.clone();
    let journal = Journal::new(Arc::new(move |line: &str| {
        kept.lock().push(line.to_string())
    }));
    journal.tell("one");
    journal.tell("one");
    journal.tell("two");
    assert_eq!(*lines.lock(), ["one", "two"]);
    Journal::default().tell("nobody listens");
}

#[test]
fn a_line_is_one_line_of_text_whatever_a_guest_calls_its_files() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let kept = lines.clone();
    let journal = Journal::new(Arc::new(move |line: &str| {
        kept.lock().push(line.to_string())
    }));
    journal.tell("versions/a\x1b]0;title\x07\ncairn: all is well\u{9b}2J\u{7f}");
    journal.tell("turned \u{202e}round\u{2066}\u{2028}");
    journal.tell("Grüße 世界 \\ 'quoted'");
    let shown = [
        "versions/a\\u{1b}]0;title\\u{7}\\u{a}cairn: all is well\\u{9b}2J\\u{7f}",
        "turned \\u{202e}round\\u{2066}\\u{2028}",
        "Grüße 世界 \\ 'quoted'",
    ];
    assert_eq!(*lines.lock(), shown);
}
