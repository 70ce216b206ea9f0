use super::super::permissions;
use super::*;
use cairn_base::View;
use proptest::prelude::*;

/// A SID of the authority 5 and these numbers; one number of another authority.
fn sid(authority: u8, numbers: &[u32]) -> Vec<u8> {
    let mut bytes = vec![1, numbers.len() as u8, 0, 0, 0, 0, 0, authority];
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    bytes
}

fn ace(kind: u8, flags: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut body = parts.concat();
    while body.len() % 4 != 0 {
        body.push(0);
    }
    let length = (body.len() + 4) as u16;
    let [low, high] = length.to_le_bytes();
    [vec![kind, flags, low, high], body].concat()
}

fn plain(kind: u8, flags: u8, mask: u32, sid: &[u8]) -> Vec<u8> {
    ace(kind, flags, &[&mask.to_le_bytes(), sid])
}

fn acl(aces: &[Vec<u8>]) -> Vec<u8> {
    let body = aces.concat();
    let mut list = vec![2, 0];
    list.extend(((body.len() + 8) as u16).to_le_bytes());
    list.extend((aces.len() as u16).to_le_bytes());
    list.extend([0, 0]);
    [list, body].concat()
}

/// Owner, group, SACL, DACL; empty parts are not there.
fn descriptor(control: u16, parts: [&[u8]; 4]) -> Vec<u8> {
    let mut bytes = vec![1, 0];
    bytes.extend((control | 0x8000).to_le_bytes());
    let mut at = 20u32;
    for part in parts {
        let offset = if part.is_empty() { 0 } else { at };
        bytes.extend(offset.to_le_bytes());
        at += part.len() as u32;
    }
    [bytes, parts.concat()].concat()
}

fn text_of(bytes: &[u8]) -> String {
    let parsed = SecurityDescriptor::parse(View::new(bytes, "descriptor", 0)).unwrap();
    assert_eq!(parsed.size, bytes.len());
    let (text, damage) = text(&parsed).unwrap();
    assert!(damage.is_none());
    text
}

fn mode_of(bytes: &[u8]) -> Option<u32> {
    let parsed = SecurityDescriptor::parse(View::new(bytes, "descriptor", 0)).unwrap();
    permissions::mode(&parsed).unwrap()
}

const SYSTEM: &[u32] = &[18];
const ADMINISTRATORS: &[u32] = &[32, 544];
const USERS: &[u32] = &[32, 545];

/// The descriptor of `C:\Windows` as Windows 10 writes it (without the entries of application packages).
#[test]
fn a_folder_of_windows_is_written_as_windows_does() {
    let numbers = [
        80,
        956_008_885,
        3_418_522_649,
        1_831_038_044,
        1_853_292_631,
        2_271_478_464,
    ];
    let trusted = sid(5, &numbers);
    let inherited = 1 | 2 | 8;
    let [system, administrators, users] = [SYSTEM, ADMINISTRATORS, USERS].map(|of| sid(5, of));
    let list = acl(&[
        plain(0, inherited, 0x1000_0000, &sid(3, &[0])),
        plain(0, inherited, 0x1000_0000, &system),
        plain(0, 0, 0x13_01BF, &system),
        plain(0, inherited, 0x1000_0000, &administrators),
        plain(0, 0, 0x13_01BF, &administrators),
        plain(0, inherited, 0xA000_0000, &users),
        plain(0, 0, 0x12_00A9, &users),
        plain(0, 2 | 8, 0x1000_0000, &trusted),
        plain(0, 0, 0x1F_01FF, &trusted),
    ]);
    let bytes = descriptor(0x1404, [&trusted, &trusted, b"", &list]);
    let name = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464";
    assert_eq!(
        text_of(&bytes),
        format!(
            "O:{name}G:{name}D:PAI(A;OICIIO;GA;;;CO)(A;OICIIO;GA;;;SY)(A;;0x1301bf;;;SY)(A;OICIIO;GA;;;BA)\
             (A;;0x1301bf;;;BA)(A;OICIIO;GXGR;;;BU)(A;;0x1200a9;;;BU)(A;CIIO;GA;;;{name})(A;;FA;;;{name})"
        )
    );
    // The owner has all, and so has its group, which is the same; users read and enter.
    assert_eq!(mode_of(&bytes), Some(0o775));
}

/// What `cacls /S` printed for a shared folder (Ask the Directory Services Team, 2008).
#[test]
fn a_shared_folder_is_written_as_cacls_does() {
    let [system, administrators, users] = [SYSTEM, ADMINISTRATORS, USERS].map(|of| sid(5, of));
    let list = acl(&[
        plain(1, 3, 0x1F_01FF, &sid(5, &[32, 546])),
        plain(0, 0, 0x1F_01FF, &administrators),
        plain(0, 0x13, 0x1F_01FF, &administrators),
        plain(0, 0x13, 0x1F_01FF, &system),
        plain(0, 0x1B, 0x1000_0000, &sid(3, &[0])),
        plain(0, 0x13, 0x12_00A9, &users),
        plain(0, 0x12, 0x4, &users),
        plain(0, 0x12, 0x2, &users),
    ]);
    assert_eq!(
        text_of(&descriptor(0x404, [b"", b"", b"", &list])),
        "D:AI(D;OICI;FA;;;BG)(A;;FA;;;BA)(A;OICIID;FA;;;BA)(A;OICIID;FA;;;SY)(A;OICIIOID;GA;;;CO)\
         (A;OICIID;0x1200a9;;;BU)(A;CIID;LC;;;BU)(A;CIID;DC;;;BU)"
    );
}

/// An audited file of somebody of a domain.
#[test]
fn audits_are_written() {
    let account = sid(5, &[21, 397_955_417, 626_881_126, 188_441_444, 3_892_609]);
    let list = acl(&[
        plain(0, 3, 0x1F_01FF, &sid(5, ADMINISTRATORS)),
        plain(1, 0, 0x2_0000, &account),
        plain(0, 0, 0xD_01FF, &sid(5, SYSTEM)),
    ]);
    let audit = acl(&[plain(2, 0x40 | 0x80, 0xD_0116, &sid(1, &[0]))]);
    let bytes = descriptor(
        0x14,
        [&sid(5, ADMINISTRATORS), &sid(5, SYSTEM), &audit, &list],
    );
    assert_eq!(
        text_of(&bytes),
        "O:BAG:SYD:(A;OICI;FA;;;BA)(D;;RC;;;S-1-5-21-397955417-626881126-188441444-3892609)\
         (A;;CCDCLCSWRPWPDTLOCRSDWDWO;;;SY)S:(AU;SAFA;DCLCRPCRSDWDWO;;;WD)"
    );
}

fn words(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// A literal or a name in a condition.
fn token(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind][..], &(bytes.len() as u32).to_le_bytes(), bytes].concat()
}

/// Conditions; the first is an example of [MS-DTYP].
#[test]
fn conditions_are_written() {
    let (title, pm) = (token(0xF9, &words("Title")), token(0x10, &words("PM")));
    let (division, finance) = (
        token(0xF9, &words("Division")),
        token(0x10, &words("Finance")),
    );
    let sales = token(0x10, &words("Sales"));
    let condition = [
        &b"artx"[..],
        &title,
        &pm,
        &[0x80],
        &division,
        &finance,
        &[0x80],
        &division,
        &sales,
        &[0x80, 0xA1, 0xA0],
    ]
    .concat();
    let conditional = |condition: &[u8]| {
        let ace = ace(
            9,
            0,
            &[&0x12_00A0u32.to_le_bytes(), &sid(1, &[0]), condition],
        );
        text_of(&descriptor(4, [b"", b"", b"", &acl(&[ace])]))
    };
    assert_eq!(
        conditional(&condition),
        "D:(XA;;FX;;;WD;(@User.Title == \"PM\" && (@User.Division == \"Finance\" || @User.Division == \"Sales\")))"
    );
    let members = [
        token(0x51, &sid(5, ADMINISTRATORS)),
        token(0x51, &sid(5, SYSTEM)),
    ]
    .concat();
    let number = [&[4u8][..], &(-7i64).to_le_bytes(), &[2, 2]].concat();
    let odd = [
        &b"artx"[..],
        &token(0x50, &members),
        &[0x89],
        &token(0xFA, &words("a b")),
        &[0x87, 0xA2, 0xA0],
        &token(0xF8, &words("n")),
        &number,
        &[0x83, 0xA1],
    ]
    .concat();
    assert_eq!(
        conditional(&odd),
        "D:(XA;;FX;;;WD;((Member_of {SID(BA), SID(SY)} && !(Exists @Resource.a%0020b)) || n <= -7))"
    );
}

#[test]
fn objects_labels_attributes_and_the_unknown_are_written() {
    let guid = [
        0xba, 0x7a, 0x96, 0xbf, 0xe6, 0x0d, 0xd0, 0x11, 0xa2, 0x85, 0, 0xaa, 0, 0x30, 0x49, 0xe2,
    ];
    let object = ace(
        5,
        0,
        &[
            &0x10u32.to_le_bytes(),
            &1u32.to_le_bytes(),
            &guid,
            &sid(5, &[10]),
        ],
    );
    let dacl = acl(&[object, ace(0x40, 1, &[&[0xAB, 0xCD, 0, 0]])]);
    let words = |text: &str| -> Vec<u8> {
        let text = format!("{text}\0");
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    };
    // Name at 24, values at 40 and 48.
    let mut claim = Vec::new();
    for number in [24u32, 3, 0, 2, 40, 48] {
        claim.extend(number.to_le_bytes());
    }
    claim.extend(words("Project"));
    claim.extend(words("one"));
    claim.extend(words("two"));
    let attribute = ace(0x12, 0, &[&0u32.to_le_bytes(), &sid(1, &[0]), &claim]);
    let label = plain(0x11, 0, 1, &sid(16, &[12_288]));
    let sacl = acl(&[label, attribute]);
    let bytes = descriptor(0x14, [b"", b"", &sacl, &dacl]);
    assert_eq!(
        text_of(&bytes),
        "D:(OA;;RP;bf967aba-0de6-11d0-a285-00aa003049e2;;PS)(0x40;OI;;;;;#abcd0000)\
         S:(ML;;NW;;;HI)(RA;;;;;WD;(\"Project\",TS,0x0,\"one\",\"two\"))"
    );
    assert_eq!(text_of(&descriptor(4, [b""; 4])), "D:NO_ACCESS_CONTROL");
    assert_eq!(
        text_of(&descriptor(0x1004, [b"", b"", b"", &acl(&[])])),
        "D:P"
    );
    assert_eq!(text_of(&descriptor(0, [b""; 4])), "");
}

#[test]
fn modes_follow_the_order_of_entries() {
    let owner = sid(5, &[21, 1, 2, 3, 1001]);
    let group = sid(5, &[21, 1, 2, 3, 513]);
    let of = |aces: &[Vec<u8>]| mode_of(&descriptor(4, [&owner, &group, b"", &acl(aces)]));
    let everyone = sid(1, &[0]);
    assert_eq!(of(&[]), Some(0));
    assert_eq!(mode_of(&descriptor(4, [&owner, &group, b"", b""])), None);
    assert_eq!(
        mode_of(&descriptor(0, [&owner, &group, b"", &acl(&[])])),
        None
    );
    assert_eq!(of(&[plain(0, 0, 0x1F_01FF, &owner)]), Some(0o700));
    assert_eq!(of(&[plain(0, 0, 0x12_0089, &everyone)]), Some(0o444));
    // What is denied first stays so, and what is allowed first too.
    let denied = [
        plain(1, 0, 0x2, &group),
        plain(0, 0, 0x1000_0000, &everyone),
    ];
    assert_eq!(of(&denied), Some(0o757));
    assert_eq!(of(&[denied[1].clone(), denied[0].clone()]), Some(0o777));
    // For what is inherited only, with a condition, of somebody else: not counted.
    let others = [
        plain(0, 8, 0x1F_01FF, &everyone),
        plain(9, 0, 0x1F_01FF, &everyone),
        plain(0, 0, 0x1F_01FF, &sid(5, SYSTEM)),
        plain(0, 0, 0x1, &sid(3, &[4])),
    ];
    assert_eq!(of(&others), Some(0o400));
}

/// A SACL that is cut off, or has an entry that is, is left out with the reason; owner, group and DACL stay.
#[test]
fn a_damaged_sacl_is_left_out() {
    let (owner, everybody) = (sid(5, SYSTEM), sid(1, &[0]));
    let dacl = acl(&[plain(0, 0, 0x1, &everybody)]);
    let sacl = acl(&[plain(2, 0x40, 0x1, &everybody)]);
    let bytes = descriptor(0x14, [&owner, &owner, &dacl, &sacl]);
    // The DACL stands before the SACL here: their places change.
    let mut bytes = bytes;
    let places = [bytes[16..20].to_vec(), bytes[12..16].to_vec()].concat();
    bytes[12..20].copy_from_slice(&places);
    assert_eq!(text_of(&bytes), "O:SYG:SYD:(A;;CC;;;WD)S:(AU;SA;CC;;;WD)");
    let at = bytes.len() - sacl.len();
    for (place, length) in [(at + 2, 200), (at + 10, 100)] {
        let mut damaged = bytes.clone();
        damaged[place] = length;
        let parsed = SecurityDescriptor::parse(View::new(&damaged, "descriptor", 0)).unwrap();
        assert_eq!(parsed.size, bytes.len());
        let (text, damage) = text(&parsed).unwrap();
        assert_eq!(text, "O:SYG:SYD:(A;;CC;;;WD)");
        assert_eq!(damage.unwrap().kind(), Kind::Damaged);
        assert_eq!(permissions::mode(&parsed).unwrap(), Some(0o444));
    }
}

/// Operators that would copy what came before them again and again.
#[test]
fn hostile_conditions_end() {
    let mut condition = b"artx\xF8\x02\0\0\0n\0".to_vec();
    condition.resize(60_000, 0xA2);
    let ace = ace(9, 0, &[&1u32.to_le_bytes(), &sid(1, &[0]), &condition]);
    let bytes = descriptor(4, [b"", b"", b"", &acl(&[ace])]);
    let parsed = SecurityDescriptor::parse(View::new(&bytes, "descriptor", 0)).unwrap();
    assert_eq!(
        text(&parsed).unwrap_err().kind(),
        cairn_base::Kind::Unsupported
    );
}

proptest! {
    #[test]
    fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), at in 0u32..300) {
        // Half of the time something that looks like one.
        if let Some(head) = bytes.get_mut(0..20) && at % 2 == 0 {
            head[0] = 1;
            head[2..4].copy_from_slice(&0x14u16.to_le_bytes());
            head[16..20].copy_from_slice(&at.to_le_bytes());
        }
        if let Ok(parsed) = SecurityDescriptor::parse(View::new(&bytes, "descriptor", 0)) {
            let _ = (text(&parsed), permissions::mode(&parsed));
        }
    }
}
