//! Chains of every shape, compared with a plain walk.

use super::super::heap::FIRST;
use super::super::table::Width;
use super::*;
use cairn_base::{Kind, ReadAt};
use proptest::prelude::*;
use std::sync::Arc;

const END: u32 = 0x0FFF_FFFF;

/// A table of FAT32 with these links from cluster 2 on.
fn table(links: &[u32]) -> Table {
    let mut bytes = vec![0; 8];
    bytes.extend(links.iter().flat_map(|link| link.to_le_bytes()));
    let device: Arc<dyn ReadAt> = Arc::new(bytes);
    let heap = Heap::new(device.clone(), 0, 512, links.len() as u32);
    Table::new(device, Width::ThirtyTwo, vec![0], heap)
}

/// The clusters of a chain, and whether it is broken behind them.
fn all(table: &Table, first: u32, limit: u32, from: u32) -> (Vec<u32>, bool) {
    let chain = Chain::linked(table.heap(), first, limit).unwrap();
    let mut found = Vec::new();
    let mut index = from;
    loop {
        match chain.run(table, index) {
            Ok(Some(run)) => {
                assert!(run.count > 0);
                found.extend((0..run.count).map(|step| run.cluster + step));
                index += run.count;
            }
            Ok(None) => return (found, false),
            Err(error) => {
                assert_eq!(error.kind(), Kind::Damaged);
                return (found, true);
            }
        }
    }
}

/// The same, one step after the other.
fn plain(links: &[u32], first: u32, limit: u32) -> (Vec<u32>, bool) {
    let mut found = vec![first];
    while (found.len() as u32) < limit {
        let link = links[(found[found.len() - 1] - FIRST) as usize];
        if link == END {
            return (found, false);
        }
        if link < FIRST || link as usize >= links.len() + 2 || found.contains(&link) {
            return (found, true);
        }
        found.push(link);
    }
    (found, false)
}

#[test]
fn circles_end_where_a_cluster_would_come_twice() {
    for (links, first, expected) in [
        (vec![2, END], 2, vec![2]),
        (vec![3, 2], 2, vec![2, 3]),
        (vec![3, 4, 5, 6, 4], 2, vec![2, 3, 4, 5, 6]),
        (
            vec![3, 4, 5, 6, 7, 8, 9, 9],
            2,
            vec![2, 3, 4, 5, 6, 7, 8, 9],
        ),
    ] {
        let count = links.len() as u32;
        let table = table(&links);
        let chain = Chain::linked(table.heap(), first, count + 9).unwrap();
        let error = (0..=count).find_map(|index| chain.run(&table, index).err());
        match error {
            Some(error) => assert!(error.to_string().contains("circle"), "{error}"),
            // All clusters there are: no more can be asked for.
            None => assert_eq!(expected.len(), links.len()),
        }
        assert_eq!(all(&table, first, count, 0).0, expected);
    }
}

#[test]
fn a_chain_of_many_runs_is_found_from_its_marks() {
    // Every cluster is followed by the one after the next, and by the odd ones behind all even ones.
    let count = 200_000u32;
    let mut links: Vec<u32> = (0..count).map(|index| index + 4).collect();
    links[count as usize - 2] = 3;
    links[count as usize - 1] = END;
    let table = table(&links);
    let chain = Chain::linked(table.heap(), 2, count).unwrap();
    let expected = |index: u32| {
        if index < count / 2 {
            2 + index * 2
        } else {
            3 + (index - count / 2) * 2
        }
    };
    for index in [count - 1, 0, 1, 77_777, 123_456, count / 2, count / 2 - 1] {
        let run = chain.run(&table, index).unwrap().unwrap();
        assert_eq!(
            run,
            Run {
                cluster: expected(index),
                count: 1
            },
            "{index}"
        );
    }
    assert_eq!(chain.run(&table, count).unwrap(), None);
    let Chain::Linked(linked) = &chain else {
        panic!()
    };
    assert!(linked.known.read().marks.len() < MAX_MARKS);
}

#[test]
fn what_breaks_a_chain_is_named() {
    for (link, told) in [
        (0, "free"),
        (0x0FFF_FFF7, "bad"),
        (1, "cluster 1, which does not exist"),
        (77, "cluster 77, which does not exist"),
    ] {
        let table = table(&[3, link, END]);
        let chain = Chain::linked(table.heap(), 2, 3).unwrap();
        assert_eq!(
            chain.run(&table, 1).unwrap().map(|run| run.cluster),
            Some(3)
        );
        let error = chain.run(&table, 2).unwrap_err().to_string();
        assert!(
            error.contains(told) && error.contains("cluster 3"),
            "{error}"
        );
    }
    let table = table(&[END]);
    assert!(Chain::linked(table.heap(), 3, 1).is_err());
    assert!(Chain::linked(table.heap(), 0, 1).is_err());
    assert!(Chain::contiguous(table.heap(), 2, 2).is_err());
    assert!(Chain::contiguous(table.heap(), 2, 1).is_ok());
}

proptest! {
    #[test]
    fn any_chain_is_as_a_plain_walk_finds_it(
        links in proptest::collection::vec(prop_oneof![4 => 0u32..24, 3 => Just(END), 3 => Just(1 << 20)], 1..20),
        limit in 1u32..24,
        from in 0u32..20,
    ) {
        // Some lead to the next one, as most do.
        let links: Vec<u32> = links.iter().enumerate()
            .map(|(index, link)| if *link == 1 << 20 { index as u32 + 3 } else { *link }).collect();
        let table = table(&links);
        let limit = limit.min(links.len() as u32);
        let (expected, broken) = plain(&links, 2, limit);
        prop_assert_eq!(all(&table, 2, limit, 0), (expected.clone(), broken));
        let rest = expected.get(from as usize..).unwrap_or_default().to_vec();
        if from < limit {
            prop_assert_eq!(all(&table, 2, limit, from), (rest, broken));
        }
    }
}
