//! Guards against a batch that mixes up readings when it is appended to another: values, texts, series, clients.

use std::sync::Arc;

use seawall::reading::{Batch, Hello, Kind, NamedClient, PackedReading, Series, StreamMark, Value};

fn series(field: &str) -> Series {
    Series {
        sensor: "m".into(),
        field: field.into(),
        kind: Kind::Float,
    }
}

#[test]
fn a_row_is_24_bytes() {
    assert_eq!(size_of::<PackedReading>(), 24);
}

#[test]
fn appending_keeps_values_texts_and_the_place_of_definitions() {
    let mut all = Batch::default();
    all.define(0, series("a"));
    all.push(1, 0, Value::Text("grün"));
    all.mark(StreamMark {
        stream: 0,
        lines: 1,
    });
    let mut more = Batch::default();
    more.push(2, 0, Value::Real(1.5));
    more.define(1, series("b"));
    more.push(3, 1, Value::Text("blau"));
    more.push(4, 1, Value::Integer(-7));
    more.mark(StreamMark {
        stream: 0,
        lines: 4,
    });
    more.counts.rejected = 2;
    more.awaited = true;
    let name: Arc<str> = "c".into();
    let hello = |stream| Hello {
        stream,
        name: name.clone(),
        uid: None,
    };
    let client = |lines| NamedClient {
        name: name.clone(),
        lines,
        uid: None,
    };
    all.client(client(1));
    all.hello(hello(1));
    more.client(client(4));
    more.hello(hello(2));
    all.append(&mut more);

    assert!(more.is_empty());
    let values: Vec<_> = all.rows().iter().map(|r| all.value(r)).collect();
    assert_eq!(
        values,
        [
            Value::Text("grün"),
            Value::Real(1.5),
            Value::Text("blau"),
            Value::Integer(-7)
        ]
    );
    assert_eq!(all.definitions()[1].from, 2);
    assert_eq!(
        all.marks(),
        [StreamMark {
            stream: 0,
            lines: 4
        }]
    );
    assert_eq!(all.counts.rejected, 2);
    assert!(all.awaited);
    let lines: Vec<_> = all.clients().iter().map(|client| client.lines).collect();
    assert_eq!((lines, all.hellos()), (vec![4], &[hello(2)][..]));
}
