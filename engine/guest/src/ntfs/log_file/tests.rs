use super::*;

/// A restart page: the number of its last record, the client in use, the flags.
fn restart_page(lsn: u64, client: u16, flags: u16) -> Vec<u8> {
    let mut page = vec![0u8; 4096];
    page[..4].copy_from_slice(b"RSTR");
    page[4..8].copy_from_slice(&[0x1E, 0, 9, 0]);
    page[16..20].copy_from_slice(&4096u32.to_le_bytes());
    page[20..24].copy_from_slice(&4096u32.to_le_bytes());
    page[24..26].copy_from_slice(&48u16.to_le_bytes());
    page[48..56].copy_from_slice(&lsn.to_le_bytes());
    page[60..62].copy_from_slice(&client.to_le_bytes());
    page[62..64].copy_from_slice(&flags.to_le_bytes());
    page
}

fn log(first: Vec<u8>, second: Vec<u8>) -> LogState {
    let mut bytes = first;
    bytes.extend(second);
    bytes.resize(64 << 10, 0xFF);
    state(&bytes).unwrap()
}

#[test]
fn the_newer_page_decides() {
    let closed = |lsn| restart_page(lsn, NO_CLIENT, 0);
    let flagged = |lsn| restart_page(lsn, 0, VOLUME_IS_CLEAN);
    let open = |lsn| restart_page(lsn, 0, 0);
    assert_eq!(log(closed(1), closed(2)), LogState::Clean);
    assert_eq!(log(flagged(1), flagged(2)), LogState::Clean);
    assert_eq!(log(closed(1), open(2)), LogState::Open);
    assert_eq!(log(open(1), closed(2)), LogState::Clean);
    assert_eq!(log(open(2), closed(1)), LogState::Open);
}

#[test]
fn an_empty_log_is_clean_and_nonsense_is_not() {
    assert_eq!(state(&vec![0xFF; 64 << 10]).unwrap(), LogState::Clean);
    assert_eq!(state(&vec![0; 64 << 10]).unwrap(), LogState::Open);
    assert_eq!(state(&Vec::new()).unwrap(), LogState::Open);
    let mut torn = restart_page(9, NO_CLIENT, 0);
    torn[511] = 1;
    assert_eq!(log(torn, restart_page(3, 0, 0)), LogState::Open);
}
