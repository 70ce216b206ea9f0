use super::*;
use crate::failure::Failure;
use std::sync::mpsc::channel;

fn opened(name: &'static str) -> impl FnOnce() -> Result<Arc<&'static str>> {
    move || Ok(Arc::new(name))
}

fn told(holds: &Holds<&'static str>, slot: u32, name: &'static str) {
    holds.told(slot);
    holds.keep(slot, opened(name)).unwrap();
}

#[test]
fn a_point_is_kept_until_the_last_telling_is_forgotten() {
    let holds = Holds::default();
    told(&holds, 7, "seven");
    holds.told(7);
    // It is open: it is not opened again.
    holds.keep(7, || Err(Failure::Stale)).unwrap();
    told(&holds, 8, "eight");
    let weak = Arc::downgrade(&holds.point(7).unwrap());
    drop(holds.forgotten(7, 1));
    assert!(holds.has(7) && weak.strong_count() == 1);
    drop(holds.forgotten(7, 1));
    assert!(!holds.has(7) && weak.strong_count() == 0);
    assert_eq!(holds.slots(), [8]);
    // What it is said to forget beyond that is nobody else's.
    drop(holds.forgotten(7, 5));
    told(&holds, 7, "again");
    assert_eq!(*holds.point(7).unwrap(), "again");
}

#[test]
fn what_need_not_be_open_is_not_opened() {
    let holds = Holds::default();
    holds.told(7);
    assert!(holds.has(7) && holds.point(7).is_none());
    assert!(holds.keep(7, || Err(Failure::Stale)).is_err());
    holds.keep(7, opened("seven")).unwrap();
    assert_eq!(*holds.point(7).unwrap(), "seven");
    drop(holds.forgotten(7, 1));
    assert!(holds.point(7).is_none());
    // Of this one nothing is known: nothing would ever end it.
    holds.keep(9, opened("nine")).unwrap();
    assert!(!holds.has(9));
}

#[test]
fn beyond_so_many_the_kernel_is_asked_to_forget_the_one_that_was_not_used_for_longest() {
    let holds = Holds::default();
    let (sender, asked) = channel();
    holds.listen(sender);
    let most = u32::try_from(POINTS).unwrap();
    for slot in 0..most {
        told(&holds, slot, "point");
    }
    // Used again, so the next is the oldest. What is not open does not count.
    told(&holds, 0, "point");
    holds.told(most * 2);
    assert!(asked.try_recv().is_err());
    told(&holds, most, "point");
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), [1]);
    // It stays open until the kernel has forgotten it; if it cannot, the next is asked for.
    assert!(holds.has(1));
    told(&holds, most + 1, "point");
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), [2]);
    assert_eq!(holds.beyond(), [3, 4]);
    assert_eq!(holds.beyond(), [5, 6]);
    drop(holds.forgotten(3, 1));
    assert_eq!(holds.beyond(), [7]);
    drop(holds.forgotten(4, 1));
    assert!(holds.beyond().is_empty());
    let weak = Arc::downgrade(&holds.point(0).unwrap());
    holds.end();
    assert!(asked.recv().is_err());
    assert!(holds.slots().is_empty() && weak.strong_count() == 0);
}
