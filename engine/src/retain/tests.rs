use super::*;
use cairn_store::catalog::Pin;
use cairn_store::layout::PointFile;
use proptest::prelude::*;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn at(text: &str) -> i64 {
    Time::parse(text).unwrap().seconds
}

fn berlin() -> Zone {
    Zone::named("Europe/Berlin").unwrap()
}

fn point(sequence: u64, seconds: i64) -> Candidate {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&sequence.to_le_bytes());
    Candidate {
        file: PointFile {
            sequence,
            seconds,
            import: false,
            id: PointId(id),
        },
        made: seconds,
        readable: true,
        pin: None,
    }
}

/// Points with these times, in the order of their numbers.
fn points(times: impl IntoIterator<Item = i64>) -> Vec<Candidate> {
    (1..)
        .zip(times)
        .map(|(n, seconds)| point(n, seconds))
        .collect()
}

fn guard(now: i64) -> Guard {
    Guard {
        now,
        ..Guard::default()
    }
}

fn kept(verdicts: &[Verdict]) -> Vec<u64> {
    let kept = verdicts.iter().filter(|verdict| verdict.kept);
    kept.map(|verdict| verdict.point.file.sequence).collect()
}

fn said(verdict: &Verdict) -> Vec<String> {
    verdict.reasons.iter().map(ToString::to_string).collect()
}

#[test]
fn rules_name_what_they_keep() {
    // Every day at noon from the 1st of November on.
    let start = at("2026-11-01T12:00:00Z");
    let points = points((0..20).map(|day| start + day * DAY));
    let rules = Rules {
        last: 3,
        daily: 4,
        weekly: 2,
        monthly: 5,
        yearly: 1,
        within: Some(Period::parse("36h").unwrap()),
        ..Rules::default()
    };
    let verdicts = decide(&points, &rules, &guard(start + 30 * DAY), &berlin());
    // The 15th is the Sunday of the week before.
    assert_eq!(kept(&verdicts), [15, 17, 18, 19, 20]);
    assert_eq!(
        said(&verdicts[19]),
        [
            "last 1 of 3",
            "daily 2026-11-20",
            "weekly 2026-W47",
            "monthly 2026-11",
            "yearly 2026",
            "within 36h of the latest point"
        ]
    );
    assert_eq!(said(&verdicts[14]), ["weekly 2026-W46"]);
    assert_eq!(said(&verdicts[0]), ["no rule keeps it"]);
}

#[test]
fn imports_are_not_latest_but_have_their_day() {
    let mut points = points([10 * DAY, 11 * DAY, 2 * DAY]);
    points[2].file.import = true;
    let rules = Rules {
        last: 1,
        ..Rules::default()
    };
    let all = |rules: &Rules| kept(&decide(&points, rules, &guard(12 * DAY), &Zone::utc()));
    assert_eq!(all(&rules), [2]);
    let daily = Rules {
        daily: 5,
        ..Rules::default()
    };
    assert_eq!(all(&daily), [1, 2, 3]);
    // Nothing but imports: the newest is the machine's last point.
    let only = &points[2..];
    let verdicts = decide(only, &rules, &guard(12 * DAY), &Zone::utc());
    assert_eq!(said(&verdicts[0]), ["the machine's last point"]);
    let empty = Guard {
        allow_empty: true,
        ..guard(12 * DAY)
    };
    assert_eq!(kept(&decide(only, &rules, &empty, &Zone::utc())), [0; 0]);
}

#[test]
fn days_of_23_and_25_hours_are_days() {
    let daily = |count| Rules {
        daily: count,
        ..Rules::default()
    };
    // In Berlin the 29th of March 2026 has 23 hours and the 25th of October 25.
    for (first, hours) in [("2026-03-28T23:00:00Z", 23), ("2026-10-24T22:00:00Z", 25)] {
        let first = at(first);
        let points = points((-1..=hours).map(|hour| first + hour * HOUR));
        let verdicts = decide(&points, &daily(9), &guard(first + 9 * DAY), &berlin());
        // The last hour of the day before, of the day, and the first one of the day after.
        let last = u64::try_from(hours).unwrap();
        assert_eq!(kept(&verdicts), [1, last + 1, last + 2]);
        let hourly = Rules {
            hourly: 99,
            ..Rules::default()
        };
        // Each hour is one, the one that comes twice too.
        let verdicts = decide(&points, &hourly, &guard(first + 9 * DAY), &berlin());
        assert_eq!(kept(&verdicts).len(), points.len());
        // In UTC these are other days.
        let verdicts = decide(&points, &daily(9), &guard(first + 9 * DAY), &Zone::utc());
        assert_ne!(kept(&verdicts), [1, last + 1, last + 2]);
    }
}

#[test]
fn a_day_that_comes_twice_is_one() {
    // In St. John's clocks went from 00:01 of the 1st of November 2009 back to 23:01 of the 31st of October.
    let zone = Zone::named("America/St_Johns").unwrap();
    let turn = at("2009-11-01T02:31:00Z");
    let points = points([turn - 120, turn - 30, turn + 60, turn + 2 * HOUR]);
    let rules = Rules {
        daily: 2,
        ..Rules::default()
    };
    let verdicts = decide(&points, &rules, &guard(turn + DAY), &zone);
    assert_eq!(kept(&verdicts), [3, 4]);
    let rules = Rules {
        daily: 9,
        ..Rules::default()
    };
    assert_eq!(
        kept(&decide(&points, &rules, &guard(turn + DAY), &zone)),
        [3, 4]
    );
}

#[test]
fn weeks_are_those_of_the_standard() {
    // Thursday the 31st of December 2026 to Monday the 4th of January 2027: W53 of 2026, then W01 of 2027.
    let points = points([
        at("2026-12-31T12:00:00Z"),
        at("2027-01-03T12:00:00Z"),
        at("2027-01-04T12:00:00Z"),
    ]);
    let rules = Rules {
        weekly: 9,
        ..Rules::default()
    };
    let verdicts = decide(
        &points,
        &rules,
        &guard(at("2027-02-01T00:00:00Z")),
        &Zone::utc(),
    );
    assert_eq!(kept(&verdicts), [2, 3]);
    assert_eq!(said(&verdicts[1]), ["weekly 2026-W53"]);
    assert_eq!(said(&verdicts[2]), ["weekly 2027-W01"]);
}

#[test]
fn within_is_counted_by_the_calendar_from_the_latest_point() {
    let rules = Rules {
        within: Some(Period::parse("1d").unwrap()),
        ..Rules::default()
    };
    // A day before noon in Berlin across the change in October: 25 hours.
    let end = at("2026-10-25T11:00:00Z");
    let points = points([end - 25 * HOUR, end - 25 * HOUR + 1, end]);
    let verdicts = decide(&points, &rules, &guard(end + 900 * DAY), &berlin());
    assert_eq!(kept(&verdicts), [2, 3]);
    // A point from the future makes no other one old.
    let mut future = points;
    future.push(point(9, end + 4000 * DAY));
    let verdicts = decide(&future, &rules, &guard(end), &berlin());
    assert_eq!(kept(&verdicts), [2, 3, 9]);
    // Longer than all time.
    let ever = Rules {
        within: Some(Period::parse("99999y").unwrap()),
        ..Rules::default()
    };
    assert_eq!(
        kept(&decide(&future, &ever, &guard(end), &berlin())).len(),
        4
    );
}

#[test]
fn times_beyond_every_calendar_are_kept_in_order() {
    let points = points([i64::MIN, 0, i64::MAX]);
    let rules = Rules {
        hourly: 9,
        daily: 9,
        weekly: 9,
        monthly: 9,
        yearly: 9,
        within: Some(Period::parse("1y").unwrap()),
        ..Rules::default()
    };
    assert_eq!(
        kept(&decide(&points, &rules, &guard(0), &berlin())),
        [1, 2, 3]
    );
}

#[test]
fn pins_end_when_they_were_wished_to() {
    let now = at("2026-11-20T12:00:00Z");
    let zone = berlin();
    for (text, end) in [
        ("2026-11-20", "2026-11-20T23:00:00Z"),
        ("2027-01-31", "2027-01-31T23:00:00Z"),
        ("2027-01-31T12:00:00Z", "2027-01-31T12:00:00Z"),
        ("30d", "2026-12-20T12:00:00Z"),
        ("6m", "2027-05-20T11:00:00Z"),
    ] {
        assert_eq!(zone.until(text, now).unwrap(), at(end), "{text}");
    }
    for bad in ["2026-11-19", "2026-11-20T12:00:00Z", "soon", "", "99999y"] {
        assert!(zone.until(bad, now).is_err(), "{bad}");
    }
    assert!(Zone::named("Europe/Atlantis").is_err());
}

#[test]
fn what_was_named_goes_unless_it_is_protected() {
    let mut points = points([DAY, 2 * DAY, 3 * DAY]);
    points[1].pin = Some(Pin::default());
    let named = points.iter().map(|point| point.file.id).collect();
    let verdicts = decide_named(&points, &named, &guard(9 * DAY));
    assert_eq!(kept(&verdicts), [2]);
    assert_eq!(said(&verdicts[1]), ["pinned"]);
    assert_eq!(said(&verdicts[0]), ["named"]);
    let one = [points[0].file.id].into();
    assert_eq!(decide_named(&points, &one, &guard(9 * DAY)).len(), 1);
}

fn any_points() -> impl Strategy<Value = Vec<Candidate>> {
    // Around the change of clocks, close together and far apart, in any order of time.
    let time = prop_oneof![
        at("2026-10-23T00:00:00Z")..at("2026-10-27T00:00:00Z"),
        at("2024-01-01T00:00:00Z")..at("2027-01-01T00:00:00Z"),
    ];
    let one = (
        time,
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        0..4 * DAY,
    );
    prop::collection::vec(one, 0..60).prop_map(|all| {
        (1..)
            .zip(all)
            .map(|(n, (seconds, import, lost, pinned, late))| {
                let mut point = point(n, seconds);
                point.file.import = import;
                point.readable = !lost;
                point.made = seconds + late;
                point.pin = pinned.then(|| Pin {
                    until: (n % 2 == 0).then_some(at("2026-10-28T00:00:00Z")),
                    note: String::new(),
                });
                point
            })
            .collect()
    })
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let within = prop::option::of((1u32..5, 0u32..30));
    (0u64..4, 0u64..6, 0u64..6, 0u64..4, 0u64..4, 0u64..3, within).prop_map(
        |(last, hourly, daily, weekly, monthly, yearly, within)| Rules {
            last,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            within: within.map(|(days, hours)| Period {
                days,
                hours,
                ..Period::default()
            }),
        },
    )
}

fn any_guard() -> impl Strategy<Value = Guard> {
    let now = at("2026-10-24T00:00:00Z")..at("2026-10-30T00:00:00Z");
    (
        now,
        0..3 * DAY,
        0..3 * DAY,
        prop::bool::ANY,
        prop::bool::weighted(0.3),
    )
        .prop_map(|(now, immutable, min_age, damaged, allow_empty)| Guard {
            now,
            immutable,
            min_age,
            damaged,
            allow_empty,
        })
}

const ZONES: [&str; 5] = [
    "Europe/Berlin",
    "UTC",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Pacific/Apia",
];

fn zones() -> impl Strategy<Value = Zone> {
    prop::sample::select(&ZONES[..]).prop_map(|name| Zone::named(name).unwrap())
}

/// Each number at least as large.
fn more(rules: Rules, by: [u64; 6], longer: u32) -> Rules {
    Rules {
        last: rules.last + by[0],
        hourly: rules.hourly + by[1],
        daily: rules.daily + by[2],
        weekly: rules.weekly + by[3],
        monthly: rules.monthly + by[4],
        yearly: rules.yearly + by[5],
        within: match rules.within {
            Some(period) => Some(Period {
                days: period.days + longer,
                ..period
            }),
            None => (longer > 0).then(|| Period {
                days: longer,
                ..Period::default()
            }),
        },
    }
}

#[test]
fn of_points_that_cannot_be_read_one_stays() {
    let guard = Guard {
        now: 1_792_800_000,
        damaged: true,
        ..Guard::default()
    };
    let unreadable = |number| Candidate {
        readable: false,
        ..point(number, 1_704_067_200)
    };
    let points: Vec<Candidate> = (1..4).map(unreadable).collect();
    let utc = Zone::named("UTC").unwrap();
    let verdicts = decide(&points, &Rules::default(), &guard, &utc);
    assert_eq!(kept(&verdicts), [3]);
    let empty = Guard {
        allow_empty: true,
        ..guard
    };
    let verdicts = decide(&points, &Rules::default(), &empty, &utc);
    assert_eq!(kept(&verdicts), [0; 0]);
}

proptest! {
    #[test]
    fn what_was_kept_is_kept_again(points in any_points(), rules in any_rules(), guard in any_guard(), zone in zones()) {
        let first = decide(&points, &rules, &guard, &zone);
        let left: Vec<Candidate> = first.iter().filter(|v| v.kept).map(|v| v.point.clone()).collect();
        let again = decide(&left, &rules, &guard, &zone);
        prop_assert_eq!(kept(&again), kept(&first));
    }

    #[test]
    fn more_rules_never_keep_less(
        points in any_points(), rules in any_rules(), guard in any_guard(), zone in zones(),
        by in prop::array::uniform6(0u64..3), longer in 0u32..3,
    ) {
        let few = kept(&decide(&points, &rules, &guard, &zone));
        let many = kept(&decide(&points, &more(rules, by, longer), &guard, &zone));
        prop_assert!(few.iter().all(|number| many.contains(number)), "{few:?} {many:?}");
    }

    #[test]
    fn the_order_of_points_is_nothing(points in any_points(), rules in any_rules(), guard in any_guard(), zone in zones(), turn in 0usize..60) {
        let right = decide(&points, &rules, &guard, &zone);
        let mut other = points.clone();
        let turn = turn.min(other.len());
        other.rotate_left(turn);
        prop_assert_eq!(&decide(&other, &rules, &guard, &zone), &right);
        other.reverse();
        prop_assert_eq!(&decide(&other, &rules, &guard, &zone), &right);
    }

    #[test]
    fn what_is_protected_is_kept(points in any_points(), rules in any_rules(), guard in any_guard(), zone in zones()) {
        let verdicts = decide(&points, &rules, &guard, &zone);
        prop_assert_eq!(verdicts.len(), points.len());
        for verdict in &verdicts {
            prop_assert!(!verdict.reasons.is_empty());
            let point = &verdict.point;
            let pinned = point.pin.as_ref().is_some_and(|pin| pin.holds(guard.now));
            let young = guard.now - point.made < guard.immutable.max(guard.min_age);
            if pinned || young || (!point.readable && !guard.damaged) {
                prop_assert!(verdict.kept, "{verdict:?}");
            }
        }
        // Not more than protections are in the way of those who may forget everything.
        let readable = |verdict: &&Verdict| verdict.point.readable;
        if !guard.allow_empty && verdicts.iter().any(|v| v.point.readable) {
            let latest = last(points.iter()).unwrap().file.sequence;
            prop_assert!(kept(&verdicts).contains(&latest));
            prop_assert!(verdicts.iter().filter(readable).any(|v| v.kept));
        }
        // The store agrees: what is dropped here it does not refuse.
        let dropped = verdicts.iter().filter(|v| !v.kept).map(|v| v.point.file.id).collect();
        for (point, protections) in guard.judge(&points, &dropped) {
            prop_assert!(protections.is_empty(), "{point:?} {protections:?}");
        }
    }

    #[test]
    fn each_period_keeps_its_newest(points in any_points(), count in 1u64..9, zone in zones()) {
        let rules = Rules { daily: count, ..Rules::default() };
        let free = Guard { now: i64::MAX, allow_empty: true, damaged: true, ..Guard::default() };
        let readable: Vec<Candidate> = points.into_iter().filter(|p| p.readable).map(|p| Candidate { pin: None, ..p }).collect();
        let verdicts = decide(&readable, &rules, &free, &zone);
        let day = |seconds| zone.period(seconds, Calendar::Day);
        let days: BTreeSet<String> = readable.iter().map(|p| day(p.file.seconds)).collect();
        let recent: Vec<&String> = days.iter().rev().take(usize::try_from(count).unwrap()).collect();
        let kept: Vec<&Verdict> = verdicts.iter().filter(|v| v.kept).collect();
        prop_assert_eq!(kept.len(), recent.len());
        for verdict in kept {
            let (seconds, of) = (verdict.point.file.seconds, day(verdict.point.file.seconds));
            prop_assert!(recent.contains(&&of));
            let mut same = readable.iter().filter(|p| day(p.file.seconds) == of);
            prop_assert!(same.all(|p| p.file.seconds <= seconds));
        }
    }
}
