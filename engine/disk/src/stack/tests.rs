use super::*;
use crate::check::Topic;
use crate::property::Property;
use crate::runs::Runs;
use cairn_base::Silent;

/// An image of which a check finds one fault, and that cannot be read then, perhaps.
struct Broken(Option<Kind>, Vec<u8>);

impl Layer for Broken {
    fn size(&self) -> u64 {
        4096
    }
    fn block_size(&self) -> u64 {
        4096
    }
    fn image(&self) -> &dyn ReadAt {
        &self.1
    }
    fn runs(&self, _range: Range<u64>, _detail: Detail) -> Result<Runs> {
        Ok(Runs::default())
    }
    fn properties(&self) -> Vec<Property> {
        Vec::new()
    }
    fn check(&self, check: &mut Check<'_>) -> Result<()> {
        check.fault(Topic::State, 8, || "an entry is wrong".to_string());
        match self.0 {
            Some(kind) => Err(Error::new(kind, "the disk is broken")),
            None => Ok(()),
        }
    }
}

/// How many faults are found of three images of which the second fails, and how.
fn found(kind: Kind) -> (usize, Kind) {
    let images = [None, Some(kind), None].map(|kind| {
        let facts = Facts {
            format: Format::Raw,
            sector_size: 512,
            identity: Identity::default(),
            warnings: Vec::new(),
        };
        (
            Opened::of_one_file(Broken(kind, Vec::new()), facts, None),
            None,
        )
    });
    let stack = Stack::new(images.into()).unwrap();
    let mut check = Check::new(&Silent);
    let error = stack.check(&mut check).unwrap_err();
    (check.findings().len(), error.kind())
}

#[test]
fn an_image_that_cannot_be_read_does_not_hide_the_others() {
    assert_eq!(found(Kind::Io), (3, Kind::Io));
    // Whoever wants to stop is not kept.
    assert_eq!(found(Kind::Interrupted), (2, Kind::Interrupted));
}
