use super::*;
use cairn_base::Kind;
use proptest::prelude::*;

fn decode(bytes: &[u8]) -> Result<RunList> {
    let mut runs = RunList::new();
    runs.decode(View::new(bytes, "run list", 0))?;
    Ok(runs)
}

#[test]
fn steps_go_both_ways_and_holes_have_no_place() {
    // 0x38 clusters at 0x342573, 0x114 at +0x3656b2? smaller: the example of the Linux-NTFS document.
    let runs = decode(&[
        0x21, 0x18, 0x34, 0x56, 0x11, 0x08, 0xF0, 0x01, 0x10, 0x11, 4, 0x20, 0,
    ])
    .unwrap();
    assert_eq!(
        runs.at(Vcn(0)),
        Some(Run {
            lcn: Some(Lcn(0x5634)),
            clusters: 0x18
        })
    );
    assert_eq!(
        runs.at(Vcn(0x18)),
        Some(Run {
            lcn: Some(Lcn(0x5624)),
            clusters: 8
        })
    );
    assert_eq!(
        runs.at(Vcn(0x1F)),
        Some(Run {
            lcn: Some(Lcn(0x562B)),
            clusters: 1
        })
    );
    assert_eq!(
        runs.at(Vcn(0x20)),
        Some(Run {
            lcn: None,
            clusters: 0x10
        })
    );
    // The step after a hole counts from the run before the hole.
    assert_eq!(
        runs.at(Vcn(0x30)),
        Some(Run {
            lcn: Some(Lcn(0x5644)),
            clusters: 4
        })
    );
    assert_eq!(runs.at(Vcn(0x34)), None);
}

#[test]
fn neighbours_become_one_run() {
    let runs = decode(&[0x11, 4, 16, 0x11, 4, 4, 0x01, 3, 0x01, 2, 0]).unwrap();
    assert_eq!(runs.len(), 2);
    assert_eq!(
        runs.at(Vcn(0)),
        Some(Run {
            lcn: Some(Lcn(16)),
            clusters: 8
        })
    );
    assert_eq!(
        runs.at(Vcn(8)),
        Some(Run {
            lcn: None,
            clusters: 5
        })
    );
}

#[test]
fn impossible_runs_are_damage() {
    for bad in [
        &[0x11, 4, 0x80, 0][..], // before the start
        &[0x11, 0, 4, 0],        // no clusters
        &[0x11, 0xF0, 4, 0],     // negative length
        &[0x21, 4][..],          // cut off
        &[0x10, 4],              // no length at all
        &[0x09, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0],
        &[0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
    ] {
        assert_eq!(decode(bad).unwrap_err().kind(), Kind::Damaged, "{bad:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_decode_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(runs) = decode(&bytes) {
            let mut vcn = 0;
            while let Some(run) = runs.at(Vcn(vcn)) {
                prop_assert!(run.clusters > 0);
                vcn += run.clusters;
            }
            prop_assert_eq!(vcn, runs.end().0);
        }
    }
}
