//! The events that were ever shipped, by their golden bytes.

use idempo_inventory_projector::{InventoryProjector, Writes};
use idempo_projection::{Event, Interest, Outline, Projector as _};

fn golden() -> Vec<(u16, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/golden");
    let files = std::fs::read_dir(folder).expect("the golden bytes are there").map(|file| file.expect("a file").path());
    let mut golden: Vec<(u16, Vec<u8>)> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "hex"))
        .map(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
            let digits: Vec<u8> = std::fs::read(&path).expect("it can be read").into_iter().filter(u8::is_ascii_hexdigit).collect();
            let bytes = digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).expect("hex"), 16).expect("hex")).collect();
            (name.split('_').next().and_then(|number| number.parse().ok()).expect("a type number"), bytes)
        })
        .collect();
    golden.sort();
    golden
}

#[test]
fn every_event_that_was_ever_shipped_is_applied_or_none_of_our_business() {
    let golden = golden();
    assert!(golden.len() >= 20, "only {} golden events", golden.len());
    for (number, bytes) in golden {
        let outline = Outline::read(&bytes.clone().into()).expect("an envelope");
        assert_eq!(outline.event_type, number);
        match InventoryProjector::interest(number) {
            Interest::Consumed => {
                let event = Event::decode(&bytes.into()).expect("an event");
                InventoryProjector::apply(&event, &mut Writes::default()).unwrap_or_else(|error| panic!("{number}: {error}"));
            }
            Interest::PassedOver => assert!(number < 200, "{number}"),
            Interest::Unknown => panic!("{number} is unknown"),
        }
    }
}
